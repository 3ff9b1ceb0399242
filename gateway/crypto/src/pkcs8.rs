//! SM2 private keys in files: encrypted PKCS#8 (RFC 5958, PBES2 of RFC 8018), and plain PKCS#8 or
//! SEC1 where a caller says so.
//!
//! Written is PBKDF2-HMAC-SM3 with SM4-CBC, as GmSSL does. Read is also what OpenSSL writes:
//! HMAC-SHA256 or HMAC-SHA1, SM4-CBC or AES-CBC.

use cipher::block_padding::Pkcs7;
use cipher::{BlockCipherDecrypt, BlockModeDecrypt as _, BlockSizeUser, KeyInit, KeyIvInit as _};
use der::asn1::{BitStringRef, ObjectIdentifier as Oid, OctetStringRef};
use der::{AnyRef, Decode as _, Encode as _, Sequence};
use sm2::pkcs8::PrivateKeyInfoRef;
use spki::AlgorithmIdentifierRef;
use zeroize::Zeroizing;

use crate::oid::{EC_PUBLIC_KEY, HMAC_SM3, SM2_CURVE, SM4_CBC};
use crate::sm2::PrivateKey;
use crate::sm4::{Cipher, Sm4Key};
use crate::{RandomError, pem, random};

/// Rounds of key derivation that [`encrypt`] writes, as GmSSL does.
pub const ITERATIONS: u32 = 65_536;
/// Rounds above which a file is refused: it would only keep the machine busy.
pub const MAX_ITERATIONS: u32 = if cfg!(fuzzing) { 1_000 } else { 10_000_000 };

/// PEM label of what [`encrypt`] writes.
pub const ENCRYPTED_LABEL: &str = "ENCRYPTED PRIVATE KEY";
const PLAIN_LABEL: &str = "PRIVATE KEY";
const SEC1_LABEL: &str = "EC PRIVATE KEY";
/// The same, as `openssl ec` names it.
const SM2_LABEL: &str = "SM2 PRIVATE KEY";

const PBES2: Oid = Oid::new_unwrap("1.2.840.113549.1.5.13");
const PBKDF2: Oid = Oid::new_unwrap("1.2.840.113549.1.5.12");
const HMAC_SHA1: Oid = Oid::new_unwrap("1.2.840.113549.2.7");
const HMAC_SHA256: Oid = Oid::new_unwrap("1.2.840.113549.2.9");
const AES128_CBC: Oid = Oid::new_unwrap("2.16.840.1.101.3.4.1.2");
const AES256_CBC: Oid = Oid::new_unwrap("2.16.840.1.101.3.4.1.42");

/// Why a key file cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// Neither PEM nor DER of the expected structure.
    #[error("不是可识别的私钥文件")]
    Malformed,
    /// Read by [`read_plain`] but encrypted: a passphrase is needed.
    #[error("私钥文件已加密,需要口令")]
    Encrypted,
    /// Read by [`decrypt`] but not encrypted. Never taken silently.
    #[error("私钥文件未加密")]
    NotEncrypted,
    /// A scheme, hash or cipher that is not read here.
    #[error("私钥文件的加密算法 {0} 不受支持")]
    Unsupported(Oid),
    /// More than [`MAX_ITERATIONS`], or none.
    #[error("私钥文件的口令迭代次数 {0} 超出允许范围")]
    Iterations(u32),
    /// The passphrase is wrong, or the file was changed: CBC cannot tell.
    #[error("口令不正确,或私钥文件已损坏")]
    Passphrase,
    /// A key of another kind, or whose public half does not fit.
    #[error("不是有效的 SM2 私钥")]
    NotSm2,
}

#[derive(Sequence)]
struct EncryptedPrivateKeyInfo<'a> {
    algorithm: AlgorithmIdentifierRef<'a>,
    data: &'a OctetStringRef,
}

#[derive(Sequence)]
struct Pbes2Params<'a> {
    kdf: AlgorithmIdentifierRef<'a>,
    cipher: AlgorithmIdentifierRef<'a>,
}

