//! The pure domain of 信桥 (Xinqiao).
//!
//! Everything here is a function of its arguments: no clock, no file, no socket, no runtime (the
//! crate's `.clippy.toml` bans them). Bytes come in from the edges, decisions go out.
//!
//! Reading order: [`model`] (the nouns) → [`ident`] and [`value`] (parsing what agencies write) →
//! [`catalogue`] (datasets, generations, rules) → [`mapping`] (an agency's columns to a dataset) →
//! [`calendar`] and [`deadline`] (the two clocks) → [`period`] and [`report`] (how they were met) → [`schedule`] (when to try again) → [`fault`]
//! (what every public error answers) → [`spi`] (the ports the edges implement).

pub mod calendar;
pub mod catalogue;
pub mod deadline;
pub mod diagnostic;
pub mod fault;
pub mod ident;
pub mod mapping;
pub mod model;
pub mod period;
pub mod report;
pub mod schedule;
pub mod spi;
pub mod value;
pub mod yaml;
