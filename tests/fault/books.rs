//! The ledgers: what the sources gave and were promised, what the gateway holds, what the platform
//! took. In the end they must agree, record by record.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use xinqiao::commands::demo::platform::Outcome;
use xinqiao_store::{MessageView, RowOutcome, Store};
use xinqiao_tests::{Client, Result, Row, csv, ndjson};

use crate::site::{Site, taken};

/// Rows of a large push: over 64 KiB, so that it becomes a file.
const LARGE: u64 = 120;
const FILE: u64 = 20;

/// What one side was promised.
#[derive(Debug, Clone)]
pub(crate) struct Receipt {
    pub(crate) message: u64,
    digest: String,
    rows: Range<u64>,
}

/// What the sources know.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    next: AtomicU64,
    pushes: AtomicU64,
    stop: AtomicBool,
    receipts: Mutex<Vec<Receipt>>,
    files: Mutex<Vec<(String, Range<u64>)>>,
}

/// Sums of a whole run: promised, lost, taken by the platform under two keys, sent again; how often
/// the store was looked through, and how often that or the books were not in order.
#[derive(Debug, Default, Clone)]
pub(crate) struct Sums {
    pub(crate) receipts: u64,
    pub(crate) files: u64,
    pub(crate) rows: u64,
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) aside: u64,
    /// Most attempts that an end has cut short for one message: the sixth would set it aside.
    pub(crate) tries: u32,
    pub(crate) again: u64,
    pub(crate) unsound: u64,
    pub(crate) checks: u64,
}

impl Sources {
    fn take(&self, count: u64) -> Range<u64> {
        let first = self.next.fetch_add(count, Ordering::Relaxed);
        first..first + count
    }

