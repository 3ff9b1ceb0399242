use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::{Value, json};
use xinqiao_core::diagnostic::{Diagnostics, Level};
use xinqiao_core::model::TargetId;
use xinqiao_core::spi::{ParamProblem, SecretRef, Secrets};
use xinqiao_crypto::sm2::PrivateKey;
use xinqiao_crypto::x509::issue::{Role, Template, issue, issue_self_signed};
use xinqiao_crypto::x509::{UnixSeconds, parse_name};

use super::{load, secrets};
use crate::domain::{Domain, bundle};

const GATEWAY: &str = "\
config: 1
data: data
listen: { address: 127.0.0.1:0 }
targets:
  city: { kind: rest, params: { url: 'http://127.0.0.1:9/rows' } }
keys: { folder: keys, passphrase: { file: token } }
";
const FEEDS: &str = "\
config: 1
agencies:
  yjj: { name: 市应急管理局 }
feeds:
  one:
    agency: yjj
    mapping: yjj-admin-licence
    targets: city
    source: { kind: push, params: { token: { file: token } } }
";

fn told(gateway: &str, feeds: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("gateway.yaml", gateway);
    write("feeds.yaml", feeds);
    write("token", "an invented token of a test\n");
    private(&folder.path().join("token"));
    std::fs::create_dir(folder.path().join("in")).unwrap();
    errors(folder.path())
}