#[derive(Sequence)]
struct Pbkdf2Params<'a> {
    salt: &'a OctetStringRef,
    iterations: u32,
    #[asn1(optional = "true")]
    key_length: Option<u16>,
    /// HMAC-SHA1 if absent.
    #[asn1(optional = "true")]
    prf: Option<AlgorithmIdentifierRef<'a>>,
}

/// RFC 5915.
#[derive(Sequence)]
struct EcPrivateKey<'a> {
    version: u8,
    private_key: &'a OctetStringRef,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    curve: Option<Oid>,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", optional = "true")]
    public_key: Option<BitStringRef<'a>>,
}

/// Encrypts a key under a passphrase: DER, for [`pem::encode`] with [`ENCRYPTED_LABEL`].
pub fn encrypt(key: &PrivateKey, passphrase: &[u8]) -> Result<Vec<u8>, RandomError> {
    encrypt_with(key, passphrase, ITERATIONS)
}

/// As [`encrypt`], with another number of iterations (at least 1).
pub fn encrypt_with(
    key: &PrivateKey,
    passphrase: &[u8],
    iterations: u32,
) -> Result<Vec<u8>, RandomError> {
    let (salt, iv) = (random::<16>()?, random::<16>()?);
    let mut derived = Zeroizing::new([0; 16]);
    pbkdf2::pbkdf2_hmac::<sm3::Sm3>(passphrase, &*salt, iterations, &mut *derived);
    let ciphertext = crate::cbc::encrypt(&Sm4Key::new(*derived), &iv, &encode_plain(key));
    let Ok(der) = encode_encrypted(&*salt, iterations, &*iv, &ciphertext) else {
        unreachable!("all lengths are small and fixed")
    };
    Ok(der)
}

/// Reads an encrypted key, PEM or DER.
pub fn decrypt(file: &[u8], passphrase: &[u8]) -> Result<PrivateKey, KeyFileError> {
    let (label, der) = first_block(file)?;
    match label.as_deref() {
        None | Some(ENCRYPTED_LABEL) => {}
        Some(PLAIN_LABEL | SEC1_LABEL | SM2_LABEL) => return Err(KeyFileError::NotEncrypted),
        Some(_) => return Err(KeyFileError::Malformed),
    }
    let Ok(info) = EncryptedPrivateKeyInfo::from_der(&der) else {
        return Err(match read_plain_der(&der) {
            Ok(_) => KeyFileError::NotEncrypted,
            Err(_) => KeyFileError::Malformed,
        });
    };
    let plain = decrypt_info(&info, passphrase)?;
    // A wrong passphrase passes the padding once in 256 times and then gives no structure.
    read_pkcs8(&plain).map_err(|error| match error {
        KeyFileError::Malformed => KeyFileError::Passphrase,
        other => other,
    })
}

/// Reads a key that is *not* encrypted, PEM or DER, PKCS#8 or SEC1. For importing only.
pub fn read_plain(file: &[u8]) -> Result<PrivateKey, KeyFileError> {
    let (label, der) = first_block(file)?;
    match label.as_deref() {
        None => read_plain_der(&der),
        Some(PLAIN_LABEL) => read_pkcs8(&der),
        Some(SEC1_LABEL | SM2_LABEL) => read_sec1(&der, None),
        Some(ENCRYPTED_LABEL) => Err(KeyFileError::Encrypted),
        Some(_) => Err(KeyFileError::Malformed),
    }
}

/// Plain PKCS#8 DER. In clear: for a consumer that cannot take a passphrase.
pub fn encode_plain(key: &PrivateKey) -> Zeroizing<Vec<u8>> {
    let Ok(der) = encode_info(key) else { unreachable!("all lengths are small and fixed") };
    der
}

/// The first block that may hold a key, or the file itself if it is DER.
fn first_block(file: &[u8]) -> Result<(Option<String>, Zeroizing<Vec<u8>>), KeyFileError> {
    if file.first() == Some(&0x30) {
        return Ok((None, Zeroizing::new(file.to_vec())));
    }
    pem::blocks(file)
        .map_err(|_| KeyFileError::Malformed)?
        .into_iter()
        // OpenSSL writes the curve's name in a block of its own before the key.
        .find(|block| block.label.ends_with("PRIVATE KEY"))
        .map(|block| (Some(block.label), block.der))
        .ok_or(KeyFileError::Malformed)
}

