use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use time::macros::date;

use super::*;
use crate::catalogue::tests::{draft, put, sample};
use crate::catalogue::{check, convert};
use crate::model::{Slot, Verdict};

const TODAY: CheckContext = CheckContext { today: date!(2026 - 03 - 10) };

const PENALTY: &str = "admin-penalty/2021";
const LICENCE: &str = "admin-licence/2021";
/// Invented: the division 000000 is given to nobody.
const CITIZEN: &str = "000000199002281231";
const UNBORN: &str = "000000202702281237";
const SOLE_CODE: &str = "92411721999999904B";

fn findings(draft: &mut Draft) -> Vec<Finding> {
    let mut findings = Vec::new();
    check(draft, &TODAY, &mut findings);
    findings
}

fn ids(draft: &mut Draft) -> Vec<String> {
    findings(draft).into_iter().map(|f| f.rule.into_owned()).collect()
}

/// A licence to a natural person, in order.
fn person() -> Draft {
    let mut draft = sample(LICENCE);
    for (code, text) in [
        ("XK_XDR_LB", "自然人"),
        ("XK_XDR_SHXYM", ""),
        ("XK_FRDB", ""),
        ("XK_XDR_ZJLX", "身份证"),
        ("XK_XDR_ZJHM", CITIZEN),
    ] {
        put(&mut draft, code, text);
    }
    draft
}

/// A penalty on a sole trader, in order.
fn sole() -> Draft {
    let mut draft = sample(PENALTY);
    put(&mut draft, "CF_XDR_LB", "个体工商户");
    put(&mut draft, "CF_XDR_SHXYM", SOLE_CODE);
    draft
}

/// A penalty on a sole trader without a code, in order.
fn old_sole() -> Draft {
    let mut draft = sole();
    put(&mut draft, "CF_XDR_SHXYM", "00000000000000000X");
    put(&mut draft, "CF_XDR_GSZC", "411702000001236");
    draft
}

/// As much of a licence of 2016 as says where and when it was made.
fn of_2016() -> Draft {
    let mut draft = draft("admin-licence/2016", &[]);
    // Whatever else is missing has been said.
    draft.slots.iter_mut().for_each(|slot| slot.failed = true);
    for (code, text) in [("XK_JDRQ", "2026-03-02"), ("SJC", "2026-03-03"), ("DFBM", "411702")] {
        put(&mut draft, code, text);
    }
    draft
}

#[test]
fn minors_are_not_reported() {
    for (born, minor) in [("20080302", false), ("20080303", true), ("20100101", true)] {
        let body = format!("000000{born}123");
        let number = (0..=10).map(|n| format!("{body}{}", "0123456789X".get(n..=n).unwrap()));
        let number =
            number.into_iter().find(|n| crate::ident::CitizenId::parse(n).is_ok()).unwrap();
        let mut draft = person();
        put(&mut draft, "XK_XDR_ZJHM", &number);
        let wanted: &[&str] = if minor { &["scope.minor"] } else { &[] };
        assert_eq!(ids(&mut draft), wanted, "{born}");
    }
}

#[test]
fn records_in_order_raise_nothing() {
    for mut draft in [sample(PENALTY), sample(LICENCE), sample("uscc-map/1"), person(), sole()] {
        assert_eq!(findings(&mut draft), []);
    }
    let mut draft = sole();
    put(&mut draft, "CF_XDR_SHXYM", "00000000000000000X");
    put(&mut draft, "CF_XDR_GSZC", "411702000001236");
    assert_eq!(findings(&mut draft), []);
}

/// Rule, record in order, what breaks it. Each record passes before and breaks the rule after.
type Case = (&'static str, fn() -> Draft, &'static [(&'static str, &'static str)]);

