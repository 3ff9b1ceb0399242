//! What becomes of rows that are not as they should be: scope, units, places, hidden characters.

use super::*;

/// A word nobody thought of must publish neither a secret nor what was revoked.
#[test]
fn scope_and_state_fail_closed() {
    let text = "exclude:\n  - { when: { 密: [是, 机密] }, keep: [否, 'n'], rule: scope.state-secret }\nwithdraw-when: { 状态: 撤销 }\nwithdraw-keep: [正常, '']\nfields:\n  CF_XDR_MC: { from: 名称 }\n";
    let mapping = mapping(text);
    let text = CellKind::Text;
    let judge = |secret: &str, state: &str| {
        let cells = [("密", secret, text), ("状态", state, text), ("名称", "某公司", text)];
        let (applied, draft, findings) = run(&mapping, &cells);
        let rules: Vec<String> = findings.iter().map(|f| f.rule.to_string()).collect();
        for finding in findings.iter().filter(|f| f.rule.ends_with(".unclear")) {
            assert!(finding.column.is_some() && !finding.message.contains("偷偷"), "{finding:?}");
            assert!(finding.fix.contains("(照常报送)"), "{finding:?}");
        }
        (applied, draft.operation, shown(&draft, "CF_XDR_MC").is_some(), rules.join(","))
    };
    for (secret, state, applied, operation, rules) in [
        ("否", "正常", Applied::Mapped, Operation::Upsert, ""),
        ("Ｎ ", "", Applied::Mapped, Operation::Upsert, ""),
        ("否", "撤销", Applied::Mapped, Operation::Withdraw, ""),
        ("否", "撒销偷偷", Applied::Mapped, Operation::Upsert, "status.unclear"),
        ("机 密", "正常", Applied::Excluded, Operation::Upsert, "scope.state-secret"),
        ("偷偷", "正常", Applied::Excluded, Operation::Upsert, "scope.unclear"),
        ("", "撤销", Applied::Excluded, Operation::Upsert, "scope.unclear"),
    ] {
        let copied = applied == Applied::Mapped;
        let wanted = (applied, operation, copied, rules.to_owned());
        assert_eq!(judge(secret, state), wanted, "{secret} {state}");
    }
    let (applied, _, findings) = run(&mapping, &[("名称", "某公司", text)]);
    assert_eq!((applied, &*findings[0].rule), (Applied::Excluded, "scope.unclear"));
    assert_eq!(findings[0].message, "报文中没有“密”列");
}

#[test]
fn a_condition_left_open_is_warned_of_and_a_wrong_keep_refused() {
    let parse = |body: &str| {
        let text = format!("{HEAD}{body}fields: {{ CF_XDR_MC: {{ from: 名称 }} }}\n");
        let found = match Mapping::parse("m.yaml", &text, &catalogue(), &bundle()) {
            Ok((_, found)) | Err(found) => found,
        };
        found.0.iter().map(|d| d.code).filter(|c| *c != "mapping.missing-field").collect::<Vec<_>>()
    };
    for (body, codes) in [
        ("exclude: [{ when: { 密: 是 }, rule: scope.state-secret }]\n", vec!["mapping.open-scope"]),
        ("withdraw-when: { 状态: 撤销 }\n", vec!["mapping.open-status"]),
        ("withdraw-when: { 状态: 撤销 }\nwithdraw-keep: 正常\n", vec![]),
        ("withdraw-when: { 状态: 撤销 }\nwithdraw-keep: [撤 销]\n", vec!["yaml.value"]),
        ("withdraw-when: { 状态: 撤销 }\nwithdraw-keep: []\n", vec!["yaml.value"]),
        ("withdraw-keep: [正常]\n", vec!["mapping.misplaced"]),
        ("withdraw-when: { 甲: 是, 乙: 是 }\nwithdraw-keep: [否]\n", vec!["mapping.misplaced"]),
    ] {
        assert_eq!(parse(body), codes, "{body}");
    }
}

