//! What is told, from views alone.

use xinqiao_core::model::{AgencyId, Dimension, Severity, TargetId};
use xinqiao_core::spi::Standing;
use xinqiao_store::{ItemState, MessageEnd, Met, RowOutcome};

use super::*;

const TODAY: Date = time::macros::date!(2026 - 11 - 23);
/// The example of GB 11643: nobody's.
const CITIZEN: &str = "11010519491231002X";

fn view(outcome: RowOutcome, states: &[ItemState]) -> RowVerdictView {
    let target =
        |(n, state): (usize, &ItemState)| (TargetId::new(&format!("t{n}")).unwrap(), *state);
    RowVerdictView {
        row: 3,
        document: Some("样罚〔2026〕1号".to_owned()),
        verdict: if outcome == RowOutcome::Rejected { Verdict::Reject } else { Verdict::Accept },
        findings: Vec::new(),
        outcome,
        delivery: states.iter().enumerate().map(target).collect(),
        met: None,
    }
}

fn message(name: Option<&str>) -> MessageView {
    MessageView {
        id: 7,
        feed: xinqiao_core::model::FeedId::new("folder").unwrap(),
        agency: AgencyId::new("scjg").unwrap(),
        name: name.map(str::to_owned),
        received: Timestamp(0),
        bytes: 1,
        digest: "00".to_owned(),
        rows: [1, 0, 0],
        end: Some(MessageEnd { error: None, notes: Vec::new() }),
    }
}

fn finding(message: &str) -> Finding {
    Finding {
        rule: "row.malformed".into(),
        severity: Severity::Error,
        dimension: Dimension::Conformity,
        field: None,
        column: None,
        cell: Some("B3".to_owned()),
        message: message.to_owned(),
        fix: "改".to_owned(),
    }
}

#[test]
fn how_a_row_stands_is_the_worst_of_its_deliveries() {
    use ItemState::{Dead, Done, Dropped, Held, Leased, Ready, Refused, Waiting};
    let new = RowOutcome::New { seq: 1 };
    for (outcome, states, expected) in [
        (RowOutcome::Rejected, &[][..], Standing::Refused),
        (new, &[Ready], Standing::Taken),
        (new, &[Waiting, Done], Standing::Taken),
        (new, &[Leased], Standing::Taken),
        (new, &[Held], Standing::Taken),
        (new, &[Done, Done], Standing::Accepted),
        (new, &[Done, Refused], Standing::Refused),
        (new, &[Done, Dead], Standing::Held),
        (new, &[Dropped, Dead], Standing::Refused),
        (RowOutcome::Duplicate, &[Done], Standing::Accepted),
        (RowOutcome::Stale, &[], Standing::Taken),
    ] {
        assert_eq!(standing(&view(outcome, states)), expected, "{outcome:?} {states:?}");
    }
    let mut replaced = view(new, &[]);
    replaced.met = Some(Met { pledged: true, statutory: true, late: None });
    assert_eq!(standing(&replaced), Standing::Accepted, "by a newer version");
    assert_eq!(standing::answer(&replaced), "已由更新的报送取代");
    assert_eq!(standing::answer(&view(new, &[Done, Refused])), "t0:已受理;t1:拒收");
    assert!(reason(&view(new, &[Dead])).contains("运维人员"));
    assert_eq!(reason(&view(new, &[Done])), "");
}

#[test]
fn a_name_holds_no_folder_and_fits_any_file_system() {
    for (name, expected) in [
        (Some("处罚.xlsx"), "处罚.xlsx.7"),
        (Some("../../etc/passwd"), "passwd.7"),
        (Some("C:\\表\\a.csv"), "a.csv.7"),
        (Some(".hidden"), "hidden.7"),
        (Some("处罚_***.csv"), "处罚____.csv.7"),
        (Some("a\n\u{0}b.csv"), "a__b.csv.7"),
        (Some(".."), "报文.7"),
        (Some("表/"), "报文.7"),
        (None, "报文.7"),
    ] {
        assert_eq!(file_name(&message(name)), expected);
    }
    let long = "处".repeat(300);
    assert!(file_name(&message(Some(&long))).len() < 200);
}