    pub(crate) fn receipts(&self) -> Vec<Receipt> {
        self.receipts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn files(&self) -> Vec<(String, Range<u64>)> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Rows whose push has its receipt.
    pub(crate) fn promised(&self) -> u64 {
        let receipts = self.receipts();
        let rows: BTreeSet<u64> =
            receipts.iter().flat_map(|receipt| receipt.rows.clone()).collect();
        rows.len() as u64
    }

    /// An agency puts one more file.
    pub(crate) fn put(&self, site: &Site) -> Result<()> {
        let rows = self.take(FILE);
        let name = format!("{:06}.csv", rows.start);
        site.put(&name, &csv(rows.clone().map(Row::new)))?;
        self.files.lock().unwrap_or_else(PoisonError::into_inner).push((name, rows));
        Ok(())
    }

    /// What a push carries.
    pub(crate) fn body(&self, large: bool) -> (Range<u64>, String) {
        let rows = self.take(if large { LARGE } else { 1 });
        let body = ndjson(rows.clone().map(Row::new));
        (rows, body)
    }

    /// One push; its receipt is noted. The status, if there was an answer.
    pub(crate) async fn push(
        &self,
        client: &mut Option<Client>,
        address: SocketAddr,
        (rows, body): &(Range<u64>, String),
    ) -> Option<u16> {
        if client.is_none() {
            *client = Client::connect(address).await.ok();
        }
        let answer = match client {
            Some(open) => open.push(body).await.ok(),
            None => None,
        };
        let answer = answer.inspect(|answer| {
            let told = (answer.body["message"].as_u64(), answer.body["digest"].as_str());
            if let (200..=202, (Some(message), Some(digest))) = (answer.status, told) {
                let receipt = Receipt { message, digest: digest.to_owned(), rows: rows.clone() };
                self.receipts.lock().unwrap_or_else(PoisonError::into_inner).push(receipt);
            }
        });
        // Whatever went wrong, the next try begins anew.
        if !answer.as_ref().is_some_and(|answer| (200..=202).contains(&answer.status)) {
            *client = None;
        }
        answer.map(|answer| answer.status)
    }

    /// Pushes until told to stop: each again and again until it has its receipt.
    pub(crate) async fn push_all(self: Arc<Self>, address: SocketAddr) {
        let mut client = None;
        while !self.stop.load(Ordering::Relaxed) {
            let large = self.pushes.fetch_add(1, Ordering::Relaxed) % 50 == 20;
            let push = self.body(large);
            while !matches!(self.push(&mut client, address, &push).await, Some(200..=202)) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            tokio::time::sleep(Duration::from_millis(8)).await;
        }
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// After an end: whatever was promised is held. `since` receipts were looked through before;
    /// their bytes are not read again.
    pub(crate) fn look(&self, site: &Site, since: usize, sums: &mut Sums) -> Result<()> {
        let store = site.store()?;
        sound(&store, sums)?;
        let pending = store.pending(1_000, &BTreeSet::new())?;
        sums.tries = pending.iter().map(|it| it.attempts).max().max(Some(sums.tries)).unwrap_or(0);
        for (index, receipt) in self.receipts().iter().enumerate() {
            sums.lost += u64::from(!held(&store, receipt, index >= since)?);
        }
        for (name, _) in self.files() {
            if !site.lies(&name)?
                && store.messages(Some(&taken()?), Some(&name), None, 1)?.is_empty()
            {
                println!("LOST: file {name}");
                sums.lost += 1;
            }
        }
        Ok(())
    }

    /// At the end of all: source, gateway and platform agree.
    pub(crate) fn reconcile(&self, site: &Site, sums: &mut Sums) -> Result<()> {
        let store = site.store()?;
        sound(&store, sums)?;
        let (mut receipts, files) = (self.receipts(), self.files());
        let mut whole = Vec::new();
        for (name, rows) in &files {
            let found = store.messages(Some(&taken()?), Some(name), None, 1)?;
            whole.extend(found.first().filter(|it| !is_aside(it)).map(|_| rows.clone()));
            sums.aside += u64::from(found.first().is_some_and(is_aside));
        }
        sums.receipts += receipts.len() as u64;
        // Killed again and again just while they were at work, some messages look like poison. They
        // are held, with their bytes, for an operator.
        let mut aside = Vec::new();
        for receipt in &receipts {
            if is_aside(&store.message(receipt.message)?) {
                sums.lost += u64::from(!held(&store, receipt, true)?);
                aside.push(receipt.message);
            }
        }
        sums.aside += aside.len() as u64;
        receipts.retain(|receipt| !aside.contains(&receipt.message));
        whole.extend(receipts.iter().map(|receipt| receipt.rows.clone()));
        let expected: BTreeSet<String> =
            whole.into_iter().flatten().map(|number| Row::new(number).document()).collect();

        let ledger = site.platform.ledger();
        let documents: BTreeSet<String> =
            ledger.iter().filter_map(|row| row.document.clone()).collect();
        let missing = expected.difference(&documents).count() as u64;
        let doubled = (ledger.len() - documents.len()) as u64;
        // Everything given was given until it had its receipt, so nothing else may be there.
        let foreign = documents.difference(&expected).count() as u64;
        let refused = ledger.iter().filter(|row| row.outcome != Outcome::Accepted).count();
        let status = store.status()?;
        let accepted: u64 = status.feeds.values().map(|feed| feed.accepted).sum();
        let told = std::fs::read_dir(site.disk().join("told"))?.count();
        let rows = expected.len() as u64;
        let agree = (status.records, accepted, foreign, refused) == (rows, rows, 0, 0)
            // Each file is answered by two: a table and a workbook.
            && told == 2 * files.len();
        if !agree || (missing, doubled) != (0, 0) {
            println!(
                "BOOKS: {rows} rows given, {} records, {accepted} accepted, {} at the platform, \
                 {missing} missing, {doubled} twice, {foreign} never given, {refused} refused; \
                 {} files, {told} files in answer",
                status.records,
                ledger.len(),
                files.len(),
            );
        }
        sums.unsound += u64::from(!agree);
        for receipt in &receipts {
            let rows = store.verdicts(receipt.message, 0, 1_000)?;
            let right = rows
                .iter()
                .map(|row| row.document.clone())
                .eq(receipt.rows.clone().map(|number| Some(Row::new(number).document())));
            let held = rows.iter().all(|row| !matches!(row.outcome, RowOutcome::Rejected));
            if !(right && held) {
                let end = store.message(receipt.message)?.end.and_then(|end| end.error);
                println!("LOST: of message {}: {end:?}, {rows:?}", receipt.message);
                sums.lost += 1;
            }
        }
        sums.files += files.len() as u64;
        sums.rows += rows;
        sums.lost += missing;
        sums.doubled += doubled;
        sums.again += ledger.iter().map(|row| u64::from(row.attempts - 1)).sum::<u64>();
        Ok(())
    }
}

/// Set aside after too many crashes, with nothing of it processed.
fn is_aside(message: &MessageView) -> bool {
    let error = message.end.as_ref().and_then(|end| end.error.as_ref());
    error.is_some_and(|(code, _)| code == "processing.poison") && message.rows == [0; 3]
}

fn held(store: &Store, receipt: &Receipt, read: bool) -> Result<bool> {
    let right =
        store.message(receipt.message).is_ok_and(|message| message.digest == receipt.digest);
    let mut bytes = Vec::new();
    let right = right
        && (!read || {
            store.payload(receipt.message)?.read_to_end(&mut bytes)?;
            bytes == ndjson(receipt.rows.clone().map(Row::new)).into_bytes()
        });
    if !right {
        println!("LOST: message {}", receipt.message);
    }
    Ok(right)
}

fn sound(store: &Store, sums: &mut Sums) -> Result<()> {
    sums.checks += 1;
    let found = store.fsck()?;
    for line in found.iter().take(20) {
        println!("FSCK: {line}");
    }
    sums.unsound += u64::from(!found.is_empty());
    Ok(())
}

impl Sums {
    /// All is well.
    pub(crate) fn hold(&self) -> bool {
        (self.lost, self.doubled, self.unsound) == (0, 0, 0)
    }
}

impl std::fmt::Display for Sums {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} receipts held, {} files taken ({} rows); {} lost; {} delivered twice by key; \
             {} rows sent again; {} messages set aside, most attempts cut short for one {}; fsck and books unclean {} of {} times",
            self.receipts,
            self.files,
            self.rows,
            self.lost,
            self.doubled,
            self.again,
            self.aside,
            self.tries,
            self.unsound,
            self.checks,
        )
    }
}
