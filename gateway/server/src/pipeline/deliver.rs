//! deliver (投递): leased items → the target, its row-level answer → settlements.

use std::time::Duration;

use xinqiao_core::ident::personal::mask;
use xinqiao_core::model::Timestamp;
use xinqiao_core::schedule::RetryPolicy;
use xinqiao_core::spi::{Outcome, Parcel, Sealer, Target, TargetError};
use xinqiao_store::{Leased, SettledAs, Settlement};

/// What a delivery gave.
#[derive(Debug)]
pub struct Delivery {
    /// One per leased item.
    pub settlements: Vec<Settlement>,
    /// The target as a whole did not answer: leave it alone for a while, or as long as it asked.
    pub unwell: Option<Option<Duration>>,
}

/// Sends a batch and works out how each item ends. `now` is asked after the answer.
pub async fn deliver(
    target: &dyn Target,
    sealer: Option<&dyn Sealer>,
    retry: RetryPolicy,
    leased: Vec<Leased>,
    now: impl Fn() -> Timestamp,
) -> Delivery {
    let (ends, parcels): (Vec<_>, Vec<_>) = leased.into_iter().map(split).unzip();
    let answer = target.deliver(&parcels, sealer).await;
    let now = now();
    let unwell = match &answer {
        Ok(_) => None,
        Err(TargetError::NotTaken { retry_after, .. }) => Some(*retry_after),
        Err(TargetError::Unknown { .. } | TargetError::Rejected { .. }) => Some(None),
    };
    let mut outcomes = answer.as_ref().ok().into_iter().flatten();
    let settlements = ends
        .into_iter()
        .map(|item| {
            let seed = item.token.id ^ now.0;
            let end = match &answer {
                Ok(_) => row_end(outcomes.next(), retry, item.attempt, now, seed),
                Err(error) => batch_end(error, target.dedupes(), retry, item.attempt, now, seed),
            };
            Settlement { token: item.token, end: masked(end, now) }
        })
        .collect();
    Delivery { settlements, unwell }
}

/// A target's words are kept and shown to the agency: personal numbers they repeat are not.
fn masked(end: SettledAs, now: Timestamp) -> SettledAs {
    let today = now.shanghai_date();
    let masked = |text: String| mask(&text, today).into_owned();
    match end {
        SettledAs::Accepted => SettledAs::Accepted,
        SettledAs::Refused { code, message } => {
            SettledAs::Refused { code: masked(code), message: masked(message) }
        }
        SettledAs::Retry { due, error } => SettledAs::Retry { due, error: masked(error) },
        SettledAs::Dead { error } => SettledAs::Dead { error: masked(error) },
        SettledAs::Doubtful { error } => SettledAs::Doubtful { error: masked(error) },
    }
}

struct Item {
    token: xinqiao_store::LeaseToken,
    attempt: u32,
}

fn split(leased: Leased) -> (Item, Parcel) {
    let Leased { token, key, dataset, generation, operation, fields, attempt, .. } = leased;
    (Item { token, attempt }, Parcel { key, dataset, generation, operation, fields })
}

fn row_end(
    outcome: Option<&Outcome>,
    retry: RetryPolicy,
    attempt: u32,
    now: Timestamp,
    seed: u64,
) -> SettledAs {
    match outcome {
        Some(Outcome::Accepted) => SettledAs::Accepted,
        Some(Outcome::Refused { code, message }) => {
            SettledAs::Refused { code: code.clone(), message: message.clone() }
        }
        Some(Outcome::Later { code, message }) => {
            later(retry, attempt, None, now, seed, format!("{code} {message}"))
        }
        None => later(retry, attempt, None, now, seed, "目标未对该记录作答".to_owned()),
    }
}

