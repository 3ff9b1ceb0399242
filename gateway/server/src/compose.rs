//! What the process is: the one place where parts meet.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use tokio::task::JoinSet;
use xinqiao_core::fault::io_words;
use xinqiao_core::spi::{Clock, FeedbackRoad, Sealer, SourceContext};
use xinqiao_crypto::keystore::KeyUse;
use xinqiao_crypto::tls::TlsError;
use xinqiao_http::control::ControlState;
use xinqiao_http::push::PushState;
use xinqiao_http::receipts::ReceiptSigner;
use xinqiao_http::{FeedInfo, Feeds, Progress, control, push};
use xinqiao_store::{OpenError, Store, StoreError, StoreOptions};

use crate::config::{Config, FeedConfig, FeedSource};
use crate::domain::Domain;
use crate::keys::{EnvelopeSealer, Keys, KeysError, reopening};
use crate::pipeline::{Destination, FeedInbox};
use crate::shutdown::Stopper;
use crate::workers::{Expiring, Feedback, Processing, keep_source, send, watch_expiry};

/// The socket the commands ask a running gateway by, in its data folder.
pub const CONTROL_SOCKET: &str = "control.sock";

/// A running gateway.
pub struct Gateway {
    store: Store,
    push_address: Option<SocketAddr>,
    stopper: Stopper,
    tasks: JoinSet<Result<(), RunError>>,
}

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The keys do not open, or are not there.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The listener's certificates or key.
    #[error("listen.tls:{0}")]
    Tls(#[from] TlsError),
    /// The store does not open.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The push listener cannot be bound.
    #[error("监听 {0} 失败:{why}", why = io_words(.1))]
    Listen(SocketAddr, std::io::Error),
    /// Starting was interrupted.
    #[error("启动中断:{0}")]
    Interrupted(String),
}

/// Why a running gateway ends.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The store stopped: restart, the reopened state decides.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A listener failed.
    #[error("监听中断")]
    Listen(#[from] std::io::Error),
    /// A part ended by a panic.
    #[error("内部任务异常中断")]
    Panicked,
}

/// What the interfaces know of the feeds.
pub fn feed_infos(feeds: &[FeedConfig]) -> Feeds {
    let info = |feed: &FeedConfig| {
        let (source, token, per_minute, listener) = match &feed.source {
            FeedSource::Push { kind, token, per_minute, listener } => {
                (kind.clone(), Some(*token), *per_minute, listener.clone())
            }
            FeedSource::Pull { kind, .. } => (kind.clone(), None, 0, None),
        };
        FeedInfo {
            id: feed.id.clone(),
            agency: feed.agency.clone(),
            agency_name: feed.agency_name.clone(),
            title: feed.mapping.title.clone(),
            dataset: feed.dataset().reference(),
            source,
            targets: feed.targets.to_vec(),
            token,
            client_certificates: feed.client_certificates.to_vec(),
            max_bytes: feed.max_bytes,
            per_minute,
            listener,
        }
    };
    Arc::new(feeds.iter().map(info).collect())
}

