//! Working days, from the State Council's yearly notices as data.

use time::Date;

use crate::diagnostic::{Bundle, Diagnostics};

/// The published calendar. Past its coverage every answer is provisional: Monday to Friday is a
/// guess, and said to be one.
#[derive(Debug, Clone)]
pub struct Calendar {
    _private: (),
}

/// What the calendar says of a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Day {
    /// A working day, by notice or weekday.
    Working,
    /// A day off.
    Off,
}

impl Calendar {
    /// Reads `calendar/<year>.yaml` of a bundle.
    pub fn load(_bundle: &Bundle) -> Result<Self, Diagnostics> {
        todo!()
    }

    /// First and last day covered by notices.
    pub fn coverage(&self) -> (Date, Date) {
        todo!()
    }

    /// A short text naming the data in force, e.g. `2007-2026#3fa9c1d2`: changes when any day changes.
    pub fn version(&self) -> &str {
        todo!()
    }

    /// What a day is, and whether that is only a guess (not covered).
    pub fn day(&self, _date: Date) -> (Day, bool) {
        todo!()
    }

    /// The `n`th working day after `from` (day 0), and whether any day on the way was a guess.
    pub fn add_working_days(&self, _from: Date, _n: u32) -> (Date, bool) {
        todo!()
    }

    /// Working days in `from..=to` (0 when `to` is before `from`).
    pub fn working_days_between(&self, _from: Date, _to: Date) -> u32 {
        todo!()
    }
}
