//! The files' keys, each named once. The Chinese doc comments are for the people who write them.

use std::collections::BTreeMap;
use std::ops::Range;
use xinqiao_core::file_struct;

use xinqiao_core::yaml::{At, Entries, FromNode, Node, Reader, Several, Tree, pairs};

file_struct! {
    /// 信桥网关的运行配置
    pub(super) struct GatewayFile {
        /// 配置版本,现为 1
        config: At<u32>,
        /// 持久化数据所在目录
        data: At<String>,
        /// 目录、日历、映射规则所在目录;不写则用程序自带的
        mappings: Option<At<String>>,
        /// 网关自己的密钥,以及信任谁的证书
        keys: KeysFile,
        /// 委办局推送的监听地址;不写则不监听
        listen: Option<ListenFile>,
        /// 解码、映射、校验的并行数;1 到 256,不写则与处理器核数相同
        workers: Option<At<u32>>,
        /// 投递目标
        targets: Entries<TargetFile>,
    }
}

file_struct! {
    /// 密钥与信任。密钥用 xinqiao keys 管理
    pub(super) struct KeysFile {
        /// 密钥目录,见 docs/formats/keys.md;密钥在密码设备中时,只放证书
        folder: At<String>,
        /// 打开密钥的口令,写成 { file: … } 或 { env: … };密钥在密码设备中时不写
        passphrase: Option<At<Params>>,
        /// 密钥所在的密码设备(密码机、密码卡);不写则密钥在目录中
        device: Option<At<DeviceFile>>,
        /// 网关签名、收件所用密钥的名称,缺省 gateway
        identity: Option<At<String>>,
        /// 落盘加密所用密钥的名称,缺省 storage
        storage: Option<At<String>>,
        /// 信任的签发者(CA)证书文件;不写则只信任直接写明的证书
        trust: Option<Several<At<String>>>,
        /// 吊销列表文件(PEM 或 DER),改动后自动重读;写了就要求每个签发者都有,且须写 trust
        revocations: Option<Several<At<String>>>,
        /// 吊销列表过期时:accept 告警并照旧使用,refuse 拒绝须查该列表的信封;缺省 accept
        stale_revocations: Option<At<String>>,
    }
}

file_struct! {
    /// 密码设备,经厂商的 GM/T 0018 接口库使用
    pub(super) struct DeviceFile {
        /// 厂商的接口库文件(.so)
        library: At<String>,
        /// 私钥使用权限的口令,写成 { file: … } 或 { env: … }
        pin: At<Params>,
        /// 密钥名称与它在设备中的索引;更换密钥时在后面添加新的索引,如 gateway: [1, 3]
        keys: At<Entries<Several<At<u32>>>>,
        /// SDF_InternalDecrypt_ECC 的参数:plain,或 with-algorithm(索引后有算法标识),看厂商手册;写反会崩溃
        decrypt: At<String>,
        /// 同时使用的会话数,1 到 64,缺省 8;接口库不支持多线程的写 1
        sessions: Option<At<u32>>,
    }
}

file_struct! {
    /// 监听
    pub(super) struct ListenFile {
        /// IP:端口
        address: At<String>,
        /// 证书与私钥(PEM 文件);不写则为明文,只应监听在本机或由前置代理加密
        tls: Option<TlsFile>,
    }
}

file_struct! {
    /// 监听的 TLS,详见 docs/formats/tls.zh.md
    pub(super) struct TlsFile {
        /// classical 只用国际算法,gm 只用国密(RFC 8998),either 两者都可、能用国密的一律用国密;缺省 classical
        policy: Option<At<String>>,
        /// 国际算法的证书链文件(PEM)
        cert: Option<At<String>>,
        /// 国际算法的私钥文件(PEM)
        key: Option<At<String>>,
        /// 国密签名密钥的名称,在密钥目录中
        gm_key: Option<At<String>>,
        /// 是否要求客户端出示证书:none、optional 或 required,缺省 none
        clients: Option<At<String>>,
        /// 验证客户端证书的根证书文件(PEM)
        roots: Option<Several<At<String>>>,
        /// 吊销列表文件(PEM 或 DER),改动后自动重读;写了就要求每个签发者都有
        crls: Option<Several<At<String>>>,
        /// 吊销列表过期时:accept 告警并照旧使用,refuse 拒绝连接;缺省 accept
        stale_crls: Option<At<String>>,
    }
}

file_struct! {
    /// 网关向外连接的 TLS,详见 docs/formats/tls.zh.md
    pub(super) struct LinkTlsFile {
        /// classical 或 gm;不会由一种退到另一种
        policy: At<String>,
        /// 验证对方的根证书文件(PEM)
        roots: At<Several<At<String>>>,
        /// 吊销列表文件(PEM 或 DER),改动后自动重读;写了就要求每个签发者都有
        crls: Option<Several<At<String>>>,
        /// 吊销列表过期时:accept 告警并照旧使用,refuse 拒绝连接;缺省 accept
        stale_crls: Option<At<String>>,
        /// 本方的国际算法证书链文件(PEM),对方要求时出示
        cert: Option<At<String>>,
        /// 本方的国际算法私钥文件(PEM)
        key: Option<At<String>>,
        /// 本方的国密签名密钥名称,在密钥目录中,对方要求时出示其证书
        gm_key: Option<At<String>>,
    }
}

