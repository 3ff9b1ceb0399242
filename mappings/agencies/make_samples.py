#!/usr/bin/env python3
"""Makes the sample messages of the six worked mappings. Everything in them is invented.

    pip install xlwt openpyxl
    python3 make_samples.py            # writes <agency>/sample.* and scjg/bulk.xls beside itself

The output is the same byte for byte on every run. Rows come in this order: clean, dirty but fine,
withdrawn, excluded, refused; the comment at each odd row says what it is there for. "Today" is
2026-11-23; decisions lie in 2026-11-09 to 2026-11-20 unless the row is about its date.

Numbers are nobody's:
- 统一社会信用代码 (GB 32100): department and class, division 4117xx, then an organisation code of
  serial 999999xx with its GB 11714 digit, then the GB 32100 digit. Agencies have serials 01-06,
  samples 10-99, the bulk file those that begin with a letter.
- 工商注册号 (GS 15-2006): authority 4117xx, sequence 999999xx, ISO 7064 MOD 11,10 digit.
- 公民身份号码 (GB 11643): division 411702, born 1990-01-01 and after, sequence 99x, its digit.
Names all contain 样例.
"""

import csv
import datetime as dt
import io
import json
import random
import re
import zipfile
from pathlib import Path
from xml.sax.saxutils import escape

import openpyxl
import xlwt

HERE = Path(__file__).parent
ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
DIVISIONS = ["411700", "411702", "411721", "411722", "411723", "411724", "411725", "411726",
             "411727", "411728", "411729"]
PLACES = ["驻马店市", "驿城区", "西平县", "上蔡县", "平舆县", "正阳县", "确山县", "泌阳县", "汝南县", "遂平县",
          "新蔡县"]


# --- numbers ---------------------------------------------------------------------------------

def org_code(base):
    """GB 11714: eight characters and their check character."""
    weights = (3, 7, 9, 10, 5, 8, 4, 2)
    digit = 11 - sum(w * int(c, 36) for w, c in zip(weights, base)) % 11
    return base + {10: "X", 11: "0"}.get(digit, str(digit))


def uscc(serial, kind="91", division="411702"):
    """GB 32100: the code of serial 999999xx. `serial` is its last two characters."""
    body = kind + division + org_code("999999" + serial)
    total = sum(ALPHABET.index(c) * pow(3, i, 31) for i, c in enumerate(body))
    return body + ALPHABET[-total % 31]


def wrong(code):
    """The same number with another check character."""
    return code[:-1] + ("1" if code[-1] == "0" else "0")


def reg_no(serial, division="411702"):
    """GS 15-2006, ISO 7064 MOD 11,10."""
    body = f"{division}{99999900 + serial:08d}"
    p = 10
    for c in body:
        p = ((p + int(c)) % 10 or 10) * 2 % 11
    return f"{body}{(11 - p) % 10}"


def citizen(n):
    """GB 11643: the nth invented person."""
    born = dt.date(1990, 1, 1) + dt.timedelta(days=n)
    body = f"411702{born:%Y%m%d}99{n % 10}"
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    return body + "10X98765432"[sum(w * int(c) for w, c in zip(weights, body)) % 11]


def serial_date(year, month, day):
    """The number a workbook keeps for a date."""
    return (dt.date(year, month, day) - dt.date(1899, 12, 30)).days


def millis(year, month, day):
    """Midnight in Shanghai, in milliseconds since 1970."""
    zone = dt.timezone(dt.timedelta(hours=8))
    return int(dt.datetime(year, month, day, tzinfo=zone).timestamp()) * 1000


# --- scjg 市场监督管理局: XLS, licences in the columns of 2016 -------------------------------------

USCC, ORG, REG, TAX, ID = (
    "行政相对人代码_1 (统一社会信用代码)", "行政相对人代码_2 (组织机构代码)", "行政相对人代码_3 (工商登记码)",
    "行政相对人代码_4 (税务登记号)", "行政相对人代码_5 (居民身份证号)")