impl Gateway {
    /// Opens the store, binds the listeners, starts every loop.
    pub async fn start(
        config: Config,
        domain: Arc<Domain>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StartError> {
        let (keys, data) = (config.keys.clone(), config.data.clone());
        let keys = tokio::task::spawn_blocking(move || {
            keys.storage_not_lost(&data)?;
            Keys::open(&keys)
        });
        let keys = keys.await.map_err(|e| StartError::Interrupted(e.to_string()))??;
        let keys = Arc::new(keys);
        let (folder, for_store) = (config.data.clone(), Arc::clone(&clock));
        let storage = keys.storage_key();
        let store = tokio::task::spawn_blocking(move || {
            Store::open(&folder, StoreOptions::default(), for_store, storage)
        });
        let store = store.await.map_err(|e| StartError::Interrupted(e.to_string()))??;
        let (stopper, shutdown) = Stopper::new();
        let feeds = feed_infos(&config.feeds);
        let progress = Arc::new(Progress::default());
        let feedback = Arc::new(Progress::default());
        let mut tasks = JoinSet::new();
        let roads = roads(&config.feeds);
        let with_feedback = roads.iter().map(|(feed, _)| feed.id.clone()).collect();
        store.set_feedback(with_feedback).await.map_err(OpenError::from)?;
        let in_order = config.feeds.iter().filter(|feed| match &feed.source {
            FeedSource::Pull { source, .. } => source.keeps_order(),
            FeedSource::Push { .. } => false,
        });
        let in_order = in_order.map(|feed| feed.id.clone()).collect();
        store.set_in_order(in_order).await.map_err(OpenError::from)?;
        let undeduped = config.targets.iter().filter(|target| !target.target.dedupes());
        let undeduped = undeduped.map(|target| target.id.clone()).collect();
        store.set_undeduped(undeduped).await.map_err(OpenError::from)?;

        let expiring = Expiring::of(&keys, &config).map_err(KeysError::from)?;
        let (watched, by) = (Arc::clone(&keys), Arc::clone(&clock));
        let watching = watch_expiry(expiring, watched, by, Arc::clone(&shutdown));
        tasks.spawn(async move {
            watching.await;
            Ok(())
        });

        let mut push_address = None;
        if let Some(listen) = config.listen {
            let failed = |error| StartError::Listen(listen.address, error);
            let listener = std::net::TcpListener::bind(listen.address).map_err(failed)?;
            listener.set_nonblocking(true).map_err(failed)?;
            let tls = listen.tls.map(|tls| tls.open(keys.store())).transpose()?;
            push_address = Some(listener.local_addr().map_err(failed)?);
            let signing = keys.certified(KeyUse::Sign)?.id;
            let receipts =
                ReceiptSigner::start(Arc::clone(keys.store()), signing, Arc::clone(&clock))
                    .map_err(KeysError::from)?;
            let state = PushState {
                store: store.clone(),
                feeds: Arc::clone(&feeds),
                receipts,
                clock: Arc::clone(&clock),
                tls: tls.is_some(),
            };
            let serving = push::serve(
                listener,
                tls.map(Arc::new),
                push::router(state),
                Arc::clone(&shutdown),
            );
            tasks.spawn(async move { Ok(serving.await?) });
        }
        let state = ControlState {
            store: store.clone(),
            feeds,
            progress: Arc::clone(&progress),
            feedback: Arc::clone(&feedback),
            storage_key: reopening(config.keys.clone()),
            clock: Arc::clone(&clock),
        };
        let socket = config.data.join(CONTROL_SOCKET);
        let stop = Arc::clone(&shutdown);
        tasks
            .spawn(async move { Ok(control::serve(&socket, control::router(state), stop).await?) });

        for feed in &config.feeds {
            let FeedSource::Pull { source, .. } = &feed.source else { continue };
            let inbox = Arc::new(FeedInbox {
                feed: feed.id.clone(),
                agency: feed.agency.clone(),
                max_bytes: feed.max_bytes,
                in_order: source.keeps_order(),
                store: store.clone(),
                progress: Arc::clone(&progress),
                clock: Arc::clone(&clock),
            });
            let (clock, shutdown) = (Arc::clone(&clock), Arc::clone(&shutdown));
            let context = move || SourceContext {
                inbox: Arc::clone(&inbox) as _,
                clock: Arc::clone(&clock),
                shutdown: Arc::clone(&shutdown),
            };
            let keeping =
                keep_source(feed.id.clone(), Arc::clone(source), context, Arc::clone(&progress));
            tasks.spawn(async move {
                keeping.await;
                Ok(())
            });
        }

        for (feed, road) in roads {
            let (store, progress) = (store.clone(), Arc::clone(&feedback));
            let clock = Arc::clone(&clock);
            let telling = Arc::new(Feedback { feed: feed.clone(), road, store, progress, clock });
            let shutdown = Arc::clone(&shutdown);
            tasks.spawn(async move { Ok(telling.run(shutdown).await?) });
        }

        for target in &config.targets {
            let failures = Arc::new(AtomicU32::new(0));
            let sealer = match &target.seal {
                Some(seal) => Some(Arc::new(EnvelopeSealer::new(
                    Arc::clone(&keys),
                    seal.clone(),
                    Arc::clone(&clock),
                )?) as Arc<dyn Sealer>),
                None => None,
            };
            for _ in 0..target.concurrency {
                let sending = send(
                    store.clone(),
                    target.clone(),
                    sealer.clone(),
                    Arc::clone(&failures),
                    Arc::clone(&clock),
                    Arc::clone(&shutdown),
                );
                tasks.spawn(async move { Ok(sending.await?) });
            }
        }

        let processing = Arc::new(Processing {
            store: store.clone(),
            domain,
            feeds: destinations(config.feeds),
            keys,
            clock,
            workers: config.workers,
        });
        let (again, stop) = (Arc::clone(&processing), Arc::clone(&shutdown));
        tasks.spawn(async move { Ok(again.rerun(stop).await?) });
        tasks.spawn(async move { Ok(processing.run(shutdown).await?) });
        Ok(Self { store, push_address, stopper, tasks })
    }

    /// The store, for looking.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Where agencies push to, once bound.
    pub fn push_address(&self) -> Option<SocketAddr> {
        self.push_address
    }

    /// Resolves when a part has failed and the gateway cannot go on.
    pub async fn failed(&mut self) -> RunError {
        while let Some(ended) = self.tasks.join_next().await {
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return error,
                Err(_) => return RunError::Panicked,
            }
        }
        std::future::pending().await
    }

    /// Lets every loop finish what it holds, then closes the store.
    pub async fn stop(mut self) {
        self.stopper.stop();
        while self.tasks.join_next().await.is_some() {}
    }
}

/// The feeds whose agencies are told by their own road.
fn roads(feeds: &[FeedConfig]) -> Vec<(FeedConfig, FeedbackRoad)> {
    let road = |feed: &FeedConfig| match &feed.source {
        FeedSource::Push { .. } => None,
        FeedSource::Pull { source, .. } => Some((feed.clone(), source.feedback()?)),
    };
    feeds.iter().filter_map(road).collect()
}

fn destinations(
    feeds: Vec<FeedConfig>,
) -> BTreeMap<xinqiao_core::model::FeedId, (FeedConfig, Destination)> {
    feeds
        .into_iter()
        .map(|feed| {
            let digest = xinqiao_crypto::sm3(feed.mapping.text.as_bytes());
            let mut mapping = [0; 8];
            mapping.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
            let destination = Destination { mapping, targets: Arc::clone(&feed.targets) };
            (feed.id.clone(), (feed, destination))
        })
        .collect()
}
