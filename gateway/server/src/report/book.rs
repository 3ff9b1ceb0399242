//! The workbook: the monthly form (双公示月报), the figures, late records, periods, definitions. Held in
//! memory: it is bounded by agencies, datasets, periods and the late records that are told.

use rust_xlsxwriter::{
    Color, DocProperties, ExcelDateTime, Format, FormatAlign, FormatBorder, Formula, Workbook,
    Worksheet, XlsxError,
};
use time::Date;
use xinqiao_core::model::Timestamp;
use xinqiao_core::report::Basis;
use xinqiao_store::ItemState;

use super::columns::{COLUMNS, Cell};
use super::{Line, MOST_LATE, Report, Standing, owner_name};

/// Its worksheets.
pub(crate) const SHEETS: [&str; 5] = ["双公示月报", "时效", "逾期明细", "报送周期", "口径"];

/// The datasets of 双公示, as the form names them.
const DOUBLE: [(&str, &str); 2] = [("admin-licence", "行政许可"), ("admin-penalty", "行政处罚")];
/// What the form tells of each.
const FORM: [&str; 7] = [
    "产生数量",
    "本单位公示数量",
    "报送数量",
    "未报送数量",
    "未报送依据",
    "有效入库数",
    "市级网站公示数量",
];
/// First column of each of them.
const FORM_AT: [u16; 2] = [2, 9];
/// Columns of the form.
const FORM_COLUMNS: u16 = 18;
/// First row of the form below its headings.
const FORM_ROWS: u32 = 5;

/// Writes the workbook.
pub(crate) fn book(report: &Report) -> Result<Vec<u8>, XlsxError> {
    let style = Style::new();
    let mut book = Workbook::new();
    book.set_properties(
        &DocProperties::new()
            .set_title(format!("双公示时效报表 {}", report.title))
            .set_creation_datetime(&day(report.now.shanghai_date())?),
    );
    form(sheet(&mut book, SHEETS[0], report)?, report, &style)?;
    figures(sheet(&mut book, SHEETS[1], report)?, report, &style)?;
    late(sheet(&mut book, SHEETS[2], report)?, report, &style)?;
    periods(sheet(&mut book, SHEETS[3], report)?, report, &style)?;
    definitions(sheet(&mut book, SHEETS[4], report)?, report, &style)?;
    book.save_to_buffer()
}

struct Style {
    title: Format,
    note: Format,
    head: Format,
    text: Format,
    count: Format,
    rate: Format,
    day: Format,
    total: Format,
    total_count: Format,
    total_rate: Format,
    /// To be filled in by the agency.
    blank: Format,
}

impl Style {
    fn new() -> Self {
        let cell =
            || Format::new().set_border(FormatBorder::Thin).set_align(FormatAlign::VerticalCenter);
        let head = cell()
            .set_bold()
            .set_text_wrap()
            .set_align(FormatAlign::Center)
            .set_background_color(Color::RGB(0xDD_EBF7));
        let total = cell().set_bold().set_background_color(Color::RGB(0xF2_F2F2));
        let (count, rate) = ("#,##0", "0.00%");
        Self {
            title: Format::new().set_bold().set_font_size(16).set_align(FormatAlign::Center),
            note: Format::new().set_text_wrap().set_align(FormatAlign::Top),
            head,
            text: cell().set_text_wrap(),
            count: cell().set_num_format(count),
            rate: cell().set_num_format(rate),
            day: cell().set_num_format("yyyy-mm-dd"),
            total_count: total.clone().set_num_format(count),
            total_rate: total.clone().set_num_format(rate),
            total,
            blank: cell().set_background_color(Color::RGB(0xFF_F2CC)).set_num_format(count),
        }
    }
}

/// A worksheet that prints: A4 across, as wide as one page, numbered.
fn sheet<'b>(
    book: &'b mut Workbook,
    name: &str,
    report: &Report,
) -> Result<&'b mut Worksheet, XlsxError> {
    let sheet = book.add_worksheet();
    sheet.set_name(name)?;
    sheet.set_paper_size(9).set_landscape().set_print_fit_to_pages(1, 0);
    sheet.set_footer(format!("&L{}&C第 &P 页,共 &N 页&R截至 {}", report.title, minute(report.now)));
    Ok(sheet)
}