fn private(file: &Path) {
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn errors(folder: &Path) -> Vec<String> {
    let domain = Domain::load(bundle(None).unwrap()).unwrap();
    match load(folder, &domain) {
        Ok(config) => places(&config.warnings),
        Err(error) => places(&error.found),
    }
}

fn places(found: &Diagnostics) -> Vec<String> {
    found.0.iter().map(|d| format!("{}:{}:{} {}", d.file, d.line, d.column, d.code)).collect()
}

#[test]
fn a_sound_configuration_is_taken() {
    assert_eq!(told(GATEWAY, FEEDS), [""; 0]);
}

#[test]
fn every_error_of_both_files_is_told_at_once_with_its_place() {
    let gateway = GATEWAY.replace("127.0.0.1:0", "here").replace("kind: rest", "kind: fax");
    let feeds = FEEDS
        .replace("agency: yjj\n", "agency: yj\n    colour: red\n")
        .replace("mapping: yjj-", "mapping: yj-")
        .replace("file: token", "file: none");
    let mut told = told(&gateway, &feeds);
    told.sort();
    assert_eq!(
        told,
        [
            "feeds.yaml:10:37 config.source",
            "feeds.yaml:6:13 config.agency",
            "feeds.yaml:7:5 yaml.unknown-key",
            "feeds.yaml:8:14 config.mapping",
            "feeds.yaml:9:14 config.feed-target",
            "gateway.yaml:3:20 config.address",
            "gateway.yaml:5:17 config.target-kind",
        ]
    );
}

#[test]
fn two_feeds_may_not_share_a_token() {
    let (_, feed) = FEEDS.split_once("  one:").unwrap();
    let feeds = format!("{FEEDS}  two:{feed}");
    assert_eq!(told(GATEWAY, &feeds), ["feeds.yaml:10:3 config.same-token"]);
}

/// `GATEWAY` and `FEEDS` with one thing changed in each, and what is said of it.
#[test]
fn what_could_never_deliver_is_refused_at_its_own_key() {
    const TARGET: &str = "rest, params: { url: 'http://127.0.0.1:9/rows' }";
    let extra = |keys: &str| GATEWAY.replace(TARGET, &format!("{TARGET}, {keys}"));
    for keys in [
        "batch: 0",
        "batch: 100000000",
        "concurrency: 0",
        "concurrency: 65",
        "retry-base-millis: 0",
        "retry-base-millis: 400000",
        "retry-cap-millis: 10",
        "max-attempts: 0",
        "lease-seconds: 1",
    ] {
        let column = 68 + keys.find(' ').unwrap();
        let told = told(&extra(keys), FEEDS);
        assert_eq!(told, [format!("gateway.yaml:5:{column} config.range")], "{keys}");
    }
    let params = |keys: &str| GATEWAY.replace("rows' }", &format!("rows', {keys} }}"));
    let at = |column| format!("gateway.yaml:5:{column} config.target");
    // No target was built, so the feed's is unknown too.
    let unknown = "feeds.yaml:8:14 config.feed-target".to_owned();
    let told_of = |keys: &str| told(&params(keys), FEEDS);
    assert_eq!(told_of("answers: { ok: [] }"), [at(76), unknown.clone()]);
    assert_eq!(told_of("answers: { okay: ['00'] }"), [at(76), unknown.clone()]);
    assert_eq!(told_of("token: { header: A }"), [at(65), unknown]);

    for (from, to, expect) in [
        ("data: data", "data: ''", "gateway.yaml:2:7 config.empty-path"),
        ("data: data", "data: data\nworkers: 0", "gateway.yaml:3:10 config.range"),
    ] {
        assert_eq!(told(&GATEWAY.replace(from, to), FEEDS), [expect], "{to}");
    }
    for (from, to, expect) in [
        ("targets: city", "targets: []", "feeds.yaml:8:14 config.no-target"),
        ("targets: city", "targets: [city, city]", "feeds.yaml:8:21 config.same-target"),
        ("targets: city", "targets: city\n    max-megabytes: 0", "feeds.yaml:9:20 config.range"),
        ("file: token }", "file: token }, per-minute: 0", "feeds.yaml:9:61 config.source"),
    ] {
        assert_eq!(told(GATEWAY, &FEEDS.replace(from, to)), [expect], "{to}");
    }
}

#[test]
fn the_mapping_table_goes_nowhere() {
    let table = FEEDS.replace("yjj-admin-licence", "scjg-uscc-map");
    assert_eq!(told(GATEWAY, &table), ["feeds.yaml:8:14 config.table-target"]);
    assert_eq!(told(GATEWAY, &table.replace("targets: city", "targets: []")), [""; 0]);
}

#[test]
fn revocation_lists_rest_on_issuers_that_are_trusted() {
    let keys = |more: &str| GATEWAY.replace("folder: keys,", &format!("folder: keys, {more}"));
    assert_eq!(told(&keys("revocations: a.crl,"), FEEDS), ["gateway.yaml:6:36 config.revocations"]);
    assert_eq!(told(&keys("trust: a.crt, revocations: a.crl,"), FEEDS), [""; 0]);
    let stale = |word| keys(&format!("trust: a, revocations: b, stale-revocations: {word},"));
    assert_eq!(told(&stale("accept"), FEEDS), [""; 0]);
    assert_eq!(told(&stale("refuse"), FEEDS), [""; 0]);
    assert_eq!(told(&stale("maybe"), FEEDS), ["gateway.yaml:6:68 config.revocations"]);
}

#[test]
fn a_passphrase_that_others_may_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("gateway.yaml", GATEWAY);
    write("feeds.yaml", &FEEDS.replace("file: token", "file: other"));
    write("other", "an invented token of a test\n");
    let message = || super::keys(folder.path()).err().map(|error| error.to_string());
    assert!(message().unwrap().contains("没有口令文件 token。首次安装请执行 xinqiao keys init"));
    write("token", "a passphrase");
    let mode = |mode| {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(folder.path().join("token"), mode).unwrap();
    };
    for others in [0o640, 0o604, 0o620] {
        mode(others);
        assert!(message().unwrap().contains("chmod 600 token"), "{others:o}");
    }
    mode(0o400);
    assert_eq!(message(), None);
    assert_eq!(errors(folder.path()), [""; 0]);
}

