//! Names of keys.

use std::fmt;
use std::str::FromStr;

/// What a key is for. A holder has one of each (双证书), and neither does the other's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyUse {
    /// Signs (签名).
    Sign,
    /// Opens what others sealed (加密).
    Encrypt,
}

/// `name.use.generation`, such as `gateway.sign.0001`: one key pair, for ever.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId {
    name: String,
    usage: KeyUse,
    generation: u16,
}

/// Not a key's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "密钥名应形如 gateway.sign.0001:名称用小写字母、数字和连字符,用途为 sign 或 encrypt,序号为 0001 至 9999"
)]
pub struct InvalidKeyId;

impl KeyId {
    /// A key's id. The name is 1 to 64 of `a-z 0-9 -`, starting with a letter or digit; the
    /// generation 1 to 9,999.
    pub fn new(name: &str, usage: KeyUse, generation: u16) -> Result<Self, InvalidKeyId> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let fits = (1..=64).contains(&name.len())
            && !name.starts_with('-')
            && name.bytes().all(allowed)
            && (1..=9999).contains(&generation);
        fits.then(|| Self { name: name.to_owned(), usage, generation }).ok_or(InvalidKeyId)
    }

    /// Whose.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// For what.
    pub fn usage(&self) -> KeyUse {
        self.usage
    }

    /// The how manieth, from 1.
    pub fn generation(&self) -> u16 {
        self.generation
    }
}

impl fmt::Display for KeyUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sign => "sign",
            Self::Encrypt => "encrypt",
        })
    }
}

impl FromStr for KeyUse {
    type Err = InvalidKeyId;

    fn from_str(text: &str) -> Result<Self, InvalidKeyId> {
        match text {
            "sign" => Ok(Self::Sign),
            "encrypt" => Ok(Self::Encrypt),
            _ => Err(InvalidKeyId),
        }
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{:04}", self.name, self.usage, self.generation)
    }
}

impl FromStr for KeyId {
    type Err = InvalidKeyId;

    fn from_str(text: &str) -> Result<Self, InvalidKeyId> {
        let mut parts = text.split('.');
        let (Some(name), Some(usage), Some(generation), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(InvalidKeyId);
        };
        if generation.len() != 4 || !generation.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(InvalidKeyId);
        }
        let generation = generation.parse().map_err(|_| InvalidKeyId)?;
        Self::new(name, usage.parse()?, generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_one_writing() {
        let id = KeyId::new("gateway-1", KeyUse::Encrypt, 12).unwrap();
        assert_eq!(id.to_string(), "gateway-1.encrypt.0012");
        assert_eq!("gateway-1.encrypt.0012".parse(), Ok(id));
        for wrong in [
            "",
            "a",
            "a.sign",
            "a.sign.1",
            "a.sign.0000",
            "a.sign.+001",
            "a.sign.00001",
            "A.sign.0001",
            "-a.sign.0001",
            ".sign.0001",
            "../a.sign.0001",
            "a/b.sign.0001",
            "a.other.0001",
            "a.sign.0001.key",
            "名.sign.0001",
        ] {
            assert_eq!(wrong.parse::<KeyId>(), Err(InvalidKeyId), "{wrong}");
        }
    }
}