fn decrypt_info(
    info: &EncryptedPrivateKeyInfo<'_>,
    passphrase: &[u8],
) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    let expect = |found: Oid, wanted: Oid| {
        (found == wanted).then_some(()).ok_or(KeyFileError::Unsupported(found))
    };
    expect(info.algorithm.oid, PBES2)?;
    let pbes2: Pbes2Params<'_> = parameters(&info.algorithm)?;
    expect(pbes2.kdf.oid, PBKDF2)?;
    let kdf: Pbkdf2Params<'_> = parameters(&pbes2.kdf)?;
    if !(1..=MAX_ITERATIONS).contains(&kdf.iterations) {
        return Err(KeyFileError::Iterations(kdf.iterations));
    }
    let key_length = match pbes2.cipher.oid {
        SM4_CBC | AES128_CBC => 16,
        AES256_CBC => 32,
        other => return Err(KeyFileError::Unsupported(other)),
    };
    if kdf.key_length.is_some_and(|length| length != key_length) {
        return Err(KeyFileError::Malformed);
    }
    let mut key = Zeroizing::new(vec![0; key_length.into()]);
    let (salt, rounds) = (kdf.salt.as_bytes(), kdf.iterations);
    match kdf.prf.map_or(HMAC_SHA1, |prf| prf.oid) {
        HMAC_SM3 => pbkdf2::pbkdf2_hmac::<sm3::Sm3>(passphrase, salt, rounds, &mut key),
        HMAC_SHA256 => pbkdf2::pbkdf2_hmac::<sha2::Sha256>(passphrase, salt, rounds, &mut key),
        HMAC_SHA1 => pbkdf2::pbkdf2_hmac::<sha1::Sha1>(passphrase, salt, rounds, &mut key),
        other => return Err(KeyFileError::Unsupported(other)),
    }
    let iv: &OctetStringRef = parameters(&pbes2.cipher)?;
    let (iv, data) = (iv.as_bytes(), info.data.as_bytes());
    match pbes2.cipher.oid {
        AES128_CBC => cbc_decrypt::<aes::Aes128>(&key, iv, data),
        AES256_CBC => cbc_decrypt::<aes::Aes256>(&key, iv, data),
        _ => cbc_decrypt::<Cipher>(&key, iv, data),
    }
}

fn parameters<'a, T>(algorithm: &AlgorithmIdentifierRef<'a>) -> Result<T, KeyFileError>
where
    T: der::Choice<'a> + der::DecodeValue<'a>,
{
    algorithm.parameters.and_then(|any| any.decode_as().ok()).ok_or(KeyFileError::Malformed)
}

