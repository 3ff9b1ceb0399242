//! The language as a whole: what it accepts, what it refuses and how, what rows become.

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
fn tests_may_speak_of_conversion_and_catalogue_rules() {
    let mapping = mapping(
        "fields: { CF_XDR_MC: { from: 名称 }, CF_JDRQ: { from: 日期 } }\ntests:\n  - { name: 缺, row: { 名称: 某公司, 日期: 2020-01-02 }, reject: [CF_WSH], expect-platform: { CF_JDRQ: 2020-01-02 } }\n  - { name: 应通过, row: { 名称: 某公司 }, reject: [] }\n",
    );
    let report = mapping.run_tests(&catalogue(), date!(2026 - 11 - 23));
    assert_eq!(report.outcomes[0].failures, Vec::<String>::new());
    assert!(report.outcomes[1].failures.len() > 3, "{:?}", report.outcomes[1].failures);
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

/// What a person reads who made a mistake of every kind.
#[test]
fn every_error_of_a_file_is_shown_at_its_place() {
    let text = "\
mapping: 1
id: 城管
title: 市城管局
target: admin-penalty/2016
source: { format: cvs, on-unknown-colum: warn }
codes:
  类别: { 罚: 罚宽 }
fields:
  CF_JDQR: { from: 决定日期 }
  CF_JDRQ: { from: 决定日期, unit: yuan, required: yes }
  处罚事由: { from: 事由 }
  CF_XDR_MC: { from: [名称], do: [halfwidht, { pad: { too: 3 } }] }
  CF_XDR_MC: { from: 又名 }
  CF_XZJG: {}
  CF_CFLB1: { from: 类别, code: 类型 }
checks:
  - { id: C1, left: CF_JDRQ, op: =<, right: CF_XZJG, message: 不对 }
";
    let first = errors(text);
    same_as_golden(
        "golden/errors-in-reading.txt",
        include_str!("golden/errors-in-reading.txt"),
        &first,
        text,
    );
    let text = "\
mapping: 1
id: cg
title: 市城管局
target: admin-penalty/2016
source: { format: csv }
codes:
  类别: { 罚: 罚宽 }
  别的: { file: codes/none.csv }
fields:
  CF_JDQR: { from: 决定日期 }
  CF_JDRQ: { from: 决定日期, unit: yuan }
  处罚事由: { from: 事由 }
  CF_XDR_MC: { from: [名称], do: [{ regex-extract: { pattern: '(?=甲)' } }] }
  CF_XZJG: {}
  CF_CFLB1: { from: 类别, code: 类别 }
  CF_CFLB2: { from: 类别, code: 类型 }
  CF_ZT: { const: '9' }
checks:
  - { id: C1, left: CF_JDRQ, op: '<', right: CF_XZJG, message: 不对 }
  - { id: C2, left: CF_JDRQ, op: '<', right: CF_GSJZQ, message: 不对 }
tests:
  - name: 名称
    row: { 名成: 某公司 }
    expect: { CF_XDR_MC: 某公司 }
";
    let second = errors(text);
    same_as_golden(
        "golden/errors-in-meaning.txt",
        include_str!("golden/errors-in-meaning.txt"),
        &second,
        text,
    );
}

/// Compares what is rendered with a file; a failure shows the whole new text.
fn same_as_golden(name: &str, golden: &str, found: &Diagnostics, text: &str) {
    let files = Bundle([("agencies/cg/m.yaml".to_owned(), text.to_owned())].into());
    let shown = found.render(&files, false);
    assert!(shown == golden, "{name}\n----\n{shown}----");
}

#[test]
fn syntax_errors_and_folded_scalars_are_told_in_chinese() {
    for (text, code, line) in [
        ("mapping: 1\nid: [a\n", "yaml.syntax", 0),
        ("mapping: 1\n\tid: a\n", "yaml.syntax", 1),
        ("mapping: 1\nid: *x\n", "yaml.syntax", 2),
        ("", "yaml.type", 0),
        ("mapping: 1\ntitle: 城管\n  id: a\n", "yaml.syntax", 3),
        ("mapping: 1\ntitle: 城管\n  处罚\n", "yaml.folded", 2),
        ("mapping: 1\nmapping: 1\n", "yaml.duplicate-key", 2),
    ] {
        let found = errors(text);
        let d =
            found.0.iter().find(|d| d.code == code).unwrap_or_else(|| panic!("{text}: {found}"));
        assert!(line == 0 || d.line == line, "{text}: {found}");
        assert!(!d.message.is_empty() && !d.message.is_ascii());
    }
}

#[test]
fn the_example_in_the_reference_holds() {
    let page = include_str!("../../../docs/formats/mapping.zh.md");
    let example = page.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let (mapping, _) = Mapping::parse("m.yaml", example, &catalogue(), &bundle())
        .unwrap_or_else(|errors| panic!("{errors}"));
    let report = mapping.run_tests(&catalogue(), date!(2026 - 11 - 23));
    assert_eq!(report.outcomes.len(), 3);
    for outcome in &report.outcomes {
        assert_eq!(outcome.failures, Vec::<String>::new(), "{}", outcome.name);
    }
    for op in
        ["halfwidth", "upper", "strip", "brackets", "replace", "pad", "substr", "regex-extract"]
    {
        assert!(page.contains(&format!("| `{op}")), "{op}");
    }
}

const TESTED: &str = "\
codes: { 类: { 罚: 罚款 } }
withdraw-when: { 状态: 撤销 }
fields:
  CF_XDR_MC: { from: [名称, 当事人], required: true }
  CF_CFLB1: { from: 类别, code: 类 }
  CF_JDRQ: { from: 日期 }
tests:
  - name: 第一来源
    row: { 名称: 某公司, 类别: 罚, 日期: 2020年1月2日 }
    expect: { CF_XDR_MC: 某公司, CF_CFLB1: 罚款, CF_JDRQ: 2020-01-02 }
  - name: 第二来源和查不到
    row: { 当事人: 某公司, 类别: 别的, 日期: 昨天, 状态: 撤销 }
    reject: [CF_CFLB1, CF_JDRQ]
    withdraw: true
";

#[test]
fn tests_pass_and_tell_what_they_leave_out() {
    let mapping = mapping(TESTED);
    let report = mapping.run_tests(&catalogue(), date!(2026 - 11 - 23));
    for outcome in &report.outcomes {
        assert_eq!(outcome.failures, Vec::<String>::new(), "{}", outcome.name);
    }
    assert_eq!(report.outcomes.iter().map(|o| o.line).collect::<Vec<_>>(), [13, 16]);
    assert_eq!(report.fields_covered, (3, 3));
    assert_eq!(report.branches_covered, (8, 9));
    assert_eq!(report.uncovered, ["CF_XDR_MC:必填而为空"]);
}

#[test]
fn a_test_that_does_not_hold_says_why() {
    let mapping = mapping(&format!(
        "{}  - name: 都不对\n    row: {{ 日期: 昨天, 类别: 罚 }}\n    expect: {{ CF_CFLB1: 警告, CF_JDRQ: null }}\n    warn: [CF_XDR_MC]\n    withdraw: true\n",
        TESTED
    ));
    let report = mapping.run_tests(&catalogue(), date!(2026 - 11 - 23));
    let failures = &report.outcomes[2].failures;
    assert_eq!(failures.len(), 5, "{failures:?}");
    assert_eq!(failures[0], "CF_CFLB1应为“警告”,实为“罚款”");
}

#[test]
fn a_skeleton_of_real_headings_parses_and_fills_what_it_can() {
    let catalogue = catalogue();
    let target = catalogue.by_reference("admin-penalty/2016").unwrap();
    let headings =
        ["序号", "行政处罚决定书文号 ", "CF_CFMC", "处罚类别", "罚款金额", "相对人名称", "a: #b"]
            .map(str::to_owned);
    let id = MappingId::new("cg-xzcf").unwrap();
    let text = skeleton(&id, target, &FormatSpec::new(FormatKind::Workbook), &headings);
    let (mapping, warnings) = Mapping::parse("m.yaml", &text, &catalogue, &bundle()).unwrap();
    assert!(!warnings.has_errors());
    let codes: Vec<&str> = mapping.program.fields.iter().map(|f| &*f.code).collect();
    assert_eq!(codes, ["CF_XDR_MC", "CF_WSH", "CF_CFMC", "CF_CFLB1", "CF_NR_FK"]);
    for part in ["# 缺少 CF_JDRQ", "#   \"序号\"", "#   \"a: #b\""] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let empty = skeleton(&id, target, &FormatSpec::new(FormatKind::Json), &[]);
    assert!(Mapping::parse("m.yaml", &empty, &catalogue, &bundle()).is_ok());
}

#[test]
fn the_schema_is_the_one_in_the_repository() {
    let schema = serde_json::to_string_pretty(&json_schema()).unwrap() + "\n";
    let required = |of: &serde_json::Value| of["required"].as_array().cloned().unwrap_or_default();
    assert_eq!(required(&json_schema()), ["mapping", "id", "title", "target", "source"]);
    assert!(required(&json_schema()["$defs"]["FieldFile"]).is_empty());
    let golden = include_str!("../../../../mappings/mapping.schema.json");
    assert!(schema == golden, "mappings/mapping.schema.json should be:\n----\n{schema}----");
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

    /// Any text at all is either a mapping or a list of errors inside the file.
    #[test]
    fn any_file_is_read_or_refused(text in "(mapping|id|fields|[a-z]|[:{}\\[\\], \n#*&!|>'\"\t-]|甲|1){0,60}") {
        let found = Mapping::parse("m.yaml", &text, &catalogue_once(), &Bundle::default());
        if let Err(found) = found {
            prop_assert!(found.has_errors());
            prop_assert!(found.0.iter().all(|d| d.span.end <= text.len()));
            let files = Bundle([("m.yaml".to_owned(), text)].into());
            prop_assert!(!found.render(&files, true).is_empty());
        }
    }
}

fn catalogue_once() -> Catalogue {
    static ONCE: std::sync::OnceLock<Catalogue> = std::sync::OnceLock::new();
    ONCE.get_or_init(catalogue).clone()
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

#[test]
fn constants_have_no_branch_that_no_row_takes() {
    let mapping = mapping(
        "fields:\n  CF_JDRQ: { const: 2020-01-02, required: true }\n  CF_NR_FK: { const: '0.2' }\n  CF_XDR_MC: { from: 名称 }\ntests:\n  - { name: 全, row: { 名称: 某公司 }, expect: { CF_JDRQ: 2020-01-02, CF_NR_FK: '0.200000' } }\n",
    );
    let report = mapping.run_tests(&catalogue(), date!(2026 - 11 - 23));
    assert_eq!(report.outcomes[0].failures, Vec::<String>::new());
    assert_eq!((report.fields_covered, report.branches_covered), ((3, 3), (1, 1)));
    assert_eq!(report.uncovered, Vec::<String>::new());
}

#[test]
fn what_says_how_to_read_a_source_is_refused_on_a_constant() {
    for (code, key, written) in [
        ("CF_SY", "do", "do: [upper]"),
        ("CF_SY", "split", "split: '、'"),
        ("CF_CFLB1", "code", "code: 类"),
        ("CF_SY", "default", "default: 某事"),
        ("CF_NR_FK", "unit", "unit: yuan"),
        ("CF_JDRQ", "date", "date: YYYY-MM-DD"),
        ("CF_SY", "keep-placeholder", "keep-placeholder: true"),
        ("CF_SY", "check", "check: { one-of: [甲] }"),
    ] {
        let constant = match code {
            "CF_NR_FK" => "'2000'",
            "CF_JDRQ" => "2020-01-02",
            _ => "罚款",
        };
        let found = errors(&format!(
            "{HEAD}codes: {{ 类: {{ 罚: 罚款 }} }}\nfields: {{ {code}: {{ const: {constant}, {written} }} }}\n"
        ));
        let told: Vec<_> = found.0.iter().filter(|d| d.code == "mapping.misplaced").collect();
        assert_eq!(told.len(), 1, "{written}: {found}");
        assert!(told[0].message.contains(&format!(" {key} 对固定值")), "{found}");
    }
}
