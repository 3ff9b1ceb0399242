//! Who drives the stages: one coordinator hands out messages, each target has its senders, each
//! source its keeper. None dies silently: a store that stops takes the gateway down with it, and
//! whoever supervises the process starts it again on the reopened store.

mod expiry;
mod feedback;
mod intake;
mod processing;
mod rerun;
mod sending;

pub use expiry::{Expiring, watch_expiry};
pub use feedback::Feedback;
pub use intake::keep_source;
pub use processing::Processing;
pub use sending::send;