/// The form that municipal platforms ask for every month. What only the agency knows is left blank.
fn form(sheet: &mut Worksheet, report: &Report, style: &Style) -> Result<(), XlsxError> {
    // What is still to be filled in is no zero.
    sheet.set_formula_result_default("");
    let last = FORM_COLUMNS - 1;
    let title = format!("“双公示”工作{}数据统计表", report.title);
    sheet.merge_range(0, 0, 0, last, &title, &style.title)?;
    let as_of = format!("截至 {}", minute(report.now));
    sheet.merge_range(1, 0, 1, last, &as_of, &style.note)?;
    let note = format!(
        "备注:报送数量、有效入库数取自网关(记录按{}归入本期,见“口径”);浅黄色各项由单位填写,未报送数量随之算出;零报告的产生数量按申报填 0。",
        basis(report.basis)
    );
    sheet.merge_range(2, 0, 2, last, &note, &style.note)?;
    sheet.set_row_height(2, 32)?;
    for (column, heading) in
        [(0, "单位名称"), (1, "本单位公示网址"), (16, "报送方式"), (17, "报送存在问题情况")]
    {
        sheet.merge_range(3, column, 4, column, heading, &style.head)?;
    }
    for ((_, name), at) in DOUBLE.iter().zip(FORM_AT) {
        sheet.merge_range(3, at, 3, at + 6, name, &style.head)?;
        for (column, heading) in (at..).zip(FORM) {
            sheet.write_string_with_format(4, column, heading, &style.head)?;
        }
    }
    sheet.set_row_height(4, 32)?;
    sheet.set_column_width(0, 22)?;
    sheet.set_column_width(1, 18)?;
    for column in 2..16 {
        sheet.set_column_width(column, 9)?;
    }
    sheet.set_column_width(16, 12)?;
    sheet.set_column_width(17, 36)?;

    let mut agencies: Vec<(&str, Vec<&Line>)> = Vec::new();
    for line in report.lines.iter().filter(|line| double(line).is_some()) {
        match agencies.last_mut() {
            Some((_, lines)) if lines.first().is_some_and(|l| l.agency == line.agency) => {
                lines.push(line);
            }
            _ => agencies.push((&line.agency_name, vec![line])),
        }
    }
    let mut row = FORM_ROWS;
    for (name, lines) in agencies {
        sheet.write_string_with_format(row, 0, name, &style.text)?;
        sheet.write_blank(row, 1, &style.blank)?;
        for (at, (dataset, _)) in FORM_AT.into_iter().zip(DOUBLE) {
            let line = lines.iter().find(|line| double(line) == Some(dataset));
            form_cells(sheet, (row, at), line.copied(), report, style)?;
        }
        let mut roads: Vec<_> = lines.iter().flat_map(|line| &line.sources).collect();
        roads.sort();
        roads.dedup();
        let roads: Vec<_> = roads.into_iter().map(|kind| road(kind)).collect();
        sheet.write_string_with_format(row, 16, roads.join("、"), &style.text)?;
        let problems: Vec<_> = lines.iter().flat_map(|line| problems(line)).collect();
        let problems = problems.join(";");
        // Wide characters take the room of two; not every program fits the height by itself.
        let wraps = problems.chars().map(|c| if c.is_ascii() { 1 } else { 2 }).sum::<u32>() / 34;
        sheet.set_row_height(row, 16 * (wraps + 1).min(20))?;
        sheet.write_string_with_format(row, 17, problems, &style.text)?;
        row += 1;
    }
    sheet.write_string_with_format(row, 0, "合计数", &style.total)?;
    for column in 1..FORM_COLUMNS {
        let summed =
            FORM_AT.into_iter().any(|at| (at..at + 7).contains(&column) && column != at + 4);
        if !summed {
            sheet.write_blank(row, column, &style.total)?;
            continue;
        }
        let name = letter(column);
        let all = format!("{name}{}:{name}{row}", FORM_ROWS + 1);
        let formula = match row {
            FORM_ROWS => "\"\"".to_owned(),
            _ => format!("IF(COUNT({all})=0,\"\",SUM({all}))"),
        };
        let known = form_sum(report, column).map_or_else(String::new, |sum| sum.to_string());
        let formula = Formula::new(formula).set_result(known);
        sheet.write_formula_with_format(row, column, formula, &style.total_count)?;
    }
    sheet.set_freeze_panes(FORM_ROWS, 1)?;
    sheet.set_repeat_rows(3, 4)?;
    Ok(())
}