const CASES: &[Case] = &[
    ("uscc-map.code", || sample("uscc-map/1"), &[("JDM", "99999990-5")]),
    ("uscc-map.code", || sample("uscc-map/1"), &[("LX", "税务登记号"), ("JDM", CITIZEN)]),
    ("uscc-map.org-code", || sample("uscc-map/1"), &[("JDM", "M000100Y-4")]),
    ("uscc-map.period", || sample("uscc-map/1"), &[("SXRQ2", "2015-09-30")]),
    ("uscc.check-digit", || sample("uscc-map/1"), &[("TYDM", "91411702999999904Y")]),
    ("text.damaged", || sample(PENALTY), &[("CF_SY", "占用\u{FFFD}路")]),
    ("text.private-use", || sample(PENALTY), &[("CF_XDR_MC", "天中\u{E5E5}公司")]),
    ("text.control", || sample(PENALTY), &[("CF_SY", "占用\u{7}道路")]),
    ("legal-rep.id", || sample(PENALTY), &[("CF_FR_ZJHM", CITIZEN)]),
    ("field.code-set", || sample(PENALTY), &[("CF_CFLB", "警告;训诫")]),
    ("field.code-set", || sample(LICENCE), &[("XK_ZT", "0")]),
    ("field.code-other", || sample(LICENCE), &[("XK_XKLB", "其他")]),
    ("field.code-other", || sample(PENALTY), &[("CF_CFLB", "其他")]),
    ("status.invalid", || sample(LICENCE), &[("XK_ZT", "2")]),
    (
        "document.number-from-licence",
        || sample(LICENCE),
        &[("XK_WSH", "空"), ("XK_XKBH", "许2026-0077")],
    ),
    ("document.number-placeholder", || sample(PENALTY), &[("CF_WSH", "空")]),
    ("document.number-placeholder", || sample(LICENCE), &[("XK_WSH", "/")]),
    ("document.number-short", || sample(PENALTY), &[("CF_WSH", "3")]),
    ("field.required", || sample(PENALTY), &[("CF_YJ", "")]),
    ("field.required", || sample(PENALTY), &[("CF_YJ", "无")]),
    ("uscc.form", || sample(PENALTY), &[("CF_XDR_SHXYM", "9141170299999990")]),
    ("uscc.form", || sample(PENALTY), &[("CF_XDR_SHXYM", "9141170299999990IX")]),
    ("uscc.check-digit", || sample(PENALTY), &[("CF_XDR_SHXYM", "914117029999999040")]),
    ("uscc.inner-check-digit", || sample(PENALTY), &[("CF_XDR_SHXYM", "914117029999999051")]),
    ("uscc.unlisted-kind", || sample(PENALTY), &[("CF_XDR_SHXYM", "95411702999999904H")]),
    ("uscc.lower-case", || sample(PENALTY), &[("CF_XDR_SHXYM", "91411702999999904x")]),
    ("uscc.lower-case", || sample(PENALTY), &[("CF_CFJGDM", "19411700999999904g")]),
    ("uscc.legacy-code", || sample(PENALTY), &[("CF_XDR_SHXYM", "411702000001236")]),
    ("uscc.legacy-code", || sample(PENALTY), &[("CF_XDR_SHXYM", "4117020000012")]),
    ("uscc.legacy-code", || sample(PENALTY), &[("CF_XDR_SHXYM", "99999990-4")]),
    ("uscc.citizen-id", || sample(PENALTY), &[("CF_XDR_SHXYM", CITIZEN)]),
    // Passes for a code: of 31 citizen numbers one does.
    ("uscc.citizen-id", || sample(PENALTY), &[("CF_XDR_SHXYM", "411702199001010788")]),
    ("uscc.citizen-id", || sample(PENALTY), &[("CF_XDR_SHXYM", "11010119900101012X")]),
    ("uscc.sentinel", || sample(PENALTY), &[("CF_XDR_SHXYM", "00000000000000000X")]),
    ("uscc.sentinel", sole, &[("CF_XDR_SHXYM", "00000000000000000X")]),
    ("reg-no.form", || sample(PENALTY), &[("CF_XDR_GSZC", "4117020000012")]),
    ("reg-no.check-digit", || sample(PENALTY), &[("CF_XDR_GSZC", "411702000001237")]),
    ("org-code.form", || sample(PENALTY), &[("CF_XDR_ZZJG", "999999905")]),
    ("category.org-code", || sample(PENALTY), &[("CF_XDR_SHXYM", "")]),
    ("category.org-code", || sample(PENALTY), &[("CF_XDR_SHXYM", "无")]),
    ("category.org-personal-id", || sample(PENALTY), &[("CF_XDR_ZJHM", CITIZEN)]),
    ("category.person-id", person, &[("XK_XDR_ZJHM", "")]),
    ("category.person-id", person, &[("XK_XDR_ZJLX", "")]),
    ("category.person-id", sole, &[("CF_XDR_ZJLX", "身份证")]),
    ("category.person-org-code", person, &[("XK_XDR_SHXYM", "91411702999999904X")]),
    ("category.person-org-code", person, &[("XK_XDR_SHZZ", "社证字第1号")]),
    ("category.sole-trader", sole, &[("CF_XDR_SHXYM", "")]),
    ("category.prefix", || sample(PENALTY), &[("CF_XDR_SHXYM", SOLE_CODE)]),
    ("category.prefix", sole, &[("CF_XDR_SHXYM", "91411702999999904X")]),
    ("person.citizen-id", person, &[("XK_XDR_ZJHM", "000000199002281232")]),
    ("person.birth-date", person, &[("XK_XDR_ZJHM", UNBORN)]),
    ("person.number-in-public-field", || sample(PENALTY), &[("CF_WSH", "411702199001010788")]),
    (
        "person.number-in-public-field",
        || sample(PENALTY),
        &[("CF_SY", "张某(110105 19491231 002x)占用道路")],
    ),
    ("person.number-in-public-field", || sample(PENALTY), &[("CF_CFJGDM", "411702199001010788")]),
    ("legal-rep.missing", || sample(PENALTY), &[("CF_FRDB", "")]),
    ("agency.code", || sample(PENALTY), &[("CF_CFJGDM", "114117009999999040")]),
    ("agency.code", || sample(LICENCE), &[("XK_LYDWDM", "11411700")]),
    ("agency.department", || sample(PENALTY), &[("CF_SJLYDM", "514117009999999045")]),
    ("date.decision-future", || sample(PENALTY), &[("CF_JDRQ", "2026-03-11")]),
    ("date.valid-order", || sample(LICENCE), &[("XK_YXQZI", "2026-03-01")]),
    ("date.valid-before-decision", || sample(LICENCE), &[("XK_YXQZ", "2026-03-01")]),
    ("date.valid-to", || sample(PENALTY), &[("CF_YXQ", "2026-03-01")]),
    ("date.publicity-end", || sample(PENALTY), &[("CF_GSJZQ", "2026-03-01")]),
    ("amount.fine-missing", || sample(PENALTY), &[("CF_NR_FK", "")]),
    ("amount.fine-missing", || sample(PENALTY), &[("CF_NR_FK", "0")]),
    ("amount.fine-unexpected", || sample(PENALTY), &[("CF_CFLB", "警告")]),
    ("amount.fine-differs", || sample(PENALTY), &[("CF_NR_FK", "2000")]),
    (
        "amount.confiscated",
        || sample(PENALTY),
        &[("CF_CFLB", "罚款;没收违法所得"), ("CF_NR_WFFF", "")],
    ),
    ("date.end-past", || sample(LICENCE), &[("XK_YXQZI", "2026-03-05")]),
    ("date.end-past", || sample(PENALTY), &[("CF_GSJZQ", "2026-03-05")]),
    ("date.updated-before-decision", of_2016, &[("SJC", "2026-03-01")]),
    ("date.updated-future", of_2016, &[("SJC", "2026-03-11")]),
    ("division.form", of_2016, &[("DFBM", "41170")]),
    ("field.code-repeated", || sample(PENALTY), &[("CF_CFLB", "罚款;罚款")]),
    ("text.not-nfc", || sample(PENALTY), &[("CF_SY", "Cafe\u{301}占道")]),
    ("text.special", || sample(PENALTY), &[("CF_XDR_MC", "天中?商贸有限公司")]),
    ("tax-no.form", || sample(PENALTY), &[("CF_XDR_SWDJ", "4117029999")]),
    ("institution-no.form", || sample(PENALTY), &[("CF_XDR_SYDW", "1411700")]),
    ("uscc.lower-case", old_sole, &[("CF_XDR_SHXYM", "00000000000000000x")]),
    (
        "penalty.revoked-certificate",
        || sample(PENALTY),
        &[("CF_CFLB", "罚款;暂扣或者吊销许可证、暂扣或者吊销执照")],
    ),
];

