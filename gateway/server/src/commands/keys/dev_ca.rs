//! A certification authority for trying things out: a root, and for every party a folder of keys
//! with double certificates, laid out as a gateway's.
//!
//! ```text
//! DIR/passphrase            opens all of it (0600)
//! DIR/ca/                   the root's key and certificate
//! DIR/ca.crt, DIR/ca.crl    what others trust
//! DIR/<name>/               key folder of one party: <name>.sign.0001, <name>.encrypt.0001
//! ```

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::ValueParser;
use clap::{Arg, ArgMatches};
use serde_json::json;
use xinqiao_core::fault::io_words;
use xinqiao_crypto::keystore::{
    FileKeyStore, KeyEntry, KeyFolder, KeyStore as _, KeyStoreError, KeyUse, StoredKey,
};
use xinqiao_crypto::pkcs8;
use xinqiao_crypto::sm2::PrivateKey;
use xinqiao_crypto::x509::crl::{Crl, Revoked};
use xinqiao_crypto::x509::issue::{Role, Template, issue, issue_self_signed};
use xinqiao_crypto::x509::{Certificate, UnixSeconds, parse_name};

use super::{failed, now, path};
use crate::commands::{CommandError, Global, out};
use crate::keys::make_passphrase;

/// Name of the root's key.
const CA: &str = "ca";
const DAYS: u32 = 825;
const CA_DAYS: u32 = 3_650;
const CRL_DAYS: u32 = 30;

pub(super) fn clap() -> clap::Command {
    let many = |name: &'static str, value: &'static str| {
        Arg::new(name).long(name).value_name(value).action(clap::ArgAction::Append)
    };
    clap::Command::new("dev-ca")
        .about("开发测试用的签发机构:根证书、吊销列表,以及各方的双证书,一条命令生成")
        .long_about(
            "开发测试用的签发机构。首次执行生成根证书、口令和空的吊销列表;再次执行只补充新写的各方,\
             并更新吊销列表。不要用于正式环境。",
        )
        .arg(
            Arg::new("dir")
                .value_name("目录")
                .required(true)
                .value_parser(ValueParser::path_buf())
                .help("放在哪里"),
        )
        .arg(
            Arg::new("names")
                .value_name("名称")
                .num_args(0..)
                .help("各方的密钥名称,如 gateway scjg platform;各得一个密钥目录"),
        )
        .arg(
            many("host", "主机")
                .help("写入证书的主机名或IP地址,可写多次;缺省 localhost 与 127.0.0.1"),
        )
        .arg(many("revoke", "名称").help("吊销这一方的证书,可写多次"))
}