fn form_cells(
    sheet: &mut Worksheet,
    (row, at): (u32, u16),
    line: Option<&Line>,
    report: &Report,
    style: &Style,
) -> Result<(), XlsxError> {
    let Some(line) = line else {
        for column in at..at + 7 {
            sheet.write_blank(row, column, &style.text)?;
        }
        return Ok(());
    };
    match zero_reason(report, line) {
        Some(reason) => {
            sheet.write_number_with_format(row, at, 0, &style.blank)?;
            let reason = format!("零报告:{reason}");
            sheet.write_string_with_format(row, at + 4, reason, &style.text)?;
        }
        None => {
            sheet.write_blank(row, at, &style.blank)?;
            sheet.write_blank(row, at + 4, &style.blank)?;
        }
    }
    sheet.write_blank(row, at + 1, &style.blank)?;
    sheet.write_number_with_format(row, at + 2, figure(line.records.records), &style.count)?;
    let (made, sent) = (letter(at), letter(at + 2));
    let here = row + 1;
    let known = if zero_reason(report, line).is_some() { "0" } else { "" };
    let rest = Formula::new(format!("IF({made}{here}=\"\",\"\",{made}{here}-{sent}{here})"))
        .set_result(known);
    sheet.write_formula_with_format(row, at + 3, rest, &style.count)?;
    sheet.write_number_with_format(row, at + 5, figure(line.records.accepted), &style.count)?;
    sheet.write_blank(row, at + 6, &style.blank)?;
    Ok(())
}

/// What a column of the form adds up to, as far as it is filled in.
fn form_sum(report: &Report, column: u16) -> Option<u64> {
    let filled = |line: &Line| {
        let at = FORM_AT.into_iter().zip(DOUBLE).find(|(_, (id, _))| double(line) == Some(id));
        match at.and_then(|(at, _)| column.checked_sub(at))? {
            0 | 3 => zero_reason(report, line).map(|_| 0),
            2 => Some(line.records.records),
            5 => Some(line.records.accepted),
            _ => None,
        }
    };
    report.lines.iter().filter_map(filled).reduce(|sum, one| sum + one)
}

/// Why nothing came, if all that was to be reported is declared empty.
fn zero_reason<'r>(report: &'r Report, line: &Line) -> Option<&'r str> {
    let mut of = report
        .periods
        .iter()
        .filter(|period| line.agency.as_ref() == Some(&period.agency))
        .filter(|period| line.dataset.as_ref() == Some(&period.dataset))
        .peekable();
    of.peek()?;
    let mut reason = None;
    for period in of {
        match (period.standing, &period.declared) {
            (Standing::Zero, Some((_, event))) => reason = Some(event.reason.as_str()),
            _ => return None,
        }
    }
    reason.filter(|_| line.records.records == 0)
}

/// All figures, by agency and dataset.
fn figures(sheet: &mut Worksheet, report: &Report, style: &Style) -> Result<(), XlsxError> {
    let mut at = 2;
    for (column, heading) in [(0, "委办局"), (1, "数据集")] {
        sheet.merge_range(0, column, 1, column, heading, &style.head)?;
    }
    sheet.set_column_width(0, 22)?;
    sheet.set_column_width(1, 12)?;
    for group in COLUMNS.chunk_by(|a, b| a.group == b.group) {
        let end = at + u16::try_from(group.len()).unwrap_or(1) - 1;
        let name = group.first().map_or("", |column| column.group);
        sheet.merge_range(0, at, 0, end, name, &style.head)?;
        for (column, of) in (at..).zip(group) {
            sheet.write_string_with_format(1, column, of.heading, &style.head)?;
            sheet.set_column_width(column, 9)?;
        }
        at = end + 1;
    }
    sheet.set_row_height(1, 32)?;
    let all = report.lines.iter().map(|line| (line, &style.text, &style.count, &style.rate));
    let total = (&report.total, &style.total, &style.total_count, &style.total_rate);
    for (row, (line, text, count, rate)) in (2..).zip(all.chain([total])) {
        sheet.write_string_with_format(row, 0, &line.agency_name, text)?;
        sheet.write_string_with_format(row, 1, &line.dataset_title, text)?;
        for (column, of) in (2..).zip(COLUMNS) {
            match (of.cell)(line) {
                Cell::Count(number) => {
                    sheet.write_number_with_format(row, column, figure(number), count)?
                }
                Cell::Rate(part) => match part.permyriad().and_then(fraction) {
                    Some(value) => sheet.write_number_with_format(row, column, value, rate)?,
                    None => sheet.write_string_with_format(row, column, "—", rate)?,
                },
            };
        }
    }
    sheet.set_freeze_panes(2, 2)?;
    sheet.set_repeat_rows(0, 1)?;
    // Too many to be read on one page's width.
    sheet.set_repeat_columns(0, 1)?;
    sheet.set_print_fit_to_pages(3, 0);
    Ok(())
}