#[test]
fn each_rule_holds_on_a_record_in_order_and_breaks_on_a_bad_one() {
    for (id, base, edits) in CASES {
        let mut good = base();
        assert!(!ids(&mut good).iter().any(|found| found == id), "{id} on a record in order");
        let mut bad = base();
        edits.iter().for_each(|(code, text)| put(&mut bad, code, text));
        let found = findings(&mut bad);
        let hit = found.iter().find(|f| f.rule == *id);
        let hit = hit.unwrap_or_else(|| panic!("{id} on {edits:?}: {found:?}"));
        assert_eq!(hit.severity, find(id).unwrap().severity);
        // It points at its field, and at the column where the field has a value.
        let code = hit.field.as_ref().unwrap_or_else(|| panic!("{id} names no field"));
        let ix = bad.dataset.find(code).unwrap();
        assert_eq!(hit.column, bad.slot(ix).unwrap().column, "{id}");
        // One mistake, one error.
        let errors: Vec<_> = found.iter().filter(|f| f.severity == Severity::Error).collect();
        assert!(errors.len() <= 1, "{id}: {errors:?}");
    }
    let mut long = sample(PENALTY);
    put(&mut long, "CF_XDR_MC", &"字".repeat(200));
    assert_eq!(ids(&mut long), [""; 0]);
    put(&mut long, "CF_XDR_MC", &"字".repeat(201));
    assert_eq!(ids(&mut long), ["field.too-long"]);
}