file_struct! {
    /// 一个投递目标
    pub(super) struct TargetFile {
        /// 协议:rest 或 soap
        kind: At<String>,
        /// 协议的参数
        params: At<Params>,
        /// 以数字信封投递:签名并加密给收件证书;不写则不加信封
        seal: Option<SealFile>,
        /// 连接所用的 TLS;不写则用参数 ca、client-cert、client-key(国际算法)
        tls: Option<LinkTlsFile>,
        /// 每次请求的记录数,1 到 5000,缺省 200
        batch: Option<At<u32>>,
        /// 同时进行的请求数,1 到 64,缺省 2
        concurrency: Option<At<u32>>,
        /// 首次重试前等待的毫秒数上限,1 到 86400000,缺省 2000
        retry_base_millis: Option<At<u32>>,
        /// 重试等待的毫秒数上限,不小于 retry-base-millis,至多 86400000,缺省 300000
        retry_cap_millis: Option<At<u32>>,
        /// 投递次数用尽即成死信,1 到 1000000,缺省 30
        max_attempts: Option<At<u32>>,
        /// 一批记录最多占用的秒数,5 到 86400,缺省 120
        lease_seconds: Option<At<u32>>,
    }
}

file_struct! {
    /// 投递所用的数字信封
    pub(super) struct SealFile {
        /// 收件方的加密证书文件,至少一份
        to: At<Several<At<String>>>,
        /// 加密方式:standard(SM4-CBC,国标)或 gcm(SM4-GCM,对端须也是信桥);缺省 standard
        cipher: Option<At<String>>,
    }
}

file_struct! {
    /// 委办局与接入任务
    pub(super) struct FeedsFile {
        /// 配置版本,现为 1
        config: At<u32>,
        /// 委办局
        agencies: Entries<AgencyFile>,
        /// 接入任务
        feeds: Entries<FeedFile>,
    }
}

file_struct! {
    /// 一个委办局
    pub(super) struct AgencyFile {
        /// 全称
        name: String,
        /// 该局的签名证书文件(PEM 或 DER),换证期间可写多份;用于核对信封的签名者
        certificates: Option<Several<At<String>>>,
        /// 该局推送时出示的 TLS 客户端证书文件(PEM 或 DER),换证期间可写多份;写了就只收持其一的连接
        client_certificates: Option<Several<At<String>>>,
        /// 报送责任:数据集及其报送周期,用来判断缺报,详见 docs/formats/reports.zh.md;不写则不判断
        duties: Option<Entries<DutyFile>>,
    }
}

file_struct! {
    /// 一项报送责任
    pub(super) struct DutyFile {
        /// 报送周期:week(周一至周日)或 month
        every: At<String>,
        /// 从哪一天起,如 2026-10-01;这一天所在的周期是第一个
        since: At<String>,
        /// 到哪一天止;不写则一直有效
        until: Option<At<String>>,
    }
}

file_struct! {
    /// 一个接入任务:一个委办局 × 一份映射规则 × 一个数据源
    pub(super) struct FeedFile {
        /// 委办局
        agency: At<String>,
        /// 映射规则的标识
        mapping: At<String>,
        /// 投递目标,至少一个
        targets: At<Several<At<String>>>,
        /// 数据源
        source: SourceFile,
        /// 报文是否为数字信封:required 必须签名并加密,allowed 可以是;不写则不拆信封
        envelope: Option<At<String>>,
        /// 单个报文的最大兆字节数,1 到 102400,缺省 1024
        max_megabytes: Option<At<u32>>,
    }
}

file_struct! {
    /// 数据源
    pub(super) struct SourceFile {
        /// 协议:folder、rest、soap、push 或 soap-push
        kind: At<String>,
        /// 协议的参数
        params: At<Params>,
        /// 连接所用的 TLS;不写则用参数 ca、client-cert、client-key(国际算法)
        tls: Option<LinkTlsFile>,
    }
}

/// Parameters of an adapter, which only the adapter understands. Scalars that read as JSON numbers
/// or truth values become such; adapters take numbers as text where they want text.
#[derive(Debug, Clone)]
pub(super) struct Params {
    pub(super) map: serde_json::Map<String, serde_json::Value>,
    /// Where each key stands, by the keys from the outermost, joined by dots.
    keys: BTreeMap<String, Range<usize>>,
}

impl Params {
    /// Where a key stands; of one that is not there, the key it belongs under.
    pub(super) fn place(&self, at: &str) -> Option<Range<usize>> {
        let mut at = at;
        loop {
            if let Some(span) = self.keys.get(at) {
                return Some(span.clone());
            }
            at = at.rsplit_once('.')?.0;
        }
    }
}

impl schemars::JsonSchema for Params {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Params".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "object" })
    }
}

impl FromNode for Params {
    fn from_node(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut keys = BTreeMap::new();
        let map = object(node, "", &mut keys, reader)?;
        Some(Self { map, keys })
    }
}

fn object(
    node: &Node,
    at: &str,
    keys: &mut BTreeMap<String, Range<usize>>,
    reader: &mut Reader<'_>,
) -> Option<serde_json::Map<String, serde_json::Value>> {
    let mut map = serde_json::Map::new();
    for (key, value) in pairs(node, reader)? {
        let path = format!("{at}{}", key.value);
        let value = json(value, &path, keys, reader);
        keys.insert(path, key.span);
        map.extend(value.map(|value| (key.value, value)));
    }
    Some(map)
}

fn json(
    node: &Node,
    at: &str,
    keys: &mut BTreeMap<String, Range<usize>>,
    reader: &mut Reader<'_>,
) -> Option<serde_json::Value> {
    Some(match &node.tree {
        Tree::Null => serde_json::Value::Null,
        Tree::Text(text) => match serde_json::from_str(text) {
            Ok(value @ (serde_json::Value::Number(_) | serde_json::Value::Bool(_))) => value,
            _ => serde_json::Value::String(text.clone()),
        },
        Tree::List(items) => {
            items.iter().map(|item| json(item, at, keys, reader)).collect::<Option<_>>()?
        }
        Tree::Map(_) => serde_json::Value::Object(object(node, &format!("{at}."), keys, reader)?),
    })
}