/// Every late record, without anything that names a person.
fn late(sheet: &mut Worksheet, report: &Report, style: &Style) -> Result<(), XlsxError> {
    let headings = [
        ("委办局", 22),
        ("数据集", 12),
        ("文书号", 26),
        ("决定日期", 11),
        ("首次收到", 17),
        ("承诺时限", 11),
        ("法定时限", 11),
        ("首次发出", 17),
        ("首次受理", 17),
        ("逾期天数", 9),
        ("责任", 9),
        ("目前状态", 10),
        ("投递项", 9),
    ];
    headings_of(sheet, &headings, style)?;
    for (row, line) in (1..).zip(&report.late) {
        let record = &line.record;
        let days = record.deadlines;
        sheet.write_string_with_format(row, 0, &line.agency_name, &style.text)?;
        sheet.write_string_with_format(row, 1, &line.dataset_title, &style.text)?;
        let document = record.document.as_deref().unwrap_or("—");
        sheet.write_string_with_format(row, 2, document, &style.text)?;
        for (column, date) in [(3, days.decided), (5, days.pledged), (6, days.statutory)] {
            sheet.write_datetime_with_format(row, column, day(date)?, &style.day)?;
        }
        for (column, at) in [(4, Some(record.received)), (7, record.sent), (8, record.accepted)] {
            let text = at.map_or_else(|| "—".to_owned(), minute);
            sheet.write_string_with_format(row, column, text, &style.text)?;
        }
        let late = u64::try_from(line.days_late).unwrap_or(0);
        sheet.write_number_with_format(row, 9, figure(late), &style.count)?;
        sheet.write_string_with_format(row, 10, owner_name(record.owner), &style.text)?;
        sheet.write_string_with_format(row, 11, state(record.state), &style.text)?;
        match record.item {
            Some(item) => sheet.write_number_with_format(row, 12, figure(item), &style.text)?,
            None => sheet.write_string_with_format(row, 12, "—", &style.text)?,
        };
    }
    let end = u32::try_from(report.late.len()).unwrap_or(0);
    if report.late_total > u64::from(end) {
        let rest = format!("共 {} 条,只列出前 {MOST_LATE} 条", report.late_total);
        sheet.write_string(end + 1, 0, rest)?;
    }
    sheet.autofilter(0, 0, end, 12)?;
    Ok(())
}

/// Every period that was to be reported or was declared empty.
fn periods(sheet: &mut Worksheet, report: &Report, style: &Style) -> Result<(), XlsxError> {
    let headings = [
        ("委办局", 22),
        ("数据集", 12),
        ("周期", 11),
        ("第一天", 11),
        ("最后一天", 11),
        ("报送截止", 11),
        ("应报", 7),
        ("记录数", 9),
        ("结论", 10),
        ("零报告", 14),
        ("申报时间", 17),
        ("申报人", 18),
        ("原因", 36),
    ];
    headings_of(sheet, &headings, style)?;
    for (row, line) in (1..).zip(&report.periods) {
        sheet.write_string_with_format(row, 0, &line.agency_name, &style.text)?;
        sheet.write_string_with_format(row, 1, &line.dataset_title, &style.text)?;
        sheet.write_string_with_format(row, 2, line.period.to_string(), &style.text)?;
        for (column, date) in [(3, line.first), (4, line.last), (5, line.due)] {
            sheet.write_datetime_with_format(row, column, day(date)?, &style.day)?;
        }
        let expected = if line.expected { "是" } else { "否" };
        sheet.write_string_with_format(row, 6, expected, &style.text)?;
        sheet.write_number_with_format(row, 7, figure(line.records), &style.count)?;
        sheet.write_string_with_format(row, 8, line.standing.name(), &style.text)?;
        let (of, at, by, why) = match &line.declared {
            None => ("—".to_owned(), "—".to_owned(), "—", "—"),
            Some((period, event)) => {
                let void = if line.contradicted { "(作废)" } else { "" };
                let of = format!("{period}{void}");
                (of, minute(event.at), event.by.as_str(), event.reason.as_str())
            }
        };
        for (column, text) in [(9, of.as_str()), (10, at.as_str()), (11, by), (12, why)] {
            sheet.write_string_with_format(row, column, text, &style.text)?;
        }
    }
    Ok(())
}

