//! What is remembered of files: the cursor.

use std::collections::BTreeSet;

use super::sequence::Series;

/// What is remembered for good, with every message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Memory {
    /// Digests of what was taken and still stands.
    pub(super) taken: BTreeSet<u128>,
    pub(super) series: Series,
    /// The gaps told last; not kept over a restart.
    pub(super) told: String,
    /// How many were taken since the memory was kept last; likewise.
    pub(super) unkept: usize,
}

/// So many files are remembered whatever it costs: 16 KiB of cursor.
const CHEAP: usize = 1024;

impl Memory {
    /// Whether the memory is to be kept with the file just taken. All of it is written every time:
    /// where many files stand, only with every so manieth, so that a file costs about 16 KiB
    /// however many there are. After a crash the few in between are handed over again, and the
    /// inbox knows them by their content.
    pub(super) fn is_due(&self) -> bool {
        self.unkept >= self.taken.len() / CHEAP
    }

    /// Layout of the cursor: `f1`, then the 16-byte digest of every file taken that still stands in
    /// the place; with numbered files `f2`, how many digests there are (4 bytes), the digests, and
    /// the series as text. Another layout reads as nothing taken: the inbox knows duplicates by
    /// content.
    pub(super) fn encode(&self) -> Vec<u8> {
        let series = self.series.encode();
        let mut bytes = if series.is_empty() {
            b"f1".to_vec()
        } else {
            let count = u32::try_from(self.taken.len()).unwrap_or(u32::MAX);
            [b"f2".as_slice(), &count.to_be_bytes()].concat()
        };
        for digest in &self.taken {
            bytes.extend_from_slice(&digest.to_be_bytes());
        }
        bytes.extend_from_slice(series.as_bytes());
        bytes
    }

    pub(super) fn decode(cursor: &[u8]) -> Self {
        let read = |digests: &[u8]| {
            digests.as_chunks::<16>().0.iter().map(|digest| u128::from_be_bytes(*digest)).collect()
        };
        let (taken, series) = match cursor.split_first_chunk::<2>() {
            Some((b"f1", digests)) => (read(digests), ""),
            Some((b"f2", rest)) => {
                let (count, rest) = rest.split_first_chunk::<4>().unwrap_or((&[0; 4], b""));
                let count = usize::try_from(u32::from_be_bytes(*count)).unwrap_or(0);
                let at = count.saturating_mul(16).min(rest.len());
                let (digests, series) = rest.split_at_checked(at).unwrap_or((rest, b""));
                (read(digests), std::str::from_utf8(series).unwrap_or_default())
            }
            _ => (BTreeSet::new(), ""),
        };
        Self { taken, series: Series::decode(series), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_costs_as_much_among_many_as_among_few() {
        let (mut memory, mut written) = (Memory::default(), 0);
        for n in 0..50_000 {
            memory.taken.insert(n);
            if memory.is_due() {
                written += 16 * memory.taken.len();
                memory.unkept = 0;
            } else {
                memory.unkept += 1;
            }
            assert!(memory.unkept < 50, "few are handed over again");
            assert!(n > 1000 || memory.unkept == 0, "none, among few");
        }
        assert!(written < 50_000 * (16 << 10), "{written}");
    }

    #[test]
    fn the_cursor_reads_back_and_foreign_ones_are_empty() {
        let mut memory = Memory { taken: BTreeSet::from([1, u128::MAX]), ..Memory::default() };
        assert!(memory.encode().starts_with(b"f1"));
        assert_eq!(Memory::decode(&memory.encode()), memory);
        memory.series.take("a_#", 1, None);
        memory.series.take("a_#", 3, None);
        assert_eq!(Memory::decode(&memory.encode()), memory);
        for foreign in [b"{}".as_slice(), b"", b"f", b"f2", b"f2\xff\xff\xff\xffshort"] {
            assert!(Memory::decode(foreign).taken.is_empty());
        }
    }
}
