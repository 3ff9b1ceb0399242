//! The language as a whole: what it accepts, what it refuses and how, what rows become.

mod files;
mod rows;

use std::sync::Arc;

use proptest::prelude::*;
use time::macros::date;

use super::*;
use crate::catalogue::tests::{bundle, catalogue};
use crate::model::{
    CellKind, Draft, Finding, FormatKind, Operation, Row, Severity, Shape, Value, Verdict,
};

const HEAD: &str =
    "mapping: 1\nid: cg\ntitle: 市城管局\ntarget: admin-penalty/2016\nsource: { format: csv }\n";

/// A mapping of the given body.
fn mapping(body: &str) -> Mapping {
    let text = format!("{HEAD}{body}");
    match Mapping::parse("agencies/cg/m.yaml", &text, &catalogue(), &bundle()) {
        Ok((mapping, _)) => mapping,
        Err(errors) => panic!("{errors}"),
    }
}

/// The errors of a whole text.
fn errors(text: &str) -> Diagnostics {
    Mapping::parse("agencies/cg/m.yaml", text, &catalogue(), &bundle()).unwrap_err()
}

/// Maps one row of `(column, text, kind)`.
fn run(mapping: &Mapping, cells: &[(&str, &str, CellKind)]) -> (Applied, Draft, Vec<Finding>) {
    let mut columns = Columns::new(Shape::Delimited);
    let mut row = Row::new();
    row.clear(2);
    for (ix, (name, text, kind)) in cells.iter().enumerate() {
        columns.push(name, u32::try_from(ix).unwrap());
        row.push(text, *kind);
    }
    let mut draft = Draft::new(Arc::clone(&mapping.target));
    let mut findings = Vec::new();
    let applied = mapping.bind(&columns).apply(&row, &mut draft, &mut findings);
    (applied, draft, findings)
}

fn shown(draft: &Draft, code: &str) -> Option<String> {
    let slot = draft.slot(draft.dataset.find(code).unwrap()).unwrap();
    slot.value.as_ref().map(ToString::to_string)
}

/// What a text field makes of one cell.
fn text_through(ops: &str, cell: &str) -> Result<String, String> {
    let mapping = mapping(&format!("fields: {{ CF_SY: {{ from: 列, {ops} }} }}"));
    let (_, draft, findings) = run(&mapping, &[("列", cell, CellKind::Text)]);
    match findings.first() {
        None => Ok(shown(&draft, "CF_SY").unwrap_or_default()),
        Some(finding) => Err(finding.rule.to_string()),
    }
}

#[test]
fn every_op_does_what_its_name_says() {
    for (ops, cell, wanted) in [
        ("do: [halfwidth]", "\u{ff21}\u{ff11}\u{ff08}甲\u{ff09}", "A1(甲)"),
        ("do: [upper]", "9xk", "9XK"),
        ("do: [strip]", "甲 乙\u{3000}丙", "甲乙丙"),
        ("do: [brackets]", "城罚[2020]1号", "城罚〔2020〕1号"),
        ("do: [brackets]", "城罚\u{ff08}2020】1号", "城罚〔2020〕1号"),
        ("do: [{ replace: { find: 号, with: 第 } }]", "1号2号", "1第2第"),
        ("do: [{ replace: { find: '.' } }]", "1.2", "12"),
        ("do: [{ pad: { to: 4 } }]", "12", "0012"),
        ("do: [{ pad: { to: 4, with: 零, side: right } }]", "一二", "一二零零"),
        ("do: [{ substr: { start: 2, length: 2 } }]", "甲乙丙丁", "乙丙"),
        ("do: [{ substr: { start: 3 } }]", "甲乙丙丁", "丙丁"),
        ("do: [{ regex-extract: { pattern: '(\\d+)号' } }]", "第42号", "42"),
        ("do: [{ regex-extract: { pattern: '\\d+' } }]", "第42号", "42"),
        ("do: [{ regex-extract: { pattern: '(甲)(乙)', group: 2 } }]", "甲乙", "乙"),
        ("split: '、,'", "警告、罚款,其他", "警告;罚款;其他"),
        ("split: '、', join: '/'", "甲、、乙 ", "甲/乙"),
        ("do: [upper, { pad: { to: 3 } }]", "a", "00A"),
        ("check: { matches: '[A-Z]+' }", "AB", "AB"),
        ("check: [{ one-of: [甲, 乙] }]", "乙", "乙"),
        ("check: org-code", "12345678-8", "12345678-8"),
    ] {
        assert_eq!(text_through(ops, cell).as_deref(), Ok(wanted), "{ops}");
    }
    for (ops, cell, rule) in [
        ("do: [{ regex-extract: { pattern: '\\d+' } }]", "无数字", "mapping.check"),
        ("check: { matches: '[A-Z]+' }", "AB1", "mapping.check"),
        ("check: { one-of: [甲] }", "乙", "mapping.check"),
        ("check: uscc", "123", "mapping.check"),
        ("check: citizen-id", "123", "mapping.check"),
        ("check: reg-no", "123", "mapping.check"),
    ] {
        assert_eq!(text_through(ops, cell), Err(rule.to_owned()), "{ops}");
    }
}

