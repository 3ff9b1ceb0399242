//! `serve`: runs the gateway until told to stop (SIGTERM, SIGINT), or until a part fails.

use std::process::ExitCode;
use std::sync::Arc;

use clap::ArgMatches;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::out::colour;
use super::{Command, CommandError, Global};
use crate::clock::SystemClock;
use crate::compose::Gateway;
use crate::config::{self, Config};
use crate::domain::Domain;

pub(super) struct Serve;

impl Command for Serve {
    fn name(&self) -> &'static str {
        "serve"
    }

    fn clap(&self) -> clap::Command {
        clap::Command::new(self.name()).about("运行网关,直到收到停止信号").long_about(
            "运行网关,直到收到停止信号(SIGTERM 或 SIGINT)。\
                 日志写到标准错误;环境变量 XINQIAO_LOG 设定级别(缺省 info),--json 使日志为 JSON。",
        )
    }

    fn run(&self, _: &ArgMatches, global: &Global) -> Result<ExitCode, CommandError> {
        log_to_stderr(global.json);
        let domain = global.domain()?;
        let config = config::load(&global.config, &domain)
            .map_err(|error| CommandError::invalid("config.invalid", error.to_string()))?;
        for told in &config.warnings.0 {
            let (line, column) = (told.line, told.column);
            tracing::warn!(file = %told.file, line, column, code = told.code, "{}", told.message);
        }
        let failed = |error: &dyn std::error::Error| {
            CommandError::Failed(format!("网关未能运行:{}", xinqiao_core::fault::chain(error)))
        };
        let runtime = tokio::runtime::Runtime::new().map_err(|error| failed(&error))?;
        runtime.block_on(serve(config, domain)).map_err(|error| failed(&*error))?;
        Ok(ExitCode::SUCCESS)
    }
}

fn log_to_stderr(json: bool) {
    let filter = EnvFilter::try_from_env("XINQIAO_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if json { log.json().init() } else { log.with_target(false).with_ansi(colour()).init() }
}

async fn serve(config: Config, domain: Domain) -> Result<(), Box<dyn std::error::Error>> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let mut gateway = Gateway::start(config, Arc::new(domain), Arc::new(SystemClock)).await?;
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
    failed.map_or(Ok(()), |error| Err(error.into()))
}
