//! Two parties with constant keys, and certificates of theirs.

use std::io::Cursor;
use std::sync::LazyLock;

use xinqiao_crypto::envelope::{Cipher, OpenKey, Opener, Signing, seal, sign, sign_and_seal};
use xinqiao_crypto::receipt;
use xinqiao_crypto::sm2::PrivateKey;
use xinqiao_crypto::x509::chain::{self, ChainError, Purpose, Revocation, Trust};
use xinqiao_crypto::x509::crl::Crl;
use xinqiao_crypto::x509::issue::{Role, Template, issue, issue_self_signed};
use xinqiao_crypto::x509::{Certificate, UnixSeconds, parse_name};

/// The one content that is signed and sealed.
pub const CONTENT: &[u8] = "登记编号,单位名称\n0001,甲\n".as_bytes();
/// The one statement of which a receipt is given.
pub const STATEMENT: &str = "xinqiao-receipt/1 arrival 0001";
/// Opens the encrypted keys.
pub const PASSPHRASE: &[u8] = b"fuzz";
/// The time that counts.
pub const AT: UnixSeconds = UnixSeconds(1_800_000_000);

/// See the module.
pub struct World {
    /// The CA's.
    pub root_key: PrivateKey,
    /// The sender's.
    pub signing_key: PrivateKey,
    /// The receiver's.
    pub encryption_key: PrivateKey,
    /// Root, signing, encryption.
    pub issued: [Certificate; 3],
    /// The root's list, which revokes nothing of ours.
    pub list: Crl,
}

/// The one there is.
pub fn world() -> &'static World {
    static WORLD: LazyLock<World> = LazyLock::new(|| {
        let issued = Certificate::from_file(include_bytes!("../certificates.pem"));
        let list = Crl::from_file(include_bytes!("../list.pem")).expect("the committed list");
        let issued = issued.expect("the committed certificates").try_into().expect("three of them");
        let [root_key, signing_key, encryption_key] = keys();
        let list = list.into_iter().next().expect("one list");
        World { root_key, signing_key, encryption_key, issued, list }
    });
    &WORLD
}

impl World {
    /// Trusts the root.
    pub fn trust(&self) -> Trust<'_> {
        Trust { anchors: &self.issued[..1], revocation: Revocation::Unchecked, at: AT }
    }

    /// Verifies the sender's certificate by these lists.
    pub fn verify_with(&self, lists: &[Crl]) -> Result<(), ChainError> {
        let revocation = Revocation::Required(lists);
        let trust = Trust { revocation, ..self.trust() };
        chain::verify(&self.issued[1], Purpose::Signing, &[], &trust).map(|_| ())
    }

    /// The receiver.
    pub fn opener<'a>(&'a self, open: OpenKey<'a>) -> Opener<'a> {
        Opener { certificate: &self.issued[2], open }
    }

    /// The sender.
    pub fn signing(&self) -> Signing<'_> {
        let certificate = &self.issued[1];
        Signing { certificate, chain: &[], signer: &self.signing_key, at: AT }
    }

    /// The content in every kind of envelope in which a change must be noticed.
    pub fn envelopes(&self) -> Vec<Vec<u8>> {
        let to = &self.issued[2..];
        let written = |write: &dyn Fn(&mut Cursor<&[u8]>, &mut Vec<u8>)| {
            let mut out = Vec::new();
            write(&mut Cursor::new(CONTENT), &mut out);
            out
        };
        let mut all = vec![
            written(&|content, out| sign(content, &self.signing(), out).expect("signs")),
            written(&|content, out| seal(content, to, Cipher::Gcm, out).expect("seals")),
        ];
        for cipher in [Cipher::Cbc, Cipher::Gcm] {
            all.push(written(&|content, out| {
                sign_and_seal(content, &self.signing(), to, cipher, out).expect("signs and seals");
            }));
        }
        all
    }

    /// A signature of the receipt.
    pub fn receipt(&self) -> String {
        receipt::sign_together(&[STATEMENT, "another"], &self.signing()).expect("signs")
    }
}

/// Makes new certificates and a new list, to be committed.
pub fn issue_all() -> (String, String) {
    let [root_key, signing_key, encryption_key] = keys();
    let template = |name: &str, role| {
        let name = parse_name(&format!("CN={name},O=测试市信用办,C=CN")).expect("a name");
        Template::new(name, role, AT, 3_650)
    };
    let root = issue_self_signed(&template("root", Role::Ca { path_length: None }), &root_key);
    let root = root.expect("issues");
    let leaf = |name, role, key: &PrivateKey| {
        issue(&template(name, role), key.public_key(), &root, &root_key).expect("issues").to_pem()
    };
    let list = Crl::issue(&root, &root_key, &[], 1, AT, AT.plus_days(3_650)).expect("issues");
    let certificates = [
        root.to_pem(),
        leaf("甲局", Role::Signing, &signing_key),
        leaf("乙平台", Role::Encryption, &encryption_key),
    ];
    (certificates.concat(), list.to_pem())
}

fn keys() -> [PrivateKey; 3] {
    [0x11, 0x22, 0x33].map(|byte| PrivateKey::from_bytes(&[byte; 32]).expect("in range"))
}
