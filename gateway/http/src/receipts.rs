//! Signing receipts (回执). A thread of its own signs; what has gathered while it signed comes under
//! the next signature, so nobody waits for a batch to fill, and under load one signature serves
//! many. The form: `docs/formats/receipt.md`.

use std::sync::Arc;
use std::thread::JoinHandle;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use xinqiao_core::model::Timestamp;
use xinqiao_core::spi::{Clock, Receipt};
use xinqiao_crypto::envelope::{Signing, to_send};
use xinqiao_crypto::keystore::{KeyId, KeyStore, KeyStoreError, StoredKey};
use xinqiao_crypto::receipt::{MOST, sign_together};
use xinqiao_crypto::x509::UnixSeconds;

/// A statement and who waits for its signature.
type Waiting = (String, oneshot::Sender<String>);

/// A receipt as it is given out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedStatement {
    /// What is certified, one line.
    pub statement: String,
    /// Base64 of a SignedData over the list of digests that has this statement's.
    pub signature: String,
}

/// Signs statements. Cheap to clone; the thread ends with the last one.
#[derive(Clone)]
pub struct ReceiptSigner {
    waiting: mpsc::Sender<Waiting>,
    _thread: Arc<JoinHandle<()>>,
}

/// The signing key failed or its thread has ended: nothing can be certified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("签名密钥不可用,无法签发回执")]
pub struct Unsigned;

impl ReceiptSigner {
    /// Starts signing with a key of the store, which must have a certificate.
    ///
    /// # Errors
    /// If there is no such key, it has no certificate, or the system gives no thread.
    pub fn start(
        keys: Arc<dyn KeyStore>,
        key: KeyId,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, KeyStoreError> {
        let entry = keys.entry(&key)?;
        if entry.chain.is_empty() {
            return Err(KeyStoreError::WrongCertificate(key));
        }
        let (waiting, receiver) = mpsc::channel(4 * MOST);
        let thread = std::thread::Builder::new()
            .name("receipts".to_owned())
            .spawn(move || sign_all(&*keys, &key, &*clock, receiver))
            .map_err(|error| KeyStoreError::Io("receipts".to_owned(), error))?;
        Ok(Self { waiting, _thread: Arc::new(thread) })
    }

    /// Has a statement signed.
    pub async fn sign(&self, statement: String) -> Result<SignedStatement, Unsigned> {
        let (answer, signed) = oneshot::channel();
        self.waiting.send((statement.clone(), answer)).await.map_err(|_| Unsigned)?;
        Ok(SignedStatement { statement, signature: signed.await.map_err(|_| Unsigned)? })
    }
}

fn sign_all(
    keys: &dyn KeyStore,
    key: &KeyId,
    clock: &dyn Clock,
    mut waiting: mpsc::Receiver<Waiting>,
) {
    let signer = match StoredKey::new(keys, key) {
        Ok(signer) => signer,
        Err(error) => {
            tracing::error!(%error, "receipts cannot be signed");
            return;
        }
    };
    let Some(certificate) = signer.entry().chain.first() else { return };
    let chain = to_send(&signer.entry().chain);
    let mut batch = Vec::with_capacity(MOST);
    while waiting.blocking_recv_many(&mut batch, MOST) > 0 {
        let (statements, answers): (Vec<_>, Vec<_>) = batch.drain(..).unzip();
        let at = UnixSeconds(clock.now().0 / 1_000);
        match sign_together(
            &statements,
            &Signing { certificate, chain: &chain, signer: &signer, at },
        ) {
            Ok(signature) => answers.into_iter().for_each(|answer: oneshot::Sender<String>| {
                // Who no longer waits has closed the connection.
                let _ = answer.send(signature.clone());
            }),
            // The answers are dropped, which those who wait see.
            Err(error) => tracing::error!(%error, "receipts could not be signed"),
        }
    }
}

/// What an arrival receipt (接收回执) says. The same message always gets the same line.
pub fn arrival(receipt: &Receipt) -> String {
    format!(
        "xinqiao-receipt/1 arrival message={} feed={} received={} bytes={} sm3={}",
        receipt.message, receipt.feed, receipt.received, receipt.bytes, receipt.digest
    )
}

/// How many rows of a message stand where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// All rows.
    pub rows: u64,
    /// Rows the gateway sent back.
    pub rejected: u64,
    /// Rows that every target has taken.
    pub accepted: u64,
    /// Rows that a target refused, or that were given up.
    pub refused: u64,
}

/// What an outcome receipt (处理回执) says, as of a time. `error` is the code of a message that could
/// not be read to its end.
pub fn outcome(
    receipt: &Receipt,
    standing: Standing,
    error: Option<&str>,
    at: Timestamp,
) -> String {
    let Standing { rows, rejected, accepted, refused } = standing;
    let pending = rows.saturating_sub(rejected + accepted + refused);
    format!(
        "xinqiao-receipt/1 outcome message={} feed={} sm3={} rows={rows} rejected={rejected} \
         accepted={accepted} refused={refused} pending={pending} end={} at={at}",
        receipt.message,
        receipt.feed,
        receipt.digest,
        error.unwrap_or("ok"),
    )
}
