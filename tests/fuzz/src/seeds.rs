//! `seeds FOLDER`: writes seeds for every target, by our own writer, into `FOLDER/<target>/`.
//! `seeds --certificates`: makes anew the files that are committed.
//!
//! Instrumented code links only with libFuzzer, so this is a target too, which ends before it begins.
#![no_main]

use std::fs;
use std::path::Path;

use xinqiao_crypto::envelope::Pem;
use xinqiao_crypto::sm2::SignerId;
use xinqiao_crypto::x509::parse_name;
use xinqiao_crypto::x509::request::Request;
use xinqiao_crypto::{pem, pkcs8};
use xinqiao_fuzz::world::{CONTENT, PASSPHRASE, STATEMENT, issue_all, world};

libfuzzer_sys::fuzz_target!(init: run(), |_data: &[u8]| {});

fn run() {
    let argument = std::env::args().nth(1).expect("usage: seeds FOLDER | --certificates");
    if argument == "--certificates" {
        let (certificates, list) = issue_all();
        fs::write("certificates.pem", certificates).expect("writes");
        fs::write("list.pem", list).expect("writes");
        std::process::exit(0);
    }
    for (target, seeds) in all().into_iter().chain(xinqiao_fuzz::formats::seeds()) {
        let folder = Path::new(&argument).join(target);
        fs::create_dir_all(&folder).expect("makes its folder");
        for (number, seed) in seeds.iter().enumerate() {
            fs::write(folder.join(format!("seed-{number}")), seed).expect("writes");
        }
    }
    std::process::exit(0);
}

fn all() -> [(&'static str, Vec<Vec<u8>>); 10] {
    let world = world();
    let envelopes = world.envelopes();
    let in_pem = |envelope: &Vec<u8>| {
        let mut text = Vec::new();
        let mut pem = Pem::new(&mut text).expect("begins");
        std::io::Write::write_all(&mut pem, envelope).expect("writes");
        pem.finish().expect("ends");
        text
    };
    let name = parse_name("CN=甲局,O=测试市信用办,C=CN").expect("a name");
    let request = Request::new(&name, &world.signing_key).expect("asks");
    let encrypted = pkcs8::encrypt_with(&world.signing_key, PASSPHRASE, 10).expect("encrypts");
    let tagged = |tag: u8, der: &[u8]| [&[tag], der].concat();
    let signature = world.signing_key.sign(SignerId::STANDARD, CONTENT).expect("signs");
    let sealed = world.encryption_key.public_key().seal(CONTENT).expect("seals");
    let certificates = include_bytes!("../certificates.pem").to_vec();
    [
        ("envelope_pem", envelopes.iter().map(in_pem).collect()),
        ("envelope", envelopes),
        ("tampered", (0..5).map(|n| vec![n, 0, 40, 0, 1, 20, 1]).collect()),
        ("receipt", vec![format!("{STATEMENT}\n{}", world.receipt()).into_bytes()]),
        (
            "certificate",
            world
                .issued
                .iter()
                .map(|own| own.to_der().to_vec())
                .chain([certificates.clone()])
                .collect(),
        ),
        ("crl", vec![world.list.to_der().to_vec(), world.list.to_pem().into_bytes()]),
        ("request", vec![request.to_der().to_vec(), request.to_pem().into_bytes()]),
        (
            "pkcs8",
            vec![
                tagged(0, &pkcs8::encode_plain(&world.signing_key)),
                tagged(1, &encrypted),
                tagged(1, pem::encode(pkcs8::ENCRYPTED_LABEL, &encrypted).as_bytes()),
            ],
        ),
        ("sm2_der", vec![signature.to_der(), sealed]),
        ("pem_blocks", vec![certificates]),
    ]
}
