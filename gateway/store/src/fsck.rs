//! Checking: every index and counter is derived again from messages, verdicts, records and items.

use std::collections::{BTreeMap, BTreeSet};

use xinqiao_core::model::{FeedId, TargetId};
use xinqiao_crypto::hex;

use crate::commit::count_row;
use crate::encode::{
    ItemRow, MessageRow, Meta, ProgressRow, RecordRow, VerdictRow, decode_head, feed_counters,
    read_version,
};
use crate::feedback;
use crate::open::parse_id;
use crate::queue::count_accepted;
use crate::tables::{
    Snapshot, content_key, id_number, number, queue_key, two_numbers, unless_damaged, waiting_key,
};
use crate::{FeedCounters, ItemState, RecordDigest, RowOutcome, Shared, StoreError};

/// Compares; one line per difference.
pub(crate) fn check(shared: &Shared) -> Result<Vec<String>, StoreError> {
    let tables = shared.snapshot()?;
    let mut check = Check {
        shared,
        positions: tables.meta.read(b"positions")?.unwrap_or_default(),
        tables,
        feeds: BTreeMap::new(),
        targets: BTreeMap::new(),
        pages: BTreeMap::new(),
        open: BTreeSet::new(),
        held: BTreeMap::new(),
        found: Vec::new(),
    };
    check.segments()?;
    check.messages()?;
    check.verdicts()?;
    let owners = check.records()?;
    check.items(&owners)?;
    check.changes()?;
    check.cursors()?;
    check.feedback()?;
    shared.check_uscc(&mut check.found)?;
    shared.check_zero(&mut check.found)?;
    crate::held::check(&check.tables, std::mem::take(&mut check.held), &mut check.found)?;
    check.counters()?;
    Ok(check.found)
}

struct Check<'a> {
    shared: &'a Shared,
    tables: Snapshot,
    positions: Meta,
    feeds: BTreeMap<FeedId, FeedCounters>,
    targets: BTreeMap<TargetId, BTreeMap<ItemState, u64>>,
    /// Of each message: its feed, rows done, rows by verdict.
    pages: BTreeMap<u64, (FeedId, u64, [u64; 3])>,
    /// Messages not finished.
    open: BTreeSet<u64>,
    /// Message and index of every row held, and the first index of its block of verdicts.
    held: BTreeMap<(u64, u64), u64>,
    found: Vec<String>,
}

/// What an item must agree with its record on.
struct Owner {
    record: RecordDigest,
    feed: FeedId,
    target: TargetId,
    version: u32,
    /// Positions of its versions in the change feed.
    seqs: Vec<u64>,
}

