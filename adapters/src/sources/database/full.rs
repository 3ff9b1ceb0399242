//! The way `full`: the whole table is read in one snapshot and compared with what it was. So are, by
//! the way `time`, the rows whose time is none: no order tells which of them are new.

use std::collections::HashSet;

use xinqiao_core::fault::Blame;
use xinqiao_core::spi::{Fault, SourceContext};

use super::ack::row_digest;
use super::config::{Database, Way};
use super::page::{MOST_UNDATED, Part, Plan, Taken};
use super::position::{Known, Mark, Position, short};
use super::{SourceFault, Told, fault, stoppable};
use crate::wire::db::{Query, Session};

/// What a row in the message says of itself, in the column `_op`.
const UPSERT: &[u8] = br#""_op":"upsert""#;
const DELETE: &[u8] = br#""_op":"delete""#;

/// Rows for the next message.
#[derive(Default)]
struct Outgoing {
    body: Vec<u8>,
    rows: usize,
    marks: Vec<Mark>,
}

impl Outgoing {
    fn add(&mut self, members: &[u8], operation: &[u8]) {
        self.body.push(b'{');
        self.body.extend_from_slice(members);
        if !members.is_empty() && !operation.is_empty() {
            self.body.push(b',');
        }
        self.body.extend_from_slice(operation);
        self.body.extend_from_slice(b"}\n");
        self.rows += 1;
    }
}

impl Database {
    /// One look at the whole table, or at the rows of it that have no time. Gives the count of rows
    /// handed over; fewer than all if stopping began.
    pub(super) async fn compare(
        &self,
        context: &SourceContext,
        session: &mut dyn Session,
        plan: &Plan,
        position: &mut Position,
        told: &mut Told,
    ) -> Result<u64, Fault> {
        let (max_rows, remember, part, operation) = match &self.way {
            Way::Full { max_rows, remember, .. } => {
                (*max_rows, remember.as_slice(), Part::Whole, UPSERT)
            }
            _ => (MOST_UNDATED, Default::default(), Part::Undated, &b""[..]),
        };
        let begin = Query::new(self.access.engine(), self.access.engine().begin_snapshot());
        session.execute(&begin).await.map_err(|error| self.told(error))?;
        let kept =
            |name: &str| remember.iter().any(|own| self.access.engine().same_name(own, name));
        let mut seen: HashSet<u64> = HashSet::new();
        let mut out = Outgoing::default();
        let (mut after, mut count, mut over) = (None, 0, false);
        loop {
            let mut take = |row: &Taken<'_>| {
                let key: Vec<String> =
                    plan.key.iter().filter_map(|at| row.order.get(*at)).cloned().collect();
                let digest = short(key.iter().map(String::as_bytes));
                over |= seen.len() >= max_rows;
                seen.insert(digest);
                let now = row_digest(plan, row.cells);
                if over || position.known.get(&digest).is_some_and(|was| was.row == now) {
                    return;
                }
                out.add(row.line, operation);
                out.marks.push(Mark { key, row: now });
                let mut remembered = Vec::new();
                plan.members(&mut remembered, row.cells, |column| kept(&column.name));
                position.known.insert(digest, Known { row: now, remembered: remembered.into() });
            };
            let read = self.read(session, plan, after.as_deref(), part, &mut take);
            let Some(read) = stoppable(context, read).await? else { return Ok(count) };
            told.too_large = read.too_large.or(told.too_large.take());
            if over && matches!(part, Part::Undated) {
                break;
            }
            if over {
                let text = format!(
                    "表 {} 超过{max_rows}行,full 方式不能比对:请加大 incremental.full.max-rows,或改用 time、batch、flag",
                    self.table.shown
                );
                return Err(fault("source.too-many-rows", Blame::Operator, text).into());
            }
            // A page of the table may give few new rows: they wait until there is a message's worth.
            if out.rows >= self.page_rows || (out.rows > 0 && !read.more) {
                count += self.hand_over(context, plan, position, &mut out).await?;
            }
            after = read.last.or(after);
            if !read.more {
                break;
            }
        }
        let end = Query::new(self.access.engine(), "COMMIT");
        session.execute(&end).await.map_err(|error| self.told(error))?;
        match part {
            // They hold up no others.
            Part::Undated if over => {
                let text = format!(
                    "表 {} 中时间列为空日期(如 0000-00-00)的行超过{max_rows}行,多出的没有取:请委办局补全,或改用 full、flag",
                    self.table.shown
                );
                told.left_out = Some(fault("source.undated-rows", Blame::Agency, text));
            }
            Part::Undated => position.known.retain(|key, _| seen.contains(key)),
            // A row that has lost its key is not gone.
            _ if told.left_out.is_some() => {}
            _ => self.depart(position, &seen, &mut out)?,
        }
        if out.rows > 0 {
            count += self.hand_over(context, plan, position, &mut out).await?;
        }
        Ok(count)
    }

    async fn hand_over(
        &self,
        context: &SourceContext,
        plan: &Plan,
        position: &mut Position,
        out: &mut Outgoing,
    ) -> Result<u64, Fault> {
        let Outgoing { body, rows, marks } = std::mem::take(out);
        self.receive(context, plan, position, body, marks).await?;
        Ok(u64::try_from(rows).unwrap_or(u64::MAX))
    }

    /// Rows that were there and are not: withdrawn if that was asked for. Never when the table is
    /// empty, or many are gone, without an operator's word: it may have been truncated to be filled
    /// again.
    fn depart(
        &self,
        position: &mut Position,
        seen: &HashSet<u64>,
        out: &mut Outgoing,
    ) -> Result<(), SourceFault> {
        let Way::Full { remember, most_percent, accept_gone, max_rows, .. } = &self.way else {
            return Ok(());
        };
        if remember.is_empty() {
            // Nothing is withdrawn. They are remembered while there is room: a table that is emptied
            // and filled again is no news.
            if position.known.len() > *max_rows {
                position.known.retain(|key, _| seen.contains(key));
            }
            return Ok(());
        }
        let mut gone: Vec<u64> =
            position.known.keys().filter(|key| !seen.contains(key)).copied().collect();
        let count = |list: usize| u64::try_from(list).unwrap_or(u64::MAX);
        let (gone_count, known) = (count(gone.len()), count(position.known.len()));
        let many = gone_count.saturating_mul(100) > known.saturating_mul(*most_percent);
        if gone_count > 0 && (seen.is_empty() || many) && gone_count > *accept_gone {
            let text = format!(
                "表 {} 原有{known}行,少了{gone_count}行,可能是正在清空重填:未作撤销处理。如属实,请写 incremental.full.accept-gone: {gone_count},处理后删去",
                self.table.shown
            );
            return Err(fault("source.rows-gone", Blame::Agency, text));
        }
        gone.sort_unstable();
        for key in gone {
            if let Some(known) = position.known.remove(&key) {
                out.add(&known.remembered, DELETE);
            }
        }
        Ok(())
    }
}
