//! Zero reports (零报告): an agency's word that a period brought no decision.
//!
//! A declaration is kept as a record of its own, with everything that was ever said of it. Whether it
//! stands is not kept: it does while there are no data of its period, so nothing that commits
//! records has to know of it, and it cannot disagree with them.

use serde::{Deserialize, Serialize};
use xinqiao_core::model::{AgencyId, DatasetId};
use xinqiao_core::period::Period;

use crate::committer::Tx;
use crate::tables::unless_damaged;
use crate::{Shared, StoreError, ZeroEvent, ZeroReport};

/// Declarations and withdrawals kept of one period.
const HISTORY: usize = 32;
/// Characters of a reason.
const REASON: usize = 200;

/// What was said of a period; the last word counts.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct ZeroRow {
    pub events: Vec<ZeroEvent>,
}

impl Shared {
    pub(crate) async fn tell_zero(
        &self,
        agency: AgencyId,
        dataset: DatasetId,
        period: Period,
        event: (bool, String, String),
    ) -> Result<(bool, ZeroReport), StoreError> {
        let (declared, by, reason) = event;
        if reason.trim().is_empty() || reason.chars().count() > REASON {
            return Err(StoreError::Conflict("须说明原因,不超过200字"));
        }
        self.committer()?
            .commit(1_024, move |tx| {
                let key = key(&agency, &dataset, period);
                let known: Option<ZeroRow> = tx.tables.zero.read(&key)?;
                let mut row = match known {
                    None if !declared => return Err(StoreError::NotFound),
                    known => known.unwrap_or_default(),
                };
                let stands = row.events.last().is_some_and(|last| last.declared);
                let changes = stands != declared;
                if changes {
                    if row.events.len() >= HISTORY {
                        row.events.remove(0);
                    }
                    row.events.push(ZeroEvent { at: tx.now, declared, by, reason });
                    write(tx, &key, &row)?;
                }
                Ok((changes, ZeroReport { agency, dataset, period, events: row.events }))
            })
            .await
    }

    pub(crate) fn zero_reports(&self) -> Result<Vec<ZeroReport>, StoreError> {
        let mut reports = Vec::new();
        self.snapshot()?.zero.scan(b"", |key, value| {
            if let Some(row) = unless_damaged(value.decode::<ZeroRow>())? {
                let (agency, dataset, period) = parse(key)?;
                reports.push(ZeroReport { agency, dataset, period, events: row.events });
            }
            Ok(true)
        })?;
        Ok(reports)
    }

    /// Checks that every row opens, stands under a key that reads, and says something.
    pub(crate) fn check_zero(&self, found: &mut Vec<String>) -> Result<(), StoreError> {
        self.snapshot()?.zero.scan(b"", |key, value| {
            let named = parse(key);
            match (&named, unless_damaged(value.decode::<ZeroRow>())?) {
                (_, None) => found.push("零报告:有一条打不开,已损坏或被改动".to_owned()),
                (Ok((_, _, period)), Some(row)) if row.events.is_empty() => {
                    found.push(format!("零报告:{period}的一条没有内容"));
                }
                (Err(_), Some(_)) => found.push("零报告:有一条的索引读不出".to_owned()),
                (Ok(_), Some(_)) => {}
            }
            Ok(true)
        })
    }
}

fn write(tx: &mut Tx<'_>, key: &[u8], row: &ZeroRow) -> Result<(), StoreError> {
    tx.dirty = true;
    tx.tables.zero.put(key, row)
}

/// Agency, dataset and period as they are written, with a zero byte between.
fn key(agency: &AgencyId, dataset: &DatasetId, period: Period) -> Vec<u8> {
    format!("{agency}\0{dataset}\0{period}").into_bytes()
}

fn parse(key: &[u8]) -> Result<(AgencyId, DatasetId, Period), StoreError> {
    let read = || {
        let mut parts = std::str::from_utf8(key).ok()?.split('\0');
        let agency = AgencyId::new(parts.next()?).ok()?;
        let dataset = DatasetId::new(parts.next()?).ok()?;
        Some((agency, dataset, parts.next()?.parse().ok()?))
    };
    read().ok_or_else(|| StoreError::Corrupt("零报告的键不对".to_owned()))
}
