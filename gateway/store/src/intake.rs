//! Receiving: bytes to a durable message and its receipt.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::io::AsyncWriteExt as _;
use xinqiao_core::fault::io_words;
use xinqiao_core::model::{AgencyId, FeedId};
use xinqiao_core::spi::{Arrival, ByteStream, Receipt};
use xinqiao_crypto::{Sm3Stream, hex};

use crate::blob::Sealer;
use crate::committer::Tx;
use crate::encode::{MessageRow, ProgressRow, decode_head, encode};
use crate::open::{make_dir, sync_dir};
use crate::tables::{Keyspace, content_key, id_number, unless_damaged};
use crate::{Shared, StoreError};

/// Bodies up to this long lie in the engine.
const INLINE: usize = 64 << 10;

/// What bytes are that came before on the same feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeats {
    /// The message that has them.
    Known,
    /// Another message.
    News,
}

/// A body, whole and digested.
struct Body {
    digest: [u8; 32],
    bytes: u64,
    /// `None`: it is a blob, already durable.
    inline: Option<Vec<u8>>,
}

impl Shared {
    pub(crate) async fn receive(
        &self,
        feed: &FeedId,
        agency: &AgencyId,
        arrival: Arrival,
        max_bytes: u64,
        repeats: Repeats,
    ) -> Result<Receipt, StoreError> {
        self.signals.check()?;
        self.gauge.check(&self.layout.dir)?;
        let body = self.take_in(arrival.body, max_bytes).await?;
        let row = MessageRow {
            feed: feed.clone(),
            agency: agency.clone(),
            name: arrival.name,
            received: Default::default(),
            bytes: body.bytes,
            digest: body.digest,
            inline: body.inline.is_some(),
        };
        let content = content_key(feed.as_str(), &self.message_name(&body.digest));
        let payload = body.inline.unwrap_or_default();
        let cursor = arrival.cursor;
        self.committer()?
            .commit_receipt(payload.len() + 512, move |tx| {
                insert(tx, row, &content, &payload, cursor.as_deref(), repeats)
            })
            .await
    }

    async fn take_in(&self, mut stream: ByteStream, max_bytes: u64) -> Result<Body, StoreError> {
        let mut sm3 = Sm3Stream::default();
        let mut held = Vec::new();
        let mut bytes = 0u64;
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|error| StoreError::Body(io_words(&error).into_owned()))?;
            bytes = bytes.saturating_add(chunk.len() as u64);
            if bytes > max_bytes {
                return Err(StoreError::TooLarge(max_bytes));
            }
            sm3.update(&chunk);
            held.extend_from_slice(&chunk);
            if held.len() > INLINE {
                return self.spool(held, stream, sm3, bytes, max_bytes).await;
            }
        }
        Ok(Body { digest: sm3.finish(), bytes, inline: Some(held) })
    }

    /// Goes on into a file, sealed from its first byte. The file and its directory entry are durable
    /// before this returns.
    async fn spool(
        &self,
        held: Vec<u8>,
        mut stream: ByteStream,
        mut sm3: Sm3Stream,
        mut bytes: u64,
        max_bytes: u64,
    ) -> Result<Body, StoreError> {
        let (mut sealer, mut sealed) = Sealer::start(&*self.durable_segment().await?)?;
        let number = self.spooled.fetch_add(1, Ordering::Relaxed);
        let aside = Aside(self.layout.spool().join(number.to_string()));
        let path = aside.0.clone();
        let file = blocking(move || {
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
        })
        .await?;
        let mut file = tokio::fs::File::from_std(file);
        let mut chunk = Bytes::from(held);
        loop {
            sealer.update(&chunk, &mut sealed)?;
            file.write_all(&sealed).await.map_err(io)?;
            sealed.clear();
            let Some(next) = stream.next().await else { break };
            chunk = next.map_err(|error| StoreError::Body(io_words(&error).into_owned()))?;
            bytes = bytes.saturating_add(chunk.len() as u64);
            if bytes > max_bytes {
                return Err(StoreError::TooLarge(max_bytes));
            }
            sm3.update(&chunk);
        }
        let digest = sm3.finish();
        let name = self.message_name(&digest);
        sealer.finish(&name, &mut sealed)?;
        file.write_all(&sealed).await.map_err(io)?;
        file.flush().await.map_err(io)?;
        file.sync_all().await.map_err(io)?;
        let blob = self.layout.blob(&name);
        // Replacing a blob of the same name changes nothing: its name is its content. One that was
        // damaged is whole again.
        blocking(move || {
            let dir = blob.parent().map(PathBuf::from).unwrap_or_default();
            make_dir(&dir)?;
            std::fs::rename(&aside.0, &blob)?;
            sync_dir(&dir)
        })
        .await?;
        Ok(Body { digest, bytes, inline: None })
    }
}