/// As `keys dev-ca` makes them: the party's own certificate, then the root.
#[test]
fn of_a_chain_the_first_certificate_is_taken() {
    let key = PrivateKey::generate().unwrap();
    let from = UnixSeconds(1_800_000_000);
    let of = |name, role| Template::new(parse_name(name).unwrap(), role, from, 30);
    let root = issue_self_signed(&of("CN=root", Role::Ca { path_length: None }), &key).unwrap();
    let leaf = |role| {
        let own = PrivateKey::generate().unwrap();
        issue(&of("CN=one", role), own.public_key(), &root, &key).unwrap()
    };
    let (signing, encryption) = (leaf(Role::Signing), leaf(Role::Encryption));
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("sign.crt", &(signing.to_pem() + &root.to_pem()));
    write("encrypt.crt", &(encryption.to_pem() + &root.to_pem()));
    write("wrong.crt", &(root.to_pem() + &signing.to_pem()));
    write("token", "an invented token of a test\n");
    private(&folder.path().join("token"));
    let gateway = GATEWAY.replace("rows' } }", "rows' }, seal: { to: encrypt.crt } }");
    write("gateway.yaml", &gateway);
    let feeds = |file: &str| {
        let agency = format!("name: 市应急管理局, certificates: {file}");
        FEEDS.replace("name: 市应急管理局", &agency) + "    envelope: required\n"
    };
    write("feeds.yaml", &feeds("sign.crt"));
    let domain = Domain::load(bundle(None).unwrap()).unwrap();
    let config = load(folder.path(), &domain).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.feeds[0].envelope.as_ref().unwrap().signers, [signing]);
    assert_eq!(config.targets[0].seal.as_ref().unwrap().to, [encryption]);
    write("feeds.yaml", &feeds("wrong.crt"));
    assert_eq!(errors(folder.path())[0], "feeds.yaml:3:38 config.certificate");
}

#[test]
fn a_push_feed_nobody_can_reach_is_a_warning() {
    let gateway = GATEWAY.replace("listen: { address: 127.0.0.1:0 }\n", "");
    assert_eq!(told(&gateway, FEEDS), ["feeds.yaml:9:21 config.no-listen"]);
}

#[test]
fn a_folder_of_a_file_server_has_one_feed_too() {
    let told_of = |second: &str| {
        let head = FEEDS.split("  one:").next().unwrap();
        let feed = |name, params: &str| {
            format!(
                "  {name}:\n    agency: yjj\n    mapping: yjj-admin-licence\n    targets: city\n    source: \
                 {{ kind: ftp, params: {{ user: a, password: {{ file: token }}, security: plain, {params} }} }}\n"
            )
        };
        let first = feed("one", "host: Ftp.example, directory: /in/, pattern: '*.csv'");
        told(GATEWAY, &format!("{head}{first}{}", feed("two", second))).len()
    };
    assert_eq!(told_of("host: ftp.example, port: 21, directory: /in, pattern: 'a*'"), 1);
    for other in [
        "host: ftp.example, directory: /in, pattern: '*.xml'",
        "host: ftp.example, directory: /other",
        "host: ftp.example, directory: in",
        "host: ftp.example, port: 2121, directory: /in",
    ] {
        assert_eq!(told_of(other), 0, "{other}");
    }
}

/// Feeds of one agency that watch folders: path and pattern of each.
fn watching(folders: &[(&str, &str)]) -> String {
    let mut feeds = FEEDS.split("  one:").next().unwrap().to_owned();
    for (n, (path, pattern)) in folders.iter().enumerate() {
        feeds += &format!(
            "  f{n}: {{ agency: yjj, mapping: yjj-admin-licence, targets: city, source: {{ kind: \
             folder, params: {{ path: '{path}', pattern: '{pattern}' }} }} }}\n"
        );
    }
    feeds
}

#[test]
fn a_watched_folder_is_there_or_warned_of_and_its_files_have_one_feed() {
    let told_of = |folders: &[(&str, &str)]| {
        let told = told(GATEWAY, &watching(folders));
        told.into_iter().map(|told| told.replace("feeds.yaml:", "")).collect::<Vec<_>>()
    };
    assert_eq!(told_of(&[("in", "*.csv"), ("in", "*.xls")]), [""; 0]);
    assert_eq!(told_of(&[("in", "*"), ("./in/", "*.XLS")]), ["6:114 config.same-folder"]);
    assert_eq!(told_of(&[("none", "*")]), ["5:99 config.folder"]);
    assert_eq!(told_of(&[("none", "*"), ("none", "*")])[2], "6:113 config.same-folder");
    assert_eq!(told_of(&[("token", "*")]), ["5:99 config.folder"]);
    assert_eq!(told_of(&[("", "*")]), ["5:99 config.source"]);

    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("gateway.yaml"), GATEWAY).unwrap();
    std::fs::write(folder.path().join("token"), "a passphrase").unwrap();
    private(&folder.path().join("token"));
    std::fs::write(folder.path().join("feeds.yaml"), watching(&[("none", "*")])).unwrap();
    let domain = Domain::load(bundle(None).unwrap()).unwrap();
    let config = load(folder.path(), &domain).unwrap_or_else(|error| panic!("{error}"));
    assert!(config.warnings.0.iter().all(|d| d.level == Level::Warning), "it may be mounted later");
}