SCJG_COLUMNS = [
    "行政许可决定书文号 ", "项目名称", "审批类别", "许可内容", "行政相对人名称", USCC, ORG, REG, TAX, ID,
    "法定代表人姓名", "许可决定日期", "许可截止期", "许可机关", "当前状态", "地方编码", "数据更新时间戳", "备注",
    "使用范围", "许可证书名称", "许可证编号"]
SCJG_NOTE = "注意:本表为行政许可信息报送模板,请从第三行填起,勿改表头;日期写成2026-11-09,长期有效的截止期写“长期”。"


def scjg_row(n, **given):
    """A clean row, then what the case says."""
    row = {
        "行政许可决定书文号 ": f"驻市监许准〔2026〕第{n:04d}号", "项目名称": "食品经营许可", "审批类别": "普通",
        "许可内容": "准予从事食品销售(含网络经营)", "行政相对人名称": f"驻马店市样例第{n}食品有限公司",
        USCC: uscc(str(n % 100)), "法定代表人姓名": "样例甲", "许可决定日期": "2026-11-12",
        "许可截止期": "2031-11-11", "许可机关": "驻马店市市场监督管理局", "当前状态": "0", "地方编码": "411700",
        "数据更新时间戳": "2026-11-20", "使用范围": "0", "许可证书名称": "食品经营许可证",
        "许可证编号": f"JY1411702{n:07d}"}
    return {**row, **given}


def scjg_rows():
    person = {USCC: "", "法定代表人姓名": "", "项目名称": "特种设备作业人员资格认定", "审批类别": "认可",
              "许可内容": "准予从事起重机作业", "许可证书名称": "特种设备安全管理和作业人员证"}
    return [
        scjg_row(10),
        scjg_row(11, **{"行政相对人名称": "驿城区样例早餐店", USCC: uscc("11", "92")}),
        scjg_row(12, **{"行政相对人名称": "样例人员一", ID: citizen(1), **person}),
        # A lower-case code with blanks, full-width digits, other ways to write dates.
        scjg_row(13, **{USCC: " ".join(re.findall(".{1,6}", uscc("13").lower())),
                        "许可决定日期": "２０２６年１１月１０日", "许可截止期": "2031/11/9"}),
        # No document number: the licence number stands in.
        scjg_row(14, **{"行政许可决定书文号 ": "空"}),
        # No end, and a category in the agency's own words.
        scjg_row(15, **{"项目名称": "公司设立登记", "审批类别": "设立登记", "许可内容": "准予设立登记", "许可截止期": "长期",
                        "许可证书名称": "营业执照", "许可证编号": uscc("15")}),
        # A date kept as a number, and 9999 for no end.
        scjg_row(16, **{"许可决定日期": serial_date(2026, 11, 13), "许可截止期": "9999-09-09"}),
        # The legal representative's number: dropped with a warning.
        scjg_row(17, **{ID: citizen(2)}),
        # 异议: goes on as valid, with a warning.
        scjg_row(18, **{"当前状态": "2", "备注": "当事人提出异议,正在核实"}),
        # Withdrawn.
        scjg_row(19, **{"当前状态": "1", "备注": "撤销许可"}),
        # Not for publication: excluded.
        scjg_row(20, **{"使用范围": "1"}),
        # Refused: wrong check digit; decided after today; ends before it begins; an old
        # registration number in the code's column; nothing to tell the subject by.
        scjg_row(21, **{USCC: wrong(uscc("21"))}),
        scjg_row(22, **{"许可决定日期": "2026-12-01"}),
        scjg_row(23, **{"许可截止期": "2025-11-11"}),
        scjg_row(24, **{USCC: reg_no(24)}),
        scjg_row(25, **{USCC: "/", ORG: "无"}),
    ]


