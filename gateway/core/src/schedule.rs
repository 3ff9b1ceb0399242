//! When to try again: a pure function of the attempt, so that tests need no waiting.

use std::time::Duration;

/// Jittered, capped exponential back-off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Ceiling of the wait before the second attempt.
    pub base: Duration,
    /// Ceiling of any wait.
    pub cap: Duration,
    /// Attempts after which an item becomes a dead letter.
    pub max_attempts: u32,
}

impl RetryPolicy {
    /// The wait after `attempt` failed attempts (1 = the first just failed): uniform between half
    /// the ceiling and the ceiling `min(cap, base × 2^(attempt-1))`, drawn from `seed`. `None`
    /// once `max_attempts` are used up. A wait the target asked for is a floor, never cut by the cap.
    pub fn wait(&self, attempt: u32, asked: Option<Duration>, seed: u64) -> Option<Duration> {
        if attempt >= self.max_attempts {
            return None;
        }
        let doublings = attempt.saturating_sub(1).min(20);
        let ceiling = self.base.saturating_mul(1 << doublings).min(self.cap);
        let half = ceiling / 2;
        let span = u64::try_from(half.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
        let jitter = Duration::from_millis(mix(seed ^ u64::from(attempt)) % span);
        Some((half + jitter).max(asked.unwrap_or_default()))
    }
}

/// SplitMix64's finaliser: spreads consecutive seeds.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const POLICY: RetryPolicy = RetryPolicy {
        base: Duration::from_secs(2),
        cap: Duration::from_secs(300),
        max_attempts: 12,
    };

    proptest! {
        #[test]
        fn waits_grow_are_capped_and_end(attempt in 1u32..40, seed: u64) {
            match POLICY.wait(attempt, None, seed) {
                None => prop_assert!(attempt >= POLICY.max_attempts),
                Some(wait) => {
                    let ceiling = (POLICY.base * 2u32.pow(attempt - 1)).min(POLICY.cap);
                    prop_assert!(wait <= ceiling && wait >= ceiling / 2);
                }
            }
        }
    }

    #[test]
    fn neighbours_spread_and_the_target_is_heeded() {
        let waits: std::collections::BTreeSet<_> =
            (0..100).filter_map(|seed| POLICY.wait(5, None, seed)).collect();
        assert!(waits.len() > 90);
        let asked = Duration::from_secs(900);
        assert_eq!(POLICY.wait(1, Some(asked), 7), Some(asked));
    }
}