#[test]
fn keys_are_in_a_folder_or_in_a_device() {
    let told_of = |keys: &str| {
        told(&GATEWAY.replace("folder: keys, passphrase: { file: token }", keys), FEEDS)
    };
    let device = |device: &str| told_of(&format!("folder: keys, device: {{ {device} }}"));
    const PIN: &str = "pin: { file: token }";
    assert_eq!(
        device(&format!(
            "library: sdf.so, {PIN}, decrypt: plain, keys: {{ gateway: [1, 3], storage: 2 }}"
        )),
        [""; 0]
    );
    assert_eq!(
        device(&format!(
            "library: sdf.so, {PIN}, keys: {{ gateway: 1, storage: 2 }}, decrypt: with-algorithm, \
             sessions: 64"
        )),
        [""; 0]
    );
    let codes = |told: Vec<String>| -> Vec<String> {
        told.iter().filter_map(|text| Some(text.split_once(' ')?.1.to_owned())).collect()
    };
    assert_eq!(codes(told_of("folder: keys")), ["config.passphrase"]);
    let both = format!(
        "folder: keys, passphrase: {{ file: token }}, device: {{ library: sdf.so, {PIN}, decrypt: \
         plain, keys: {{ gateway: 1, storage: 2 }} }}"
    );
    assert_eq!(codes(told_of(&both)), ["config.passphrase"]);
    let wrong = format!("library: sdf.so, {PIN}, keys: {{ gateway: 1, storage: 2 }}, decrypt: 6");
    assert_eq!(codes(device(&wrong)), ["config.device"]);
    for (wrong, code) in [
        ("pin: { file: none }, keys: { gateway: 1, storage: 2 }", "config.passphrase"),
        ("pin: { text: 1234 }, keys: { gateway: 1, storage: 2 }", "config.passphrase"),
        ("pin: { file: token }, keys: { gateway: 1 }", "config.device"),
        ("pin: { file: token }, keys: { gateway: 1, storage: 1 }", "config.device"),
        ("pin: { file: token }, keys: { gateway: [], storage: 1 }", "config.device"),
        ("pin: { file: token }, keys: { gateway: 1, storage: 2, Other: 3 }", "config.device"),
        ("pin: { file: token }, keys: { gateway: 1, storage: 2 }, sessions: 0", "config.device"),
    ] {
        let told = codes(device(&format!("library: sdf.so, decrypt: plain, {wrong}")));
        assert_eq!(told, [code], "{wrong}");
    }
}

const DOC: &str = include_str!("../../../docs/formats/sources.zh.md");

const SOAP_PUSH: &str = include_str!("../../../docs/formats/soap-push.zh.md");

/// Gives every secret, so that only the keys are in question.
struct AnySecret;

impl Secrets for AnySecret {
    fn resolve(&self, _: &SecretRef) -> Result<String, String> {
        Ok("an invented token of a test".to_owned())
    }
}

/// Every key a factory asks for, dotted: an unknown key is answered with the known ones, in every
/// object there is.
fn keys(build: &dyn Fn(&Value) -> Vec<ParamProblem>, at: &str) -> Vec<String> {
    const NO_KEY: &str = "no-such-key";
    let asked = at.split('.').filter(|key| !key.is_empty()).rev();
    let params = asked.fold(json!({ NO_KEY: 1 }), |inner, key| json!({ key: inner }));
    let wanted = format!("{at}{NO_KEY}");
    let told = build(&params).into_iter().find(|problem| problem.at == wanted);
    let Some(known) = told.and_then(|told| Some(told.text.split_once("可用的有:")?.1.to_owned()))
    else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for key in known.split('、') {
        found.push(format!("{at}{key}"));
        found.extend(keys(build, &format!("{at}{key}.")));
    }
    found
}