#[test]
fn the_registry_is_whole() {
    let unique: BTreeSet<_> = RULES.iter().map(|rule| rule.id).collect();
    assert_eq!(unique.len(), RULES.len(), "ids are unique");
    let tested: BTreeSet<_> = CASES.iter().map(|case| case.0).chain(["field.too-long"]).collect();
    // Raised by other parts, and tested there or in the conversion's tests.
    let elsewhere = [
        "value.",
        "row.",
        "mapping.",
        "scope.",
        "status.unclear",
        "convert.",
        "target.",
        "uscc.from-legacy",
        "uscc.unresolved",
        "uscc.ambiguous",
    ];
    for rule in RULES {
        for text in [rule.title, rule.fix, rule.basis] {
            assert!(text.chars().any(|c| c >= '\u{4E00}'), "{}: {text}", rule.id);
            assert!(!text.ends_with('。'), "{}: {text}", rule.id);
        }
        let raised = elsewhere.iter().any(|prefix| rule.id.starts_with(prefix));
        assert!(tested.contains(rule.id) != raised, "{} in a test, and only once", rule.id);
        assert!(!raised || rule.check.is_none(), "{}", rule.id);
    }
    for id in ON_WITHDRAWAL {
        assert!(find(id).unwrap().check.is_some(), "{id}");
    }
}

