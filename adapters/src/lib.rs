//! The gateway's edges: [`formats`] (bytes → rows), [`sources`] (where messages come from),
//! [`targets`] (where records go), and `wire` (protocol parts they share). Depends on the core only.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod formats;
pub mod sources;
pub mod targets;
mod wire;
