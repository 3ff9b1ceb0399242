//! What the system tests and the benches share: an invented feed, its rows, a gateway's
//! configuration folder, and a client that pushes.

mod client;
mod figures;
mod made;
pub mod peers;
pub mod world;

pub use client::{Answer, Client};
pub use figures::{Scale, scale, spread};
pub use made::{HEADINGS, Row, csv, mapping, ndjson, uscc};
pub use world::{PUSH, TOKEN, World};

/// Any error, said in words: these programs only report.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;
