//! Stopping: one signal, awaited by every loop.

use std::sync::Arc;

use tokio::sync::watch;
use xinqiao_core::spi::{BoxFuture, Shutdown, ShutdownSignal};

/// Begins the stop. Dropping it stops too.
#[derive(Debug)]
pub struct Stopper(watch::Sender<bool>);

impl Stopper {
    /// A stopper and the signal its loops wait on.
    pub fn new() -> (Self, Shutdown) {
        let (sender, receiver) = watch::channel(false);
        (Self(sender), Arc::new(Signal(receiver)))
    }

    /// Tells every loop to finish what it holds and end.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

#[derive(Debug)]
struct Signal(watch::Receiver<bool>);

impl ShutdownSignal for Signal {
    fn begun(&self) -> BoxFuture<'static, ()> {
        let mut receiver = self.0.clone();
        Box::pin(async move {
            // An error means the stopper is gone: that is a stop.
            let _ = receiver.wait_for(|stop| *stop).await;
        })
    }

    fn has_begun(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }
}
