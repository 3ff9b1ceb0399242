//! Typed identifiers. An [`AgencyId`] never fits where a [`DatasetId`] is asked for.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Why a text is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("标识“{0}”无效:应以小写字母开头,只含小写字母、数字和连字符,不超过64个字符")]
pub struct InvalidId(String);

fn checked(text: &str) -> Result<Arc<str>, InvalidId> {
    let first = text.as_bytes().first().is_some_and(u8::is_ascii_lowercase);
    let rest = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if first && rest && text.len() <= 64 {
        Ok(Arc::from(text))
    } else {
        Err(InvalidId(text.chars().take(80).collect()))
    }
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        ///
        /// Lower-case ASCII letter first, then letters, digits and hyphens; at most 64 characters.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Parses an identifier.
            pub fn new(text: &str) -> Result<Self, InvalidId> {
                checked(text).map(Self)
            }

            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                Self::new(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }
    )*};
}

ids! {
    /// An agency (委办局), e.g. `scjg`.
    AgencyId;
    /// A dataset (数据集), e.g. `admin-penalty`.
    DatasetId;
    /// A feed (接入任务): one agency × one dataset × one source.
    FeedId;
    /// A mapping (映射规则).
    MappingId;
    /// A delivery target (投递目标).
    TargetId;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_slugs_and_refuses_the_rest() {
        assert_eq!(AgencyId::new("scjg-2").unwrap().as_str(), "scjg-2");
        for bad in ["", "2a", "A", "a_b", "局", "a b", &"a".repeat(65)] {
            assert!(AgencyId::new(bad).is_err(), "{bad}");
        }
        assert!(serde_json::from_str::<FeedId>("\"a/b\"").is_err());
    }
}
