//! The mapping table (对照表) from legacy codes to the 统一社会信用代码.
//!
//! Its keys are keyed digests: which codes it knows cannot be read from the disk. Lines that
//! contradict each other are all kept; a look-up on a day both hold finds several.

use redb::ReadableDatabase as _;
use serde::{Deserialize, Serialize};
use time::Date;
use xinqiao_core::catalogue::Resolution;
use xinqiao_core::ident::{LegacyCode, LegacyKind, UsccEntry};
use xinqiao_core::model::{Operation, Timestamp};

use crate::committer::Tx;
use crate::tables::{engine, unless_damaged, uscc_table};
use crate::{Loaded, RecordDigest, Shared, StoreError, TableLine, UsccPage, UsccView, held, short};

/// Lines loaded in one transaction.
const MOST: usize = 10_000;
/// Where the table's revision stands in `meta`.
const REVISION: &[u8] = b"uscc-revision";

/// A line as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct UsccRow {
    pub entry: UsccEntry,
    pub loaded: Timestamp,
}

/// A line with everything done to it that needs no transaction.
pub(crate) struct Line {
    key: [u8; 32],
    line: TableLine,
}

impl Shared {
    /// The keyed digest of a legacy code.
    pub(crate) fn legacy_digest(&self, code: &LegacyCode) -> RecordDigest {
        let kind = code.kind() as u8;
        let text = [b"xinqiao-store legacy\0".as_slice(), &[kind], code.as_str().as_bytes()];
        short(self.key.digest(&text.concat()))
    }

    /// The key of a line: the same line comes to the same key, however often it is loaded.
    pub(crate) fn line_key(&self, entry: &UsccEntry) -> [u8; 32] {
        let (from, to) = entry.period();
        let day = |day: Option<Date>| day.map_or(i32::MIN, Date::to_julian_day).to_be_bytes();
        let parts =
            [b"xinqiao-store line\0".as_slice(), entry.uscc().as_bytes(), &day(from), &day(to)];
        let mut key = [0; 32];
        let (head, tail) = key.split_at_mut(16);
        head.copy_from_slice(&self.legacy_digest(entry.code()));
        tail.copy_from_slice(&short(self.key.digest(&parts.concat())));
        key
    }

    pub(crate) fn prepare_line(&self, line: TableLine) -> Line {
        Line { key: self.line_key(&line.entry), line }
    }

    pub(crate) async fn load_uscc(&self, lines: Vec<TableLine>) -> Result<Loaded, StoreError> {
        if lines.len() > MOST {
            return Err(StoreError::Conflict("一次装入的对照条目过多"));
        }
        let lines: Vec<Line> = lines.into_iter().map(|line| self.prepare_line(line)).collect();
        let loaded = self
            .committer()?
            .commit(256 * lines.len(), move |tx| {
                let mut loaded = Loaded::default();
                for line in &lines {
                    let changed = apply(tx, line)?;
                    match (line.line.operation, changed) {
                        (Operation::Upsert, true) => loaded.added += 1,
                        (Operation::Withdraw, true) => loaded.withdrawn += 1,
                        (_, false) => loaded.known += 1,
                    }
                    loaded.ambiguous += u64::from(contradicted(tx, line)?);
                }
                Ok(loaded)
            })
            .await?;
        self.signals.rerun.send_modify(|n| *n += 1);
        Ok(loaded)
    }

    pub(crate) fn uscc_revision(&self) -> Result<u64, StoreError> {
        Ok(self.snapshot()?.meta.read(REVISION)?.unwrap_or_default())
    }

    pub(crate) fn look_up_uscc(
        &self,
        code: &LegacyCode,
        on: Date,
    ) -> Result<Resolution, StoreError> {
        self.signals.check()?;
        let table = uscc_table(&self.db.begin_read().map_err(engine)?, &self.seals)?;
        let mut found: Option<(String, String)> = None;
        let mut many = false;
        let digest = self.legacy_digest(code);
        table.scan(&digest, |key, value| {
            if !key.starts_with(&digest) {
                return Ok(false);
            }
            let Some(row) = unless_damaged(value.decode::<UsccRow>())? else { return Ok(true) };
            if row.entry.holds_on(on) {
                match &found {
                    Some((uscc, _)) => many |= uscc != row.entry.uscc(),
                    None => {
                        found = Some((row.entry.uscc().to_owned(), row.entry.source().to_owned()));
                    }
                }
            }
            Ok(!many)
        })?;
        Ok(match found {
            None => Resolution::None,
            Some(_) if many => Resolution::Many,
            Some((uscc, source)) => Resolution::One { uscc, source },
        })
    }

    pub(crate) fn uscc_of(
        &self,
        kind: LegacyKind,
        code: &str,
    ) -> Result<Vec<UsccView>, StoreError> {
        let Some(code) = LegacyCode::new(kind, code) else { return Ok(Vec::new()) };
        let digest = self.legacy_digest(&code);
        let mut views = Vec::new();
        self.snapshot()?.uscc.scan(&digest, |key, value| {
            if !key.starts_with(&digest) {
                return Ok(false);
            }
            views.extend(unless_damaged(value.decode::<UsccRow>())?.map(view));
            Ok(true)
        })?;
        Ok(views)
    }