#[test]
fn a_list_holds_no_formula_no_broken_line_and_no_personal_number() {
    let message = message(Some("a.csv"));
    let mut list = List::new(&message, TODAY);
    for document in ["=1+1", " +1", "-1", "@SUM(A1)", "\u{ff1d}1", "\t=1", "说\"是\",\r\n不是"]
    {
        let mut row = view(RowOutcome::Rejected, &[]);
        row.document = Some(document.to_owned());
        row.findings = vec![finding(&format!("号{CITIZEN}不对"))];
        assert!(list.row(&row));
    }
    assert!(!list.row(&view(RowOutcome::New { seq: 1 }, &[ItemState::Ready])));
    let bytes = list.finish();
    let text = std::str::from_utf8(&bytes).unwrap();
    assert!(text.starts_with("\u{feff}行,文书号,") && !text.contains(CITIZEN), "{text}");
    let lines: Vec<&str> = text.split_terminator("\r\n").collect();
    assert_eq!(lines.len(), 3 + 7);
    assert!(lines[1].contains("共8行:收下1行(有提醒0行,重复0行),退回7行,暂存0行;"), "{}", lines[1]);
    let documents: Vec<&str> =
        lines[3..].iter().map(|line| line.split_once(",退回").unwrap().0).collect();
    let expected = [
        "3,'=1+1",
        "3,' +1",
        "3,'-1",
        "3,'@SUM(A1)",
        "3,'\u{ff1d}1",
        "3,' =1",
        "3,\"说\"\"是\"\",  不是\"",
    ];
    assert_eq!(documents, expected);
    assert!(lines[3].ends_with(",退回,row.malformed,B3,号***不对,改,未投递"), "{}", lines[3]);
}

#[test]
fn a_list_is_bounded_and_says_what_it_leaves_out() {
    let message = message(None);
    let mut list = List::new(&message, TODAY);
    let mut row = view(RowOutcome::Rejected, &[]);
    row.findings = vec![finding("不对")];
    let told = (0..MOST_ROWS + 5).filter(|_| list.row(&row)).count();
    assert_eq!(told, MOST_ROWS);
    // Warnings take no room from what has to be corrected.
    let mut warned = view(RowOutcome::New { seq: 1 }, &[ItemState::Done]);
    warned.findings = vec![finding("不妥")];
    let told = (0..MOST_ROWS + 5).filter(|_| list.row(&warned)).count();
    assert_eq!(told, MOST_ROWS);
    let bytes = list.finish();
    let text = std::str::from_utf8(&bytes).unwrap();
    let last = text.lines().last().unwrap();
    assert!(last.starts_with("其余,") && last.contains("另有10行有问题"), "{last}");
}

#[test]
fn a_copy_keeps_to_the_rows_that_were_judged() {
    let told = |row| {
        let mut bad = view(RowOutcome::Rejected, &[]);
        bad.row = row;
        bad.findings = vec![finding("不对")];
        BTreeMap::from([(1, ToldRow::of(&bad))])
    };
    let mut columns = Columns::new(xinqiao_core::model::Shape::Grid);
    columns.push("名称", 1);
    let mut row = Row::new();
    let copy = |told: &BTreeMap<u64, ToldRow>, row: &mut Row| {
        let mut book = Book::new(told, TODAY);
        for number in [2, 3, 4] {
            row.clear(number);
            row.push(CITIZEN, xinqiao_core::model::CellKind::Text);
            let more = book.row(&columns, row);
            assert_eq!(more.is_break(), number >= 3);
            if more.is_break() {
                break;
            }
        }
        book.finish()
    };
    let good = copy(&told(3), &mut row).unwrap();
    assert!(good.starts_with(b"PK"));
    // The mapping reads the message otherwise now than when it was judged.
    assert!(copy(&told(9), &mut row).is_none());
    // Nothing is wrong any more: said in the copy that may have been there.
    assert!(Book::new(&BTreeMap::new(), TODAY).finish().is_some());
}
