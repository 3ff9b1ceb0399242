//! 信桥 Xinqiao: the composition of core, store, adapters and HTTP surface into one gateway.
//!
//! Reading order: [`config`] (two files → checked values) → [`domain`] (catalogue, calendar,
//! mappings) and [`keys`] → [`pipeline`] (the stages, in order) → [`workers`] (who drives the stages) →
//! `feedback` (what agencies are told) and `report` (how the clocks were met) → [`compose`] (what the
//! process is) → [`commands`] (what a person can ask).

pub mod clock;
pub mod commands;
pub mod compose;
pub mod config;
pub mod domain;
mod feedback;
pub mod keys;
pub mod pipeline;
mod report;
pub mod shutdown;
pub mod workers;