    pub(crate) fn uscc_lines(
        &self,
        after: Option<[u8; 32]>,
        limit: usize,
    ) -> Result<UsccPage, StoreError> {
        let tables = self.snapshot()?;
        // The least key behind this one.
        let from = after.map(|key| [key.as_slice(), &[0]].concat()).unwrap_or_default();
        let mut page = UsccPage { lines: Vec::new(), total: tables.uscc.len()?, next: None };
        let mut last = None;
        let mut more = false;
        tables.uscc.scan(&from, |key, value| {
            more = page.lines.len() >= limit;
            if !more {
                last = Some(xinqiao_crypto::hex(key));
                page.lines.extend(unless_damaged(value.decode::<UsccRow>())?.map(view));
            }
            Ok(!more)
        })?;
        page.next = last.filter(|_| more);
        Ok(page)
    }

    /// Checks that the table opens and every line stands under its key.
    pub(crate) fn check_uscc(&self, found: &mut Vec<String>) -> Result<(), StoreError> {
        self.snapshot()?.uscc.scan(b"", |key, value| {
            match unless_damaged(value.decode::<UsccRow>())? {
                None => found.push("对照表:有一条打不开,已损坏或被改动".to_owned()),
                Some(row) if self.line_key(&row.entry) != key => {
                    found.push("对照表:有一条与其索引不符".to_owned());
                }
                Some(_) => {}
            }
            Ok(true)
        })
    }
}

fn view(row: UsccRow) -> UsccView {
    let (from, to) = row.entry.period();
    UsccView {
        kind: row.entry.code().kind(),
        code: row.entry.code().as_str().to_owned(),
        uscc: row.entry.uscc().to_owned(),
        from,
        to,
        source: row.entry.source().to_owned(),
        loaded: row.loaded,
    }
}

/// The table's revision: it grows with every change.
pub(crate) fn revision(tx: &Tx<'_>) -> Result<u64, StoreError> {
    Ok(tx.tables.meta.read(REVISION)?.unwrap_or_default())
}

/// Whether the table has any line of a code.
pub(crate) fn knows(tx: &Tx<'_>, code: &RecordDigest) -> Result<bool, StoreError> {
    let mut known = false;
    tx.tables.uscc.scan_prefix(code, |_| {
        known = true;
        Ok(false)
    })?;
    Ok(known)
}

/// Adds a line or takes lines back; whether that changed the table. What is held for want of the
/// code is looked at again.
pub(crate) fn apply(tx: &mut Tx<'_>, line: &Line) -> Result<bool, StoreError> {
    let entry = &line.line.entry;
    let (code, _) = line.key.split_at(16);
    let changed = match line.line.operation {
        Operation::Upsert if tx.tables.uscc.has(&line.key)? => false,
        Operation::Upsert => {
            // The same line with another end takes the place of the one before: that is how a line
            // is closed.
            let begins = entry.period().0;
            let same =
                |known: &UsccEntry| known.uscc() == entry.uscc() && known.period().0 == begins;
            let known = lines(tx, code, same)?;
            tx.dirty = true;
            known.iter().try_for_each(|key| tx.tables.uscc.delete(key))?;
            let row = UsccRow { entry: entry.clone(), loaded: tx.now };
            tx.tables.uscc.put(&line.key, &row)?;
            true
        }
        Operation::Withdraw => {
            let keys = lines(tx, code, |known| known.uscc() == entry.uscc())?;
            tx.dirty |= !keys.is_empty();
            keys.iter().try_for_each(|key| tx.tables.uscc.delete(key))?;
            !keys.is_empty()
        }
    };
    if changed {
        let next = revision(tx)? + 1;
        tx.tables.meta.put(REVISION, &next)?;
        held::look_again(tx, code)?;
    }
    Ok(changed)
}

/// Keys of the lines of a code that are as wanted.
fn lines(
    tx: &Tx<'_>,
    code: &[u8],
    wanted: impl Fn(&UsccEntry) -> bool,
) -> Result<Vec<Vec<u8>>, StoreError> {
    let mut keys = Vec::new();
    tx.tables.uscc.scan(code, |key, value| {
        if !key.starts_with(code) {
            return Ok(false);
        }
        let row = unless_damaged(value.decode::<UsccRow>())?;
        if row.is_some_and(|row| wanted(&row.entry)) {
            keys.push(key.to_vec());
        }
        Ok(true)
    })?;
    Ok(keys)
}

/// Whether another line of the same code says otherwise for some day.
fn contradicted(tx: &Tx<'_>, line: &Line) -> Result<bool, StoreError> {
    let entry = &line.line.entry;
    if line.line.operation == Operation::Withdraw {
        return Ok(false);
    }
    let (code, _) = line.key.split_at(16);
    let (from, to) = entry.period();
    let mut found = false;
    tx.tables.uscc.scan(code, |key, value| {
        if !key.starts_with(code) {
            return Ok(false);
        }
        if let Some(row) = unless_damaged(value.decode::<UsccRow>())? {
            let (since, until) = row.entry.period();
            let apart = |end: Option<Date>, begin: Option<Date>| {
                end.zip(begin).is_some_and(|(end, begin)| end < begin)
            };
            found |= row.entry.uscc() != entry.uscc() && !apart(to, since) && !apart(until, from);
        }
        Ok(!found)
    })?;
    Ok(found)
}
