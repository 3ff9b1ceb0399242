//! What devices answer when they fail (GM/T 0018-2012 appendix A), in words.

use xinqiao_crypto::keystore::KeyStoreError;

/// `SDR_KEYNOTEXIST`.
const NO_KEY: u32 = 0x0100_0008;
/// Codes that tell of the device, not of what it was given: no support, no connection, hardware,
/// device, session, no right, no key, step out of order, right to the key.
const OWN: [u32; 9] = [
    0x0100_0002,
    0x0100_0003,
    0x0100_0004,
    0x0100_0005,
    0x0100_0006,
    0x0100_0007,
    NO_KEY,
    0x0100_0010,
    0x0100_0018,
];

/// A failure of the device or its library.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// The library does not load.
    #[error("无法加载厂商库:{0}")]
    Library(String),
    /// The library lacks a function.
    #[error("厂商库缺少函数 {0}{hint}", hint = hint(.0))]
    Missing(&'static str),
    /// A function gave a code.
    #[error("{function} 返回 0x{code:08X}({words})", words = words(*.code))]
    Code {
        /// Which function.
        function: &'static str,
        /// What it gave.
        code: u32,
    },
    /// The device gave something that cannot be right.
    #[error("设备返回的数据不正确:{0}")]
    Wrong(&'static str),
    /// The right to a key was refused earlier; asking again might lock the key.
    #[error(
        "设备已拒绝所配口令({0}),为免密钥被锁定不再尝试:请核对 gateway.yaml 的 keys.device.pin 后重启网关"
    )]
    Refused(String),
}

impl Fault {
    /// Is there no such key?
    pub(crate) fn is_no_key(&self) -> bool {
        matches!(self, Self::Code { code: NO_KEY, .. })
    }

    /// Can what was given to the device not be to blame?
    pub(crate) fn is_own(&self) -> bool {
        !matches!(self, Self::Code { code, .. } if !OWN.contains(code))
    }

    /// Was it refused to use a key, as far as one can tell? Vendors have codes of their own for a
    /// wrong PIN, so all count but those that certainly mean something else.
    pub(crate) fn refuses(&self) -> bool {
        const ELSE: [u32; 6] =
            [0x0100_0002, 0x0100_0003, 0x0100_0004, 0x0100_0005, 0x0100_0006, NO_KEY];
        matches!(self, Self::Code { function: "SDF_GetPrivateKeyAccessRight", code }
            if !ELSE.contains(code))
    }
}

impl From<Fault> for KeyStoreError {
    fn from(fault: Fault) -> Self {
        Self::Device(fault.to_string())
    }
}

fn hint(function: &str) -> &'static str {
    match function {
        "SDF_InternalDecrypt_ECC" => {
            ":此函数不在GM/T 0018标准中,由各厂商扩展提供;没有它,设备无法解开发给网关的数字信封,请向厂商索取支持的版本"
        }
        _ => ":请核对 gateway.yaml 的 keys.device.library 是否为厂商的 GM/T 0018 接口库",
    }
}

fn words(code: u32) -> &'static str {
    let known = [
        "未知错误",
        "不支持此功能",
        "与设备通信失败",
        "硬件模块无响应",
        "打开设备失败",
        "创建会话失败",
        "没有私钥使用权限",
        "密钥不存在",
        "不支持的算法",
        "不支持的算法模式",
        "公钥运算失败",
        "私钥运算失败",
        "签名失败",
        "验签失败",
        "对称运算失败",
        "步骤错误",
        "文件大小错误",
        "文件不存在",
        "文件偏移错误",
        "密钥类型错误",
        "密钥错误",
        "加密数据错误",
        "随机数产生失败",
        "获取私钥使用权限失败",
        "MAC运算失败",
        "文件已存在",
        "文件写入失败",
        "缓冲区不足",
        "输入参数错误",
        "输出参数错误",
    ];
    let at = code.checked_sub(0x0100_0001).and_then(|at| usize::try_from(at).ok());
    at.and_then(|at| known.get(at)).copied().unwrap_or("厂商自定义错误,请查厂商手册")
}
