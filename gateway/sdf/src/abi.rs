//! The vendor's library as the standard's C header has it (GM/T 0018-2012 clauses 5 and 6). All
//! unsafe code of this crate is here; what leaves this module is checked: lengths, leading bytes
//! of numbers, points on the curve.
//!
//! What cannot be checked is the library itself. It runs inside the process with all its rights,
//! so the path to it is as sensitive as the program's own.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_uchar, c_uint, c_void};
use std::path::Path;
use std::ptr;
use std::sync::Arc;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use xinqiao_crypto::sm2::{Prehash, PublicKey, Signature};
use zeroize::{Zeroize, Zeroizing};

use crate::DecryptForm;
use crate::fault::Fault;

/// Bytes of a number: `ECCref_MAX_BITS` is 512, of which SM2 fills the last half.
const FIELD: usize = 64;
/// SM2 encryption (GM/T 0006-2012).
const SGD_SM2_3: c_uint = 0x0002_0800;
/// Longest plaintext under SM2. What is sealed so is a symmetric key of 16 or 32 bytes.
pub(crate) const MAX_PLAINTEXT: usize = 256;

type Handle = *mut c_void;
type OpenDevice = unsafe extern "C" fn(*mut Handle) -> c_int;
type OpenSession = unsafe extern "C" fn(Handle, *mut Handle) -> c_int;
type Close = unsafe extern "C" fn(Handle) -> c_int;
type GetAccess = unsafe extern "C" fn(Handle, c_uint, *mut c_uchar, c_uint) -> c_int;
type ReleaseAccess = unsafe extern "C" fn(Handle, c_uint) -> c_int;
type Export = unsafe extern "C" fn(Handle, c_uint, *mut EccPublicKey) -> c_int;
type Sign = unsafe extern "C" fn(Handle, c_uint, *mut c_uchar, c_uint, *mut EccSignature) -> c_int;
type DecryptPlain =
    unsafe extern "C" fn(Handle, c_uint, *mut EccCipher, *mut c_uchar, *mut c_uint) -> c_int;
type DecryptWithAlgorithm = unsafe extern "C" fn(
    Handle,
    c_uint,
    c_uint,
    *mut EccCipher,
    *mut c_uchar,
    *mut c_uint,
) -> c_int;

#[repr(C)]
struct EccPublicKey {
    bits: c_uint,
    x: [u8; FIELD],
    y: [u8; FIELD],
}

#[repr(C)]
struct EccSignature {
    r: [u8; FIELD],
    s: [u8; FIELD],
}

/// In the header the last field has one byte and the rest of the ciphertext follows it. Vendors
/// that give it a fixed length have less than this, so that copying the whole structure is safe.
#[repr(C)]
struct EccCipher {
    x: [u8; FIELD],
    y: [u8; FIELD],
    digest: [u8; 32],
    len: c_uint,
    ciphertext: [u8; MAX_PLAINTEXT],
}

/// The functions of a loaded library, which stays loaded until the process ends.
#[derive(Clone, Copy)]
pub(crate) struct Functions {
    open_device: OpenDevice,
    close_device: Close,
    open_session: OpenSession,
    close_session: Close,
    get_access: GetAccess,
    release_access: ReleaseAccess,
    export_sign: Export,
    export_encrypt: Export,
    sign: Sign,
    decrypt: Decrypt,
}

#[derive(Clone, Copy)]
enum Decrypt {
    Plain(DecryptPlain),
    WithAlgorithm(DecryptWithAlgorithm),
}

impl Functions {
    /// Loads a library and finds every function that is used.
    pub(crate) fn load(path: &Path, form: DecryptForm) -> Result<Self, Fault> {
        let failed = |error: libloading::Error| Fault::Library(error.to_string());
        // SAFETY: runs the library's initialisers. The operator names the library in the
        // configuration and thereby vouches for it; nothing received ever chooses the path.
        let library =
            unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }.map_err(failed)?;
        // SAFETY (of each use): the type is the function's in GM/T 0018-2012, and of the decrypting
        // one that which the operator chose.
        macro_rules! find {
            ($name:literal) => {{
                // SAFETY: see above.
                let symbol = unsafe { library.get($name.as_bytes()) };
                *symbol.map_err(|_| Fault::Missing($name))?
            }};
        }
        let functions = Self {
            open_device: find!("SDF_OpenDevice"),
            close_device: find!("SDF_CloseDevice"),
            open_session: find!("SDF_OpenSession"),
            close_session: find!("SDF_CloseSession"),
            get_access: find!("SDF_GetPrivateKeyAccessRight"),
            release_access: find!("SDF_ReleasePrivateKeyAccessRight"),
            export_sign: find!("SDF_ExportSignPublicKey_ECC"),
            export_encrypt: find!("SDF_ExportEncPublicKey_ECC"),
            sign: find!("SDF_InternalSign_ECC"),
            decrypt: match form {
                DecryptForm::Plain => Decrypt::Plain(find!("SDF_InternalDecrypt_ECC")),
                DecryptForm::WithAlgorithm => {
                    Decrypt::WithAlgorithm(find!("SDF_InternalDecrypt_ECC"))
                }
            },
        };
        // Never unloaded: vendors' libraries leave threads running, and the pointers stay valid.
        std::mem::forget(library);
        Ok(functions)
    }
}