/// 0.2 in a column of 元 would be a fine of 2,000 made one of two jiao.
#[test]
fn advice_on_amounts_is_in_the_unit_of_the_column() {
    for (unit, hint, other) in [("yuan", "2000元填2000", "万元"), ("wan", "2000元填0.2", "填2000")]
    {
        let text = format!(
            "mapping: 1\nid: cg\ntitle: 市城管局\ntarget: admin-penalty/2021\nsource: {{ format: csv }}\nfields:\n  CF_CFLB: {{ from: 种类 }}\n  CF_NR: {{ from: 内容 }}\n  CF_NR_FK: {{ from: 罚金, unit: {unit} }}\n  CF_NR_WFFF: {{ from: 没收额, unit: {unit} }}\n"
        );
        let (mapping, _) = Mapping::parse("m.yaml", &text, &catalogue(), &bundle()).unwrap();
        let advice = |kinds: &str, fine: &str| {
            let cells = [("种类", kinds), ("内容", "罚款2000元"), ("罚金", fine), ("没收额", "")];
            let cells = cells.map(|(name, text)| (name, text, CellKind::Text));
            let (_, mut draft, mut findings) = run(&mapping, &cells);
            let today = date!(2026 - 11 - 23);
            crate::catalogue::check(
                &mut draft,
                &crate::catalogue::CheckContext { today },
                &mut findings,
            );
            let about = |f: &&Finding| f.field.as_deref().is_some_and(|f| f.starts_with("CF_NR_"));
            findings.iter().filter(about).cloned().collect::<Vec<_>>()
        };
        for (kinds, fine, rule) in [
            ("罚款", "", "amount.fine-missing"),
            ("罚款", "许多", "value.amount"),
            ("罚款", "7", "amount.fine-differs"),
            ("没收违法所得、没收非法财物", "", "amount.confiscated"),
        ] {
            let findings = advice(kinds, fine);
            let found =
                findings.iter().find(|f| f.rule == rule).unwrap_or_else(|| panic!("{rule}"));
            assert!(found.fix.contains(hint) && !found.fix.contains(other), "{found:?}");
            let column = if rule == "amount.confiscated" { 3 } else { 2 };
            assert_eq!(found.column, Some(column), "{found:?}");
            let said = format!("{}{}", found.message, found.fix);
            assert!(said.contains(if column == 3 { "没收额" } else { "罚金" }), "{found:?}");
        }
    }
}

#[test]
fn an_empty_cell_keeps_its_place() {
    let mapping = mapping(
        "fields:\n  CF_XDR_MC: { from: [名称, 又名], required: true }\n  CF_SY: { concat: { from: [甲, 乙] } }\n  CF_XZJG: { from: 没有的列 }\n",
    );
    let text = CellKind::Text;
    let cells = [("别的", "", text), ("名称", " ", text), ("又名", "", text), ("甲", "", text)];
    let (_, draft, findings) = run(&mapping, &cells);
    let slot = |code| draft.slot(draft.dataset.find(code).unwrap()).unwrap();
    assert_eq!((slot("CF_XDR_MC").column, slot("CF_SY").column), (Some(1), Some(3)));
    assert_eq!(slot("CF_XDR_MC").heading.as_deref(), Some("名称"));
    assert_eq!(slot("CF_XZJG").column, None);
    assert_eq!((&*findings[0].rule, findings[0].column), ("mapping.required", Some(1)));
    assert_eq!(findings[0].message, "名称:按映射规则必填,来源为空");
}

#[test]
fn what_nobody_sees_is_told_and_no_sum_is_made_of_the_rest() {
    let mapping = mapping(
        "fields:\n  CF_SY: { from: 事 }\n  CF_NR_FK: { from: 额 }\n  CF_JDRQ: { from: 日 }\n  BZ: { concat: { from: [甲, 乙] } }\n",
    );
    let text = CellKind::Text;
    let cells = [
        ("事", "占用\u{7}道路", text),
        ("额", "20\0 00", text),
        ("日", "2026-\u{200B}11-05", text),
        ("甲", "一", text),
        ("乙", "二\u{200B}", text),
    ];
    let (_, draft, findings) = run(&mapping, &cells);
    let told: Vec<_> = findings.iter().map(|f| (&*f.rule, f.column)).collect();
    let wanted = [
        ("text.control", Some(0)),
        ("value.amount", Some(1)),
        ("value.date", Some(2)),
        ("text.control", Some(3)),
    ];
    assert_eq!(told, wanted);
    assert_eq!(shown(&draft, "CF_SY").as_deref(), Some("占用道路"));
    assert_eq!((shown(&draft, "CF_NR_FK"), shown(&draft, "CF_JDRQ")), (None, None));
    // At the ends, where copying leaves such marks, the date is whole.
    let (_, draft, findings) = run(&mapping, &[("日", "\u{200E}2026-11-05", text)]);
    assert_eq!(shown(&draft, "CF_JDRQ").as_deref(), Some("2026-11-05"));
    assert_eq!(findings[0].rule, "text.control");
}

