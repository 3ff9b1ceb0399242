//! Where messages come from: one file per protocol, and the registry.

use std::time::Duration;

use xinqiao_core::fault::{Blame, Classify, Retry};
use xinqiao_core::schedule::RetryPolicy;
use xinqiao_core::spi::{ListenerFactory, Shutdown, SourceContext, SourceFactory};

mod database;
mod files;
mod folder;
mod ftp;
mod paging;
mod pull;
mod rest;
mod sftp;
mod soap;
mod soap_push;
mod template;

/// Every kind of source.
pub const SOURCES: &[&dyn SourceFactory] = &[
    &database::MySql,
    &database::Postgres,
    &folder::Folder,
    &ftp::Ftp,
    &rest::Rest,
    &sftp::Sftp,
    &soap::Soap,
];

/// Every kind of listener: what agencies push to, in a dialect of its own.
pub const LISTENERS: &[&dyn ListenerFactory] = &[&soap_push::SoapPush];

/// The kind of listener with this name in `feeds.yaml`.
pub fn find_listener(kind: &str) -> Option<&'static dyn ListenerFactory> {
    LISTENERS.iter().copied().find(|listener| listener.kind() == kind)
}

/// The kind of source with this name in `feeds.yaml`.
pub fn find(kind: &str) -> Option<&'static dyn SourceFactory> {
    SOURCES.iter().copied().find(|source| source.kind() == kind)
}

/// What a source reports when it cannot go on; the text holds no content.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{text}")]
struct SourceFault {
    code: &'static str,
    blame: Blame,
    retry: Retry,
    text: String,
}

impl Classify for SourceFault {
    fn code(&self) -> &'static str {
        self.code
    }

    fn blame(&self) -> Blame {
        self.blame
    }

    fn retry(&self) -> Retry {
        self.retry
    }
}

/// How long a source waits after its `attempt`-th failure in a row: it never gives up, and never
/// waits for less than its usual interval or more than five minutes unasked.
fn wait_after(attempt: u32, retry: Retry, poll: Duration, context: &SourceContext) -> Duration {
    let cap = Duration::from_secs(300).max(poll);
    let policy = RetryPolicy { base: poll.saturating_mul(2), cap, max_attempts: u32::MAX };
    let asked = match retry {
        Retry::After(asked) => Some(asked),
        Retry::Never | Retry::Backoff => None,
    };
    policy.wait(attempt, asked, context.clock.now().0).unwrap_or(cap)
}

/// Waits, or returns at once when stopping begins.
async fn pause(wait: Duration, shutdown: &Shutdown) {
    let begun = shutdown.begun();
    if !shutdown.has_begun() {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = begun => {}
        }
    }
}
