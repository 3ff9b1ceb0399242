//! The parts fields play for rules.

use serde::{Deserialize, Serialize};

/// The part a field plays, the same across datasets and generations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// 行政相对人名称
    SubjectName,
    /// 行政相对人类别
    SubjectCategory,
    /// 统一社会信用代码
    SubjectUscc,
    /// 工商注册号
    SubjectRegNo,
    /// 组织机构代码
    SubjectOrgCode,
    /// 税务登记号
    SubjectTaxNo,
    /// 事业单位证书号
    SubjectInstitutionNo,
    /// 社会组织登记证号
    SubjectSocialNo,
    /// 居民身份证号 of generation A: the person's own, or the legal representative's of an organisation
    SubjectMixedId,
    /// 法定代表人
    LegalRep,
    /// 法定代表人证件类型
    LegalRepIdType,
    /// 法定代表人证件号码
    LegalRepIdNo,
    /// 自然人证件类型
    PersonIdType,
    /// 自然人证件号码
    PersonIdNo,
    /// 决定文书名称, 项目名称, 处罚名称
    DocTitle,
    /// 决定文书号
    DocNumber,
    /// 许可类别 / 审批类别
    LicenceCategory,
    /// 许可证书名称
    LicenceName,
    /// 许可编号
    LicenceNumber,
    /// 许可内容 / 处罚内容 / 处罚结果
    Content,
    /// 许可或处罚决定日期
    DecisionDate,
    /// 有效期自
    ValidFrom,
    /// 有效期至 / 截止期
    ValidTo,
    /// 公示截止期
    PublicityEnd,
    /// 许可或处罚机关
    AgencyName,
    /// 机关统一社会信用代码
    AgencyCode,
    /// 当前状态
    Status,
    /// 数据来源单位
    SourceName,
    /// 数据来源单位统一社会信用代码
    SourceCode,
    /// 违法行为类型
    ViolationType,
    /// 违法事实
    Facts,
    /// 处罚依据
    LegalBasis,
    /// 处罚类别
    PenaltyCategory,
    /// 处罚类别2 of generation A
    PenaltyCategory2,
    /// 罚款金额(万元)
    FineAmount,
    /// 没收金额(万元)
    ConfiscatedAmount,
    /// 暂扣或吊销证照名称及编号
    RevokedCertificate,
    /// 地方编码
    DivisionCode,
    /// 数据更新时间戳
    UpdatedAt,
    /// 使用范围
    UseScope,
    /// 权力编码
    PowerCode,
    /// 失信严重程度
    Seriousness,
    /// 旧代码类型 of the mapping table
    LegacyKind,
    /// 旧代码 of the mapping table
    LegacyCode,
    /// 生效日期 of a line of the mapping table
    MappedFrom,
    /// 失效日期 of a line of the mapping table
    MappedTo,
    /// 备注
    Remark,
}

impl Role {
    /// How many roles there are: `role as usize` is below it.
    pub(super) const COUNT: usize = Self::Remark as usize + 1;
}