#[test]
fn the_first_filled_source_wins_and_names_are_compared_as_headings() {
    let mapping = mapping(
        "fields:\n  CF_XDR_MC: { from: [相对人名称(全称), 当事人] }\n  CF_SY: { concat: { from: [甲, 乙], with: '-' } }\n  CF_XZJG: { const: 市城管局 }\n  BZ: { from: 备注, default: 无备注 }\n",
    );
    let text = CellKind::Text;
    let (applied, draft, findings) = run(
        &mapping,
        &[
            ("相对人 名称\u{ff08}全称\u{ff09} ", " ", text),
            ("当事人", "某公司", text),
            ("甲", "一", text),
            ("乙", "二", text),
            ("备注", "/", text),
        ],
    );
    assert_eq!((applied, findings.as_slice()), (Applied::Mapped, [].as_slice()));
    assert_eq!(shown(&draft, "CF_XDR_MC").as_deref(), Some("某公司"));
    assert_eq!(shown(&draft, "CF_SY").as_deref(), Some("一-二"));
    assert_eq!(shown(&draft, "CF_XZJG").as_deref(), Some("市城管局"));
    assert_eq!(shown(&draft, "BZ").as_deref(), Some("无备注"));
    let slot = |code| draft.slot(draft.dataset.find(code).unwrap()).unwrap().column;
    assert_eq!((slot("CF_XDR_MC"), slot("CF_SY"), slot("CF_XZJG")), (Some(1), Some(2), None));
}

#[test]
fn every_fault_of_a_row_is_told_at_once_without_its_values() {
    let mapping = mapping(
        "codes: { 类: { 罚: 罚款 } }\nfields:\n  CF_JDRQ: { from: 日期 }\n  CF_NR_FK: { from: 金额, unit: yuan }\n  CF_CFLB1: { from: 类别, code: 类 }\n  CF_XDR_SHXYM: { from: 代码 }\n  CF_SY: { from: 事实 }\n  CF_FR: { from: 法人, required-when: { CF_XZJG: [局] } }\n  CF_XZJG: { const: 局 }\n",
    );
    let (_, draft, findings) = run(
        &mapping,
        &[
            ("日期", "某年某月某日不详", CellKind::Text),
            ("金额", "一大笔钱哪里数得清", CellKind::Text),
            ("类别", "一种没有的类别", CellKind::Text),
            ("代码", "914117000000000000", CellKind::Number),
            ("事实", "乱码\u{fffd}乱码乱码乱码", CellKind::Damaged),
        ],
    );
    let rules: Vec<&str> = findings.iter().map(|f| &*f.rule).collect();
    assert_eq!(
        rules,
        [
            "value.date",
            "value.amount",
            "mapping.lookup",
            "value.digits-lost",
            "row.damaged",
            "mapping.required"
        ]
    );
    assert_eq!(
        findings.iter().map(|f| f.column).collect::<Vec<_>>(),
        [Some(0), Some(1), Some(2), Some(3), Some(4), None]
    );
    assert!(draft.slots.iter().filter(|s| s.failed).all(|s| s.value.is_none()));
    assert_eq!(Verdict::of(&findings), Verdict::Reject);
}

