//! What every source and every target must do, run over the registries: a new kind without a
//! fixture here fails the build's tests.

use xinqiao_core::spi::{SecretRef, Secrets};

mod sources;
mod targets;

/// Every secret is `s3cret`.
struct TestSecrets;

impl Secrets for TestSecrets {
    fn resolve(&self, _: &SecretRef) -> Result<String, String> {
        Ok("s3cret".to_owned())
    }
}

/// Serves on a port of the system's choosing until the test ends; gives the base address.
async fn serve(router: axum::Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    base
}
