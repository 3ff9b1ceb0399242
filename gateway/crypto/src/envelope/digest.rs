//! The digest of the content that a signature is of: SM3 of the standard, or in our own profile a
//! list of the digests of its chunks, which sixteen lanes of a vector make at once where one
//! stream of SM3 would keep everything else waiting. See `docs/formats/envelope.md`.

use der::asn1::Any;
use der::{Decode as _, Encode as _};
use spki::AlgorithmIdentifierOwned;
use xinqiao_kernels::sm3_lanes::digest_many;
use zeroize::Zeroizing;

use super::asn1::SM3;
use super::ber::{OCTETS, SEQUENCE, value};
use super::content::Sealing;
use super::{Cipher, EnvelopeError};
use crate::{Sm3Digest, Sm3Stream};

/// OBJECT IDENTIFIER 2.25.269185282045625830151931242744379157105, that is the UUID
/// `ca833314-4458-4bf7-a2e1-78c6721d2a71`, drawn for this. As bytes, because the type for object
/// identifiers has no arcs above 32 bits.
const LIST_OID: [u8; 22] = [
    0x06, 0x14, 0x69, 0x83, 0x95, 0x83, 0x99, 0xc5, 0x88, 0xc5, 0xc2, 0xaf, 0xef, 0xa2, 0xf0, 0xde,
    0x98, 0xe7, 0x90, 0xf4, 0xd4, 0x71,
];
/// What the list is hashed behind.
const LIST_PREFIX: &[u8] = b"xinqiao sm3-list 16384\n";
/// Bytes of a chunk, by measurement: smaller ones make the list dear (at a megabyte 8 KiB cost 3 %,
/// 4 KiB 9 %), larger ones leave lanes empty (at 256 KiB 32 KiB halve the speed).
const CHUNK: usize = 16 << 10;
/// What is hashed at once, and the most that is held.
pub(super) const GROUP: usize = 16 * CHUNK;

/// How the content's digest is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DigestAlgorithm {
    /// The standard's.
    Sm3,
    /// Ours.
    Sm3List,
}

impl DigestAlgorithm {
    /// The one for content sealed (or not) like this. Neither may stand in for the other.
    pub(super) fn of(sealing: Option<&Sealing>) -> Self {
        match sealing.map(Sealing::cipher) {
            Some(Cipher::Gcm) => Self::Sm3List,
            Some(Cipher::Cbc) | None => Self::Sm3,
        }
    }

    /// AlgorithmIdentifier.
    pub(super) fn identifier(self) -> Result<Any, EnvelopeError> {
        let oid = match self {
            Self::Sm3 => SM3.to_der().map_err(|_| EnvelopeError::Part("摘要算法"))?,
            Self::Sm3List => LIST_OID.to_vec(),
        };
        any(&value(SEQUENCE, &oid), "摘要算法")
    }

    /// What a given AlgorithmIdentifier names. SM3 may have NULL for parameters, as OpenSSL writes.
    pub(super) fn parse(identifier: &Any) -> Result<Self, EnvelopeError> {
        if *identifier == Self::Sm3List.identifier()? {
            return Ok(Self::Sm3List);
        }
        let named: AlgorithmIdentifierOwned = identifier
            .decode_as()
            .map_err(|_| EnvelopeError::Algorithm("未知的摘要算法".to_owned()))?;
        match named.parameters.as_ref().is_none_or(Any::is_null) && named.oid == SM3 {
            true => Ok(Self::Sm3),
            false => Err(EnvelopeError::Algorithm(named.oid.to_string())),
        }
    }

    /// What the signed attribute holds: the digest itself as the standard has it; in ours a
    /// DigestInfo, which names the algorithm under the signature, so that the signature of a list
    /// is none of a content that happens to be the list's bytes, nor the other way round.
    pub(super) fn attested(self, digest: &Sm3Digest) -> Result<Any, EnvelopeError> {
        let octets = value(OCTETS, digest);
        let der = match self {
            Self::Sm3 => octets,
            Self::Sm3List => value(SEQUENCE, &[value(SEQUENCE, &LIST_OID), octets].concat()),
        };
        any(&der, "签名属性")
    }

    pub(super) fn stream(self) -> DigestStream {
        match self {
            Self::Sm3 => DigestStream::Sm3(Sm3Stream::default()),
            Self::Sm3List => DigestStream::Sm3List(ListStream::new()),
        }
    }
}

/// A digest on its way.
pub(super) enum DigestStream {
    Sm3(Sm3Stream),
    Sm3List(ListStream),
}

impl DigestStream {
    pub(super) fn update(&mut self, part: &[u8]) {
        match self {
            Self::Sm3(stream) => stream.update(part),
            Self::Sm3List(stream) => stream.update(part),
        }
    }

