use std::cell::RefCell;
use std::collections::BTreeMap;

use time::macros::date;

use super::*;
use crate::catalogue::tests::{catalogue, draft, put, sample};
use crate::catalogue::{CheckContext, check, convert};
use crate::model::Verdict;

const TODAY: CheckContext = CheckContext { today: date!(2026 - 03 - 10) };
const USCC: &str = "91411702999999904X";
const SOLE_CODE: &str = "92411721999999904B";
const ORG_CODE: &str = "999999904";
const REG_NO: &str = "411702000001236";

/// Code → whose; two make it ambiguous. Remembers the day it was asked for.
#[derive(Default)]
struct Table(BTreeMap<String, Vec<&'static str>>, RefCell<Option<Date>>);

impl UsccMap for Table {
    fn look_up(&self, code: &LegacyCode, on: Date) -> Resolution {
        *self.1.borrow_mut() = Some(on);
        let key = format!("{}:{}", code.kind().name(), code.as_str());
        match self.0.get(&key).map(Vec::as_slice) {
            None | Some([]) => Resolution::None,
            Some([one]) => {
                Resolution::One { uscc: (*one).to_owned(), source: "测试登记机关".to_owned() }
            }
            Some(_) => Resolution::Many,
        }
    }
}

fn table(lines: &[(LegacyKind, &str, &'static str)]) -> Table {
    let mut table = Table::default();
    for (kind, code, uscc) in lines {
        let whose = table.0.entry(format!("{}:{code}", kind.name())).or_default();
        whose.push(uscc);
    }
    table
}

/// How a row ends: held or not, its verdict, rules found, and the code it goes on with.
fn run(mut draft: Draft, map: &Table) -> (bool, Verdict, Vec<String>, Option<String>) {
    let mut findings = Vec::new();
    let resolved = resolve(&mut draft, map, &mut findings);
    let catalogue = catalogue();
    let to = catalogue.by_reference(&format!("{}/2021", draft.dataset.id)).unwrap();
    let mut new = convert(draft, to, &TODAY, &mut findings);
    check(&mut new, &TODAY, &mut findings);
    let held = match resolved {
        Resolved::Wanted(wanted) => wanted.hold(&new, &mut findings),
        Resolved::NotNeeded | Resolved::Filled => false,
    };
    for finding in &findings {
        for code in [ORG_CODE, REG_NO, USCC, SOLE_CODE] {
            assert!(!finding.message.contains(code) && !finding.fix.contains(code), "{finding:?}");
        }
    }
    let rules = findings.iter().map(|finding| finding.rule.to_string()).collect();
    let code = new.text(Role::SubjectUscc).map(str::to_owned);
    (held, Verdict::of(&findings), rules, code)
}

fn with(fields: &[(&str, &str)]) -> Draft {
    let mut draft = sample("admin-penalty/2021");
    fields.iter().for_each(|(code, text)| put(&mut draft, code, text));
    draft
}

const ORG: (LegacyKind, &str, &str) = (LegacyKind::OrgCode, ORG_CODE, USCC);
const REG: (LegacyKind, &str, &str) = (LegacyKind::RegNo, REG_NO, USCC);

#[test]
fn a_code_the_table_knows_is_filled_in() {
    for (what, fields, lines) in [
        ("an organisation code", &[("CF_XDR_SHXYM", ""), ("CF_XDR_ZZJG", "99999990-4")][..], ORG),
        ("a placeholder", &[("CF_XDR_SHXYM", "无"), ("CF_XDR_GSZC", REG_NO)], REG),
        ("the sentinel, misused", &[("CF_XDR_SHXYM", SENTINEL), ("CF_XDR_GSZC", REG_NO)], REG),
        ("a number in its column", &[("CF_XDR_SHXYM", REG_NO)], REG),
        ("an organisation code there", &[("CF_XDR_SHXYM", "99999990-4")], ORG),
        (
            "13 digits there",
            &[("CF_XDR_SHXYM", "4117020000123")],
            (LegacyKind::RegNo, "4117020000123", USCC),
        ),
        (
            "a tax number's last nine",
            &[("CF_XDR_SHXYM", ""), ("CF_XDR_SWDJ", "411702999999904")],
            ORG,
        ),
        ("a tax number there", &[("CF_XDR_SHXYM", "411702999999904")], ORG),
        (
            "a certificate",
            &[("CF_XDR_SHXYM", ""), ("CF_XDR_SYDW", "141170200012")],
            (LegacyKind::InstitutionNo, "141170200012", USCC),
        ),
        (
            "a society",
            &[("CF_XDR_SHXYM", ""), ("CF_XDR_SHZZ", "驻社证字第0123号")],
            (LegacyKind::SocialNo, "驻社证字第0123号", USCC),
        ),
    ] {
        let table = table(&[lines]);
        let (held, verdict, rules, code) = run(with(fields), &table);
        assert_eq!((held, verdict), (false, Verdict::Warn), "{what}: {rules:?}");
        assert!(rules.iter().any(|rule| rule == "uscc.from-legacy"), "{what}: {rules:?}");
        assert_eq!(code.as_deref(), Some(USCC), "{what}");
        assert_eq!(*table.1.borrow(), Some(date!(2026 - 03 - 02)), "asked for the decision date");
    }
}

#[test]
fn a_code_the_table_does_not_know_holds_the_row_if_nothing_else_is_wrong() {
    let none = Table::default();
    for fields in [
        &[("CF_XDR_SHXYM", ""), ("CF_XDR_ZZJG", ORG_CODE)][..],
        &[("CF_XDR_SHXYM", REG_NO)],
        &[("CF_XDR_SHXYM", SENTINEL), ("CF_XDR_ZZJG", ORG_CODE)],
        &[("CF_XDR_LB", "个体工商户"), ("CF_XDR_SHXYM", ""), ("CF_XDR_SWDJ", "411702999999904")],
    ] {
        let (held, verdict, rules, _) = run(with(fields), &none);
        assert_eq!((held, verdict), (true, Verdict::Warn), "{fields:?}: {rules:?}");
        assert_eq!(rules, ["uscc.unresolved"], "{fields:?}");
        let mut wrong = fields.to_vec();
        wrong.push(("CF_YJ", ""));
        let (held, verdict, rules, _) = run(with(&wrong), &none);
        assert_eq!((held, verdict), (false, Verdict::Reject));
        assert!(rules.len() >= 2 && rules.contains(&"field.required".to_owned()), "{rules:?}");
    }
    // Contradictions: within the table, and between two codes of one row.
    let fields = [("CF_XDR_SHXYM", ""), ("CF_XDR_ZZJG", ORG_CODE), ("CF_XDR_GSZC", REG_NO)];
    for lines in [vec![ORG, (ORG.0, ORG.1, SOLE_CODE)], vec![ORG, (REG.0, REG.1, SOLE_CODE)]] {
        let (held, _, rules, _) = run(with(&fields), &table(&lines));
        assert_eq!((held, rules), (true, vec!["uscc.ambiguous".to_owned()]));
    }
    // One of two is enough.
    assert_eq!(run(with(&fields), &table(&[REG])).3.as_deref(), Some(USCC));
}

#[test]
fn what_is_accepted_without_a_code_still_is_and_what_has_none_is_refused() {
    let none = Table::default();
    let trader = [("CF_XDR_LB", "个体工商户"), ("CF_XDR_SHXYM", SENTINEL), ("CF_XDR_GSZC", REG_NO)];
    assert_eq!(run(with(&trader), &none).1, Verdict::Accept);
    // Known to the table, it gets its code.
    let known = table(&[(LegacyKind::RegNo, REG_NO, SOLE_CODE)]);
    assert_eq!(run(with(&trader), &known).3.as_deref(), Some(SOLE_CODE));
    for (fields, rule) in [
        (&[("CF_XDR_SHXYM", "")][..], "category.org-code"),
        (&[("CF_XDR_SHXYM", ""), ("CF_XDR_ZZJG", "无")], "category.org-code"),
        (&[("CF_XDR_SHXYM", "91411702999999904Y"), ("CF_XDR_ZZJG", ORG_CODE)], "uscc.check-digit"),
        (
            &[("CF_XDR_LB", "自然人"), ("CF_XDR_SHXYM", ""), ("CF_XDR_ZZJG", ORG_CODE)],
            "category.person-org-code",
        ),
    ] {
        let (held, verdict, rules, _) = run(with(fields), &none);
        assert_eq!((held, verdict), (false, Verdict::Reject), "{rules:?}");
        assert!(rules.contains(&rule.to_owned()), "{rules:?}");
    }
    // A code that is there is never replaced.
    let fields = [("CF_XDR_ZZJG", ORG_CODE)];
    let other = table(&[(LegacyKind::OrgCode, ORG_CODE, SOLE_CODE)]);
    assert_eq!(run(with(&fields), &other).3.as_deref(), Some(USCC));
}

#[test]
fn a_category_told_by_codes_is_told_by_the_table() {
    let mut old = draft(
        "admin-licence/2016",
        &[
            ("XK_XDR", "天中测试商贸有限公司"),
            ("XK_XDR_GSDJ", REG_NO),
            ("XK_FR", "张测试"),
            ("XK_WSH", "驿审许〔2018〕7号"),
            ("XK_XMMC", "测试经营许可"),
            ("XK_SPLB", "一般"),
            ("XK_NR", "准予从事测试经营"),
            ("XK_JDRQ", "2018-03-02"),
            ("XK_JZQ", "2099-12-31"),
            ("XK_XZJG", "驿城区测试审批局"),
            ("XK_ZT", "0"),
            ("DFBM", "411702"),
            ("SJC", "2018-03-03"),
            ("XK_XKJGDM", "114117009999999049"),
            ("XK_LYDW", "驿城区测试审批局"),
            ("XK_LYDWDM", "114117009999999049"),
        ],
    );
    let (held, _, rules, _) = run(old.clone(), &Table::default());
    assert_eq!((held, rules), (true, vec!["uscc.unresolved".to_owned()]));
    for code in [USCC, SOLE_CODE] {
        let (held, verdict, rules, got) =
            run(old.clone(), &table(&[(LegacyKind::RegNo, REG_NO, code)]));
        assert_eq!(
            (held, verdict, got.as_deref()),
            (false, Verdict::Warn, Some(code)),
            "{rules:?}"
        );
    }
    // A withdrawal without its subject's code waits: it would take down nothing.
    put(&mut old, "XK_ZT", "1");
    assert!(run(old.clone(), &Table::default()).0);
    assert_eq!(run(old, &table(&[REG])).3.as_deref(), Some(USCC));
}
