//! Reporting duties (报送责任): which agency has to report which dataset how often.

use std::path::Path;

use time::Date;
use xinqiao_core::catalogue::Catalogue;
use xinqiao_core::model::{AgencyId, DatasetId};
use xinqiao_core::period::{Every, Period};
use xinqiao_core::yaml::{At, Entries};

use super::check::{Check, FEEDS};
use super::{ConfigError, file};

/// The agencies of `feeds.yaml` and what they have to report.
#[derive(Debug, Clone, Default)]
pub struct Duties {
    /// Every agency and its name.
    pub agencies: Vec<(AgencyId, String)>,
    /// Every duty.
    pub duties: Vec<Duty>,
}

/// One agency has to report one dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duty {
    /// Who.
    pub agency: AgencyId,
    /// What.
    pub dataset: DatasetId,
    /// How often.
    pub every: Every,
    /// The period of this day is the first.
    pub since: Date,
    /// The period of this day is the last, if there is one.
    pub until: Option<Date>,
}

impl Duty {
    /// The periods that end in `first..=last`.
    pub fn periods(&self, first: Date, last: Date) -> impl Iterator<Item = Period> {
        let begin = Period::holding(self.every, self.since).first();
        let end = self.until.map_or(Date::MAX, |until| Period::holding(self.every, until).last());
        xinqiao_core::period::ending_within(self.every, first.max(begin), last.min(end))
    }
}

/// Reads the agencies and their duties alone, whatever else is in the file.
pub(super) fn read(folder: &Path, catalogue: &Catalogue) -> Result<Duties, Box<ConfigError>> {
    let mut check = Check::new(folder);
    let mut all = Duties::default();
    if let Some(file) = check.read::<file::FeedsFile>(FEEDS) {
        for (name, agency) in file.agencies.0 {
            let Ok(id) = AgencyId::new(&name.value) else { continue };
            all.duties.extend(check.duties(&id, agency.duties, catalogue));
            all.agencies.push((id, agency.name));
        }
    }
    check.end(all)
}

impl Check<'_> {
    /// Checks the duties of one agency.
    pub(super) fn duties(
        &mut self,
        agency: &AgencyId,
        duties: Option<Entries<file::DutyFile>>,
        catalogue: &Catalogue,
    ) -> Vec<Duty> {
        let mut all = Vec::new();
        for (name, duty) in duties.map(|duties| duties.0).unwrap_or_default() {
            let dataset = catalogue.ids().find(|id| id.as_str() == name.value).cloned();
            if dataset.is_none() {
                let known: Vec<_> = catalogue.ids().map(DatasetId::as_str).collect();
                let message = format!("没有这个数据集,可用的有:{}", known.join("、"));
                self.error(FEEDS, name.span, "config.duty-dataset", message);
            }
            let every = match duty.every.value.as_str() {
                "week" => Some(Every::Week),
                "month" => Some(Every::Month),
                _ => {
                    let message = "报送周期应为 week 或 month".to_owned();
                    self.error(FEEDS, duty.every.span, "config.duty-every", message);
                    None
                }
            };
            let until_at = duty.until.as_ref().map(|until| until.span.clone());
            let since = self.day(duty.since);
            let until = duty.until.map(|until| self.day(until));
            let (Some(dataset), Some(every), Some(since)) = (dataset, every, since) else {
                continue;
            };
            let until = match until {
                Some(None) => continue,
                until => until.flatten(),
            };
            if until.is_some_and(|until| until < since) {
                let message = "until 不能早于 since".to_owned();
                self.error(FEEDS, until_at.unwrap_or_default(), "config.duty-until", message);
            }
            all.push(Duty { agency: agency.clone(), dataset, every, since, until });
        }
        all
    }

    fn day(&mut self, given: At<String>) -> Option<Date> {
        let form = time::macros::format_description!("[year]-[month]-[day]");
        let day = Date::parse(&given.value, form).ok();
        if day.is_none() {
            let message = "日期应写成 2026-10-01 的样子,并且是历法上有的日子".to_owned();
            self.error(FEEDS, given.span, "config.duty-day", message);
        }
        day
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::date;

    #[test]
    fn a_duty_has_the_periods_that_end_within_a_span_and_its_own_days() {
        let duty = Duty {
            agency: AgencyId::new("scjg").unwrap(),
            dataset: DatasetId::new("admin-penalty").unwrap(),
            every: Every::Week,
            since: date!(2026 - 10 - 14),
            until: Some(date!(2026 - 10 - 26)),
        };
        let periods = |first, last| {
            duty.periods(first, last).map(|period| period.to_string()).collect::<Vec<_>>()
        };
        let october = (date!(2026 - 10 - 01), date!(2026 - 10 - 31));
        assert_eq!(periods(october.0, october.1), ["2026-W42", "2026-W43"]);
        assert_eq!(periods(date!(2026 - 11 - 01), date!(2026 - 11 - 30)), ["2026-W44"]);
        assert!(periods(date!(2026 - 12 - 01), date!(2026 - 12 - 31)).is_empty());
    }
    #[test]
    fn every_wrong_duty_is_told_and_right_ones_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let catalogue = Catalogue::load(&crate::domain::bundle(None).unwrap()).unwrap();
        let read = |duties: &str| {
            let text = format!(
                "config: 1\nagencies:\n  jia:\n    name: 甲局\n    duties:\n{duties}feeds: {{}}\n"
            );
            std::fs::write(folder.path().join("feeds.yaml"), text).unwrap();
            super::read(folder.path(), &catalogue)
        };
        let wrong = "      admin-penalties: { every: week, since: 2026-10-01 }\n      \
             admin-penalty: { every: day, since: 2026-02-30 }\n      \
             admin-licence: { every: week, since: 2026-10-02, until: 2026-10-01 }\n";
        let error = read(wrong).unwrap_err();
        let codes: Vec<_> = error.found.0.iter().map(|found| (found.code, found.line)).collect();
        assert_eq!(
            codes,
            [
                ("config.duty-dataset", 6),
                ("config.duty-every", 7),
                ("config.duty-day", 7),
                ("config.duty-until", 8)
            ]
        );
        let all = read("      admin-penalty: { every: month, since: 2026-10-01 }\n").unwrap();
        assert_eq!((all.agencies.len(), all.duties.len()), (1, 1));
        assert_eq!((all.duties[0].every, all.duties[0].until), (Every::Month, None));
    }
}
