//! The machine's clock, and one that starts elsewhere.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use xinqiao_core::model::Timestamp;
use xinqiao_core::spi::Clock;

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the machine")]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// A clock that starts at a given time and runs at the machine's pace (demo).
#[derive(Debug, Clone, Copy)]
pub struct ShiftedClock {
    start: Timestamp,
    since: Instant,
}

impl ShiftedClock {
    /// Starts at `start`, now.
    pub fn starting_at(start: Timestamp) -> Self {
        Self { start, since: Instant::now() }
    }
}

impl Clock for ShiftedClock {
    fn now(&self) -> Timestamp {
        let passed = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.start.plus_millis(passed)
    }
}