/// An open device. Closed when its last session is.
pub(crate) struct Device {
    functions: Functions,
    handle: Handle,
}

// SAFETY: handles of GM/T 0018 belong to the process, not to a thread. The handle is only read, to
// open a session (under the pool's lock) and to close the device (once, by its last owner).
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}

impl Device {
    pub(crate) fn open(functions: Functions) -> Result<Self, Fault> {
        let mut handle = ptr::null_mut();
        // SAFETY: the pointer is to a live handle, which the function fills.
        let code = unsafe { (functions.open_device)(&raw mut handle) };
        checked("SDF_OpenDevice", code)?;
        not_null(handle)?;
        Ok(Self { functions, handle })
    }

    pub(crate) fn session(self: &Arc<Self>) -> Result<Session, Fault> {
        let mut handle = ptr::null_mut();
        // SAFETY: the device is open; the pointer is to a live handle, which the function fills.
        let code = unsafe { (self.functions.open_session)(self.handle, &raw mut handle) };
        checked("SDF_OpenSession", code)?;
        not_null(handle)?;
        Ok(Session { device: Arc::clone(self), handle, granted: Vec::new() })
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: opened by `open`, and every session, which each hold this alive, is closed.
        // A code is of no use: there is nothing left to do.
        unsafe { (self.functions.close_device)(self.handle) };
    }
}

/// An open session. One thread at a time uses it, as the standard wants.
pub(crate) struct Session {
    device: Arc<Device>,
    handle: Handle,
    granted: Vec<c_uint>,
}

// SAFETY: as for `Device`; not `Sync`, so that no two threads use one session at once.
unsafe impl Send for Session {}

impl Session {
    /// Was the right to use this private key granted?
    pub(crate) fn may_use(&self, index: u32) -> bool {
        self.granted.contains(&index)
    }

    /// Gets the right to use a private key, for this session.
    pub(crate) fn grant(&mut self, index: u32, pin: &[u8]) -> Result<(), Fault> {
        // The header takes a writable pointer: a copy, erased afterwards.
        let mut pin = Zeroizing::new(pin.to_vec());
        let len = c_uint::try_from(pin.len()).map_err(|_| Fault::Wrong("口令过长"))?;
        let get_access = self.device.functions.get_access;
        // SAFETY: the session is open; pointer and length are of one live buffer.
        let code = unsafe { get_access(self.handle, index, pin.as_mut_ptr(), len) };
        checked("SDF_GetPrivateKeyAccessRight", code)?;
        self.granted.push(index);
        Ok(())
    }

    /// Was it opened on this device?
    pub(crate) fn is_of(&self, device: &Arc<Device>) -> bool {
        Arc::ptr_eq(&self.device, device)
    }

    /// The public half of a signing key.
    pub(crate) fn signing_key(&self, index: u32) -> Result<PublicKey, Fault> {
        self.export("SDF_ExportSignPublicKey_ECC", self.device.functions.export_sign, index)
    }

    /// The public half of an encryption key.
    pub(crate) fn encryption_key(&self, index: u32) -> Result<PublicKey, Fault> {
        self.export("SDF_ExportEncPublicKey_ECC", self.device.functions.export_encrypt, index)
    }

    fn export(&self, name: &'static str, export: Export, index: u32) -> Result<PublicKey, Fault> {
        let mut key = EccPublicKey { bits: 0, x: [0; FIELD], y: [0; FIELD] };
        // SAFETY: the session is open; the structure is live and laid out as in the header.
        let code = unsafe { export(self.handle, index, &raw mut key) };
        checked(name, code)?;
        if key.bits != 256 {
            return Err(Fault::Wrong("公钥不是256位"));
        }
        let mut sec1 = [4; 65];
        let (x, y) = sec1[1..].split_at_mut(32);
        x.copy_from_slice(number(&key.x)?);
        y.copy_from_slice(number(&key.y)?);
        PublicKey::from_sec1(&sec1).map_err(|_| Fault::Wrong("公钥不在SM2曲线上"))
    }