#[test]
fn dates_amounts_and_codes_are_typed_by_the_catalogue() {
    let mapping = mapping(
        "codes: { 类: { 罚: 罚款, 警: 警告 } }\nfields:\n  CF_JDRQ: { from: 甲, date: [DD/MM/YYYY, YYYY年M月D日] }\n  SJC: { from: 乙 }\n  CF_NR_FK: { from: 丙, unit: yuan }\n  CF_NR_WFFF: { from: 丙 }\n  CF_CFLB1: { from: 丁, split: '+', code: 类 }\n  CF_CFLB2: { from: 戊, code: 类, on-miss: keep }\n",
    );
    let text = CellKind::Text;
    let row = |day| {
        run(
            &mapping,
            &[
                ("甲", day, text),
                ("乙", "2018.7.27", text),
                ("丙", "2,000.00", text),
                ("丁", "罚 + 警", text),
                ("戊", "行政拘留", text),
            ],
        )
    };
    let (_, draft, findings) = row("03/02/2020");
    assert_eq!(findings, []);
    for (code, wanted) in [
        ("CF_JDRQ", "2020-02-03"),
        ("SJC", "2018-07-27"),
        ("CF_NR_FK", "0.200000"),
        ("CF_NR_WFFF", "2000.000000"),
        ("CF_CFLB1", "罚款;警告"),
        ("CF_CFLB2", "行政拘留"),
    ] {
        assert_eq!(shown(&draft, code).as_deref(), Some(wanted), "{code}");
    }
    assert_eq!(shown(&row("2020年2月3日").1, "CF_JDRQ").as_deref(), Some("2020-02-03"));
    for bad in ["31/02/2020", "2020-02-03", "3/02/2020", "03/02/20201"] {
        assert_eq!(row(bad).2.len(), 1, "{bad}");
    }
}

#[test]
fn code_tables_may_stand_in_a_file_beside_the_mapping() {
    let text = format!(
        "{HEAD}codes: {{ 类: {{ file: codes/lb.csv }} }}\nfields: {{ CF_CFLB1: {{ from: 类别, code: 类 }} }}\n"
    );
    let with = |table: &str| {
        let mut files = bundle();
        files.0.insert("agencies/cg/codes/lb.csv".into(), table.into());
        Mapping::parse("agencies/cg/m.yaml", &text, &catalogue(), &files)
    };
    let (mapping, _) = with("\u{feff}# 来源,目录\n罚,罚款\r\n\n警 , 警告\n").unwrap();
    let (_, draft, _) = run(&mapping, &[("类别", "警", CellKind::Text)]);
    assert_eq!(shown(&draft, "CF_CFLB1").as_deref(), Some("警告"));
    let found = with("罚,罚款\n罚,警告\n一列\n外,没有的类别\n").unwrap_err();
    let codes: Vec<_> = found
        .0
        .iter()
        .filter(|d| d.level == crate::diagnostic::Level::Error)
        .map(|d| d.code)
        .collect();
    assert_eq!(codes, ["mapping.codes-file", "mapping.codes-file", "mapping.code-value"]);
}

#[test]
fn placeholders_mean_nothing_except_where_they_count() {
    let mapping = mapping(
        "fields:\n  CF_WSH: { from: 文号 }\n  CF_FR: { from: 法人 }\n  BZ: { from: 备注, keep-placeholder: true }\n  CF_GSJZQ: { from: 截止 }\n",
    );
    let text = CellKind::Text;
    let (_, draft, findings) = run(
        &mapping,
        &[
            ("文号", "空", text),
            ("法人", "暂无", text),
            ("备注", "无", text),
            ("截止", "1899-12-31 0:00:00", text),
        ],
    );
    let rules: Vec<&str> = findings.iter().map(|f| &*f.rule).collect();
    assert_eq!(rules, ["value.date-placeholder"]);
    assert_eq!(Verdict::of(&findings), Verdict::Warn);
    assert_eq!(shown(&draft, "CF_WSH").as_deref(), Some("空"));
    assert_eq!(shown(&draft, "CF_FR"), None);
    assert_eq!(shown(&draft, "BZ").as_deref(), Some("无"));
    assert_eq!(shown(&draft, "CF_GSJZQ"), None);
}

