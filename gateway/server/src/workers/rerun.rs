//! Looks again at held rows once the mapping table of legacy codes has changed: decode, map and
//! validate as at first, from the same stored bytes, but only those rows.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use xinqiao_core::spi::Shutdown;
use xinqiao_store::{Rerun, RowEntry, StoreError};

use super::processing::{CHUNK, HeldUp, MAX_ATTEMPTS, PAUSE, Processing};

/// Rows of a message looked at in one pass through it.
const ROWS: usize = 20_000;

impl Processing {
    /// Runs until shutdown, or until the store fails.
    pub async fn rerun(self: Arc<Self>, shutdown: Shutdown) -> Result<(), StoreError> {
        let mut signal = self.store.rerun_signal();
        while !shutdown.has_begun() {
            let rest = match self.store.take_rerun(ROWS, MAX_ATTEMPTS).await? {
                Some(due) => self.again(due, &shutdown).await?,
                None => {
                    tokio::select! {
                        // Its sender lives as long as the store.
                        _ = signal.changed() => {}
                        () = shutdown.begun() => {}
                    }
                    None
                }
            };
            if let Some(rest) = rest {
                tokio::select! {
                    () = tokio::time::sleep(rest) => {}
                    () = shutdown.begun() => {}
                }
            }
        }
        Ok(())
    }

    /// Gives how long to rest, if it could not be done.
    async fn again(
        self: &Arc<Self>,
        due: Rerun,
        shutdown: &Shutdown,
    ) -> Result<Option<Duration>, StoreError> {
        let (sender, mut chunks) = mpsc::channel::<Vec<(u64, RowEntry)>>(2);
        let (id, feed) = (due.message.id, due.message.feed.clone());
        let (this, asked, stop) = (Arc::clone(self), due.rows.clone(), Arc::clone(shutdown));
        let producer = tokio::task::spawn_blocking(move || {
            let mut left = due.rows.clone();
            let mut rows = Vec::new();
            let mut stopped = false;
            let end = this.rows(&due.message, Some(&due.rows), &mut |index, row| {
                left.remove(&index);
                rows.push((index, row));
                if rows.len() >= CHUNK {
                    let full = std::mem::take(&mut rows);
                    stopped = sender.blocking_send(full).is_err() || stop.has_begun();
                }
                if stopped { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            end?;
            let _ = sender.blocking_send(rows);
            // Rows it did not get to are due as before.
            Ok(if stopped { Vec::new() } else { left.into_iter().collect() })
        });
        let mut settled = 0;
        while let Some(rows) = chunks.recv().await {
            settled += self.store.commit_rerun(id, rows, Vec::new()).await?.len();
        }
        match producer.await {
            Ok(Ok(left)) => {
                tracing::info!(%feed, id, settled, "held rows looked at again");
                if !left.is_empty() {
                    // The feed or its mapping has changed since: by hand they can be tried again.
                    tracing::warn!(%feed, id, rows = left.len(), "held rows could not be found again");
                    self.store.commit_rerun(id, Vec::new(), left).await?;
                }
                Ok(None)
            }
            Ok(Err(HeldUp)) => {
                self.store.put_back_rerun(id, asked).await?;
                Ok(Some(PAUSE))
            }
            Err(_) => {
                tracing::error!(%feed, id, "held rows could not be processed");
                Ok(Some(Duration::from_millis(200)))
            }
        }
    }
}