impl Check<'_> {
    fn segments(&mut self) -> Result<(), StoreError> {
        let Self { shared, tables, found, .. } = self;
        tables.segment.scan(b"", |key, _| {
            let id = key.try_into().map(u32::from_be_bytes).unwrap_or_default();
            if !shared.seals.opens(id)? {
                found.push(format!("段{id}:数据密钥解不开,该段所有内容都打不开"));
            }
            Ok(true)
        })
    }

    fn messages(&mut self) -> Result<(), StoreError> {
        let (mut pending, mut count, mut repeated) = (0, 0, 0);
        let Self { shared, tables, positions, feeds, pages, open, found, .. } = self;
        tables.message.scan(b"", |key, value| {
            let id = number(key)?;
            count += 1;
            let Some(value) = unless_damaged(value.open())? else {
                found.push(format!("报文{id}:内容打不开,已损坏或被改动"));
                return Ok(true);
            };
            let (head, payload): (MessageRow, &[u8]) = decode_head(&value)?;
            if id >= positions.next_message {
                found.push(format!("报文{id}:编号超出已发放的范围"));
            }
            let length = if head.inline {
                Some(payload.len() as u64)
            } else {
                read_through(shared, &head.digest)
            };
            if length != Some(head.bytes) {
                found.push(format!("报文{id}:原文缺失、损坏或长度不符"));
            }
            let name = shared.message_name(&head.digest);
            let known: Option<u64> =
                tables.content.read(&content_key(head.feed.as_str(), &name))?;
            match known {
                Some(known) if known == id => {}
                // Its bytes came again as news.
                Some(later) if later > id && same_bytes(tables, later, &head)? => repeated += 1,
                _ => found.push(format!("报文{id}:内容索引缺失或不符")),
            }
            let place = id_number(head.feed.as_str(), id);
            let progress = unless_damaged(tables.progress.read::<ProgressRow>(&place))?.flatten();
            let Some(progress) = progress else {
                found.push(format!("报文{id}:处理进度缺失或损坏"));
                return Ok(true);
            };
            let waits = tables.pending.has(&place)?;
            if waits != progress.end.is_none() {
                found.push(format!("报文{id}:待处理索引不符"));
            }
            let counters = feeds.entry(head.feed.clone()).or_default();
            counters.messages += 1;
            counters.duplicate_messages += progress.repeats;
            counters.last_received =
                counters.last_received.max(Some(head.received)).max(progress.last_repeat);
            match &progress.end {
                None => {
                    open.insert(id);
                    pending += 1;
                    counters.pending_messages += 1;
                }
                Some(end) => counters.failed_messages += u64::from(end.error.is_some()),
            }
            pages.insert(id, (head.feed, progress.rows_done, progress.rows));
            Ok(true)
        })?;
        self.size("待处理索引", self.tables.pending.len()?, pending);
        self.size("内容索引", self.tables.content.len()?, count - repeated);
        self.size("处理进度", self.tables.progress.len()?, count);
        Ok(())
    }

    fn verdicts(&mut self) -> Result<(), StoreError> {
        let Self { tables, feeds, pages, held, found, .. } = self;
        let mut done: BTreeMap<u64, (u64, FeedCounters)> = BTreeMap::new();
        let mut placed = 0;
        tables.verdict.scan(b"", |key, value| {
            let (message, first) = two_numbers(key)?;
            let Some(rows) = unless_damaged(value.decode::<Vec<VerdictRow>>())? else {
                found.push(format!("报文{message}:自第{first}行起的行结论打不开"));
                return Ok(true);
            };
            let (next, counters) = done.entry(message).or_default();
            if *next != first {
                found.push(format!("报文{message}:行结论在第{next}行处不连续"));
            }
            *next = first + rows.len() as u64;
            for (row, index) in rows.into_iter().zip(first..) {
                count_row(counters, &row);
                if row.outcome == RowOutcome::Held {
                    held.insert((message, index), first);
                }
                let Some((record, version)) = row.record else { continue };
                let place = feedback::place(&record, version, message, index);
                placed += u64::from(tables.place.has(&place)?);
                let record = unless_damaged(tables.record.read::<RecordRow>(&record))?;
                if record.is_some_and(|it| it.is_none_or(|it| it.seq(version).is_none())) {
                    found.push(format!("报文{message}:行结论所指的记录版本不存在"));
                }
            }
            Ok(true)
        })?;
        for (message, (feed, rows_done, rows)) in pages {
            let (next, sum) = done.remove(message).unwrap_or_default();
            let accepted = sum.rows - sum.warned - sum.rejected;
            if next != *rows_done || *rows != [accepted, sum.warned, sum.rejected] {
                found.push(format!("报文{message}:处理进度与行结论不符"));
            }
            let counters = feeds.entry(feed.clone()).or_default();
            counters.rows += sum.rows;
            counters.warned += sum.warned;
            counters.rejected += sum.rejected;
            counters.repeated += sum.repeated;
            counters.committed += sum.committed;
            counters.corrections += sum.corrections;
            counters.held += sum.held;
            counters.mapped += sum.mapped;
        }
        found.extend(done.keys().map(|message| format!("报文{message}:有行结论而无报文")));
        self.size("记录版本的出处", self.tables.place.len()?, placed);
        Ok(())
    }

    fn records(&mut self) -> Result<BTreeMap<u64, Owner>, StoreError> {
        let mut owners = BTreeMap::new();
        let (mut records, mut versions) = (0, 0);
        let Self { tables, feeds, found, .. } = self;
        tables.record.scan(b"", |key, value| {
            let Ok(digest) = RecordDigest::try_from(key) else {
                found.push("记录:键的长度不对".to_owned());
                return Ok(true);
            };
            let name = hex(&digest);
            records += 1;
            let Some(record) = unless_damaged(value.decode::<RecordRow>())? else {
                found.push(format!("记录{name}:内容打不开,已损坏或被改动"));
                return Ok(true);
            };
            let newest = record.version();
            for (meta, number) in record.versions.iter().zip(1u32..) {
                versions += 1;
                let value = unless_damaged(tables.version.bytes(&meta.seq.to_be_bytes()))?;
                let version = value.flatten().map(|value| read_version(&value)).transpose()?;
                let sound = version.is_some_and(|(stored, version)| {
                    let content = crate::encode::content_digest(version.operation, &version.fields);
                    let withdrawn = version.operation == xinqiao_core::model::Operation::Withdraw;
                    (stored, version.record) == (number, digest)
                        && content == meta.content
                        && (number < newest || withdrawn == record.withdrawn)
                });
                if !sound {
                    found.push(format!("记录{name}:第{number}版缺失或内容不符"));
                }
            }
            let mut refused = 0;
            for (target, id) in &record.items {
                let item = unless_damaged(tables.item.read::<ItemRow>(&id.to_be_bytes()))?;
                let refused_item = |item: ItemRow| item.state == ItemState::Refused;
                refused += u32::from(item.flatten().is_some_and(refused_item));
                owners.insert(
                    *id,
                    Owner {
                        record: digest,
                        feed: record.feed.clone(),
                        target: target.clone(),
                        version: newest,
                        seqs: record.versions.iter().map(|version| version.seq).collect(),
                    },
                );
            }
            if refused != record.refused_items {
                found.push(format!("记录{name}:被拒项数不符"));
            }
            let counters = feeds.entry(record.feed.clone()).or_default();
            counters.refused += u64::from(refused > 0);
            count_accepted(counters, &record);
            Ok(true)
        })?;
        let Self { tables, found, .. } = self;
        tables.sent_back.scan(b"", |key, _| {
            if tables.record.has(key)? {
                found.push(format!("记录{}:已经收下,却仍记为退回未改", hex(key)));
            }
            Ok(true)
        })?;
        self.size("记录计数", self.positions.records, records);
        self.size("版本", self.tables.version.len()?, versions);
        self.size("变更序列", self.positions.seq, versions);
        Ok(owners)
    }

    fn items(&mut self, owners: &BTreeMap<u64, Owner>) -> Result<(), StoreError> {
        let (mut items, mut waiting) = (0, 0);
        let Self { tables, positions, feeds, targets, found, .. } = self;
        tables.item.scan(b"", |key, value| {
            let id = number(key)?;
            items += 1;
            let Some(item) = unless_damaged(value.decode::<ItemRow>())? else {
                found.push(format!("投递项{id}:内容打不开,已损坏或被改动"));
                return Ok(true);
            };
            if id >= positions.next_item {
                found.push(format!("投递项{id}:编号超出已发放的范围"));
            }
            let index = queue_key(item.state, &item.target, item.deadline, id);
            if !tables.queue.has(&index)? {
                found.push(format!("投递项{id}:队列索引缺失"));
            }
            if (item.state == ItemState::Waiting) != item.due_at.is_some() {
                found.push(format!("投递项{id}:状态与到期时间不符"));
            }
            if let Some(due) = item.due_at {
                waiting += 1;
                let index = waiting_key(&item.target, due, id);
                if !tables.waiting.has(&index)? {
                    found.push(format!("投递项{id}:等待索引缺失"));
                }
            }
            match owners.get(&id) {
                Some(owner) => {
                    let current = item.version == owner.version || item.state == ItemState::Leased;
                    let index = usize::try_from(item.version).unwrap_or_default().wrapping_sub(1);
                    if owner.record != item.record
                        || owner.target != item.target
                        || owner.version != item.newest
                        || owner.seqs.get(index) != Some(&item.seq)
                        || !current
                    {
                        found.push(format!("投递项{id}:与所属记录不符"));
                    }
                    let counters = feeds.entry(owner.feed.clone()).or_default();
                    counters.retried += item.retried;
                    counters.dropped += u64::from(item.state == ItemState::Dropped);
                }
                None => found.push(format!("投递项{id}:没有记录指向它")),
            }
            *targets.entry(item.target).or_default().entry(item.state).or_default() += 1;
            Ok(true)
        })?;
        self.size("记录所列的投递项", owners.len() as u64, items);
        self.size("队列索引", self.tables.queue.len()?, items);
        self.size("等待索引", self.tables.waiting.len()?, waiting);
        Ok(())
    }

    fn changes(&mut self) -> Result<(), StoreError> {
        let mut expected = 1;
        let Self { tables, found, .. } = self;
        tables.version.scan(b"", |key, value| {
            let seq = number(key)?;
            if unless_damaged(value.open())?.is_none() {
                found.push(format!("变更序列:{seq}处的版本打不开,已损坏或被改动"));
            }
            if seq != expected {
                found.push(format!("变更序列:{expected}之后出现{seq}"));
            }
            expected = seq + 1;
            Ok(true)
        })?;
        self.size("变更序列末尾", self.positions.seq + 1, expected);
        Ok(())
    }

    fn cursors(&mut self) -> Result<(), StoreError> {
        let Self { tables, found, .. } = self;
        tables.cursor.scan(b"", |name, value| {
            if unless_damaged(value.open())?.is_none() {
                let feed = parse_id(name, FeedId::new)?;
                found.push(format!("接入任务{feed}:接收位置打不开,已损坏或被改动"));
            }
            Ok(true)
        })
    }

    fn feedback(&mut self) -> Result<(), StoreError> {
        let Self { tables, pages, open, found, .. } = self;
        let message = |id| {
            let (feed, rows, _) = pages.get(&id)?;
            Some((feed.clone(), *rows, !open.contains(&id)))
        };
        feedback::check(tables, message, found)
    }

    fn counters(&mut self) -> Result<(), StoreError> {
        let mut stored: BTreeMap<FeedId, FeedCounters> = BTreeMap::new();
        self.tables.feed.scan(b"", |name, value| {
            stored.insert(parse_id(name, FeedId::new)?, feed_counters(&value.open()?)?);
            Ok(true)
        })?;
        differences(&mut self.found, "接入任务", &stored, &self.feeds);
        for (feed, of) in &self.feeds {
            let sums = of.rows == of.rejected + of.repeated + of.committed + of.held + of.mapped
                && of.committed == of.corrections + of.accepted + of.open()
                && of.accepted == of.on_time_statutory + of.late();
            if !sums {
                self.found.push(format!("接入任务{feed}:各项计数之间不平衡:{of:?}"));
            }
        }
        let mut counts = crate::read::targets(&self.tables)?;
        counts.values_mut().for_each(|states| states.retain(|_, count| *count > 0));
        differences(&mut self.found, "投递目标", &counts, &self.targets);
        Ok(())
    }

    fn size(&mut self, what: &str, stored: u64, derived: u64) {
        if stored != derived {
            self.found.push(format!("{what}:存有{stored},应为{derived}"));
        }
    }
}