#[test]
fn numbers_are_dates_only_where_the_source_writes_them_so() {
    let date_of = |format: &str, option: &str, cell: &str| {
        let text = format!(
            "mapping: 1\nid: cg\ntitle: 市城管局\ntarget: admin-penalty/2021\nsource: {{ format: {format} }}\nfields: {{ CF_JDRQ: {{ from: 日{option} }} }}\n"
        );
        let (mapping, _) = Mapping::parse("m.yaml", &text, &catalogue(), &bundle())
            .unwrap_or_else(|errors| panic!("{errors}"));
        let (_, draft, findings) = run(&mapping, &[("日", cell, CellKind::Text)]);
        shown(&draft, "CF_JDRQ").ok_or_else(|| findings[0].rule.to_string())
    };
    for (format, option, cell, wanted) in [
        ("csv", "", "1793836800000", Err("value.date")),
        ("json", "", "1793836800000", Err("value.date")),
        ("json", ", date: epoch-ms", "1793836800000", Ok("2026-11-05")),
        ("json", ", date: epoch-ms", "20261105", Ok("2026-11-05")),
        ("csv", "", "46338", Err("value.date")),
        ("csv", ", date: serial", "46338", Ok("2026-11-12")),
        ("csv", ", date: serial", "2026/11/12", Ok("2026-11-12")),
        ("workbook", "", "46338", Ok("2026-11-12")),
        ("workbook", "", "46338.0", Ok("2026-11-12")),
        ("workbook", ", date: YYYY-MM-DD", "46338", Err("value.date")),
        ("workbook", "", "2018", Err("value.date")),
        ("csv", "", "0000-00-00", Err("value.date-placeholder")),
        ("csv", "", "0000/00/00", Err("value.date-placeholder")),
    ] {
        let wanted = wanted.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(date_of(format, option, cell), wanted, "{format} {option} {cell}");
    }
    let text = format!("{HEAD}fields: {{ CF_JDRQ: {{ from: 日, date: epoch-ms }} }}\n");
    assert!(errors(&text).0.iter().any(|d| d.code == "mapping.misplaced"));
}

#[test]
fn columns_of_one_heading_are_not_chosen_among() {
    let text = CellKind::Text;
    let cells = |one: &'static str, two: &'static str| [("备注", one, text), (" 备 注", two, text)];
    let first = mapping("fields: { BZ: { from: 备注 } }\n");
    let (_, draft, findings) = run(&first, &cells("甲", "乙"));
    assert_eq!(shown(&draft, "BZ"), None);
    assert_eq!((&*findings[0].rule, findings[0].column), ("mapping.repeated-column", Some(0)));
    let (_, draft, findings) = run(&first, &cells("甲", "甲"));
    assert_eq!((shown(&draft, "BZ").as_deref(), findings.len()), (Some("甲"), 0));
    for (nth, wanted) in [(1, "甲"), (2, "乙")] {
        let named = mapping(&format!("fields: {{ BZ: {{ from: '备注#{nth}' }} }}\n"));
        let (_, draft, findings) = run(&named, &cells("甲", "乙"));
        assert_eq!((shown(&draft, "BZ").as_deref(), findings.len()), (Some(wanted), 0));
    }
    let mut columns = Columns::new(Shape::Delimited);
    columns.push("备注", 0);
    columns.push("备注", 1);
    let told: Vec<_> =
        first.bind(&columns).missing_columns().into_iter().map(|f| f.rule.to_string()).collect();
    assert_eq!(told, ["mapping.repeated-column"]);
    // Where it decides whether a row is reported, one of them is enough to stop it.
    let scoped = mapping(
        "exclude: [{ when: { 密: 是 }, keep: 否, rule: scope.state-secret }]\nfields: { BZ: { from: 备注 } }\n",
    );
    for (one, two, rule) in [
        ("否", "是", "scope.state-secret"),
        ("否", "", "scope.unclear"),
        ("", "否", "scope.unclear"),
    ] {
        let (applied, _, findings) = run(&scoped, &[("密", one, text), ("密", two, text)]);
        assert_eq!((applied, &*findings[0].rule), (Applied::Excluded, rule));
    }
}
