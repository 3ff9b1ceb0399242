//! What every source and every target must do, run over the registries: a new kind without a
//! fixture fails the tests. Only for tests.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's way to fail")]

use xinqiao_core::spi::{SecretRef, Secrets};

#[cfg(test)]
mod faulty_ftp;
#[cfg(test)]
mod files;
mod harness;
#[cfg(test)]
mod pulls;
#[cfg(test)]
mod soap_targets;
#[cfg(test)]
mod sources;
#[cfg(test)]
mod targets;

pub use harness::{
    Dying, Fixture, Released, TestInbox, nothing_is_lost_let_go_early_or_sent_again,
    nothing_is_lost_or_doubled_by_dying, progress_tells_how_much_and_nothing_of_it, run,
    what_is_too_large_is_told_and_not_taken,
};

/// Every secret is `s3cret`.
#[derive(Debug)]
pub struct TestSecrets;

impl Secrets for TestSecrets {
    fn resolve(&self, _: &SecretRef) -> Result<String, String> {
        Ok("s3cret".to_owned())
    }
}

#[cfg(test)]
/// Serves on a port of the system's choosing until the test ends; gives the base address.
async fn serve(router: axum::Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    base
}
