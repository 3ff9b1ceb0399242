//! PEM (RFC 7468): files with one or several blocks, and any text around them.

use der::pem::{LineEnding, decode_vec, encode_string};
use zeroize::Zeroizing;

/// One `-----BEGIN label-----` block, decoded. May hold a secret, so it is erased on drop.
#[derive(Clone)]
pub struct Block {
    /// What stands after `BEGIN`, such as `CERTIFICATE`.
    pub label: String,
    /// The bytes inside.
    pub der: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Block({}, {} bytes)", self.label, self.der.len())
    }
}

/// A block that is not closed or whose content is no base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("PEM 格式不正确")]
pub struct MalformedPem;

/// All blocks of a file in order; none if there is no PEM in it.
pub fn blocks(bytes: &[u8]) -> Result<Vec<Block>, MalformedPem> {
    const BEGIN: &str = "-----BEGIN ";
    let Ok(mut rest) = std::str::from_utf8(bytes) else {
        return Ok(Vec::new());
    };
    let mut blocks = Vec::new();
    while let Some((_, from)) = rest.split_once(BEGIN) {
        let (label, _) = from.split_once("-----").ok_or(MalformedPem)?;
        let end = format!("-----END {label}-----");
        let (body, after) = from.split_once(&end).ok_or(MalformedPem)?;
        let text = Zeroizing::new(format!("{BEGIN}{body}{end}\n"));
        let (_, der) = decode_vec(text.as_bytes()).map_err(|_| MalformedPem)?;
        blocks.push(Block { label: label.to_owned(), der: Zeroizing::new(der) });
        rest = after;
    }
    Ok(blocks)
}

/// One block as text, lines of 64 characters.
pub fn encode(label: &str, der: &[u8]) -> Zeroizing<String> {
    // Fails only for a label that is no label, or above 4 GiB.
    Zeroizing::new(encode_string(label, LineEnding::LF, der).unwrap_or_default())
}