/// The length of a sealed file every byte of which opens.
/// Whether a message has the feed and the bytes of this one. One that cannot be read is told of by
/// itself.
fn same_bytes(tables: &Snapshot, id: u64, head: &MessageRow) -> Result<bool, StoreError> {
    let other = match crate::intake::message(&tables.message, id) {
        Err(StoreError::NotFound) => return Ok(false),
        other => unless_damaged(other)?,
    };
    Ok(other.is_none_or(|other| other.feed == head.feed && other.digest == head.digest))
}

fn read_through(shared: &Shared, sm3: &[u8; 32]) -> Option<u64> {
    let mut blob = shared.blob(sm3).ok()?;
    let read = std::io::copy(&mut blob, &mut std::io::sink()).ok()?;
    (read == blob.length()).then_some(read)
}

fn differences<K: Ord + Clone + std::fmt::Display, V: PartialEq + Default + std::fmt::Debug>(
    found: &mut Vec<String>,
    what: &str,
    stored: &BTreeMap<K, V>,
    derived: &BTreeMap<K, V>,
) {
    let none = V::default();
    let keys: BTreeSet<&K> = stored.keys().chain(derived.keys()).collect();
    for key in keys {
        let (is, ought) = (stored.get(key).unwrap_or(&none), derived.get(key).unwrap_or(&none));
        if is != ought {
            found.push(format!("{what}{key}:计数存为{is:?},应为{ought:?}"));
        }
    }
}