#[test]
fn values_are_normalised() {
    let mut draft = sample(PENALTY);
    put(&mut draft, "CF_XDR_LB", "02");
    put(&mut draft, "CF_CFLB", "警告\u{FF1B}罚款;其他\u{FF1A}责令改正");
    put(&mut draft, "CF_XDR_ZZJG", "99999990-4");
    put(&mut draft, "CF_XDR_SHXYM", "91411702999999904x");
    assert_eq!(ids(&mut draft), ["uscc.lower-case"]);
    assert_eq!(draft.text(Role::SubjectCategory), Some("法人及非法人组织"));
    assert_eq!(draft.text(Role::PenaltyCategory), Some("警告;罚款;其他-责令改正"));
    assert_eq!(draft.text(Role::SubjectOrgCode), Some("999999904"));
    assert_eq!(draft.text(Role::SubjectUscc), Some("91411702999999904X"));
    let mut draft = person();
    put(&mut draft, "XK_XDR_ZJLX", "01");
    put(&mut draft, "XK_XDR_ZJHM", "00000019900228124x");
    assert_eq!(ids(&mut draft), [""; 0]);
    assert_eq!(draft.text(Role::PersonIdNo), Some("00000019900228124X"));
}

#[test]
fn a_legal_representatives_number_is_dropped() {
    let mut draft = sample(LICENCE);
    put(&mut draft, "XK_FR_ZJLX", "身份证");
    put(&mut draft, "XK_FR_ZJHM", CITIZEN);
    let found = findings(&mut draft);
    assert_eq!(Verdict::of(&found), Verdict::Warn);
    assert_eq!(draft.value(Role::LegalRepIdNo), None);
    assert_eq!(draft.value(Role::LegalRepIdType), None);
}

#[test]
fn the_licence_number_stands_in_for_the_document_number() {
    let mut draft = sample(LICENCE);
    put(&mut draft, "XK_WSH", "");
    put(&mut draft, "XK_XKBH", "许2026-0077");
    assert_eq!(ids(&mut draft), ["document.number-from-licence"]);
    assert_eq!(draft.text(Role::DocNumber), Some("许2026-0077"));
    assert!(draft.slot(draft.dataset.role(Role::DocNumber).unwrap()).unwrap().derived);
}

#[test]
fn no_public_field_takes_a_citizen_number() {
    for reference in [PENALTY, LICENCE] {
        let dataset = Arc::clone(&sample(reference).dataset);
        let mut refused = 0;
        for (at, field) in dataset.fields.iter().enumerate() {
            if !matches!(field.kind, crate::catalogue::FieldKind::Text { .. }) {
                continue;
            }
            let mut draft = sample(reference);
            draft.slots[at].value = Some(Value::Text("１１０１０５-19491231-002X".to_owned()));
            let found = findings(&mut draft);
            let public = field.sensitivity == crate::catalogue::Sensitivity::Public;
            refused += usize::from(public);
            let on_field = |f: &&Finding| f.field.as_ref() == Some(&field.code);
            let error = found.iter().filter(on_field).any(|f| f.severity == Severity::Error);
            assert!(error || !public, "{}: {found:?}", field.code);
            let ours = found.iter().any(|f| f.rule == "person.number-in-public-field");
            assert!(public || !ours, "{} may hold it: {found:?}", field.code);
        }
        assert!(refused > 10, "{reference}: {refused}");
    }
    let mut takedown = sample(PENALTY);
    takedown.operation = Operation::Withdraw;
    put(&mut takedown, "CF_SY", "张某11010519491231002X占用道路");
    assert_eq!(ids(&mut takedown), [""; 0]);
}

#[test]
fn a_slot_that_failed_is_not_missing_as_well() {
    let mut draft = sample(PENALTY);
    for code in ["CF_JDRQ", "CF_XDR_SHXYM", "CF_NR_FK", "CF_WSH"] {
        let ix = draft.dataset.find(code).unwrap();
        draft.slots[usize::from(ix.0)] = Slot { failed: true, ..Slot::default() };
    }
    assert_eq!(ids(&mut draft), [""; 0]);
}

