//! SM4 (GB/T 32907-2016) and SM3 (GB/T 32905-2016) with the vector instructions of the machine.
//!
//! * [`Sm4`], a block cipher for the modes of RustCrypto, and [`Sm4Gcm`], the AEAD of RFC 8998
//!   without the serial tail those modes leave;
//! * [`sm3_lanes`], the digests of many messages at once.
//!
//! Each picks the best [`Path`] (or [`sm3_lanes::Lanes`]) the machine can run when a key is set
//! or a batch begins; without one, the portable crates `sm4` and `sm3` do the work. The vector
//! paths read no table at a secret index, so the caches see nothing of key or text.
//!
//! This and `xinqiao-sdf` alone may hold unsafe code in the product. All of it here rests on one
//! idea: a *witness* (module `vector`), a value that only a run-time check of the processor's
//! features hands out, comes with every call that needs those features.

mod gcm;
pub mod sm3_lanes;
mod sm4;
#[cfg(target_arch = "x86_64")]
mod vector;

pub use gcm::Sm4Gcm;
pub use sm4::{Path, Sm4};