    /// Signs an `e`.
    pub(crate) fn sign(&self, index: u32, e: &Prehash) -> Result<Signature, Fault> {
        let mut e = *e.as_bytes();
        let mut made = EccSignature { r: [0; FIELD], s: [0; FIELD] };
        let sign = self.device.functions.sign;
        // SAFETY: the session is open; both buffers are live, the length is the first one's, and
        // the structure is laid out as in the header.
        let code = unsafe { sign(self.handle, index, e.as_mut_ptr(), 32, &raw mut made) };
        checked("SDF_InternalSign_ECC", code)?;
        let mut raw = [0; 64];
        let (r, s) = raw.split_at_mut(32);
        r.copy_from_slice(number(&made.r)?);
        s.copy_from_slice(number(&made.s)?);
        Signature::from_raw(&raw).map_err(|_| Fault::Wrong("签名值超出范围"))
    }

    /// Opens a ciphertext taken apart.
    pub(crate) fn decrypt(&self, index: u32, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, Fault> {
        let mut cipher = EccCipher {
            x: field(&sealed.x),
            y: field(&sealed.y),
            digest: sealed.digest,
            len: sealed.len,
            ciphertext: sealed.ciphertext,
        };
        // Twice as long as anything may be, lest a library pads before it cuts.
        let mut plaintext = Zeroizing::new([0u8; 2 * MAX_PLAINTEXT]);
        let mut len = c_uint::try_from(plaintext.len()).unwrap_or_default();
        let (cipher, out, written) = (&raw mut cipher, plaintext.as_mut_ptr(), &raw mut len);
        let code = match self.device.functions.decrypt {
            Decrypt::Plain(decrypt) => {
                // SAFETY: the session is open; all buffers are live, the ciphertext is laid out as
                // in the header, and the length says how much room there is.
                unsafe { decrypt(self.handle, index, cipher, out, written) }
            }
            Decrypt::WithAlgorithm(decrypt) => {
                // SAFETY: as above.
                unsafe { decrypt(self.handle, index, SGD_SM2_3, cipher, out, written) }
            }
        };
        checked("SDF_InternalDecrypt_ECC", code)?;
        let opened = usize::try_from(len).ok().filter(|_| len == sealed.len);
        let opened = opened.and_then(|len| plaintext.get(..len));
        Ok(Zeroizing::new(opened.ok_or(Fault::Wrong("明文长度与密文不符"))?.to_vec()))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Functions { release_access, close_session, .. } = self.device.functions;
        for index in self.granted.drain(..) {
            // SAFETY: the session is open. A code is of no use: closing it takes the right back too.
            unsafe { release_access(self.handle, index) };
        }
        // SAFETY: opened by `Device::session`, used no more, and the device is still open.
        unsafe { close_session(self.handle) };
    }
}

/// A ciphertext taken apart, as devices want it.
pub(crate) struct Sealed {
    pub(crate) x: [u8; 32],
    pub(crate) y: [u8; 32],
    pub(crate) digest: [u8; 32],
    pub(crate) len: c_uint,
    pub(crate) ciphertext: [u8; MAX_PLAINTEXT],
}

impl Drop for Sealed {
    fn drop(&mut self) {
        self.ciphertext.zeroize();
    }
}

fn checked(function: &'static str, code: c_int) -> Result<(), Fault> {
    match code {
        0 => Ok(()),
        code => Err(Fault::Code { function, code: code.cast_unsigned() }),
    }
}

fn not_null(handle: Handle) -> Result<(), Fault> {
    if handle.is_null() { Err(Fault::Wrong("句柄为空")) } else { Ok(()) }
}

/// A number of 256 bits as a field, right-aligned.
fn field(number: &[u8; 32]) -> [u8; FIELD] {
    let mut field = [0; FIELD];
    field[FIELD - 32..].copy_from_slice(number);
    field
}

/// A number of 256 bits out of a field. A device built with shorter fields shows here.
fn number(field: &[u8; FIELD]) -> Result<&[u8], Fault> {
    let (zeros, number) = field.split_at(FIELD - 32);
    if zeros.iter().all(|byte| *byte == 0) {
        Ok(number)
    } else {
        Err(Fault::Wrong("数的高位不为零,厂商的结构定义与GM/T 0018-2012不同"))
    }
}
