//! One function an agency: a row in its own columns, and the file around its rows. The shapes are
//! those of `mappings/agencies/make_samples.py`.

use std::fmt::Write as _;

use rust_xlsxwriter::{Workbook, XlsxError};
use serde_json::{Map, Value, json};

use super::numbers::{citizen, uscc, wrong};
use super::{Case, Kind, Message, Wave};

/// Writes a feed's message number `file` with these rows.
pub(super) fn message(feed: &'static str, file: u32, cases: &[Case]) -> Result<Message, String> {
    let (name, bytes) = match feed {
        "sthj-admin-penalty" => (format!("环境处罚-{file}.csv"), sthj(cases)),
        "zjj-admin-licence" => (format!("施工许可-{file}.xml"), zjj(cases).into_bytes()),
        "jtj-admin-penalty" => (file.to_string(), jtj(cases)),
        "cgj-admin-penalty" => {
            let bytes = cgj(cases).map_err(|error| format!("生成工作簿失败:{error}"))?;
            (format!("城管处罚-{file}.xlsx"), bytes)
        }
        "yjj-admin-licence" => (format!("安全许可-{file}.ndjson"), yjj(cases).into_bytes()),
        _ => return Err(format!("没有{feed}的样式")),
    };
    let turned_down = cases.iter().filter(|case| case.turned_down()).count() as u64;
    Ok(Message { feed, name, bytes, rows: cases.len() as u64, turned_down })
}

impl Case {
    fn is(&self, kind: Kind) -> bool {
        self.kind == kind
    }

    fn corrected(&self) -> &'static str {
        if self.wave == Wave::Corrected { "(经复核更正)" } else { "" }
    }

    fn withdrawn(&self) -> bool {
        self.wave == Wave::Withdrawn
    }

    /// The subject's code; wrong in a row refused for that.
    fn code(&self, kind: &str, agency: u32) -> String {
        let code = uscc(kind, agency * 10_000 + self.n);
        match self.kind {
            Kind::Refused(0) => wrong(&code),
            Kind::Dirty(0) => code.to_lowercase(),
            _ => code,
        }
    }
}

/// 市生态环境局: CSV in GB18030, a person now and then.
fn sthj(cases: &[Case]) -> Vec<u8> {
    const COLUMNS: &str = "序号,行政相对人名称,行政相对人类别,统一社会信用代码,法定代表人,证件类型,证件号码,行政处罚决定书文号,违法行为类型,违法事实,处罚依据,处罚类别,处罚内容,罚款金额(元),处罚决定日期,处罚有效期,公示截止期,处罚机关,数据状态,是否涉密,备注";
    let mut text = format!("{COLUMNS}\r\n");
    for case in cases {
        let n = case.n;
        let person = case.is(Kind::Clean) && n % 20 == 11;
        let fine = (n % 20 + 1) * 10_000;
        let amount = match case.kind {
            Kind::Refused(1) => String::new(),
            Kind::Dirty(1) => format!(
                "{}{:03}.00",
                if fine >= 1_000 { format!("{},", fine / 1_000) } else { String::new() },
                fine % 1_000
            ),
            _ => fine.to_string(),
        };
        let date = if case.is(Kind::Dirty(2)) { case.date(".") } else { case.date("-") };
        let publicity = if case.is(Kind::Refused(2)) { "2026-01-05" } else { "2027-11-11" };
        let cells = [
            n.to_string(),
            if person {
                format!("样例人员{n}")
            } else {
                format!("驻马店市样例{n:04}化工有限公司")
            },
            if person { "自然人" } else { "法人及非法人组织" }.to_owned(),
            if person { String::new() } else { case.code("91", 1) },
            if person { "" } else { "样例乙" }.to_owned(),
            if person { "身份证" } else { "" }.to_owned(),
            if person { citizen(n) } else { String::new() },
            format!("驻环罚决字〔2026〕{}号", 1_000 + n),
            "超标排放水污染物".to_owned(),
            format!("2026年10月现场检查,外排废水化学需氧量超过许可浓度{}", case.corrected()),
            "《中华人民共和国水污染防治法》第八十三条第二项".to_owned(),
            "罚款".to_owned(),
            format!("罚款{fine}元"),
            amount,
            date,
            "2029-11-11".to_owned(),
            publicity.to_owned(),
            "驻马店市生态环境局".to_owned(),
            if case.withdrawn() { "撤销" } else { "正常" }.to_owned(),
            if case.is(Kind::Excluded) { "是" } else { "否" }.to_owned(),
            String::new(),
        ];
        let quoted: Vec<String> = cells
            .iter()
            .map(|cell| if cell.contains(',') { format!("\"{cell}\"") } else { cell.clone() })
            .collect();
        text.push_str(&quoted.join(","));
        text.push_str("\r\n");
    }
    encoding_rs::GB18030.encode(&text).0.into_owned()
}

