//! Mapping files as such: what is wrong in them, what their own tests say, what is written for them.

use super::*;

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
        include_str!("../golden/errors-in-reading.txt"),
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
        include_str!("../golden/errors-in-meaning.txt"),
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
        ("mapping: 1\n\tid: a\n", "yaml.syntax", 2),
        ("mapping: 1\nid: a\n# 注\n\n\tbad: 1\n", "yaml.syntax", 5),
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
    let page = include_str!("../../../../docs/formats/mapping.zh.md");
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

#[test]
fn what_a_message_is_wrapped_in_is_told() {
    use crate::model::{Unwrap, UnwrapStep};
    let with = |unwrap: &str| {
        let text = TESTED.replace(
            "codes: {",
            &format!("source: {{ format: xml, unwrap: {unwrap} }}\ncodes: {{"),
        );
        let text = format!("mapping: 1\nid: m\ntitle: t\ntarget: admin-penalty/2016\n{text}");
        Mapping::parse("m.yaml", &text, &catalogue(), &bundle())
    };
    let (mapping, _) = with("{ at: /r/return, do: [url-decode-gb18030, base64] }").unwrap();
    let steps = vec![UnwrapStep::UrlDecodeGb18030, UnwrapStep::Base64];
    assert_eq!(mapping.format.unwrap, Some(Unwrap { at: Some("/r/return".to_owned()), steps }));
    assert_eq!(mapping.columns(), ["状态", "名称", "当事人", "类别", "日期"].map(str::to_owned));
    assert_eq!(with("{}").unwrap().0.format.unwrap, Some(Unwrap::default()));
    for wrong in ["{ do: [unzip] }", "{ to: /r }", "x"] {
        assert!(with(wrong).is_err(), "{wrong}");
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
    for part in ["  # CF_JDRQ: { from: [列名] }", "#   \"序号\"", "#   \"a: #b\""] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let empty = skeleton(&id, target, &FormatSpec::new(FormatKind::Json), &[]);
    assert!(Mapping::parse("m.yaml", &empty, &catalogue, &bundle()).is_ok());
    // Taking the marks off what is missing makes a mapping too.
    let filled = empty.replace("  # CF_", "  CF_").replace("  # DFBM", "  DFBM");
    let (mapping, _) = Mapping::parse("m.yaml", &filled, &catalogue, &bundle()).unwrap();
    assert!(mapping.program.fields.len() > 5, "{filled}");
}

#[test]
fn a_skeleton_reads_the_unit_and_proposes_what_must_not_be_reported() {
    let catalogue = catalogue();
    let id = MappingId::new("sthj").unwrap();
    let target = catalogue.by_reference("admin-penalty/2021").unwrap();
    for (heading, unit) in [
        ("罚款金额(元)", "yuan"),
        ("罚款金额(万元)", "wan"),
        ("罚款金额\u{FF08}元\u{FF09}", "yuan"),
    ] {
        let headings =
            [heading, "是否涉密", "办案程序", "数据状态", "处罚决定日期"].map(str::to_owned);
        let text = skeleton(&id, target, &FormatSpec::new(FormatKind::Csv), &headings);
        let wanted = format!("CF_NR_FK: {{ from: [\"{heading}\"], unit: {unit} }}");
        assert!(text.contains(&wanted), "{text}");
        let (mapping, found) = Mapping::parse("m.yaml", &text, &catalogue, &bundle()).unwrap();
        let rules: Vec<_> = mapping.program.excludes.iter().map(|e| e.rule.id).collect();
        assert_eq!(rules, ["scope.state-secret", "scope.summary-procedure"]);
        assert!(mapping.program.excludes.iter().all(|e| e.keep.is_some()));
        assert!(mapping.program.withdraw.as_ref().is_some_and(|w| w.keep.is_some()));
        assert!(found.0.iter().all(|d| d.code == "mapping.missing-field"), "{found}");
    }
}

#[test]
fn a_skeleton_knows_the_usual_names_of_interfaces() {
    let catalogue = catalogue();
    let id = MappingId::new("yjj").unwrap();
    let licence = catalogue.by_reference("admin-licence/2021").unwrap();
    let penalty = catalogue.by_reference("admin-penalty/2021").unwrap();
    let headings = [
        "guid",
        "subject/name",
        "subject/uscc",
        "jsdw/frdb",
        "licence/docNo",
        "licence/certNo",
        "licence/decidedOn",
        "licence/validTo",
        "licence/name",
        "secret",
    ];
    let headings = headings.map(str::to_owned);
    let text = skeleton(&id, licence, &FormatSpec::new(FormatKind::Ndjson), &headings);
    for (code, path) in [
        ("XK_XDR_MC", "subject/name"),
        ("XK_XDR_SHXYM", "subject/uscc"),
        ("XK_FRDB", "jsdw/frdb"),
        ("XK_WSH", "licence/docNo"),
        ("XK_XKBH", "licence/certNo"),
        ("XK_JDRQ", "licence/decidedOn"),
        ("XK_YXQZI", "licence/validTo"),
    ] {
        assert!(text.contains(&format!("  {code}: {{ from: [\"{path}\"]")), "{code}\n{text}");
    }
    assert!(text.contains("#   \"licence/name\"") && text.contains("scope.state-secret"), "{text}");
    assert!(Mapping::parse("m.yaml", &text, &catalogue, &bundle()).is_ok());
    assert!(headings_known(licence, &headings) > headings_known(penalty, &headings));
}

#[test]
fn the_schema_is_the_one_in_the_repository() {
    let schema = serde_json::to_string_pretty(&json_schema()).unwrap() + "\n";
    let required = |of: &serde_json::Value| of["required"].as_array().cloned().unwrap_or_default();
    assert_eq!(required(&json_schema()), ["mapping", "id", "title", "target", "source"]);
    assert!(required(&json_schema()["$defs"]["FieldFile"]).is_empty());
    let golden = include_str!("../../../../../mappings/mapping.schema.json");
    assert!(schema == golden, "mappings/mapping.schema.json should be:\n----\n{schema}----");
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

proptest! {
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
