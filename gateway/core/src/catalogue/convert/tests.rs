use super::*;
use crate::catalogue::tests::{catalogue, draft, put};
use crate::catalogue::{CheckContext, check, record_key};
use crate::model::{Severity, Subject};
use crate::value::Amount;
use time::macros::date;

const TODAY: CheckContext = CheckContext { today: date!(2026 - 03 - 10) };
const CITIZEN: &str = "000000199002281231";

fn to_2021(old: Draft) -> (Draft, Vec<String>) {
    let catalogue = catalogue();
    let to = catalogue.by_reference(&format!("{}/2021", old.dataset.id)).unwrap();
    let mut findings = Vec::new();
    let new = convert(old, to, &TODAY, &mut findings);
    (new, findings.into_iter().map(|finding| finding.rule.into_owned()).collect())
}

/// Converts and checks; the ids of every error.
fn errors(old: Draft) -> Vec<String> {
    let catalogue = catalogue();
    let to = catalogue.by_reference(&format!("{}/2021", old.dataset.id)).unwrap();
    let mut findings = Vec::new();
    let mut new = convert(old, to, &TODAY, &mut findings);
    check(&mut new, &TODAY, &mut findings);
    findings.retain(|finding| finding.severity == Severity::Error);
    findings.into_iter().map(|finding| finding.rule.into_owned()).collect()
}