/// 市住房和城乡建设局: XML.
fn zjj(cases: &[Case]) -> String {
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<DATAS>\n");
    for case in cases {
        let n = case.n;
        let name = if case.is(Kind::Refused(1)) {
            String::new()
        } else {
            format!("驻马店市样例{n:04}置业有限公司")
        };
        let number = format!("41170220261112{:04}", 1_000 + n);
        let number = if case.is(Kind::Dirty(1)) { format!("编号{number}") } else { number };
        let decided = if case.is(Kind::Dirty(2)) { case.date("-") } else { case.date("") };
        let until = if case.is(Kind::Refused(2)) { "20260505" } else { "20280505" };
        let state = if case.withdrawn() { "作废" } else { "在建" };
        let secret = u8::from(case.is(Kind::Excluded));
        let _ = write!(
            xml,
            "  <DATA>\n    <jsdw><mc>{name}</mc><lb>法人及非法人组织</lb><xydm>{code}</xydm><frdb>样例丙</frdb></jsdw>\n    \
             <sgxkzh>{number}</sgxkzh><gcmc>样例花园{n}号楼{corrected}</gcmc><jsgm>建筑面积{area}平方米{corrected}</jsgm>\n    \
             <htgq>合同工期540天</htgq><xk_jdrq>{decided}</xk_jdrq><xk_yxqz>{from}</xk_yxqz><xk_yxqzi>{until}</xk_yxqzi>\n    \
             <xk_xkjg>驻马店市住房和城乡建设局</xk_xkjg><zt>{state}</zt><sfsm>{secret}</sfsm>\n  </DATA>\n",
            code = case.code("91", 2),
            corrected = case.corrected(),
            area = 2_000 + n,
            from = case.date(""),
        );
    }
    xml.push_str("</DATAS>\n");
    xml
}

/// 市交通运输局: a page of a REST answer.
fn jtj(cases: &[Case]) -> Vec<u8> {
    let rows: Vec<Value> = cases
        .iter()
        .map(|case| {
            let n = case.n;
            let amount = match case.kind {
                Kind::Refused(1) => Value::Null,
                Kind::Dirty(1) => json!("5,000.00"),
                _ => json!(5000),
            };
            let decided =
                if case.is(Kind::Dirty(2)) { format!("{} 10:20:30", case.date("-")) } else { case.date("") };
            json!({
                "id": format!("jt-{n}"), "CF_XDR_MC": format!("驻马店市样例{n:04}运输有限公司"), "CF_XDR_LB": "02",
                "l_uniscid": case.code("91", 3), "l_regno": null, "l_frdb": "样例丁", "l_cardtype": null,
                "l_cardnum": null, "CF_WSH": format!("豫驻交执罚〔2026〕{}号", 1_000 + n),
                "l_case_name": "擅自改变货物运输车辆外廓尺寸", "CF_SY": "2026年10月路检,车辆货厢加高",
                "CF_YJ": "《中华人民共和国道路运输条例》第七十条",
                "l_punish_kind": [if case.is(Kind::Refused(2)) { "口头教育" } else { "罚款" }],
                "CF_NR": "罚款5000元", "l_fine_amount": amount, "l_confiscated": null, "l_certificate": null,
                "CF_JDRQ": decided, "CF_YXQ": "20271112", "CF_GSJZQ": "20271112",
                "CF_CFJG": "驻马店市交通运输局",
                "case_process_type": if case.is(Kind::Excluded) { "01" } else { "02" }, "del_flag": "0",
                "l_update_time": "20261120093000", "BZ": null,
            })
        })
        .collect();
    json!({ "code": "00", "msg": "", "total": 2_000, "rows": rows }).to_string().into_bytes()
}

