//! Asking the gateway: the running one by its socket, else the store it left.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};
use xinqiao_core::fault::io_words;
use xinqiao_http::control::{Client, ClientError, ControlState};
use xinqiao_store::{ItemState, OpenError, Rewrapped, Store, StoreOptions};

use super::{CommandError, Global};
use crate::clock::SystemClock;
use crate::compose::{CONTROL_SOCKET, feed_infos};
use crate::config;
use crate::keys::{reopening, storage_key};

/// A client and what runs it.
pub(super) struct Asking {
    /// Answers to be waited for by [`Asking::wait`].
    pub(super) client: Client,
    runtime: Runtime,
}

impl Asking {
    /// Finds who can answer.
    pub(super) fn open(global: &Global) -> Result<Self, CommandError> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| CommandError::Failed(format!("启动失败:{}", io_words(&error))))?;
        let socket = data_folder(global)?.join(CONTROL_SOCKET);
        let client = match Client::socket(&socket) {
            Ok(client) => client,
            Err(ClientError::NotRunning) => Client::local(at_hand(global)?),
            Err(error) => return Err(refused(error)),
        };
        Ok(Self { client, runtime })
    }

    /// Waits for an answer of [`Asking::client`].
    pub(super) fn wait<T>(
        &self,
        answer: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, CommandError> {
        self.runtime.block_on(answer).map_err(refused)
    }
}

/// Opens the store; refused while a gateway has it.
pub(super) fn open_store(global: &Global) -> Result<Store, CommandError> {
    let folder = data_folder(global)?;
    let keys = config::keys(&global.config)
        .map_err(|error| CommandError::invalid("config.invalid", error.to_string()))?;
    keys.storage_not_lost(&folder)?;
    let key = storage_key(&keys)?;
    Store::open(&folder, StoreOptions::default(), Arc::new(SystemClock), key).map_err(|error| {
        let message = match error {
            OpenError::Locked => {
                "存储正由另一个进程使用(网关正在运行、启动或停止),请待其结束后再试".to_owned()
            }
            _ => error.to_string(),
        };
        CommandError::of(&error, message)
    })
}

fn refused(error: ClientError) -> CommandError {
    let message = error.to_string();
    let code = match error {
        ClientError::Problem { code, .. } => code,
        ClientError::NotRunning => "control.not-running".to_owned(),
        ClientError::Io(_) => "control.io".to_owned(),
    };
    CommandError::Coded { code, message, broken: false }
}

/// What people call a state.
pub(crate) fn state_name(state: ItemState) -> &'static str {
    match state {
        ItemState::Ready => "待投递",
        ItemState::Waiting => "等待重试",
        ItemState::Leased => "投递中",
        ItemState::Done => "已受理",
        ItemState::Refused => "被拒绝",
        ItemState::Dead => "需处置",
        ItemState::Held => "已暂停",
        ItemState::Dropped => "已放弃",
    }
}

fn at_hand(global: &Global) -> Result<ControlState, CommandError> {
    let domain = global.domain()?;
    let config = config::load(&global.config, &domain)
        .map_err(|error| CommandError::invalid("config.invalid", error.to_string()))?;
    Ok(ControlState {
        store: open_store(global)?,
        feeds: feed_infos(&config.feeds),
        progress: Arc::default(),
        feedback: Arc::default(),
        storage_key: reopening(config.keys),
        clock: Arc::new(SystemClock),
    })
}

/// Puts the newest generation of the storage key in use, if there is a store.
pub(super) fn rewrap(global: &Global) -> Result<Option<Rewrapped>, CommandError> {
    if !config::data_folder(&global.config).is_some_and(|folder| Store::exists(&folder)) {
        return Ok(None);
    }
    let asking = Asking::open(global)?;
    asking.wait(asking.client.rewrap()).map(Some)
}

/// The data folder, which must hold a store: asking must not make one.
fn data_folder(global: &Global) -> Result<PathBuf, CommandError> {
    let folder = config::data_folder(&global.config).ok_or_else(|| {
        CommandError::Broken(format!(
            "配置目录 {} 中没有可读的 gateway.yaml;请用 --config 指明配置目录",
            global.config.display()
        ))
    })?;
    if Store::exists(&folder) {
        return Ok(folder);
    }
    Err(CommandError::Broken(format!(
        "数据目录 {} 中没有存储:网关尚未运行过,或 gateway.yaml 的 data 写错了",
        folder.display()
    )))
}