#[test]
fn withdrawals_and_record_checks() {
    let mapping = mapping(
        "withdraw-when: { 状态: [撤销, '1'] }\nfields:\n  CF_JDRQ: { from: 决定 }\n  CF_GSJZQ: { from: 截止 }\nchecks:\n  - { id: C1, left: CF_JDRQ, op: <=, right: CF_GSJZQ, message: 决定日期晚于截止期, severity: warning }\n",
    );
    let text = CellKind::Text;
    let row = |status, until| {
        run(
            &mapping,
            &[("状态", status, text), ("决定", "2020-02-03", text), ("截止", until, text)],
        )
    };
    assert_eq!(row("撤销", "2020-02-03").1.operation, Operation::Withdraw);
    let (_, draft, findings) = row("正常", "2020-02-02");
    assert_eq!(draft.operation, Operation::Upsert);
    assert_eq!(findings.len(), 1);
    assert_eq!((&*findings[0].rule, findings[0].severity), ("check.C1", Severity::Warning));
    assert_eq!(row("正常", "").2, []);
}

#[test]
fn excluded_rows_leave_nothing_but_one_finding() {
    let mapping = mapping(
        "exclude:\n  - { when: { 程序: [简易, 简易程序], 部门: 公安 }, rule: scope.summary-procedure }\nfields: { CF_SY: { from: 事实 } }\ntests:\n  - { name: 简易, row: { 程序: 简易, 部门: 公安, 事实: 某事 }, exclude: scope.summary-procedure }\n  - { name: 一般, row: { 程序: 简易, 部门: 城管, 事实: 某事 }, expect: { CF_SY: 某事 } }\n",
    );
    let text = CellKind::Text;
    let (applied, draft, findings) = run(
        &mapping,
        &[("程序", " 简易程序 ", text), ("部门", "公安", text), ("事实", "某事", text)],
    );
    assert_eq!(applied, Applied::Excluded);
    assert!(draft.slots.iter().all(|slot| slot.value.is_none()));
    assert_eq!(findings.iter().map(|f| &*f.rule).collect::<Vec<_>>(), ["scope.summary-procedure"]);
    let report = mapping.run_tests(&catalogue(), date!(2026 - 11 - 23));
    assert!(report.outcomes.iter().all(|o| o.failures.is_empty()), "{:?}", report.outcomes);
    assert_eq!((report.uncovered.len(), report.branches_covered), (0, (2, 2)));
}

#[test]
fn tree_names_are_paths_with_or_without_prefixes() {
    let text = format!(
        "{}fields:\n  CF_XDR_MC: {{ from: party/name }}\n  CF_WSH: {{ from: '@wsh' }}\n",
        HEAD.replace("csv", "xml")
    );
    let (mapping, _) = Mapping::parse("m.yaml", &text, &catalogue(), &bundle()).unwrap();
    let text = CellKind::Text;
    let (_, draft, _) =
        run(&mapping, &[("/j:party/j:Name", "某公司", text), ("@WSH", "1号", text)]);
    assert_eq!(shown(&draft, "CF_XDR_MC").as_deref(), Some("某公司"));
    assert_eq!(shown(&draft, "CF_WSH").as_deref(), Some("1号"));
}

