//! receive (接收): raw bytes and cursor durable in one transaction, then the receipt.

use std::sync::Arc;

use xinqiao_core::fault::{Classify, chain};
use xinqiao_core::ident::personal::mask;
use xinqiao_core::model::{AgencyId, FeedId};
use xinqiao_core::spi::{Arrival, BoxFuture, Clock, Fault, Inbox, Receipt};
use xinqiao_http::{FeedProgress, Progress};
use xinqiao_store::Store;

/// One feed's inbox over the store.
pub struct FeedInbox {
    /// The feed.
    pub feed: FeedId,
    /// Whose.
    pub agency: AgencyId,
    /// Largest message taken.
    pub max_bytes: u64,
    /// Whether its source keeps order.
    pub in_order: bool,
    /// Where it goes.
    pub store: Store,
    /// Where the source's last word is kept.
    pub progress: Arc<Progress>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

impl FeedInbox {
    /// A source's words and names of files, without personal numbers.
    fn masked(&self, text: &str) -> String {
        mask(text, self.clock.now().shanghai_date()).into_owned()
    }
}

impl Inbox for FeedInbox {
    fn receive(&self, mut arrival: Arrival) -> BoxFuture<'_, Result<Receipt, Fault>> {
        arrival.name = arrival.name.map(|name| self.masked(&name));
        Box::pin(async move {
            let Self { store, feed, agency, max_bytes, .. } = self;
            let receipt = match self.in_order {
                true => store.receive_in_order(feed, agency, arrival, *max_bytes).await,
                false => store.receive(feed, agency, arrival, *max_bytes).await,
            };
            receipt.map_err(|error| Box::new(error) as Fault)
        })
    }

    fn cursor(&self) -> BoxFuture<'_, Result<Option<Vec<u8>>, Fault>> {
        let cursor = self.store.cursor(&self.feed).map_err(|error| Box::new(error) as Fault);
        Box::pin(async move { cursor })
    }

    fn progress(&self, outcome: Result<&str, &dyn Classify>) {
        let at = self.clock.now();
        let word = match outcome {
            Ok(note) => FeedProgress { at, note: Some(self.masked(note)), error: None },
            Err(fault) => {
                let text = self.masked(&chain(fault));
                tracing::warn!(feed = %self.feed, code = fault.code(), error = text, "source failed");
                FeedProgress { at, note: None, error: Some((fault.code().to_owned(), text)) }
            }
        };
        self.progress.set(&self.feed, word);
    }
}
