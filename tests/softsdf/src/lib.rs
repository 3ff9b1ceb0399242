//! A test double of a vendor's GM/T 0018 library. **No protection at all**: keys in clear.
//!
//! It is no third party's work, so it shows that our side is consistent, not that a vendor agrees.
//! Being loaded by path, it looks for `softsdf.conf` beside itself, again at every call, so that a
//! test can pull the plug midway. A copy of the library is a device of its own. Lines:
//!
//! ```text
//! pin 12345678
//! key 1 sign <64 hex digits>
//! key 1 encrypt <64 hex digits>
//! epoch 2                            sessions of another epoch are gone: it was restarted
//! fail SDF_InternalSign_ECC 01000003 that function gives this code; twist: a wrong answer instead
//! with-algorithm                     SDF_InternalDecrypt_ECC in its form with uiAlgID
//! ```
#![allow(unsafe_code)]

use std::collections::BTreeSet;
use std::ffi::{c_int, c_uchar, c_uint, c_void};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use xinqiao_crypto::sm2::{CiphertextFormat, Prehash, PrivateKey};

const SDR_HARDFAIL: c_int = 0x0100_0004;
const SDR_OPENDEVICE: c_int = 0x0100_0005;
const SDR_PARDENY: c_int = 0x0100_0007;
const SDR_KEYNOTEXIST: c_int = 0x0100_0008;
const SDR_INARGERR: c_int = 0x0100_001D;
/// A vendor's own codes: a wrong PIN, a wrong ciphertext.
const WRONG_PIN: c_int = 0x0101_0041;
const WRONG_CIPHERTEXT: c_int = 0x0101_0042;
const SGD_SM2_3: c_uint = 0x0002_0800;

type Handle = *mut c_void;

struct Session {
    epoch: String,
    granted: BTreeSet<u32>,
    used: AtomicUsize,
}

static DEVICE_IS_OPEN: Mutex<bool> = Mutex::new(false);

/// The configuration, read anew.
struct Conf(String);

impl Conf {
    fn read() -> Result<Self, c_int> {
        let maps = std::fs::read_to_string("/proc/self/maps").map_err(|_| SDR_HARDFAIL)?;
        let here = SDF_OpenDevice as *const () as usize;
        let library = maps.lines().find_map(|line| {
            let (from, to) = line.split_once(' ')?.0.split_once('-')?;
            let range =
                usize::from_str_radix(from, 16).ok()?..usize::from_str_radix(to, 16).ok()?;
            range.contains(&here).then(|| line.split_whitespace().last().map(PathBuf::from))?
        });
        let conf = library.ok_or(SDR_HARDFAIL)?.with_file_name("softsdf.conf");
        std::fs::read_to_string(conf).map(Self).map_err(|_| SDR_HARDFAIL)
    }

    /// What stands behind these words.
    fn get(&self, words: &[&str]) -> Option<&str> {
        let head = words.join(" ");
        let mut behind = self.0.lines().filter_map(|line| line.strip_prefix(&head));
        behind.find_map(|rest| (rest.is_empty() || rest.starts_with(' ')).then(|| rest.trim()))
    }

    fn key(&self, index: u32, usage: &str) -> Result<PrivateKey, c_int> {
        let hex = self.get(&["key", &index.to_string(), usage]).ok_or(SDR_KEYNOTEXIST)?;
        let mut d = [0; 32];
        for (at, byte) in d.iter_mut().enumerate() {
            let digits = hex.get(2 * at..2 * at + 2).ok_or(SDR_HARDFAIL)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| SDR_HARDFAIL)?;
        }
        PrivateKey::from_bytes(&d).map_err(|_| SDR_HARDFAIL)
    }

    fn epoch(&self) -> String {
        self.get(&["epoch"]).unwrap_or_default().to_owned()
    }

    fn twisted(&self, function: &str) -> bool {
        self.get(&["fail", function]) == Some("twist")
    }
}

/// Reads the configuration, fails if that says so, else does what is to be done.
fn call(function: &str, act: impl FnOnce(&Conf) -> Result<(), c_int>) -> c_int {
    let run = || {
        let conf = Conf::read()?;
        match conf.get(&["fail", function]) {
            None | Some("twist") => act(&conf),
            Some(code) => Err(c_int::from_str_radix(code, 16).unwrap_or(SDR_HARDFAIL)),
        }
    };
    run().err().unwrap_or(0)
}

