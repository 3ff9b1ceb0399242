//! What breaks from outside, and the reconciliation afterwards.

pub(crate) mod kill;