/// What every figure means.
fn definitions(sheet: &mut Worksheet, report: &Report, style: &Style) -> Result<(), XlsxError> {
    let headings = [("类别", 26), ("指标", 14), ("口径", 100)];
    headings_of(sheet, &headings, style)?;
    let moved = match report.moved {
        true => "编制时网关正在运行,其间有数据变化,各项之间可能相差变化的部分。",
        false => "编制期间数据没有变化,各项之间的等式严格成立。",
    };
    let span = format!("{} 至 {}(含两端,北京时间)", report.first, report.last);
    let as_of = format!("{}。{moved}", minute(report.now));
    let basis = format!(
        "按{}归入本期;每条记录只属于一个时期,各月相加即为全部。行按报文收到日期归入本期:被退回的行不一定有决定日期。",
        basis(report.basis)
    );
    let damaged = format!("{} 处内容打不开,未计入任何一项(xinqiao fsck)", report.damaged);
    let mut rows = vec![
        ("总则", "时期", span.as_str()),
        ("总则", "截至", as_of.as_str()),
        ("总则", "归期", basis.as_str()),
        (
            "总则",
            "受理",
            "时限以平台首次受理为止,不以发出为止;更正、撤销不重起时限;逾期的记录仍须报送",
        ),
        ("总则", "比率", "按四舍五入保留两位小数;分母为零记“—”;不满全部不记 100%,不为零不记 0%"),
    ];
    if report.damaged > 0 {
        rows.push(("总则", "损坏", damaged.as_str()));
    }
    rows.extend(COLUMNS.iter().map(|column| (column.group, column.heading, column.meaning)));
    for (row, (group, heading, meaning)) in (1..).zip(rows) {
        for (column, text) in [(0, group), (1, heading), (2, meaning)] {
            sheet.write_string_with_format(row, column, text, &style.text)?;
        }
    }
    Ok(())
}

fn headings_of(
    sheet: &mut Worksheet,
    headings: &[(&str, u32)],
    style: &Style,
) -> Result<(), XlsxError> {
    for (column, (heading, width)) in (0..).zip(headings) {
        sheet.write_string_with_format(0, column, *heading, &style.head)?;
        sheet.set_column_width(column, *width)?;
    }
    sheet.set_freeze_panes(1, 0)?;
    sheet.set_repeat_rows(0, 0)?;
    Ok(())
}

fn double(line: &Line) -> Option<&str> {
    let id = line.dataset.as_ref()?.as_str();
    DOUBLE.iter().any(|(known, _)| *known == id).then_some(id)
}

/// How an agency reports, by the kind of its source.
fn road(kind: &str) -> &str {
    match kind {
        "folder" => "文件交换",
        "ftp" | "ftps" | "sftp" => "文件传输",
        "rest" | "soap" => "接口拉取",
        "push" | "soap-push" => "接口推送",
        "postgres" | "mysql" => "数据库",
        other => other,
    }
}

/// What is to be put right.
fn problems(line: &Line) -> Vec<String> {
    let (records, periods) = (&line.records, &line.periods);
    let late = records.missed_statutory();
    [
        (line.rows.rejected, "退回", "行"),
        (late, "逾期", "条"),
        (records.refused, "平台拒绝", "条"),
        (periods.missing, "缺报", "期"),
        (periods.contradicted, "零报告作废", "期"),
    ]
    .into_iter()
    .filter(|(count, ..)| *count > 0)
    .map(|(count, what, unit)| format!("{}{what}{count}{unit}", line.dataset_title))
    .collect()
}

pub(crate) fn basis(basis: Basis) -> &'static str {
    match basis {
        Basis::Decided => "决定日期",
        Basis::Received => "首次收到日期",
    }
}

fn state(state: Option<ItemState>) -> &'static str {
    state.map_or("—", crate::commands::state_name)
}

fn minute(at: Timestamp) -> String {
    let text = at.to_string();
    text.get(..16).unwrap_or(&text).replace('T', " ")
}

fn day(date: Date) -> Result<ExcelDateTime, XlsxError> {
    let year = u16::try_from(date.year()).unwrap_or(1900);
    ExcelDateTime::from_ymd(year, u8::from(date.month()), date.day())
}

/// A cell's number; no figure of ours is larger.
fn figure(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// `9512` as `0.9512`.
fn fraction(permyriad: u64) -> Option<f64> {
    format!("{}.{:04}", permyriad / 10_000, permyriad % 10_000).parse().ok()
}

/// The name of a column: `A` to `Z`.
fn letter(column: u16) -> char {
    char::from(b'A' + u8::try_from(column).unwrap_or(25).min(25))
}