/// A spool file; removed when its receiving fails or is given up.
struct Aside(PathBuf);

impl Drop for Aside {
    fn drop(&mut self) {
        // Gone already when it has become a blob.
        let _ = std::fs::remove_file(&self.0);
    }
}

fn insert(
    tx: &mut Tx<'_>,
    mut row: MessageRow,
    content: &[u8],
    payload: &[u8],
    cursor: Option<&[u8]>,
    repeats: Repeats,
) -> Result<Receipt, StoreError> {
    let feed = row.feed.clone();
    let known: Option<u64> = match repeats {
        Repeats::Known => tx.tables.content.read(content)?,
        Repeats::News => None,
    };
    // If what was received first is damaged, these bytes are taken as a new message.
    let original = match known {
        Some(id) => unless_damaged(original(tx, &feed, id))?,
        None => None,
    };
    let now = tx.now;

    tx.dirty = true;
    if let Some(cursor) = cursor {
        tx.tables.cursor.put_raw(feed.as_str().as_bytes(), &[cursor])?;
    }
    let counters = tx.feed(&feed);
    counters.last_received = counters.last_received.max(Some(now));
    if let Some((id, original, mut progress)) = original {
        counters.duplicate_messages += 1;
        let key = id_number(feed.as_str(), id);
        progress.repeats += 1;
        progress.last_repeat = Some(now);
        tx.tables.progress.put(&key, &progress)?;
        return Ok(receipt(id, original, true));
    }
    counters.messages += 1;
    counters.pending_messages += 1;
    row.received = now;
    let id = tx.state.meta.next_message;
    tx.state.meta.next_message += 1;
    let key = id_number(feed.as_str(), id);
    tx.tables.message.put_raw(&id.to_be_bytes(), &[&encode(&row)?, payload])?;
    tx.tables.progress.put(&key, &ProgressRow::default())?;
    tx.tables.pending.put_raw(&key, &[])?;
    tx.tables.content.put(content, &id)?;
    tx.received = true;
    Ok(receipt(id, row, false))
}

fn original(
    tx: &Tx<'_>,
    feed: &FeedId,
    id: u64,
) -> Result<(u64, MessageRow, ProgressRow), StoreError> {
    let progress = tx.tables.progress.read(&id_number(feed.as_str(), id))?;
    Ok((id, message(&tx.tables.message, id)?, progress.ok_or_else(gone)?))
}

/// A message's head.
pub(crate) fn message(
    table: &Keyspace<impl redb::ReadableTable<&'static [u8], &'static [u8]>>,
    id: u64,
) -> Result<MessageRow, StoreError> {
    let value = table.bytes(&id.to_be_bytes())?.ok_or(StoreError::NotFound)?;
    decode_head(&value).map(|(row, _)| row)
}

/// A row that another row promises.
pub(crate) fn gone() -> StoreError {
    StoreError::Corrupt("索引所指的行不存在".to_owned())
}

fn receipt(message: u64, row: MessageRow, duplicate: bool) -> Receipt {
    Receipt {
        message,
        feed: row.feed,
        received: row.received,
        digest: hex(&row.digest),
        bytes: row.bytes,
        duplicate,
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(io),
        Err(error) => Err(StoreError::Io(error.to_string())),
    }
}

fn io(error: std::io::Error) -> StoreError {
    StoreError::Io(io_words(&error).into_owned())
}