fn batch_end(
    error: &TargetError,
    dedupes: bool,
    retry: RetryPolicy,
    attempt: u32,
    now: Timestamp,
    seed: u64,
) -> SettledAs {
    let text = error.to_string();
    match error {
        // Not this record's fault: however long the target is away, its records do not die of it.
        TargetError::NotTaken { retry_after, .. } => {
            outage(retry, attempt, *retry_after, now, seed, text)
        }
        TargetError::Rejected { .. } => outage(retry, attempt, None, now, seed, text),
        TargetError::Unknown { .. } if dedupes => later(retry, attempt, None, now, seed, text),
        TargetError::Unknown { .. } => SettledAs::Doubtful { error: text },
    }
}

/// Tries again by the policy, or gives up when its attempts are used up.
fn later(
    retry: RetryPolicy,
    attempt: u32,
    asked: Option<Duration>,
    now: Timestamp,
    seed: u64,
    error: String,
) -> SettledAs {
    match retry.wait(attempt, asked, seed) {
        Some(wait) => SettledAs::Retry { due: after(now, wait), error },
        None => SettledAs::Dead { error },
    }
}

/// Tries again by the policy's waits, without end.
fn outage(
    retry: RetryPolicy,
    attempt: u32,
    asked: Option<Duration>,
    now: Timestamp,
    seed: u64,
    error: String,
) -> SettledAs {
    let endless = RetryPolicy { max_attempts: u32::MAX, ..retry };
    later(endless, attempt.min(u32::MAX - 1), asked, now, seed, error)
}

fn after(now: Timestamp, wait: Duration) -> Timestamp {
    now.plus_millis(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETRY: RetryPolicy = RetryPolicy {
        base: Duration::from_secs(2),
        cap: Duration::from_secs(300),
        max_attempts: 3,
    };

    #[test]
    fn no_personal_number_a_target_repeats_is_kept() {
        let now = Timestamp(1_795_406_400_000);
        let refused = |text: &str| {
            let refused = Outcome::Refused { code: text.to_owned(), message: text.to_owned() };
            masked(row_end(Some(&refused), RETRY, 1, now, 1), now)
        };
        let SettledAs::Refused { code, message } = refused("证件１１０１０５ 19491231-002X不符")
        else {
            panic!()
        };
        assert_eq!((code.as_str(), message.as_str()), ("证件***不符", "证件***不符"));
        let SettledAs::Refused { message, .. } = refused("主体91411702999999904X不匹配")
        else {
            panic!()
        };
        assert_eq!(message, "主体91411702999999904X不匹配");
        let later = Outcome::Later { code: "9".into(), message: "13800138000忙".into() };
        let unknown = TargetError::Unknown { detail: "号110105194912310021".into() };
        for end in [
            row_end(Some(&later), RETRY, 1, now, 1),
            row_end(Some(&later), RETRY, 3, now, 1),
            batch_end(&unknown, true, RETRY, 1, now, 1),
            batch_end(&unknown, false, RETRY, 1, now, 1),
        ] {
            let (SettledAs::Retry { error, .. }
            | SettledAs::Dead { error }
            | SettledAs::Doubtful { error }) = masked(end, now)
            else {
                panic!()
            };
            assert!(error.contains("***") && !error.contains("138") && !error.contains("1949"));
        }
    }

    #[test]
    fn an_outage_never_kills_and_a_doubt_is_never_repeated_blindly() {
        let now = Timestamp(1_000_000);
        let away = TargetError::NotTaken { detail: "x".into(), retry_after: None };
        let end = batch_end(&away, true, RETRY, 5_000, now, 1);
        assert!(matches!(end, SettledAs::Retry { due, .. } if due > now));
        let unknown = TargetError::Unknown { detail: "x".into() };
        assert!(matches!(batch_end(&unknown, false, RETRY, 1, now, 1), SettledAs::Doubtful { .. }));
        assert!(matches!(batch_end(&unknown, true, RETRY, 3, now, 1), SettledAs::Dead { .. }));
        assert!(matches!(batch_end(&unknown, true, RETRY, 2, now, 1), SettledAs::Retry { .. }));
    }
}