#[test]
fn every_parameter_the_code_knows_is_documented() {
    // From a section's heading to the next.
    let section = |heading: &str| {
        let found = DOC.split("\n## ").find(|section| section.starts_with(heading));
        found.unwrap_or_else(|| panic!("{heading} has no section"))
    };
    let id = TargetId::new("city").unwrap();
    let pushed = |params: &Value| secrets::push(params, &AnySecret).err().unwrap_or_default();
    let listens = |params: &Value| {
        let format = xinqiao_core::model::FormatSpec::new(xinqiao_core::model::FormatKind::Xml);
        let built = xinqiao_adapters::sources::find_listener("soap-push").unwrap();
        built.build("a", &format, &[], params).err().unwrap_or_default()
    };
    type Build<'a> = Box<dyn Fn(&Value) -> Vec<ParamProblem> + 'a>;
    let mut sections: Vec<(&str, Build<'_>, usize)> =
        vec![(section("`push`"), Box::new(pushed), 2), (SOAP_PUSH, Box::new(listens), 8)];
    for source in xinqiao_adapters::sources::SOURCES {
        let build = |params: &Value| source.build(params, &AnySecret).err().unwrap_or_default();
        let heading = match source.kind() {
            "mysql" | "postgres" => "`postgres`、`mysql`".to_owned(),
            kind => format!("`{kind}`"),
        };
        sections.push((section(&heading), Box::new(build), 8));
    }
    for target in xinqiao_adapters::targets::TARGETS {
        let build =
            |params: &Value| target.build(&id, params, &AnySecret).err().unwrap_or_default();
        let heading = match target.kind() {
            "ftp" | "sftp" => "投递目标 `ftp`、`sftp`".to_owned(),
            kind => format!("投递目标 `{kind}`"),
        };
        sections.push((section(&heading), Box::new(build), 14));
    }
    for (text, build, least) in &sections {
        let keys = keys(build, "");
        assert!(keys.len() >= *least, "{keys:?}");
        for key in &keys {
            let inner = keys.iter().any(|other| other.starts_with(&format!("{key}.")));
            let word = key.strip_prefix("paging.").or(key.strip_prefix("login.")).unwrap_or(key);
            let there = text.contains(&format!("`{word}`")) || text.contains(&format!("`{word}."));
            assert!(there || inner, "{key} is not documented");
        }
    }
}

#[test]
fn the_documented_examples_load() {
    let blocks = || DOC.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    // A certificate would have to be made; all else is tried as it stands.
    let plain = |text: &str| -> String {
        let lines = text.lines().filter(|line| !line.trim().starts_with("ca:"));
        let plain = |line: &str| {
            line.replace("https://", "http://").replace("security: explicit", "security: plain")
        };
        lines.map(|line| plain(line) + "\n").collect()
    };
    let all = |head: &str| -> String {
        blocks().filter_map(|block| block.strip_prefix(head)).map(plain).collect()
    };
    let gateway = format!(
        "config: 1\ndata: data\nkeys: {{ folder: keys, passphrase: {{ file: secrets/push-token }} }}\n\
         listen: {{ address: 127.0.0.1:0 }}\ntargets:\n{}",
        all("targets:\n")
    );
    let agencies =
        "agencies: { sthj: { name: 甲 }, jtj: { name: 乙 }, yjj: { name: 丙 }, zjj: { name: 丁 } }";
    let feeds = format!("config: 1\n{agencies}\nfeeds:\n{}", all("feeds:\n"));
    let folder = tempfile::tempdir().unwrap();
    for name in ["secrets", "inbox", "inbox/sthj", "done", "done/sthj"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
    }
    let secrets = [
        "jtj-password",
        "jtj-token",
        "push-token",
        "platform-token",
        "ftp-password",
        "sftp-password",
        "qzk-password",
        "front-password",
        "zjj-key",
    ];
    for name in secrets {
        let path = folder.path().join("secrets").join(name);
        std::fs::write(&path, "an invented token of a test").unwrap();
        private(&path);
    }
    std::fs::write(folder.path().join("gateway.yaml"), gateway).unwrap();
    std::fs::write(folder.path().join("feeds.yaml"), feeds).unwrap();
    let domain = Domain::load(bundle(None).unwrap()).unwrap();
    let config = load(folder.path(), &domain).unwrap_or_else(|error| panic!("{error}"));
    let examples = |key: &str| DOC.matches(key).count();
    let counts = (config.feeds.len(), config.targets.len());
    assert_eq!(counts, (examples("\n    source:"), examples("\n    kind: ")));
    assert_eq!(places(&config.warnings), [""; 0]);
}