#[test]
fn plans_notice_new_columns_and_know_strangers() {
    let mapping = mapping("fields: { CF_SY: { from: 事实 } }");
    let mut columns = Columns::new(Shape::Tree);
    columns.push("事 实", 0);
    columns.push("别的", 1);
    let plan = mapping.bind(&columns);
    assert_eq!(plan.unknown_columns(&columns), [1]);
    assert!(!plan.is_stale(&columns));
    assert_eq!(plan.missing_columns(), []);
    let empty = Columns::new(Shape::Grid);
    let missing = mapping.bind(&empty).missing_columns();
    assert_eq!(missing.iter().map(|f| &*f.rule).collect::<Vec<_>>(), ["mapping.no-column"]);
    columns.push("又一", 2);
    assert!(plan.is_stale(&columns));
}

proptest! {
    /// Whatever the cells hold: no panic, no value left in a failed slot, and no finding that
    /// quotes a cell.
    #[test]
    fn any_row_is_mapped_and_never_quoted(
        cells in proptest::collection::vec(("\\PC{0,30}|[0-9./年月日-]{0,14}|[\\s\\x00-\\x1f甲〔]{0,9}", 0u8..6), 0..8)
    ) {
        let mapping = everything();
        let names = ["名称", "代码", "文号", "类别", "日期", "金额", "备注", "状态"];
        let kinds = [CellKind::Absent, CellKind::Text, CellKind::Number, CellKind::Date, CellKind::Bool, CellKind::Damaged];
        let row: Vec<_> = names
            .iter()
            .zip(&cells)
            .map(|(name, (text, kind))| (*name, text.as_str(), kinds[usize::from(*kind)]))
            .collect();
        let (_, draft, findings) = run(&mapping, &row);
        for slot in &draft.slots {
            prop_assert!(!slot.failed || slot.value.is_none());
        }
        for finding in &findings {
            for (text, _) in &cells {
                let quoted = text.trim().chars().count() > 6
                    && (finding.message.contains(text.trim()) || finding.fix.contains(text.trim()));
                prop_assert!(!quoted, "{finding:?}");
            }
        }
    }
}

/// A mapping that uses every part of the language on a row.
fn everything() -> Mapping {
    static ONCE: std::sync::OnceLock<Mapping> = std::sync::OnceLock::new();
    ONCE.get_or_init(|| {
        mapping(
            "codes: { 类: { 罚: 罚款 } }
withdraw-when: { 状态: 撤销 }
fields:
  CF_XDR_MC: { from: [名称, 备注], do: [halfwidth, strip, { regex-extract: { pattern: '^(.*)$' } }], required: true }
  CF_XDR_SHXYM: { from: 代码, do: [upper], check: uscc }
  CF_XDR_GSDJ: { from: 代码, check: [reg-no] }
  CF_XDR_ZDM: { from: 代码, check: [org-code] }
  CF_XDR_SFZ: { from: 代码, check: [citizen-id] }
  CF_WSH: { from: 文号, do: [brackets, { replace: { find: 〔, with: '[' } }] }
  CF_CFLB1: { from: 类别, split: '、;', code: 类 }
  CF_SY: { concat: { from: [名称, 备注], with: ' ' }, do: [{ substr: { start: 2, length: 5 } }, { pad: { to: 9, with: 甲 } }] }
  CF_JDRQ: { from: 日期, date: [YYYY年M月D日] }
  SJC: { from: 日期 }
  CF_NR_FK: { from: 金额, unit: yuan }
  BZ: { from: 备注, default: 无, required-when: { CF_WSH: [空] } }
checks:
  - { id: C1, left: CF_JDRQ, op: <=, right: SJC, message: 次序不对 }
  - { id: C2, left: CF_WSH, op: '=', right: BZ, message: 不同 }
",
        )
    })
    .clone()
}

#[test]
fn constants_are_values_of_their_field() {
    let mapping = mapping("fields: { CF_JDRQ: { const: 2020-01-02 }, CF_NR_FK: { const: '0.2' } }");
    let (_, draft, _) = run(&mapping, &[]);
    let value = |code| draft.slot(draft.dataset.find(code).unwrap()).unwrap().value.clone();
    assert_eq!(value("CF_JDRQ"), Some(Value::Date(date!(2020 - 01 - 02))));
    assert_eq!(shown(&draft, "CF_NR_FK").as_deref(), Some("0.200000"));
}
