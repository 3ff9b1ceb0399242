//! The figures of a report: heading, value, and what it means, said once for the table, the CSV file
//! and the workbook with its definitions (口径).

use xinqiao_core::report::Rate;

use super::Line;

/// A figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cell {
    /// A number of things.
    Count(u64),
    /// A part of a whole.
    Rate(Rate),
}

impl std::fmt::Display for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Count(count) => count.fmt(f),
            Self::Rate(rate) => rate.fmt(f),
        }
    }
}

/// A figure of every line.
pub(crate) struct Column {
    /// What it stands under.
    pub(crate) group: &'static str,
    /// Its heading.
    pub(crate) heading: &'static str,
    /// Its value.
    pub(crate) cell: fn(&Line) -> Cell,
    /// What it counts.
    pub(crate) meaning: &'static str,
    /// Whether the table on a terminal has it.
    pub(crate) brief: bool,
}

const ROWS: &str = "报文与行(按报文收到日期)";
const RECORDS: &str = "记录";
const CLOCKS: &str = "时限";
const OPEN: &str = "未受理";
const RATES: &str = "比率";
const PERIODS: &str = "报送周期(在本期内结束的)";

macro_rules! columns {
    ($($group:ident $heading:literal $brief:literal, |$line:ident| $cell:expr, $meaning:literal;)*) => {
        [$(Column {
            group: $group,
            heading: $heading,
            cell: |$line| $cell,
            meaning: $meaning,
            brief: $brief,
        }),*]
    };
}

use Cell::{Count, Rate as Ratio};

/// Every figure.
pub(crate) const COLUMNS: &[Column] = &columns! {
    ROWS "报文" false, |l| Count(l.rows.messages), "在本期内收到的报文份数;同一字节的重复报文只计一份";
    ROWS "失败报文" false, |l| Count(l.rows.failed), "其中整份无法读完的;读到的行仍计入各项";
    ROWS "收到行" true, |l| Count(l.rows.rows), "上列报文中已判定的行数 = 退回 + 重复 + 新记录 + 更正 + 暂存 + 对照";
    ROWS "退回" true, |l| Count(l.rows.rejected), "网关校验不合格、退回委办局的行;一次退回计一行,更正后再报的另计";
    ROWS "重复" false, |l| Count(l.rows.repeated), "与已有记录内容相同,或是迟到的旧版本,不再入库";
    ROWS "新记录" false, |l| Count(l.rows.new), "收下并成为新记录的行";
    ROWS "更正" false, |l| Count(l.rows.corrections), "已有记录的新版本,含变更、撤销;时限仍从首次决定起算";
    ROWS "暂存" false, |l| Count(l.rows.held), "缺统一社会信用代码、等待对照表的行";
    ROWS "对照" false, |l| Count(l.rows.mapped), "装入对照表的行,不是双公示数据";
    RECORDS "报送" true, |l| Count(l.records.records), "属于本期的记录数(一个行政决定一条,不论报送几次、有几个版本)= 受理 + 未到期 + 临期 + 逾期未受理";
    RECORDS "受理" true, |l| Count(l.records.accepted), "其中已被平台受理(任一版本、任一投递目标)的 = 法定按期 + 逾期受理";
    RECORDS "平台拒绝" false, |l| Count(l.records.refused), "其中目前被平台拒绝、尚未更正的;不参与上述等式";
    RECORDS "撤销" false, |l| Count(l.records.withdrawn), "其中目前已撤销的;不参与上述等式";
    CLOCKS "承诺按期" true, |l| Count(l.records.on_time_pledged), "在承诺时限(双公示为决定次日起第7个自然日,驻政〔2018〕85号)当天24时前受理";
    CLOCKS "法定按期" true, |l| Count(l.records.on_time_statutory), "在法定时限(双公示为决定次日起第7个工作日,发改办财金〔2018〕424号)当天24时前受理";
    CLOCKS "承诺逾期" false, |l| Count(l.records.missed_pledged()), "超过承诺时限才受理,或已超过而仍未受理";
    CLOCKS "逾期受理" false, |l| Count(l.records.late.total()), "超过法定时限才受理";
    CLOCKS "逾期未受理" false, |l| Count(l.records.overdue.total()), "已超过法定时限,仍未受理";
    CLOCKS "逾期-报送晚" true, |l| Count(l.records.late.agency_arrival + l.records.overdue.agency_arrival), "法定逾期(受理与未受理)中,首次收到时已过法定时限:责任在委办局";
    CLOCKS "逾期-更正晚" true, |l| Count(l.records.late.agency_refusal + l.records.overdue.agency_refusal), "法定逾期中,按期收到但曾被退回或拒绝:责任在委办局";
    CLOCKS "逾期-网关" true, |l| Count(l.records.late.gateway + l.records.overdue.gateway), "法定逾期中,按期收到、未被退回,而网关未在时限内发出";
    CLOCKS "逾期-平台" true, |l| Count(l.records.late.platform + l.records.overdue.platform), "法定逾期中,按期发出而平台未在时限内受理";
    OPEN "未到期" true, |l| Count(l.records.in_time), "尚未受理,距法定时限还有两个以上工作日";
    OPEN "临期" true, |l| Count(l.records.at_risk), "尚未受理,今天之后到法定时限至多还有一个工作日";
    OPEN "暂定时限" false, |l| Count(l.records.provisional), "法定时限涉及尚未公布放假安排的日子,公布后可能变化;不参与上述等式";
    RATES "合规率" true, |l| Ratio(l.rows.compliance()), "(新记录 + 更正)÷(新记录 + 更正 + 退回)";
    RATES "入库率" false, |l| Ratio(l.records.acceptance()), "受理 ÷ 报送";
    RATES "承诺按期率" false, |l| Ratio(l.records.pledged_punctuality()), "承诺按期 ÷(承诺按期 + 承诺逾期)";
    RATES "法定按期率" true, |l| Ratio(l.records.punctuality()), "法定按期 ÷(法定按期 + 逾期受理 + 逾期未受理);未到期、临期的尚无结果,不计";
    RATES "迟报率" true, |l| Ratio(l.records.lateness()), "(逾期受理 + 逾期未受理)÷ 报送,不论责任在谁";
    RATES "单位迟报率" false, |l| Ratio(l.records.agency_lateness()), "(逾期-报送晚 + 逾期-更正晚)÷ 报送";
    PERIODS "应报周期" false, |l| Count(l.periods.expected), "feeds.yaml 的 duties 规定应报、且最后一天在本期内的周期 = 有数据 + 零报告 + 缺报 + 待报";
    PERIODS "有数据周期" false, |l| Count(l.periods.data), "至少有一条决定日期在该周期内的记录";
    PERIODS "零报告" true, |l| Count(l.periods.zero), "应报周期中没有数据、由有效零报告覆盖的";
    PERIODS "缺报" true, |l| Count(l.periods.missing), "既无数据也无有效零报告,且该周期最后一天的法定时限已过:没有声音不等于合规";
    PERIODS "待报" false, |l| Count(l.periods.waiting), "既无数据也无有效零报告,时限未过";
    PERIODS "零报告作废" false, |l| Count(l.periods.contradicted), "有零报告而该零报告所报周期内已出现数据,零报告自动作废的周期";
    PERIODS "周期报送率" false, |l| Ratio(l.periods.reported()), "(有数据 + 零报告)÷(有数据 + 零报告 + 缺报)";
};