pub(super) fn run(matches: &ArgMatches, global: &Global) -> Result<ExitCode, CommandError> {
    let dir = path(matches, "dir").unwrap_or_default();
    let strings = |name: &str| -> Vec<String> {
        matches.get_many::<String>(name).into_iter().flatten().cloned().collect()
    };
    let file = dir.join("passphrase");
    make_passphrase(&file).map_err(|error| unwritten(&file, error))?;
    let passphrase = std::fs::read_to_string(&file).map_err(|error| unwritten(&file, error))?;
    let ca = DevCa::open(&dir, passphrase.trim_end(), pkcs8::ITERATIONS, now())?;
    let mut hosts = strings("host");
    if hosts.is_empty() {
        hosts = ["localhost", "127.0.0.1"].map(str::to_owned).to_vec();
    }
    let mut made = Vec::new();
    for name in strings("names") {
        made.push(ca.party(&name, &hosts)?.display().to_string());
    }
    let revoked = strings("revoke");
    ca.revoke(&revoked)?;
    if global.json {
        out::json(&json!({
            "ca": dir.join("ca.crt").display().to_string(),
            "crl": dir.join("ca.crl").display().to_string(),
            "parties": made,
            "revoked": revoked,
        }))?;
    } else {
        out::text(format!(
            "根证书 {ca}\n吊销列表 {crl}({CRL_DAYS}天内有效,重新执行即更新)\n口令 {file}",
            ca = dir.join("ca.crt").display(),
            crl = dir.join("ca.crl").display(),
            file = file.display(),
        ))?;
        for folder in made {
            out::text(format!("密钥目录 {folder}"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The authority.
struct DevCa<'a> {
    dir: &'a Path,
    passphrase: &'a str,
    iterations: u32,
    at: UnixSeconds,
    store: FileKeyStore,
    root: KeyEntry,
}

impl<'a> DevCa<'a> {
    /// Opens the authority of a folder; makes it first if there is none.
    fn open(
        dir: &'a Path,
        passphrase: &'a str,
        iterations: u32,
        at: UnixSeconds,
    ) -> Result<Self, CommandError> {
        let place = dir.join(CA);
        let folder = KeyFolder::new(&place, passphrase.as_bytes())?.with_iterations(iterations);
        if folder.ids()?.is_empty() {
            let key = PrivateKey::generate().map_err(failed)?;
            let name = parse_name("CN=信桥开发测试根证书,O=仅供开发测试,C=CN")?;
            let role = Role::Ca { path_length: Some(0) };
            // Back-dated, so that clocks a little behind take it.
            let from = UnixSeconds(at.0.saturating_sub(86_400));
            let root = issue_self_signed(&Template::new(name, role, from, CA_DAYS), &key)?;
            let id = folder.add(CA, KeyUse::Sign, &key)?;
            folder.put_chain(&id, std::slice::from_ref(&root))?;
            write(&dir.join("ca.crt"), &root.to_pem())?;
        }
        let store = FileKeyStore::open(&place, passphrase.as_bytes())?;
        let root = store.current(CA, KeyUse::Sign)?;
        let root = root.ok_or_else(|| failed("签发机构的密钥目录是空的"))?;
        Ok(Self { dir, passphrase, iterations, at, store, root })
    }

    /// Gives a party its key folder; one that is there stays as it is.
    fn party(&self, name: &str, hosts: &[String]) -> Result<PathBuf, CommandError> {
        if name == CA {
            return Err(failed("ca 是签发机构自己的名称"));
        }
        let place = self.dir.join(name);
        let folder = KeyFolder::new(&place, self.passphrase.as_bytes())?;
        let folder = folder.with_iterations(self.iterations);
        let have = folder.ids()?;
        for (usage, role) in [(KeyUse::Sign, Role::Signing), (KeyUse::Encrypt, Role::Encryption)] {
            if have.iter().any(|id| id.name() == name && id.usage() == usage) {
                continue;
            }
            let subject = parse_name(&format!("CN={name},O=仅供开发测试,C=CN"))?;
            let mut template = Template::new(subject, role, self.root()?.not_before(), DAYS);
            for host in hosts {
                match host.parse::<IpAddr>() {
                    Ok(address) => template.addresses.push(address),
                    Err(_) => template.host_names.push(host.clone()),
                }
            }
            let key = PrivateKey::generate().map_err(failed)?;
            let signer = StoredKey::new(&self.store, &self.root.id)?;
            let own = issue(&template, key.public_key(), self.root()?, &signer)?;
            let id = folder.add(name, usage, &key)?;
            folder.put_chain(&id, &[own, self.root()?.clone()])?;
        }
        Ok(place)
    }

    /// Lists these parties' certificates as revoked, besides those that are, in a fresh list.
    fn revoke(&self, names: &[String]) -> Result<(), CommandError> {
        let file = self.dir.join("ca.crl");
        let mut revoked = match std::fs::read(&file) {
            Ok(bytes) => Crl::from_file(&bytes)?.first().map(Crl::revoked).unwrap_or_default(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(unwritten(&file, error)),
        };
        for name in names {
            let place = self.dir.join(name);
            let store = FileKeyStore::open(&place, self.passphrase.as_bytes())?;
            for certificate in store.list()?.iter().filter_map(|entry| entry.chain.first()) {
                let serial = certificate.serial().to_vec();
                revoked.push(Revoked { serial, at: self.at, reason: None });
            }
        }
        let signer = StoredKey::new(&self.store, &self.root.id)?;
        let next = self.at.plus_days(CRL_DAYS);
        let list = Crl::issue(self.root()?, &signer, &revoked, self.at.0, self.at, next)?;
        write(&file, &list.to_pem())
    }

    fn root(&self) -> Result<&Certificate, CommandError> {
        let id = &self.root.id;
        self.root.chain.first().ok_or_else(|| KeyStoreError::WrongCertificate(id.clone()).into())
    }
}

fn write(file: &Path, text: &str) -> Result<(), CommandError> {
    std::fs::write(file, text).map_err(|error| unwritten(file, error))
}

fn unwritten(file: &Path, error: std::io::Error) -> CommandError {
    CommandError::Failed(format!("读写 {} 失败:{}", file.display(), io_words(&error)))
}