fn cbc_decrypt<C>(key: &[u8], iv: &[u8], data: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyFileError>
where
    C: BlockCipherDecrypt + KeyInit + BlockSizeUser,
{
    cbc::Decryptor::<C>::new_from_slices(key, iv)
        .map_err(|_| KeyFileError::Malformed)?
        .decrypt_padded_vec::<Pkcs7>(data)
        .map(Zeroizing::new)
        .map_err(|_| KeyFileError::Passphrase)
}

fn read_plain_der(der: &[u8]) -> Result<PrivateKey, KeyFileError> {
    match read_pkcs8(der) {
        Err(KeyFileError::Malformed) => {}
        decided => return decided,
    }
    if EncryptedPrivateKeyInfo::from_der(der).is_ok() {
        return Err(KeyFileError::Encrypted);
    }
    read_sec1(der, None)
}

fn read_pkcs8(der: &[u8]) -> Result<PrivateKey, KeyFileError> {
    let info = PrivateKeyInfoRef::from_der(der).map_err(|_| KeyFileError::Malformed)?;
    info.algorithm.assert_algorithm_oid(EC_PUBLIC_KEY).map_err(|_| KeyFileError::NotSm2)?;
    let curve = info.algorithm.parameters_oid().map_err(|_| KeyFileError::NotSm2)?;
    read_sec1(info.private_key.as_bytes(), Some(curve))
}

/// `outer` is the curve that the structure around it names.
fn read_sec1(der: &[u8], outer: Option<Oid>) -> Result<PrivateKey, KeyFileError> {
    let parsed = EcPrivateKey::from_der(der).map_err(|_| KeyFileError::Malformed)?;
    let curves = [outer, parsed.curve];
    let named = curves.iter().flatten();
    if parsed.version != 1 || named.clone().count() == 0 || named.clone().any(|c| *c != SM2_CURVE) {
        return Err(KeyFileError::NotSm2);
    }
    let bytes = parsed.private_key.as_bytes();
    let mut d = Zeroizing::new([0; 32]);
    // Some writers drop zeros at the front.
    32usize
        .checked_sub(bytes.len())
        .and_then(|start| d.get_mut(start..))
        .ok_or(KeyFileError::NotSm2)?
        .copy_from_slice(bytes);
    let key = PrivateKey::from_bytes(&d).map_err(|_| KeyFileError::NotSm2)?;
    let fits = parsed
        .public_key
        .is_none_or(|public| public.as_bytes() == Some(&key.public_key().to_sec1()));
    fits.then_some(key).ok_or(KeyFileError::NotSm2)
}

/// Names the curve inside the key too, where RFC 5915 leaves it free: GmSSL reads no other.
fn encode_info(key: &PrivateKey) -> der::Result<Zeroizing<Vec<u8>>> {
    let public = key.public_key().to_sec1();
    let d = key.to_bytes();
    let inner = EcPrivateKey {
        version: 1,
        private_key: OctetStringRef::new(&*d)?,
        curve: Some(SM2_CURVE),
        public_key: Some(BitStringRef::from_bytes(&public)?),
    };
    let inner = Zeroizing::new(inner.to_der()?);
    let algorithm =
        AlgorithmIdentifierRef { oid: EC_PUBLIC_KEY, parameters: Some((&SM2_CURVE).into()) };
    let info = PrivateKeyInfoRef::new(algorithm, OctetStringRef::new(&inner)?);
    Ok(Zeroizing::new(info.to_der()?))
}

fn encode_encrypted(salt: &[u8], iterations: u32, iv: &[u8], data: &[u8]) -> der::Result<Vec<u8>> {
    let kdf = Pbkdf2Params {
        salt: OctetStringRef::new(salt)?,
        iterations,
        key_length: Some(16),
        prf: Some(AlgorithmIdentifierRef { oid: HMAC_SM3, parameters: None }),
    }
    .to_der()?;
    let iv = OctetStringRef::new(iv)?.to_der()?;
    let pbes2 = Pbes2Params {
        kdf: AlgorithmIdentifierRef { oid: PBKDF2, parameters: Some(AnyRef::from_der(&kdf)?) },
        cipher: AlgorithmIdentifierRef { oid: SM4_CBC, parameters: Some(AnyRef::from_der(&iv)?) },
    }
    .to_der()?;
    EncryptedPrivateKeyInfo {
        algorithm: AlgorithmIdentifierRef {
            oid: PBES2,
            parameters: Some(AnyRef::from_der(&pbes2)?),
        },
        data: OctetStringRef::new(data)?,
    }
    .to_der()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(a: &PrivateKey, b: &PrivateKey) -> bool {
        a.to_bytes() == b.to_bytes()
    }

    #[test]
    fn encrypted_round_trip_in_der_and_pem() {
        let key = PrivateKey::generate().unwrap();
        let der = encrypt(&key, "口令".as_bytes()).unwrap();
        let text = pem::encode(ENCRYPTED_LABEL, &der);
        for file in [der.as_slice(), text.as_bytes()] {
            assert!(same(&decrypt(file, "口令".as_bytes()).unwrap(), &key));
            assert_eq!(read_plain(file).err(), Some(KeyFileError::Encrypted));
        }
        assert_eq!(decrypt(&der, b"other").err(), Some(KeyFileError::Passphrase));
    }

    #[test]
    fn plain_files_are_read_on_request_only() {
        let key = PrivateKey::generate().unwrap();
        let pkcs8 = encode_plain(&key);
        let sec1 =
            sm2::SecretKey::from_slice(key.to_bytes().as_slice()).unwrap().to_sec1_der().unwrap();
        let texts = [pem::encode(PLAIN_LABEL, &pkcs8), pem::encode(SEC1_LABEL, &sec1)];
        let openssl = format!(
            "-----BEGIN EC PARAMETERS-----\nBggqgRzPVQGCLQ==\n-----END EC PARAMETERS-----\n{}",
            *texts[1]
        );
        for file in
            [pkcs8.as_slice(), &sec1, texts[0].as_bytes(), texts[1].as_bytes(), openssl.as_bytes()]
        {
            assert!(same(&read_plain(file).unwrap(), &key));
            assert_eq!(decrypt(file, b"x").err(), Some(KeyFileError::NotEncrypted));
        }
    }

    #[test]
    fn a_passphrase_cannot_be_made_to_take_hours() {
        let key = PrivateKey::generate().unwrap();
        let good = encrypt_with(&key, b"x", 1).unwrap();
        let at = good.windows(3).position(|bytes| bytes == [2, 1, 1]).unwrap();
        // The INTEGER grows by three bytes, and with it all structures around it.
        let mut bad = good.clone();
        bad.splice(at..at + 3, [2, 4, 0x7f, 0xff, 0xff, 0xff]);
        for (index, byte) in good[..at].iter().enumerate() {
            let ends_after = |length: u8| index + 1 + usize::from(length) > at;
            let is_length = index > 0 && good[index - 1] == 0x30 && *byte < 0x80;
            if is_length && ends_after(*byte) {
                bad[index] += 3;
            }
        }
        // The last byte of the outermost length, which takes several.
        let last = 1 + usize::from(bad[1] & 0x7f);
        bad[last] += 3;
        assert_eq!(decrypt(&bad, b"x").err(), Some(KeyFileError::Iterations(0x7fff_ffff)));
        let mut none = good.clone();
        none[at + 2] = 0;
        assert_eq!(decrypt(&none, b"x").err(), Some(KeyFileError::Iterations(0)));
    }

    #[test]
    fn every_change_and_truncation_is_refused() {
        let key = PrivateKey::generate().unwrap();
        let good = encrypt_with(&key, b"x", 1).unwrap();
        assert!(same(&decrypt(&good, b"x").unwrap(), &key));
        for bit in 0..good.len() * 8 {
            let mut changed = good.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(decrypt(&changed, b"x").is_err(), "bit {bit}");
        }
        for length in 0..good.len() {
            assert!(decrypt(&good[..length], b"x").is_err());
            let _ = read_plain(&good[..length]);
        }
    }

    /// 1.2.156.10197.1.301 stands in the algorithm and again in the key: GmSSL wants it there.
    #[test]
    fn the_curve_is_named_inside_the_key_too() {
        let der = encode_plain(&PrivateKey::generate().unwrap());
        let curve = [0x06, 0x08, 0x2a, 0x81, 0x1c, 0xcf, 0x55, 0x01, 0x82, 0x2d];
        assert_eq!(der.windows(curve.len()).filter(|part| *part == curve).count(), 2);
    }

    #[test]
    fn keys_of_other_curves_and_mismatched_halves_are_refused() {
        let key = PrivateKey::generate().unwrap();
        let good = encode_plain(&key).to_vec();
        assert!(read_plain(&good).is_ok());
        // The last byte belongs to the public key; the curve's OID ends with 2d.
        let mut mismatch = good.clone();
        *mismatch.last_mut().unwrap() ^= 1;
        let mut curve = good.clone();
        let at = good.windows(2).position(|w| w == [0x82, 0x2d]).unwrap();
        curve[at + 1] ^= 1;
        for bad in [mismatch, curve] {
            assert_eq!(read_plain(&bad).err(), Some(KeyFileError::NotSm2));
        }
    }
}