    pub(super) fn finish(self) -> Sm3Digest {
        match self {
            Self::Sm3(stream) => stream.finish(),
            Self::Sm3List(stream) => stream.finish(),
        }
    }
}

/// SM3 of the prefix, the SM3 of each chunk, and the length in bytes (8, big-endian).
pub(super) struct ListStream {
    list: Sm3Stream,
    held: Zeroizing<Vec<u8>>,
    len: u64,
}

impl ListStream {
    fn new() -> Self {
        let mut list = Sm3Stream::default();
        list.update(LIST_PREFIX);
        Self { list, held: Zeroizing::default(), len: 0 }
    }

    fn update(&mut self, mut part: &[u8]) {
        self.len += part.len() as u64;
        while !part.is_empty() {
            if self.held.is_empty()
                && let Some((group, rest)) = part.split_at_checked(GROUP)
            {
                enlist(&mut self.list, group);
                part = rest;
                continue;
            }
            // All of it at once, so that growing leaves no copy behind.
            let room = GROUP - self.held.len();
            self.held.reserve_exact(room);
            let (now, rest) = part.split_at(part.len().min(room));
            self.held.extend_from_slice(now);
            part = rest;
            if self.held.len() == GROUP {
                enlist(&mut self.list, &self.held);
                self.held.clear();
            }
        }
    }

    fn finish(mut self) -> Sm3Digest {
        enlist(&mut self.list, &self.held);
        self.list.update(&self.len.to_be_bytes());
        self.list.finish()
    }
}

fn enlist(list: &mut Sm3Stream, chunks: &[u8]) {
    let chunks: Vec<&[u8]> = chunks.chunks(CHUNK).collect();
    list.update(digest_many(&chunks).as_flattened());
}

fn any(der: &[u8], what: &'static str) -> Result<Any, EnvelopeError> {
    Any::from_der(der).map_err(|_| EnvelopeError::Part(what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{hex, sm3};

    /// The definition, without streams or lanes.
    fn reference(content: &[u8]) -> Sm3Digest {
        let mut list = b"xinqiao sm3-list 16384\n".to_vec();
        for chunk in content.chunks(16_384) {
            list.extend(sm3(chunk));
        }
        list.extend((content.len() as u64).to_be_bytes());
        sm3(&list)
    }

    fn content(len: usize) -> Vec<u8> {
        (0..len).map(|n| (n % 251) as u8).collect()
    }

    #[test]
    fn a_list_is_what_its_definition_says_at_every_border() {
        let all = content(2 * GROUP + CHUNK + 1);
        let borders = [0, CHUNK, 2 * CHUNK, GROUP - CHUNK, GROUP, GROUP + CHUNK, 2 * GROUP];
        for len in borders.into_iter().flat_map(|at| at.saturating_sub(1)..=at + 1) {
            let expected = reference(&all[..len]);
            for pieces in [1, 1_000, 65_536, GROUP, GROUP + 1, usize::MAX] {
                if pieces == 1 && len > 2 * CHUNK + 1 {
                    continue;
                }
                let mut stream = DigestAlgorithm::Sm3List.stream();
                all[..len].chunks(pieces).for_each(|piece| stream.update(piece));
                assert_eq!(stream.finish(), expected, "{len} bytes in pieces of {pieces}");
            }
        }
    }

    /// The example of `docs/formats/envelope.md`.
    #[test]
    fn the_documented_example() {
        let text = include_str!("../../../docs/formats/envelope.md");
        for len in [0, 40_000] {
            let mut stream = DigestAlgorithm::Sm3List.stream();
            stream.update(&content(len));
            let digest = hex(&stream.finish());
            assert!(text.contains(&digest), "{len}: {digest}");
        }
        let oid = hex(LIST_OID.get(2..).unwrap());
        assert!(text.contains(&oid), "{oid}");
    }

    #[test]
    fn algorithms_are_told_apart() {
        for algorithm in [DigestAlgorithm::Sm3, DigestAlgorithm::Sm3List] {
            let identifier = algorithm.identifier().unwrap();
            assert_eq!(DigestAlgorithm::parse(&identifier).unwrap(), algorithm);
        }
        let others: [&[u8]; 3] = [
            // SHA-256; a list with NULL; another UUID.
            &[0x06, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1],
            &[&LIST_OID[..], &[5, 0]].concat(),
            &[&LIST_OID[..21], &[0x70]].concat(),
        ];
        for other in others {
            let identifier = any(&value(SEQUENCE, other), "").unwrap();
            let parsed = DigestAlgorithm::parse(&identifier);
            assert!(matches!(parsed, Err(EnvelopeError::Algorithm(_))), "{parsed:?}");
        }
    }
}
