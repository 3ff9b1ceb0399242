//! The way data goes: the stages in order. Each takes the former's output by value, and only its
//! own file can make its output, so none can be skipped.
//!
//! ```text
//! receive  bytes → Receipt        raw bytes and cursor durable, then the receipt
//! decode   stored bytes → rows    can be run again
//! map      rows → drafts          the agency's columns to catalogue fields, then to the generation in force
//! validate drafts → verdicts      every rule, all findings at once
//! commit   verdicts → store       record versions, queue items, verdicts: one transaction
//! deliver  items → target         outcome back into the queue
//! ```
