//! Keeps a source running.

use std::sync::Arc;
use std::time::Duration;

use xinqiao_core::model::FeedId;
use xinqiao_core::spi::{Source, SourceContext};
use xinqiao_http::{FeedProgress, Progress};

/// Runs a source until shutdown, and again after a pause should it end by itself or panic.
pub async fn keep_source(
    feed: FeedId,
    source: Arc<dyn Source>,
    context: impl Fn() -> SourceContext,
    progress: Arc<Progress>,
) {
    loop {
        let context = context();
        let (shutdown, clock) = (Arc::clone(&context.shutdown), Arc::clone(&context.clock));
        let ended = tokio::spawn(Arc::clone(&source).run(context)).await;
        if shutdown.has_begun() {
            return;
        }
        let text = match ended {
            Ok(()) => "数据源自行结束,30秒后重新启动",
            Err(_) => "数据源异常中断,30秒后重新启动",
        };
        tracing::error!(%feed, "source ended by itself");
        let error = Some(("source.ended".to_owned(), text.to_owned()));
        progress.set(&feed, FeedProgress { at: clock.now(), note: None, error });
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(30)) => {}
            () = shutdown.begun() => return,
        }
    }
}
