//! Rules that no check raises: they are raised where a message is decoded, mapped, converted or
//! delivered, by [`Rule::finding`], and stand in the registry for their texts.

use super::Rule;
use crate::model::{Dimension, Severity};

macro_rules! raised {
    ($($(#[$doc:meta])* $name:ident: $id:literal $severity:ident $dimension:ident,
        $title:literal, $fix:literal, $basis:literal;)*) => {$(
        $(#[$doc])*
        pub const $name: Rule = Rule {
            id: $id,
            severity: Severity::$severity,
            dimension: Dimension::$dimension,
            title: $title,
            fix: $fix,
            basis: $basis,
            check: None,
        };
    )*};
}

raised! {
    /// A text that is no date.
    VALUE_DATE: "value.date" Error Conformity,
        "日期应能识别",
        "请写成2026/03/01或2026-03-01的形式",
        "双公示数据标准:日期格式";
    /// An empty date written as one.
    VALUE_DATE_PLACEHOLDER: "value.date-placeholder" Warning Completeness,
        "日期不得用1900-01-01、1899-12-31、0000-00-00等空值代替",
        "已按空值处理;没有日期请留空",
        "Excel、Access、MySQL的空日期";
    /// A text that is no amount.
    VALUE_AMOUNT: "value.amount" Error Conformity,
        "金额应为十进制数字,最多六位小数",
        "请只填数字,按本列的单位填写",
        "双公示数据标准:金额(万元,六位小数)";
    /// A long number stored as a workbook number: its last digits are gone.
    VALUE_DIGITS_LOST: "value.digits-lost" Error Accuracy,
        "长号码在工作簿中应以文本保存",
        "请把该列设为文本格式,按原件重新录入号码后再报",
        "工作簿的数值只保留15位有效数字";
    /// A row that could not be decoded, or with more cells than columns.
    ROW_MALFORMED: "row.malformed" Error Conformity,
        "行的结构应与表头一致",
        "请核对该行的列数和分隔符、引号,重新导出",
        "报文格式约定";
    /// A note left among the data (填表说明): it is passed over.
    ROW_INSTRUCTION: "row.instruction" Warning Conformity,
        "数据区内不应夹有填表说明",
        "如是说明,请从数据区删去;如是数据,请补全各列",
        "双公示导入模板的填表说明行";
    /// Bytes that are not of the declared encoding.
    ROW_DAMAGED: "row.damaged" Error Accuracy,
        "内容应能按声明的字符编码解码",
        "请核对文件的字符编码(GB18030或UTF-8),重新导出",
        "GB 18030-2022;报文格式约定";
    /// A value its code table does not have.
    MAPPING_LOOKUP: "mapping.lookup" Error Conformity,
        "值应在映射规则的对照表内",
        "请改用对照表内的值,或请平台在对照表中增加",
        "映射规则:对照表";
    /// Empty, and the mapping wants it.
    MAPPING_REQUIRED: "mapping.required" Error Completeness,
        "映射规则要求的项不得为空",
        "请补填后重报",
        "映射规则:必填";
    /// A check written in the mapping.
    MAPPING_CHECK: "mapping.check" Error Consistency,
        "应满足映射规则的校验条件",
        "请按提示核对相关各列",
        "映射规则:校验条件";
    /// The message lacks a column the mapping needs.
    MAPPING_NO_COLUMN: "mapping.no-column" Error Completeness,
        "映射规则要用的列应在报文中",
        "请补上该列,或请平台更新映射规则",
        "映射规则:来源列";
    /// A heading that several columns bear, which differ.
    MAPPING_REPEATED_COLUMN: "mapping.repeated-column" Error Consistency,
        "映射规则要用的表头不应重复",
        "请删去多余的列或改表头;两列都要的,请平台在映射规则中写明第几列(如“备注#2”)",
        "映射规则:来源列";
    /// 简易程序: not to be reported.
    SCOPE_SUMMARY_PROCEDURE: "scope.summary-procedure" Error Conformity,
        "适用简易程序的处罚不报送",
        "无须重报;确非简易程序的,请更正程序类型",
        "河南省社会信用条例第十三条;双公示报送指南(2021,某市)";
    /// 涉密: not to be reported.
    SCOPE_STATE_SECRET: "scope.state-secret" Error Conformity,
        "涉及国家秘密的决定不报送",
        "无须重报;请勿经本系统传送涉密内容",
        "双公示报送指南(2021,某市);保守国家秘密法";
    /// Minor and corrected by the party itself: not to be reported.
    SCOPE_MINOR_CORRECTED: "scope.minor-corrected" Error Conformity,
        "轻微违法并自行纠正的不报送",
        "无须重报;情形不符的,请更正后再报",
        "河南省社会信用条例第十三条";
    /// A word in a column of scope that the mapping knows on neither side: refused, not guessed.
    SCOPE_UNCLEAR: "scope.unclear" Error Conformity,
        "判定是否报送的列(是否涉密、办案程序等)应填映射规则所列的值",
        "请改填映射规则所列的值",
        "双公示报送指南(2021,某市);河南省社会信用条例第十三条";
    /// The same for a column of state: a misspelt 撤销 must not publish what was revoked.
    STATUS_UNCLEAR: "status.unclear" Error Conformity,
        "判定是否撤销的列应填映射规则所列的值",
        "请改填映射规则所列的值",
        "行政处罚法(2021)第四十八条:撤销的决定应撤下";
    /// Younger than 18: not to be published.
    SCOPE_MINOR: "scope.minor" Error Conformity,
        "涉及未成年人的决定不报送",
        "无须重报;当事人确已成年的,请更正后再报",
        "省级公示规则:未成年人与涉密信息不公示;个人信息保护法";
    /// Without 一定社会影响: the agency's flag decides, the gateway does not overrule it.
    SCOPE_NOT_PUBLIC: "scope.not-public" Error Conformity,
        "不具有一定社会影响、机关决定不公开的处罚不报送",
        "无须重报;应当公开的,请更正标志后再报",
        "行政处罚法(2021)第四十八条";
    /// For sharing or authorised queries only: publishing it would widen its use.
    SCOPE_RESTRICTED_USE: "scope.restricted-use" Error Conformity,
        "使用范围限于共享或授权查询的记录不公示",
        "无须重报;可以公示的,请将使用范围改为0(公示)",
        "双公示数据标准(2016版):使用范围";
    /// The mapping table gave the code.
    USCC_FROM_LEGACY: "uscc.from-legacy" Warning Completeness,
        "统一社会信用代码由旧代码按对照表得出",
        "请核对后在源系统中补填统一社会信用代码",
        "驻政〔2018〕85号:统一社会信用代码是报送的必要条件";
    /// Held: the table does not know the row's codes yet.
    USCC_UNRESOLVED: "uscc.unresolved" Warning Completeness,
        "没有统一社会信用代码的,须能由旧代码查到",
        "该行已暂存,时限照常计算:委办局可补填统一社会信用代码后重报;平台运维补充对照表(xinqiao uscc load)后自动续办",
        "驻政〔2018〕85号:统一社会信用代码是报送的必要条件";
    /// Held: the table's lines, or the row's codes, contradict each other.
    USCC_AMBIGUOUS: "uscc.ambiguous" Warning Consistency,
        "旧代码应只对应一个统一社会信用代码",
        "该行已暂存,时限照常计算:委办局请核对各旧代码或补填统一社会信用代码后重报;平台运维请更正对照表中相互矛盾的条目(xinqiao uscc show)",
        "驻政〔2018〕85号:统一社会信用代码是报送的必要条件";
    /// A newer generation cannot be made an older one, nor one dataset another.
    CONVERT_UNSUPPORTED: "convert.unsupported" Error Conformity,
        "只能由旧版数据标准转换到新版",
        "请平台核对映射规则所写的数据集版本",
        "数据标准版本";
    /// No code at all, or only one that organisations and sole traders share: the kind cannot be
    /// told, least of all by the name.
    CONVERT_CATEGORY_UNKNOWN: "convert.category-unknown" Error Completeness,
        "没有代码,或只有工商注册号、税务登记号的相对人无法判定类别",
        "请补填统一社会信用代码(单位、个体工商户)或证件号码(自然人);没有代码的个体工商户填00000000000000000X并填工商注册号",
        "双公示数据标准(2021版):行政相对人类别必填,只能由代码判定";
    /// 异议: the decision stands until the objection is upheld.
    CONVERT_STATUS_DISPUTED: "convert.status-disputed" Warning Consistency,
        "2016版状态“异议”在新版中按有效报送",
        "异议成立后请报撤销",
        "双公示数据标准(2016版、2021版):当前状态";
    /// 其他(备注): only a person can read from the remark what it means.
    CONVERT_STATUS_UNKNOWN: "convert.status-unknown" Error Consistency,
        "2016版状态“其他”无法对应新版状态",
        "请改报0(正常)或1(撤销)",
        "双公示数据标准(2016版、2021版):当前状态";
    /// The name of a case is not quite the kind of violation.
    CONVERT_VIOLATION_TYPE: "convert.violation-type" Warning Accuracy,
        "违法行为类型取自处罚名称",
        "请核对;宜按案由单独填报违法行为类型",
        "双公示数据标准(2016版、2021版):处罚名称、违法行为类型";
    /// An amount read out of free text.
    CONVERT_AMOUNT_DERIVED: "convert.amount-derived" Warning Accuracy,
        "罚款金额由处罚结果文字得出",
        "请核对金额;宜单独填报罚款金额",
        "双公示数据标准(2016版、2021版):处罚结果、罚款金额";
    /// A 税务登记号 of 17 to 20 characters may hold a citizen number.
    CONVERT_TAX_NO_DROPPED: "convert.tax-no-dropped" Warning Conformity,
        "税务登记号超出新版长度,不予转换",
        "无须处理;个体工商户旧税号可能含身份证号码,不宜传送",
        "双公示数据标准(2021版):税务登记号15位";
    /// The platform's answer.
    TARGET_REFUSED: "target.refused" Error Conformity,
        "平台退回的记录须改正后重报",
        "请按平台退回的原因改正后重报",
        "市公共信用信息平台的处理回执";
}