def bulk_rows():
    """1,500 rows as one working fortnight gives them; every 33rd is refused for one of four reasons,
    and 37 have their code in lower case, which is put right with a warning."""
    draw = random.Random(20261123)
    days = [dt.date(2026, 11, day) for day in (9, 10, 11, 12, 13, 16, 17, 18, 19, 20)]
    styles = ["{0:%Y-%m-%d}", "{0:%Y/%m/%d}", "{0:%Y%m%d}", "{0.year}年{0.month}月{0.day}日"]
    items = [
        ("食品经营许可", "普通", "准予从事食品销售", "食品经营许可证", "食品商行"),
        ("公司设立登记", "设立登记", "准予设立登记", "营业执照", "商贸有限公司"),
        ("药品零售许可", "普通", "准予从事药品零售", "药品经营许可证", "大药房有限公司"),
        ("特种设备使用登记", "登记", "准予使用登记", "特种设备使用登记证", "机械有限公司"),
        ("检验检测机构资质认定", "认可", "准予资质认定", "资质认定证书", "检测有限公司")]
    rows = []
    for n in range(1500):
        item, category, content, certificate, trade = items[n % 5]
        at = n % len(DIVISIONS)
        serial = ALPHABET[10 + n // 31 % 21] + ALPHABET[n % 31]
        kind = "92" if trade == "食品商行" else "91"
        decided = draw.choice(days)
        row = scjg_row(n, **{
            "行政许可决定书文号 ": f"驻市监许准〔2026〕第{10000 + n}号", "项目名称": item, "审批类别": category,
            "许可内容": content, "行政相对人名称": f"{PLACES[at]}样例{n:04d}{trade}",
            USCC: uscc(serial, kind, DIVISIONS[at]), "法定代表人姓名": "样例" + "甲乙丙丁戊己庚辛壬癸"[n % 10],
            "许可决定日期": draw.choice(styles).format(decided),
            "许可截止期": "长期" if category == "设立登记" else f"{decided.replace(year=2031)}",
            "地方编码": DIVISIONS[at], "数据更新时间戳": "2026-11-20", "许可证书名称": certificate,
            "许可证编号": f"YL{DIVISIONS[at]}{n:07d}"})
        if n % 33 == 32:
            row.update([
                {USCC: wrong(row[USCC])},
                {"许可截止期": "2025-12-31"},
                {"项目名称": ""},
                {USCC: reg_no(n % 100)},
            ][n // 33 % 4])
        elif n % 40 == 7:
            row[USCC] = row[USCC].lower()
        rows.append(row)
    return rows


def write_xls(path, rows):
    """A note over the heading, data from column B, one sheet with nothing on it."""
    book = xlwt.Workbook(encoding="utf-8")
    sheet = book.add_sheet("行政许可模板")
    sheet.write_merge(0, 0, 1, len(SCJG_COLUMNS), SCJG_NOTE)
    for at, name in enumerate(SCJG_COLUMNS, 1):
        sheet.write(1, at, name)
        for line, row in enumerate(rows, 2):
            if row.get(name, "") != "":
                sheet.write(line, at, row[name])
    book.add_sheet("Sheet2")
    book.save(str(path))


# --- sthj 生态环境局: CSV in GB18030, penalties ----------------------------------------------------

STHJ_COLUMNS = [
    "序号", "行政相对人名称", "行政相对人类别", "统一社会信用代码", "工商注册号", "法定代表人", "证件类型", "证件号码",
    "行政处罚决定书文号", "违法行为类型", "违法事实", "处罚依据", "处罚类别", "处罚内容", "罚款金额(元)",
    "没收违法所得、没收非法财物的金额(元)", "暂扣或吊销证照名称及编号", "处罚决定日期", "处罚有效期", "公示截止期",
    "处罚机关", "数据状态", "是否涉密", "备注"]


def sthj_row(n, **given):
    row = {
        "序号": n, "行政相对人名称": f"驻马店市样例第{n}化工有限公司", "行政相对人类别": "法人及非法人组织",
        "统一社会信用代码": uscc(str(n)), "法定代表人": "样例乙", "行政处罚决定书文号": f"驻环罚决字〔2026〕{n}号",
        "违法行为类型": "超标排放水污染物", "违法事实": "2026年10月现场检查,外排废水化学需氧量超过许可浓度",
        "处罚依据": "《中华人民共和国水污染防治法》第八十三条第二项", "处罚类别": "罚款", "处罚内容": "罚款100000元",
        "罚款金额(元)": "100,000.00", "处罚决定日期": "2026-11-12", "处罚有效期": "2029-11-11",
        "公示截止期": "2027-11-11", "处罚机关": "驻马店市生态环境局", "数据状态": "正常", "是否涉密": "否"}
    return {**row, **given}


def sthj_rows():
    return [
        sthj_row(30),
        sthj_row(31, **{"行政相对人名称": "泌阳县样例养殖场", "行政相对人类别": "个体工商户",
                        "统一社会信用代码": uscc("31", "92", "411726"), "处罚内容": "罚款5000元", "罚款金额(元)": "5,000"}),
        sthj_row(32, **{"行政相对人名称": "样例人员二", "行政相对人类别": "自然人", "统一社会信用代码": "", "法定代表人": "",
                        "证件类型": "身份证", "证件号码": citizen(3), "违法行为类型": "露天焚烧",
                        "违法事实": "露天焚烧秸秆", "处罚内容": "罚款1500元", "罚款金额(元)": "1500"}),
        # Two kinds at once, in the agency's own words.
        sthj_row(33, **{"处罚类别": "罚款+没收违法所得", "处罚内容": "没收违法所得,罚款200000元", "罚款金额(元)": "200,000.00",
                        "没收违法所得、没收非法财物的金额(元)": "36,800.50"}),
        # No end, an empty date in disguise, brackets of another kind, a comma inside a cell.
        sthj_row(34, **{"行政处罚决定书文号": "驻环罚决字[2026]34号", "处罚有效期": "无处罚期限", "公示截止期": "1900-1-1 0:00:00",
                        "违法事实": "未按规定公开监测数据,经责令改正,仍未改正"}),
        # An old sole trader without a code; the x in lower case is put right with a warning.
        sthj_row(35, **{"行政相对人名称": "汝南县样例砂石经营部", "行政相对人类别": "个体户",
                        "统一社会信用代码": "00000000000000000x", "工商注册号": reg_no(35, "411727"),
                        "处罚决定日期": "2026.11.16"}),
        # A certificate taken away.
        sthj_row(36, **{"处罚类别": "罚款;吊销排污许可证",
                        "处罚内容": "罚款100000元,吊销排污许可证", "暂扣或吊销证照名称及编号": f"排污许可证{uscc('36')}001P"}),
        # A character outside GBK, four bytes in GB18030.
        sthj_row(37, **{"行政相对人名称": "驻马店市样例𤭢陶瓷有限公司"}),
        # Withdrawn; excluded.
        sthj_row(38, **{"数据状态": "撤销"}),
        sthj_row(39, **{"是否涉密": "是"}),
        # Refused: wrong check digit; a fine without an amount; an amount that is none; a kind the
        # table does not know; publicity over before the decision.
        sthj_row(40, **{"统一社会信用代码": wrong(uscc("40"))}),
        sthj_row(41, **{"罚款金额(元)": ""}),
        sthj_row(42, **{"罚款金额(元)": "十万元整"}),
        sthj_row(43, **{"处罚类别": "从重处理"}),
        sthj_row(44, **{"公示截止期": "2026-11-01"}),
    ]


def write_csv(path, rows):
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, STHJ_COLUMNS, restval="")
    writer.writeheader()
    writer.writerows(rows)
    path.write_bytes(text.getvalue().encode("gb18030"))


# --- zjj 住房和城乡建设局: XML, construction permits -------------------------------------------------

def zjj_row(n, **given):
    row = {
        "jsdw": {"mc": f"驻马店市样例第{n}置业有限公司", "lb": "法人及非法人组织", "xydm": uscc(str(n)), "frdb": "样例丙"},
        "sgxkzh": f"4117022026111201{n}", "gcmc": f"样例花园{n}号楼", "jsgm": "建筑面积12000平方米",
        "htgq": "合同工期540天", "xk_jdrq": "20261112", "xk_yxqz": "20261112", "xk_yxqzi": "20280505",
        "xk_xkjg": "驻马店市住房和城乡建设局", "zt": "在建", "sfsm": "0"}
    return {**row, **given}


def zjj_rows():
    def owner(n, **given):
        return {**zjj_row(n)["jsdw"], **given}

    return [
        zjj_row(50),
        zjj_row(51, gcmc="样例 A&B 厂房 <一期>", xk_wsh="驻建许〔2026〕51号"),
        zjj_row(52, jsdw=owner(52, mc="驻马店市样例小学", xydm=uscc("52", "12"))),
        # 2018 had no sole traders: reported as an organisation, told by the code.
        zjj_row(53, jsdw=owner(53, mc="遂平县样例加油站", xydm=uscc("53", "92", "411728"), lb="个体工商户")),
        zjj_row(54, jsdw=owner(54, mc="样例村民委员会", xydm=uscc("54", "N2", "411722"))),
        # Words around the number, the older form of dates, a code in lower case.
        zjj_row(55, sgxkzh="编号411702202611130155", xk_jdrq="2026-11-13", jsdw=owner(55, xydm=uscc("55").lower())),
        # A renewal that reaches back: a warning.
        zjj_row(56, xk_yxqz="20261101"),
        zjj_row(57, zt="完工", bz="已竣工验收"),
        # Withdrawn; excluded.
        zjj_row(58, zt="作废"),
        zjj_row(59, sfsm="1"),
        # Refused: no number in the number; ends before it begins; no such day; wrong check digit;
        # no name.
        zjj_row(60, sgxkzh="待补"),
        zjj_row(61, xk_yxqzi="20260505"),
        zjj_row(62, xk_jdrq="20261131"),
        zjj_row(63, jsdw=owner(63, xydm=wrong(uscc("63")))),
        zjj_row(64, jsdw=owner(64, mc="")),
    ]


def element(name, value, depth):
    pad = "  " * depth
    if isinstance(value, dict):
        inner = "".join(element(n, v, depth + 1) for n, v in value.items())
        return f"{pad}<{name}>\n{inner}{pad}</{name}>\n"
    return f"{pad}<{name}>{escape(value)}</{name}>\n"


def write_xml(path, rows):
    body = "".join(element("DATA", row, 1) for row in rows)
    path.write_text(f'<?xml version="1.0" encoding="UTF-8"?>\n<DATAS>\n{body}</DATAS>\n', "utf-8", newline="\n")


# --- jtj 交通运输局: the answer of a REST service, penalties ------------------------------------------

def jtj_row(n, **given):
    row = {
        "id": f"jt-{n}", "CF_XDR_MC": f"驻马店市样例第{n}运输有限公司", "CF_XDR_LB": "02", "l_uniscid": uscc(str(n)),
        "l_regno": None, "l_frdb": "样例丁", "l_cardtype": None, "l_cardnum": None,
        "CF_WSH": f"豫驻交执罚〔2026〕{n}号", "l_case_name": "擅自改变货物运输车辆外廓尺寸",
        "CF_SY": "2026年10月路检,车辆货厢加高", "CF_YJ": "《中华人民共和国道路运输条例》第七十条",
        "l_punish_kind": ["罚款"], "CF_NR": "罚款5000元", "l_fine_amount": 5000, "l_confiscated": None,
        "l_certificate": None, "CF_JDRQ": millis(2026, 11, 12), "CF_YXQ": "20271112", "CF_GSJZQ": "20271112",
        "CF_CFJG": "驻马店市交通运输局", "case_process_type": "02", "del_flag": "0", "l_update_time": "20261120093000",
        "BZ": None}
    return {**row, **given}


def jtj_rows():
    return [
        jtj_row(70),
        jtj_row(71, CF_XDR_MC="上蔡县样例货运部", CF_XDR_LB="04", l_uniscid=uscc("71", "92", "411722")),
        jtj_row(72, CF_XDR_MC="样例人员三", CF_XDR_LB="01", l_uniscid=None, l_frdb=None, l_cardtype="01",
                l_cardnum=citizen(4), l_case_name="未取得从业资格驾驶营运车辆", CF_NR="罚款200元", l_fine_amount=200),
        # Several kinds; an amount as text with a separator; a compact date; an end without one.
        jtj_row(73, l_punish_kind=["警告", "罚款"], CF_NR="警告,罚款12,500元", l_fine_amount="12,500.00",
                CF_JDRQ="20261113"),
        jtj_row(74, CF_YXQ=None, CF_GSJZQ="1899-12-31", CF_JDRQ="2026-11-16 10:20:30"),
        jtj_row(75, l_punish_kind=["没收违法所得", "罚款"], CF_NR="没收违法所得,罚款5000元", l_confiscated=1280.5),
        jtj_row(76, l_punish_kind=["吊销许可证"], CF_NR="吊销道路运输经营许可证", l_fine_amount=None,
                l_certificate="道路运输经营许可证 豫交运管许可驻字411702000076号"),
        # Zero is how this system writes "no fine".
        jtj_row(77, l_punish_kind=["通报批评"], CF_NR="通报批评", l_fine_amount=0),
        # Withdrawn; excluded twice: decided on the spot.
        jtj_row(78, del_flag="1"),
        jtj_row(79, case_process_type="01"),
        jtj_row(80, case_process_type="01", CF_XDR_MC="样例人员四", CF_XDR_LB="01", l_uniscid=None, l_frdb=None,
                l_cardtype="01", l_cardnum=citizen(5), CF_NR="罚款100元", l_fine_amount=100),
        # Refused: wrong check digit; decided after today; a fine without an amount; a person's
        # number that is none; a kind the table does not know.
        jtj_row(81, l_uniscid=wrong(uscc("81"))),
        jtj_row(82, CF_JDRQ=millis(2026, 12, 1)),
        jtj_row(83, l_fine_amount=None),
        jtj_row(84, CF_XDR_MC="样例人员五", CF_XDR_LB="01", l_uniscid=None, l_frdb=None, l_cardtype="01",
                l_cardnum=wrong(citizen(6))),
        jtj_row(85, l_punish_kind=["口头教育"], l_fine_amount=None),
    ]


def write_rest(path, rows):
    answer = {"code": "00", "msg": "", "total": len(rows), "rows": rows}
    path.write_text(json.dumps(answer, ensure_ascii=False, indent=1) + "\n", "utf-8", newline="\n")


# --- cgj 城市管理局: XLSX with instructions, penalties in the columns of 2016 ---------------------------

CGJ_COLUMNS = [
    "行政处罚决定书文号", "处罚名称", "违法行为类型", "处罚类别1", "处罚类别2", "处罚事由", "处罚依据", "行政相对人名称",
    USCC, ORG, REG, TAX, ID, "法定代表人姓名", "处罚结果", "没收金额(万元)", "暂扣或吊销证照名称及编号", "处罚决定日期",
    "公示截止期", "处罚机关", "失信严重程度", "当前状态", "地方编码", "数据更新时间戳", "使用范围", "办案程序", "备注"]
CGJ_NOTES = ["行政处罚信息报送表(2016版)", "表格说明:一行一案,说明行请勿删除",
             "注意:当前状态 0正常 1撤销 2异议 3其他;处罚类别按七类填写,其他须在备注中说明"]


def cgj_row(n, **given):
    row = {
        "行政处罚决定书文号": f"驻城管罚决字〔2026〕第{n}号", "处罚名称": "擅自占用城市道路案", "违法行为类型": "擅自占用城市道路",
        "处罚类别1": "罚款", "处罚事由": "未经批准占用人行道堆放物料", "处罚依据": "《城市道路管理条例》第四十二条",
        "行政相对人名称": f"驻马店市样例第{n}装饰有限公司", USCC: uscc(str(n), "91", "411721"), "法定代表人姓名": "样例戊",
        "处罚结果": "罚款2000元", "处罚决定日期": "2026-11-12", "公示截止期": "2027-11-11",
        "处罚机关": "驻马店市城市管理局", "失信严重程度": "1", "当前状态": "0", "地方编码": "411700",
        "数据更新时间戳": "2026-11-20", "使用范围": "0", "办案程序": "普通程序"}
    return {**row, **given}


def cgj_rows():
    return [
        cgj_row(10),
        cgj_row(11, **{"行政相对人名称": "西平县样例小吃店", USCC: uscc("11", "92", "411721"), "处罚结果": "罚款500元"}),
        cgj_row(12, **{"行政相对人名称": "样例人员六", USCC: "", ID: citizen(7), "法定代表人姓名": "", "处罚结果": "罚款200元"}),
        # Two kinds in two columns.
        cgj_row(13, **{"处罚类别1": "警告", "处罚类别2": "罚款", "处罚结果": "警告,罚款1万元"}),
        # Status left empty (正常), a real date cell, square brackets, no kind of violation.
        cgj_row(14, **{"当前状态": "", "处罚决定日期": dt.date(2026, 11, 16), "行政处罚决定书文号": "驻城管罚决字[2026]第14号",
                       "违法行为类型": ""}),
        # The legal representative's number: dropped with a warning; an empty date in disguise.
        cgj_row(15, **{ID: citizen(8), "公示截止期": "1899-12-31"}),
        # Numbers as numbers.
        cgj_row(16, **{"当前状态": 0, "地方编码": 411700, "失信严重程度": 1, "处罚类别1": "没收非法财物",
                       "处罚结果": "没收非法经营工具", "没收金额(万元)": 0.35}),
        cgj_row(17, **{"处罚类别1": "暂扣许可证", "处罚结果": "暂扣建筑垃圾处置许可证30日",
                       "暂扣或吊销证照名称及编号": "建筑垃圾处置许可证 驻城管渣〔2026〕17号"}),
        # 异议; withdrawn; excluded by procedure and by use.
        cgj_row(18, **{"当前状态": "2"}),
        cgj_row(19, **{"当前状态": "1"}),
        cgj_row(20, **{"办案程序": "简易程序"}),
        cgj_row(21, **{"使用范围": "2"}),
        # Refused: wrong check digit; state 3 cannot be told; 其他 without saying what; a fine whose
        # amount cannot be read from the text; no legal basis.
        cgj_row(22, **{USCC: wrong(uscc("22", "91", "411721"))}),
        cgj_row(23, **{"当前状态": "3", "备注": "已移送"}),
        cgj_row(24, **{"处罚类别1": "其他", "处罚结果": "责令限期拆除"}),
        cgj_row(25, **{"处罚结果": "处以罚款"}),
        cgj_row(26, **{"处罚依据": "/"}),
    ]


def write_xlsx(path, rows):
    """Three merged rows of instructions over the heading."""
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "行政处罚"
    for line, note in enumerate(CGJ_NOTES, 1):
        sheet.cell(line, 1, note)
        sheet.merge_cells(start_row=line, end_row=line, start_column=1, end_column=len(CGJ_COLUMNS))
    for at, name in enumerate(CGJ_COLUMNS, 1):
        sheet.cell(len(CGJ_NOTES) + 1, at, name)
        for line, row in enumerate(rows, len(CGJ_NOTES) + 2):
            if row.get(name, "") != "":
                sheet.cell(line, at, row[name])
    made = io.BytesIO()
    book.save(made)
    # The library writes the time of the run into the file and into the archive: put a fixed one.
    with zipfile.ZipFile(made) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "docProps/core.xml":
                data = re.sub(rb"\d{4}-\d\d-\d\dT[\d:]+Z", b"2026-11-20T00:00:00Z", data)
            info = zipfile.ZipInfo(name, (2026, 11, 20, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            new.writestr(info, data)


# --- yjj 应急管理局: NDJSON pushed over HTTP, licences -------------------------------------------------

def yjj_row(n, subject=None, licence=None, **given):
    row = {
        "guid": f"aq-{n}",
        "subject": {"name": f"驻马店市样例第{n}矿业有限公司", "category": "法人及非法人组织", "uscc": uscc(str(n), "91", "411725"),
                    "legalRep": "样例己", **(subject or {})},
        "licence": {"docNo": f"驻应急许〔2026〕{n}号", "certNo": f"(豫)FM安许证字[2026]{n:05d}",
                    "scope": "露天开采建筑石料用灰岩", "decidedOn": "2026-11-12", "validFrom": "2026-11-12",
                    "validTo": "2029-11-11", **(licence or {})},
        "bizType": "1", "secret": False}
    return {**row, **given}


def yjj_rows():
    return [
        yjj_row(86),
        yjj_row(87, bizType="2", subject={"uscc": uscc("87", "93", "411729"), "name": "新蔡县样例烟花专业合作社"}),
        # Full-width brackets and digits; a time of day; no beginning: the decision is it.
        yjj_row(88, licence={"certNo": "（豫）WH安许证字〔２０２６〕00088", "decidedOn": "2026-11-13T09:30:00+08:00",
                             "validFrom": None}),
        # No document number: the licence number stands in.
        yjj_row(89, licence={"docNo": None}),
        yjj_row(90, licence={"docNo": "无"}, remark="变更法定代表人", bizType="3"),
        yjj_row(91, subject={"uscc": uscc("91", "91", "411725").lower()}),
        # A sole trader.
        yjj_row(92, subject={"name": "确山县样例烟花零售店", "category": "个体工商户", "uscc": uscc("92", "92", "411725")},
                licence={"scope": "零售烟花爆竹", "certNo": "(豫)YH安许证字[2026]00092"}),
        # Withdrawn: 注销; excluded.
        yjj_row(93, bizType="4"),
        yjj_row(94, secret=True),
        # Refused: wrong check digit; a licence number of another form; an unknown kind of business;
        # ends before it begins; a sole trader's code on an organisation.
        yjj_row(95, subject={"uscc": wrong(uscc("95", "91", "411725"))}),
        yjj_row(96, licence={"certNo": "安许2026-96"}),
        yjj_row(97, bizType="9"),
        yjj_row(98, licence={"validTo": "2026-11-01"}),
        yjj_row(99, subject={"uscc": uscc("99", "92", "411725")}),
    ]


def write_ndjson(path, rows):
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text("".join(lines), "utf-8", newline="\n")


def main():
    for agency, name, write, rows in [
        ("scjg", "sample.xls", write_xls, scjg_rows()),
        ("scjg", "bulk.xls", write_xls, bulk_rows()),
        ("sthj", "sample.csv", write_csv, sthj_rows()),
        ("zjj", "sample.xml", write_xml, zjj_rows()),
        ("jtj", "sample.json", write_rest, jtj_rows()),
        ("cgj", "sample.xlsx", write_xlsx, cgj_rows()),
        ("yjj", "sample.ndjson", write_ndjson, yjj_rows()),
    ]:
        (HERE / agency).mkdir(exist_ok=True)
        write(HERE / agency / name, rows)
        print(f"{agency}/{name}: {len(rows)} rows")


if __name__ == "__main__":
    main()