/// 市城市管理局: XLSX, three merged rows of instructions over the heading.
fn cgj(cases: &[Case]) -> Result<Vec<u8>, XlsxError> {
    const NOTES: [&str; 3] = [
        "行政处罚信息报送表(2016版)",
        "表格说明:一行一案;带*号的说明行请勿删除",
        "注意:当前状态 0正常 1撤销 2异议 3其他;处罚类别按七类填写,其他须在备注中说明",
    ];
    const COLUMNS: [&str; 27] = [
        "行政处罚决定书文号",
        "处罚名称",
        "违法行为类型",
        "处罚类别1",
        "处罚类别2",
        "处罚事由",
        "处罚依据",
        "行政相对人名称",
        "行政相对人代码_1 (统一社会信用代码)",
        "行政相对人代码_2 (组织机构代码)",
        "行政相对人代码_3 (工商登记码)",
        "行政相对人代码_4 (税务登记号)",
        "行政相对人代码_5 (居民身份证号)",
        "法定代表人姓名",
        "处罚结果",
        "没收金额(万元)",
        "暂扣或吊销证照名称及编号",
        "处罚决定日期",
        "公示截止期",
        "处罚机关",
        "失信严重程度",
        "当前状态",
        "地方编码",
        "数据更新时间戳",
        "使用范围",
        "办案程序",
        "备注",
    ];
    let mut book = Workbook::new();
    let sheet = book.add_worksheet();
    sheet.set_name("行政处罚")?;
    for (line, note) in (0..).zip(NOTES) {
        sheet.merge_range(line, 0, line, 26, note, &rust_xlsxwriter::Format::new())?;
    }
    for (at, column) in (0..).zip(COLUMNS) {
        sheet.write_string(3, at, column)?;
    }
    for (line, case) in (4..).zip(cases) {
        let n = case.n;
        let basis = if case.is(Kind::Refused(1)) {
            "/"
        } else {
            "《城市道路管理条例》第四十二条"
        };
        let result = if case.is(Kind::Refused(2)) { "处以罚款" } else { "罚款2000元" };
        let number = match case.kind {
            Kind::Dirty(1) => format!("驻城管罚决字[2026]第{}号", 1_000 + n),
            _ => format!("驻城管罚决字〔2026〕第{}号", 1_000 + n),
        };
        let decided = if case.is(Kind::Dirty(2)) { case.date("/") } else { case.date("-") };
        let cells: [&str; 27] = [
            &number,
            "擅自占用城市道路案",
            "擅自占用城市道路",
            "罚款",
            "",
            &format!("未经批准占用人行道堆放物料{}", case.corrected()),
            basis,
            &format!("驻马店市样例{n:04}装饰有限公司"),
            &case.code("91", 4),
            "",
            "",
            "",
            "",
            "样例戊",
            result,
            "",
            "",
            &decided,
            "2027-11-11",
            "驻马店市城市管理局",
            "1",
            if case.withdrawn() { "1" } else { "0" },
            "411700",
            "2026-11-20",
            "0",
            if case.is(Kind::Excluded) { "简易程序" } else { "普通程序" },
            "",
        ];
        for (at, cell) in (0..).zip(cells).filter(|(_, cell)| !cell.is_empty()) {
            sheet.write_string(line, at, cell)?;
        }
    }
    book.save_to_buffer()
}

/// 市应急管理局: NDJSON.
fn yjj(cases: &[Case]) -> String {
    let mut text = String::new();
    for case in cases {
        let n = case.n;
        let number = format!("(豫)FM安许证字[2026]{:05}", 10_000 + n);
        let mut licence = Map::new();
        let document = if case.is(Kind::Dirty(1)) {
            Value::Null
        } else {
            json!(format!("驻应急许〔2026〕{}号", 1_000 + n))
        };
        let decided = case.date("-");
        let decided =
            if case.is(Kind::Dirty(2)) { format!("{decided}T09:30:00+08:00") } else { decided };
        let until = if case.is(Kind::Refused(1)) { "2026-01-01" } else { "2029-11-11" };
        licence.insert("docNo".to_owned(), document);
        licence.insert("certNo".to_owned(), json!(number));
        let scope = format!("露天开采建筑石料用灰岩{}", case.corrected());
        licence.insert("scope".to_owned(), json!(scope));
        licence.insert("decidedOn".to_owned(), json!(decided));
        licence.insert("validFrom".to_owned(), json!(case.date("-")));
        licence.insert("validTo".to_owned(), json!(until));
        let business = match case.kind {
            Kind::Refused(2) => "9",
            _ if case.withdrawn() => "4",
            _ => "1",
        };
        let row = json!({
            "guid": format!("aq-{n}"),
            "subject": {
                "name": format!("驻马店市样例{n:04}矿业有限公司"), "category": "法人及非法人组织",
                "uscc": case.code("91", 5), "legalRep": "样例己",
            },
            "licence": licence, "bizType": business, "secret": case.is(Kind::Excluded),
        });
        let _ = writeln!(text, "{row}");
    }
    text
}