/// As [`call`], in a session that is still there and used by one thread.
fn in_session(
    function: &str,
    handle: Handle,
    act: impl FnOnce(&Conf, &mut Session) -> Result<(), c_int>,
) -> c_int {
    call(function, |conf| {
        // SAFETY: handles come from `SDF_OpenSession` and are used until they are closed.
        let session = unsafe { handle.cast::<Session>().as_mut() }.ok_or(SDR_INARGERR)?;
        if session.used.fetch_add(1, Ordering::SeqCst) != 0 {
            return Err(SDR_HARDFAIL);
        }
        let done =
            if session.epoch == conf.epoch() { act(conf, session) } else { Err(SDR_INARGERR) };
        session.used.store(0, Ordering::SeqCst);
        done
    })
}

/// Right-aligned in 64 bytes.
fn field(number: &[u8]) -> [u8; 64] {
    let mut field = [0; 64];
    field[32..].copy_from_slice(number);
    field
}

/// `SDF_OpenDevice`. One at a time, as some libraries are.
///
/// # Safety
/// As GM/T 0018 has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn SDF_OpenDevice(handle: *mut Handle) -> c_int {
    call("SDF_OpenDevice", |_| {
        let mut open = DEVICE_IS_OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut *open, true) {
            return Err(SDR_OPENDEVICE);
        }
        // SAFETY: the caller's pointer is valid. Any pointer but null will do.
        unsafe { *handle = (&raw const DEVICE_IS_OPEN).cast_mut().cast() };
        Ok(())
    })
}

/// `SDF_CloseDevice`.
///
/// # Safety
/// As GM/T 0018 has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn SDF_CloseDevice(_: Handle) -> c_int {
    *DEVICE_IS_OPEN.lock().unwrap_or_else(PoisonError::into_inner) = false;
    0
}

/// `SDF_OpenSession`.
///
/// # Safety
/// As GM/T 0018 has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn SDF_OpenSession(_: Handle, handle: *mut Handle) -> c_int {
    call("SDF_OpenSession", |conf| {
        let (granted, used) = (BTreeSet::new(), AtomicUsize::new(0));
        let session = Box::new(Session { epoch: conf.epoch(), granted, used });
        // SAFETY: the caller's pointer is valid.
        unsafe { *handle = Box::into_raw(session).cast() };
        Ok(())
    })
}

/// `SDF_CloseSession`.
///
/// # Safety
/// As GM/T 0018 has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn SDF_CloseSession(handle: Handle) -> c_int {
    // SAFETY: made by `SDF_OpenSession`, and closed once.
    drop(unsafe { Box::from_raw(handle.cast::<Session>()) });
    0
}

/// `SDF_GetPrivateKeyAccessRight`.
///
/// # Safety
/// As GM/T 0018 has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn SDF_GetPrivateKeyAccessRight(
    handle: Handle,
    index: c_uint,
    pin: *mut c_uchar,
    len: c_uint,
) -> c_int {
    in_session("SDF_GetPrivateKeyAccessRight", handle, |conf, session| {
        // SAFETY: pointer and length are of one buffer of the caller.
        let pin = unsafe { std::slice::from_raw_parts(pin, len as usize) };
        if conf.get(&["pin"]).map(str::as_bytes) != Some(pin) {
            return Err(WRONG_PIN);
        }
        session.granted.insert(index);
        Ok(())
    })
}

/// `SDF_ReleasePrivateKeyAccessRight`.
///
/// # Safety
/// As GM/T 0018 has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn SDF_ReleasePrivateKeyAccessRight(handle: Handle, index: c_uint) -> c_int {
    in_session("SDF_ReleasePrivateKeyAccessRight", handle, |_, session| {
        session.granted.remove(&index);
        Ok(())
    })
}

/// `SDF_ExportSignPublicKey_ECC`.
///
/// # Safety
/// As GM/T 0018 has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn SDF_ExportSignPublicKey_ECC(
    handle: Handle,
    index: c_uint,
    out: *mut c_void,
) -> c_int {
    export("SDF_ExportSignPublicKey_ECC", handle, index, "sign", out)
}

