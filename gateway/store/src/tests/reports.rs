//! Figures of reports against a naive count over the raw list of what happened, and zero reports.

use std::collections::BTreeMap;

use proptest::prelude::*;
use time::{Date, Duration};
use xinqiao_core::report::{Basis, ByOwner, Figures, RowFigures};

use super::*;

/// Records that there may be; the n-th is decided 2n days after the first.
const RECORDS: usize = 6;
const FIRST: Date = date!(2026 - 11 - 10);
const FEEDS: [&str; 2] = ["f-1", "f-2"];

#[derive(Debug, Clone)]
enum Step {
    /// Record, feed, content; none is refused here.
    Row(usize, usize, Option<u8>),
    /// Leases one item and ends it: accepted, refused, try again.
    Send(u8),
    Days(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let content = proptest::option::weighted(0.8, 0..3_u8);
    prop_oneof![
        5 => (0..RECORDS, 0..2_usize, content).prop_map(|(r, f, c)| Step::Row(r, f, c)),
        5 => prop_oneof![3 => Just(0_u8), 1 => Just(1), 1 => Just(2)].prop_map(Step::Send),
        3 => (0..5_u64).prop_map(Step::Days),
    ]
}

/// What happened to a record, as somebody at the gateway would write it down.
#[derive(Debug, Clone, Default)]
struct Raw {
    /// Feed of the first version.
    feed: usize,
    /// Content and arrival of each version.
    versions: Vec<(u8, u64)>,
    /// First arrival, refused or not.
    received: Option<u64>,
    sent: Option<u64>,
    refused: Option<u64>,
    accepted: Option<u64>,
    /// The refusal that counts against the agency at acceptance.
    held_against: Option<u64>,
    refused_now: bool,
}

fn decided(record: usize) -> Date {
    FIRST + Duration::days(2 * record as i64)
}

fn made(record: usize, content: u8) -> NewVersion {
    let mut new = upsert(&format!("{record}号"), &content.to_string());
    new.key.decided = decided(record);
    new.deadlines = Deadlines {
        decided: decided(record),
        pledged: decided(record) + Duration::days(7),
        statutory: decided(record) + Duration::days(10),
        provisional: record == 0,
    };
    new
}

fn ms_end(day: Date) -> u64 {
    Timestamp::end_of_day(day).0
}

/// Counted by hand, in the words of the documentation.
fn naive(raws: &[(usize, Raw)], basis: Basis, span: (Date, Date), now: u64, risk: Date) -> Figures {
    let mut figures = Figures::default();
    for (number, raw) in raws {
        let decided = decided(*number);
        let day = match basis {
            Basis::Decided => decided,
            Basis::Received => Timestamp(raw.received.unwrap()).shanghai_date(),
        };
        if day < span.0 || day > span.1 {
            continue;
        }
        let statutory = decided + Duration::days(10);
        let (pledged_end, end) = (ms_end(decided + Duration::days(7)), ms_end(statutory));
        figures.records += 1;
        figures.refused += u64::from(raw.refused_now);
        figures.provisional += u64::from(*number == 0);
        let refused = if raw.accepted.is_some() { raw.held_against } else { raw.refused };
        let owner = |of: &mut ByOwner| {
            if raw.received.unwrap() > end {
                of.agency_arrival += 1;
            } else if refused.is_some() {
                of.agency_refusal += 1;
            } else if raw.sent.is_some_and(|sent| sent <= end) {
                of.platform += 1;
            } else {
                of.gateway += 1;
            }
        };
        if let Some(accepted) = raw.accepted {
            figures.accepted += 1;
            figures.on_time_pledged += u64::from(accepted <= pledged_end);
            if accepted <= end {
                figures.on_time_statutory += 1;
            } else {
                owner(&mut figures.late);
            }
            continue;
        }
        figures.open_past_pledged += u64::from(now > pledged_end);
        if now > end {
            owner(&mut figures.overdue);
        } else if statutory <= risk {
            figures.at_risk += 1;
        } else {
            figures.in_time += 1;
        }
    }
    figures
}

/// All pages of so many records each.
fn counted(bench: &Bench, ask: &RecordsQuestion, limit: usize) -> (Figures, Vec<LateRecord>, u64) {
    let (mut figures, mut late, mut days) = (Figures::default(), Vec::new(), 0);
    let mut after = None;
    loop {
        let page = bench.store().report_records(ask, after, limit).unwrap();
        assert_eq!(page.damaged, 0);
        page.groups.iter().for_each(|group| figures += group.figures);
        days += page.days.iter().map(|day| day.records).sum::<u64>();
        late.extend(page.late);
        let Some(next) = page.next else { return (figures, late, days) };
        after = Some(u128::from_str_radix(&next, 16).unwrap().to_be_bytes());
    }
}

fn counted_rows(bench: &Bench, span: (Date, Date), limit: usize) -> BTreeMap<String, RowFigures> {
    let mut rows: BTreeMap<String, RowFigures> = BTreeMap::new();
    let mut after = None;
    loop {
        let page = bench.store().report_rows(None, span, after, limit).unwrap();
        for feed in page.feeds {
            *rows.entry(feed.feed.to_string()).or_default() += feed.rows;
        }
        let Some(next) = page.next else { return rows };
        after = Some(next);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn figures_are_what_a_naive_count_over_the_raw_list_finds(
        steps in prop::collection::vec(step(), 1..60),
        from in 0_i64..12, length in 0_i64..20, received in any::<bool>(), limit in 1_usize..5,
    ) {
        let bench = Bench::new();
        let mut now = NOON;
        let mut raws: BTreeMap<usize, Raw> = BTreeMap::new();
        let mut rows: BTreeMap<(usize, Date), RowFigures> = BTreeMap::new();
        for (n, step) in steps.into_iter().enumerate() {
            match step {
                Step::Days(days) => {
                    now += days * DAY;
                    bench.clock.advance(days * DAY);
                }
                Step::Row(number, at, content) => {
                    let message = bench.receive(FEEDS[at], format!("m{n}").as_bytes()).message;
                    let new = made(number, content.unwrap_or(0));
                    let mut row = entry(new);
                    let today = Timestamp(now).shanghai_date();
                    let counts = rows.entry((at, today)).or_default();
                    counts.messages += 1;
                    counts.rows += 1;
                    let known = raws.entry(number).or_default();
                    match content {
                        None => {
                            let new = row.record.take().unwrap();
                            row.sent_back = Some(new.key);
                            counts.rejected += 1;
                            if known.versions.is_empty() {
                                known.received.get_or_insert(now);
                                known.refused = Some(now);
                            }
                        }
                        Some(content) if known.versions.iter().any(|(c, _)| *c == content) => {
                            counts.repeated += 1;
                        }
                        Some(content) => {
                            if known.versions.is_empty() {
                                counts.new += 1;
                                known.feed = at;
                            } else {
                                counts.corrections += 1;
                            }
                            known.received.get_or_insert(now);
                            known.versions.push((content, now));
                            known.refused_now = false;
                        }
                    }
                    bench.run(bench.store().commit_rows(vec![chunk(message, vec![row])])).unwrap();
                }
                Step::Send(kind) => {
                    let leased = bench.run(bench.store().lease(&target("platform"), 1, LEASE)).unwrap();
                    let Some(item) = leased.first() else { continue };
                    let of = |number: &usize| {
                        let digest = bench.store().record_digest(&made(*number, 0).key);
                        item.key.starts_with(&xinqiao_crypto::hex(&digest))
                    };
                    let number = (0..RECORDS).find(of).unwrap();
                    let raw = raws.get_mut(&number).unwrap();
                    raw.sent.get_or_insert(now);
                    let arrived = raw.versions[item.version as usize - 1].1;
                    let end = match kind {
                        0 => {
                            raw.refused_now = false;
                            if raw.accepted.is_none() {
                                raw.accepted = Some(now);
                                raw.held_against = raw.refused.filter(|refused| arrived > *refused);
                            }
                            SettledAs::Accepted
                        }
                        1 => {
                            raw.refused = Some(now);
                            raw.refused_now = true;
                            refused()
                        }
                        _ => SettledAs::Retry { due: Timestamp(now), error: "忙".to_owned() },
                    };
                    prop_assert!(bench.settle(item.token, end));
                }
            }
        }
        let raws: Vec<_> = raws.into_iter().filter(|(_, raw)| !raw.versions.is_empty()).collect();
        let basis = if received { Basis::Received } else { Basis::Decided };
        let begin = FIRST + Duration::days(from);
        let risk = Timestamp(now).shanghai_date() + Duration::days(2);
        let whole = (Date::MIN, Date::MAX);
        for span in [(begin, begin + Duration::days(length)), whole] {
            let ask = RecordsQuestion {
                agency: None,
                basis,
                first: span.0,
                last: span.1,
                days_first: whole.0,
                days_last: whole.1,
                now: Timestamp(now),
                at_risk: risk,
                late: true,
            };
            let wanted = naive(&raws, basis, span, now, risk);
            let (found, late, days) = counted(&bench, &ask, limit);
            prop_assert_eq!(found, wanted);
            prop_assert_eq!(late.len() as u64, wanted.missed_statutory());
            prop_assert!(late.iter().all(|late| late.document.is_some() && late.item.is_some()));
            prop_assert_eq!(days, raws.len() as u64);

            let mut naive_rows: BTreeMap<String, RowFigures> = BTreeMap::new();
            for ((at, day), counts) in &rows {
                if (span.0..=span.1).contains(day) {
                    *naive_rows.entry(FEEDS[*at].to_owned()).or_default() += *counts;
                }
            }
            prop_assert_eq!(counted_rows(&bench, span, limit), naive_rows);
        }
        // Over all time, the figures are the counters of `status`.
        let all = naive(&raws, basis, whole, now, risk);
        let status = bench.store().status().unwrap();
        let sum = |of: fn(&FeedCounters) -> u64| status.feeds.values().map(of).sum::<u64>();
        prop_assert_eq!(all.records, status.records);
        prop_assert_eq!(
            [all.accepted, all.on_time_pledged, all.on_time_statutory, all.open(), all.refused],
            [sum(|c| c.accepted), sum(|c| c.on_time_pledged), sum(|c| c.on_time_statutory),
             sum(FeedCounters::open), sum(|c| c.refused)]
        );
        prop_assert_eq!(
            [all.late.agency_arrival, all.late.agency_refusal, all.late.gateway, all.late.platform],
            [sum(|c| c.late_agency), sum(|c| c.late_refusal), sum(|c| c.late_gateway), sum(|c| c.late_platform)]
        );
        let mut every = RowFigures::default();
        counted_rows(&bench, whole, 1_000).into_values().for_each(|rows| every += rows);
        prop_assert_eq!(
            [every.rows, every.rejected, every.repeated, every.new, every.corrections],
            [sum(|c| c.rows), sum(|c| c.rejected), sum(|c| c.repeated),
             sum(|c| c.committed - c.corrections), sum(|c| c.corrections)]
        );
    }
}

fn zero(
    bench: &Bench,
    period: &str,
    declared: bool,
    reason: &str,
) -> Result<(bool, ZeroReport), StoreError> {
    let dataset = DatasetId::new("admin-penalty").unwrap();
    let (by, reason) = ("甲".to_owned(), reason.to_owned());
    let period = period.parse().unwrap();
    bench.run(bench.store().tell_zero(agency(), dataset, period, declared, by, reason))
}

#[test]
fn a_zero_report_is_kept_with_everything_said_of_it() {
    let mut bench = Bench::new();
    let (changed, report) = zero(&bench, "2026-10", true, "本月无处罚").unwrap();
    assert!(changed && report.declared().is_some());
    bench.clock.advance(DAY);
    assert!(!zero(&bench, "2026-10", true, "再说一遍").unwrap().0, "it had been said");
    assert!(zero(&bench, "2026-W41", true, "本周无处罚").unwrap().0);
    bench.reopen();
    let (changed, report) = zero(&bench, "2026-10", false, "报错了月份").unwrap();
    assert!(changed && report.declared().is_none());
    let said = |report: &ZeroReport| {
        let say = |event: &ZeroEvent| (event.declared, event.at.0 - NOON, event.reason.clone());
        report.events.iter().map(say).collect::<Vec<_>>()
    };
    let history = [(true, 0, "本月无处罚".to_owned()), (false, DAY, "报错了月份".to_owned())];
    assert_eq!(said(&report), history);
    assert!(!zero(&bench, "2026-10", false, "已收回").unwrap().0);

    bench.reopen();
    let all = bench.store().zero_reports().unwrap();
    let periods: Vec<_> = all.iter().map(|report| report.period.to_string()).collect();
    assert_eq!(periods, ["2026-10", "2026-W41"]);
    assert_eq!(said(&all[0]), history);

    let refused =
        |period: &str, declared, reason: &str| zero(&bench, period, declared, reason).err();
    assert!(matches!(refused("2026-09", true, " "), Some(StoreError::Conflict(_))));
    assert!(matches!(refused("2026-09", true, &"长".repeat(201)), Some(StoreError::Conflict(_))));
    assert!(matches!(refused("2026-09", false, "没有"), Some(StoreError::NotFound)));
    bench.sound();
}