#[test]
fn a_withdrawal_needs_only_its_key() {
    let mut draft = sample(LICENCE);
    draft.operation = Operation::Withdraw;
    for code in ["XK_NR", "XK_YXQZ", "XK_YXQZI", "XK_XKLB", "XK_LYDW", "XK_LYDWDM"] {
        put(&mut draft, code, "");
    }
    assert_eq!(ids(&mut draft), [""; 0]);
    put(&mut draft, "XK_JDRQ", "");
    assert_eq!(ids(&mut draft), ["field.required"]);
    let mut draft = sample(LICENCE);
    put(&mut draft, "XK_ZT", "无效");
    assert_eq!(ids(&mut draft), ["status.invalid"]);
    assert_eq!(draft.operation, Operation::Withdraw);
}

#[test]
fn every_error_of_a_row_is_told_at_once() {
    let mut empty = draft(PENALTY, &[]);
    let found = findings(&mut empty);
    let required = empty
        .dataset
        .fields
        .iter()
        .filter(|f| f.requirement == crate::catalogue::Requirement::Required);
    assert_eq!(found.len(), required.count());
}

#[test]
fn a_fine_is_read_from_text_only_if_it_can_be_read_in_one_way() {
    for (text, wan) in [
        ("罚款2000元", Some(200_000)),
        ("警告,并处罚款人民币2,000.50元整", Some(200_050)),
        ("罚款1.5万元。", Some(1_500_000)),
        ("罚款2000元,没收违法所得500元", None),
        ("没收违法所得500元,罚款2000元", Some(200_000)),
        ("罚款2000元至5000元", None),
        ("罚款2000元以上", None),
        ("每日罚款100元", None),
        ("处货值三倍罚款", None),
        ("对甲罚款2000元,对乙罚款叁仟元", None),
        ("罚款贰仟元", None),
        ("罚款2000", None),
        ("罚款2,0元", None),
        ("罚款0元", None),
        ("警告", None),
        ("", None),
    ] {
        assert_eq!(fine_in_text(text).map(|amount| amount.0), wan, "{text}");
    }
}

proptest! {
    /// Wherever a person's number stands, in whatever generation, no finding repeats it.
    #[test]
    fn no_finding_repeats_a_personal_number(
        dataset in prop::sample::select(vec!["admin-licence", "admin-penalty"]),
        generation in prop::sample::select(vec![2016u16, 2018, 2021]),
        number in prop::sample::select(vec![CITIZEN, UNBORN, "000000900228123", "00000019900228124x", "000000199002281232"]),
        places in prop::collection::vec((0usize..60, "[ ;、/a无]{0,2}", "[ ;万元罚款]{0,3}"), 1..12),
        category in prop::sample::select(vec!["自然人", "法人及非法人组织", "个体工商户", "其他"]),
    ) {
        let mut draft = draft(&format!("{dataset}/{generation}"), &[]);
        if let Some(ix) = draft.dataset.role(Role::SubjectCategory) {
            draft.slots[usize::from(ix.0)].value = Some(Value::Text(category.to_owned()));
        }
        for (at, before, after) in places {
            let at = at % draft.slots.len();
            let text = format!("{before}{number}{after}");
            draft.slots[at] =
                Slot { value: Some(Value::Text(text)), column: Some(1), ..Slot::default() };
        }
        let mut found = findings(&mut draft.clone());
        let to = crate::catalogue::tests::catalogue();
        let to = to.by_reference(&format!("{dataset}/2021")).unwrap();
        let mut converted = convert(draft, to, &TODAY, &mut found);
        found.extend(findings(&mut converted));
        for finding in found {
            prop_assert!(!finding.message.contains(number), "{finding:?}");
            prop_assert!(!finding.fix.contains(number), "{finding:?}");
        }
    }
}
