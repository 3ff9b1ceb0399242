//! `xinqiao serve`: runs the gateway until told to stop (SIGTERM, SIGINT), or until a part fails.

use std::path::Path;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use crate::clock::SystemClock;
use crate::compose::Gateway;
use crate::config;
use crate::domain::Domain;

/// Runs the gateway of a configuration folder. Chinese error text when it cannot start or go on.
pub fn run(folder: &Path, domain: Domain) -> Result<(), String> {
    let config = config::load(folder, &domain).map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let interrupted = |error: std::io::Error| error.to_string();
        let mut term = signal(SignalKind::terminate()).map_err(interrupted)?;
        let mut int = signal(SignalKind::interrupt()).map_err(interrupted)?;
        let mut gateway = Gateway::start(config, Arc::new(domain), Arc::new(SystemClock))
            .await
            .map_err(|error| error.to_string())?;
        match gateway.push_address() {
            Some(address) => tracing::info!(%address, "gateway started"),
            None => tracing::info!("gateway started without a push listener"),
        }
        let failed = tokio::select! {
            _ = term.recv() => None,
            _ = int.recv() => None,
            error = gateway.failed() => Some(error),
        };
        tracing::info!("stopping");
        gateway.stop().await;
        failed.map_or(Ok(()), |error| Err(xinqiao_core::fault::chain(&error)))
    })
}