/// `SDF_ExportEncPublicKey_ECC`.
///
/// # Safety
/// As GM/T 0018 has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn SDF_ExportEncPublicKey_ECC(
    handle: Handle,
    index: c_uint,
    out: *mut c_void,
) -> c_int {
    export("SDF_ExportEncPublicKey_ECC", handle, index, "encrypt", out)
}

fn export(function: &str, handle: Handle, index: u32, usage: &str, out: *mut c_void) -> c_int {
    in_session(function, handle, |conf, _| {
        let sec1 = conf.key(index, usage)?.public_key().to_sec1();
        let bits: u32 = if conf.twisted(function) { 512 } else { 256 };
        let (x, y) = sec1[1..].split_at(32);
        let key = [&bits.to_ne_bytes()[..], &field(x), &field(y)].concat();
        // SAFETY: the caller's structure has these 132 bytes.
        unsafe { out.cast::<u8>().copy_from_nonoverlapping(key.as_ptr(), key.len()) };
        Ok(())
    })
}

/// `SDF_InternalSign_ECC`.
///
/// # Safety
/// As GM/T 0018 has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn SDF_InternalSign_ECC(
    handle: Handle,
    index: c_uint,
    data: *mut c_uchar,
    len: c_uint,
    out: *mut c_void,
) -> c_int {
    const NAME: &str = "SDF_InternalSign_ECC";
    in_session(NAME, handle, |conf, session| {
        if len != 32 {
            return Err(SDR_INARGERR);
        }
        if !session.granted.contains(&index) {
            return Err(SDR_PARDENY);
        }
        let mut e = [0; 32];
        // SAFETY: the caller's buffer has `len`, which is 32.
        e.copy_from_slice(unsafe { std::slice::from_raw_parts(data, 32) });
        e[0] ^= u8::from(conf.twisted(NAME));
        let signature = conf.key(index, "sign")?.sign_prehash(&Prehash::from_raw(e));
        let raw = signature.map_err(|_| SDR_HARDFAIL)?.to_raw();
        let (r, s) = raw.split_at(32);
        let made = [field(r), field(s)].concat();
        // SAFETY: the caller's structure has these 128 bytes.
        unsafe { out.cast::<u8>().copy_from_nonoverlapping(made.as_ptr(), made.len()) };
        Ok(())
    })
}

/// `SDF_InternalDecrypt_ECC` in either form, as the configuration says: what comes after the index
/// are words, of which the shorter form leaves the last unset.
///
/// # Safety
/// As vendors have it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn SDF_InternalDecrypt_ECC(
    handle: Handle,
    index: c_uint,
    third: usize,
    fourth: usize,
    fifth: usize,
    sixth: usize,
) -> c_int {
    const NAME: &str = "SDF_InternalDecrypt_ECC";
    in_session(NAME, handle, |conf, session| {
        let (cipher, out, len) = if conf.get(&["with-algorithm"]).is_some() {
            // Only half of the word is the argument.
            if third as c_uint != SGD_SM2_3 {
                return Err(SDR_INARGERR);
            }
            (fourth, fifth, sixth)
        } else {
            (third, fourth, fifth)
        };
        if !session.granted.contains(&index) {
            return Err(SDR_PARDENY);
        }
        let (cipher, out, len) = (cipher as *const u8, out as *mut u8, len as *mut c_uint);
        // SAFETY: the caller's structure has 164 bytes and then as many as its length says.
        let head = unsafe { std::slice::from_raw_parts(cipher, 164) };
        let (x, y, digest) = (&head[32..64], &head[96..128], &head[128..160]);
        let sealed = u32::from_ne_bytes([head[160], head[161], head[162], head[163]]) as usize;
        // SAFETY: as above.
        let sealed = unsafe { std::slice::from_raw_parts(cipher.add(164), sealed) };
        let raw = [&[4], x, y, digest, sealed].concat();
        let opened = conf.key(index, "encrypt")?.open_as(CiphertextFormat::C1C3C2, &raw);
        let opened = opened.map_err(|_| WRONG_CIPHERTEXT)?;
        let told = opened.len() + usize::from(conf.twisted(NAME));
        // SAFETY: the caller's length says how much room is in its buffer.
        unsafe {
            if (*len as usize) < opened.len() {
                return Err(SDR_INARGERR);
            }
            out.copy_from_nonoverlapping(opened.as_ptr(), opened.len());
            *len = told as c_uint;
        }
        Ok(())
    })
}