fn licence() -> Draft {
    draft(
        "admin-licence/2016",
        &[
            ("XK_XDR", "天中测试商贸有限公司"),
            ("XK_XDR_SHXYM", "91411702999999904X"),
            ("XK_XDR_SFZ", CITIZEN),
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
    )
}

fn penalty() -> Draft {
    draft(
        "admin-penalty/2016",
        &[
            ("CF_XDR_MC", "李测试"),
            ("CF_XDR_SFZ", CITIZEN),
            ("CF_WSH", "驿城管罚〔2018〕12号"),
            ("CF_CFMC", "擅自占用城市道路案"),
            ("CF_CFLB1", "警告"),
            ("CF_CFLB2", "罚款"),
            ("CF_SY", "占用测试路堆放物料"),
            ("CF_YJ", "城市道路管理条例第四十二条"),
            ("CF_JG", "警告,罚款2000元"),
            ("CF_JDRQ", "2018-03-02"),
            ("CF_XZJG", "驿城区测试城管局"),
            ("CF_YXQ", "2099-12-31"),
            ("CF_CFJGDM", "114117009999999049"),
            ("CF_SJLY", "驿城区测试城管局"),
            ("CF_SJLYDM", "114117009999999049"),
        ],
    )
}

#[test]
fn a_licence_of_2016_becomes_one_of_2021() {
    let (new, rules) = to_2021(licence());
    assert_eq!(rules, ["legal-rep.id"]);
    assert_eq!(new.text(Role::SubjectCategory), Some(ORG));
    assert_eq!(new.text(Role::Status), Some("1"));
    assert_eq!(new.text(Role::DocTitle), Some("测试经营许可"));
    assert_eq!(new.text(Role::AgencyName), Some("驿城区测试审批局"));
    assert_eq!(new.date(Role::ValidFrom), Some(date!(2018 - 03 - 02)));
    assert_eq!(new.date(Role::ValidTo), Some(crate::value::LONG_TERM));
    let slot = |role| new.slot(new.dataset.role(role).unwrap()).unwrap();
    assert!(slot(Role::ValidFrom).derived && slot(Role::SubjectCategory).derived);
    let source = licence().dataset.find("XK_XMMC").map(|ix| ix.0);
    assert_eq!(slot(Role::DocTitle).column, source, "columns carry over");
    assert!(new.slots.iter().all(|slot| slot.value != Some(Value::Text(CITIZEN.into()))));
    assert_eq!(errors(licence()), [""; 0]);
}

#[test]
fn a_penalty_of_2016_on_a_person_becomes_one_of_2021() {
    let (new, rules) = to_2021(penalty());
    assert_eq!(rules, ["convert.violation-type", "convert.amount-derived"]);
    assert_eq!(new.text(Role::SubjectCategory), Some(PERSON));
    assert_eq!(new.text(Role::PersonIdType), Some("身份证"));
    assert_eq!(new.text(Role::PersonIdNo), Some(CITIZEN));
    assert_eq!(new.text(Role::PenaltyCategory), Some("警告;罚款"));
    assert_eq!(new.amount(Role::FineAmount), Some(Amount(200_000)));
    assert!(new.slot(new.dataset.role(Role::FineAmount).unwrap()).unwrap().derived);
    assert!(matches!(record_key(&new).unwrap().subject, Subject::Person(_)));
    assert_eq!(errors(penalty()), [""; 0]);
}

#[test]
fn the_digit_of_the_status_is_never_copied() {
    for (written, status, operation, rules) in [
        ("", Some("1"), Operation::Upsert, vec![]),
        ("0", Some("1"), Operation::Upsert, vec![]),
        ("正常", Some("1"), Operation::Upsert, vec![]),
        ("1", Some("2"), Operation::Withdraw, vec![]),
        ("撤销", Some("2"), Operation::Withdraw, vec![]),
        ("2", Some("1"), Operation::Upsert, vec!["convert.status-disputed"]),
        ("3", None, Operation::Upsert, vec!["convert.status-unknown"]),
        ("7", None, Operation::Upsert, vec!["convert.status-unknown"]),
    ] {
        let mut old = licence();
        put(&mut old, "XK_XDR_SFZ", "");
        put(&mut old, "XK_ZT", written);
        let (new, found) = to_2021(old);
        assert_eq!((new.text(Role::Status), new.operation), (status, operation), "{written}");
        assert_eq!(found, rules, "{written}");
    }
    // A penalty of 2021 has no status; a revoked one must still be taken down.
    let mut old = penalty();
    put(&mut old, "CF_ZT", "1");
    assert_eq!(to_2021(old).0.operation, Operation::Withdraw);
}

#[test]
fn the_category_comes_from_codes_and_from_nothing_else() {
    for (codes, category) in [
        (&[("CF_XDR_SHXYM", "92411721999999904B")][..], Some(SOLE)),
        (&[("CF_XDR_SHXYM", "00000000000000000X"), ("CF_XDR_GSDJ", "411702000001236")], Some(SOLE)),
        (&[("CF_XDR_SHXYM", "514117009999999045")], Some(ORG)),
        (&[("CF_XDR_ZDM", "999999904"), ("CF_XDR_SFZ", CITIZEN)], Some(ORG)),
        (&[("CF_XDR_SHXYM", "无"), ("CF_XDR_SFZ", CITIZEN)], Some(PERSON)),
        (&[("CF_XDR_SFZ", "空")], None),
        // Sole traders have these numbers as well: no guess.
        (&[("CF_XDR_GSDJ", "411702000001236")], None),
        (&[("CF_XDR_SWDJ", "411702000001236")], None),
        (&[("CF_XDR_GSDJ", "411702000001236"), ("CF_XDR_SFZ", CITIZEN)], None),
        (&[("CF_XDR_GSDJ", "411702000001236"), ("CF_XDR_LB", "个体户")], Some(SOLE)),
        (&[("CF_XDR_SWDJ", "411702000001236"), ("CF_XDR_LB", "法人")], Some(ORG)),
        (&[], None),
    ] {
        let mut old = penalty();
        put(&mut old, "CF_XDR_SFZ", "");
        codes.iter().for_each(|(code, text)| put(&mut old, code, text));
        let (new, rules) = to_2021(old);
        assert_eq!(new.text(Role::SubjectCategory), category, "{codes:?}");
        let unknown = rules.iter().any(|rule| rule == "convert.category-unknown");
        assert_eq!(unknown, category.is_none(), "{codes:?}");
    }
}

#[test]
fn a_sole_trader_with_only_a_registration_number_gets_the_placeholder_code() {
    let mut old = penalty();
    for (code, text) in [
        ("CF_XDR_SFZ", ""),
        ("CF_XDR_LB", "个体工商户"),
        ("CF_XDR_GSDJ", "411702000001236"),
        ("CF_FR", "张测试"),
    ] {
        put(&mut old, code, text);
    }
    let (new, _) = to_2021(old.clone());
    assert_eq!(new.text(Role::SubjectUscc), Some(SENTINEL));
    assert_eq!(record_key(&new).unwrap().subject, Subject::Code("GS:411702000001236".into()));
    assert_eq!(errors(old.clone()), [""; 0]);
    // Not said to be one: the clerk is told what to fill in, and in which column.
    put(&mut old, "CF_XDR_LB", "");
    let column = old.dataset.find("CF_XDR_SHXYM").map(|ix| ix.0);
    old.slots[usize::from(column.unwrap())].column = column;
    assert_eq!(errors(old.clone()), ["convert.category-unknown"]);
    let mut findings = Vec::new();
    let catalogue = catalogue();
    let to = catalogue.by_reference("admin-penalty/2021").unwrap();
    convert(old, to, &TODAY, &mut findings);
    let told = findings.iter().find(|f| f.rule == "convert.category-unknown").unwrap();
    assert_eq!(told.column, column);
    assert!(told.message.contains("工商注册号") && told.fix.contains(SENTINEL), "{told:?}");
}

#[test]
fn what_is_dropped_on_the_way_is_looked_at_first() {
    let dated = |code: &str, text: &str| {
        let mut old = licence();
        put(&mut old, "XK_XDR_SFZ", "");
        put(&mut old, code, text);
        to_2021(old).1
    };
    assert_eq!(dated("SJC", "2018-03-01"), ["date.updated-before-decision"]);
    assert_eq!(dated("SJC", "2026-03-11"), ["date.updated-future"]);
    assert_eq!(dated("SJC", "2026-03-10"), [""; 0]);
    assert_eq!(dated("DFBM", "驿城区"), ["division.form"]);
    let mut old = licence();
    put(&mut old, "DFBM", "4117");
    put(&mut old, "XK_ZT", "1");
    assert_eq!(errors(old), [""; 0], "a takedown is not held up");
}

#[test]
fn a_passport_is_kept_and_its_kind_asked_for() {
    let mut old = penalty();
    put(&mut old, "CF_XDR_SFZ", "E00000000");
    let (new, _) = to_2021(old.clone());
    assert_eq!(new.text(Role::PersonIdNo), Some("E00000000"));
    assert_eq!(errors(old), ["category.person-id"]);
}

#[test]
fn what_must_not_be_published_is_not() {
    for scope in ["1", "2"] {
        let mut old = licence();
        put(&mut old, "XK_SYFW", scope);
        assert_eq!(errors(old), ["scope.restricted-use"]);
    }
    let mut old = licence();
    put(&mut old, "XK_XDR_SWDJ", CITIZEN);
    let (new, rules) = to_2021(old);
    assert_eq!(rules, ["legal-rep.id", "convert.tax-no-dropped"]);
    assert_eq!(new.value(Role::SubjectTaxNo), None);
}

#[test]
fn what_2016_does_not_say_is_asked_for_not_made_up() {
    let mut old = penalty();
    for code in ["CF_YXQ", "CF_CFJGDM", "CF_SJLY", "CF_SJLYDM"] {
        put(&mut old, code, "");
    }
    put(&mut old, "CF_JG", "罚款贰仟元");
    put(&mut old, "CF_CFLB2", "其他");
    put(&mut old, "CF_CFLB1", "罚款");
    let mut errors = errors(old);
    errors.sort_unstable();
    assert_eq!(
        errors,
        [
            "amount.fine-missing",
            "field.code-other",
            "field.required",
            "field.required",
            "field.required",
            "field.required"
        ]
    );
}

#[test]
fn all_document_numbers_written_as_nothing_do_not_become_one_key() {
    let mut old = licence();
    put(&mut old, "XK_WSH", "空");
    assert_eq!(errors(old.clone()), ["document.number-placeholder"]);
    assert_eq!(record_key(&to_2021(old.clone()).0), None);
    put(&mut old, "XK_XKBH", "许2018-0077");
    assert_eq!(errors(old.clone()), [""; 0]);
    assert_eq!(record_key(&to_2021(old).0).unwrap().document, "许2018-0077");
}

#[test]
fn a_sole_trader_of_2018_changes_category_and_loses_the_representatives_number() {
    let old = draft(
        "admin-penalty/2018",
        &[
            ("CF_XDR_LB", "法人和非法人组织"),
            ("CF_XDR_SHXYM", "92411721999999904B"),
            ("CF_FR_SFZH", CITIZEN),
            ("CF_CFLB", "罚款"),
        ],
    );
    let (new, rules) = to_2021(old);
    assert_eq!(rules, ["legal-rep.id"]);
    assert_eq!(new.text(Role::SubjectCategory), Some(SOLE));
    assert_eq!(new.value(Role::LegalRepIdNo), None);
    assert_eq!(new.text(Role::PenaltyCategory), Some("罚款"));
}

#[test]
fn conversion_goes_forward_only_and_keeps_what_is_new_already() {
    let (same, rules) = to_2021(draft("admin-licence/2021", &[("XK_NR", "测试")]));
    assert_eq!((same.text(Role::Content), rules), (Some("测试"), vec![]));
    let catalogue = catalogue();
    let mut findings = Vec::new();
    let older = catalogue.by_reference("admin-licence/2016").unwrap();
    let kept = convert(same, older, &TODAY, &mut findings);
    assert_eq!(kept.dataset.generation, Generation(2021));
    assert_eq!(findings[0].rule, "convert.unsupported");
    // 2016 to 2018: sole traders were organisations then.
    let mut old = penalty();
    put(&mut old, "CF_XDR_SHXYM", "92411721999999904B");
    let middle = catalogue.by_reference("admin-penalty/2018").unwrap();
    let new = convert(old, middle, &TODAY, &mut findings);
    assert_eq!(new.text(Role::SubjectCategory), Some(ORG));
}
