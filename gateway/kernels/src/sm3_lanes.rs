//! SM3 (GB/T 32905-2016) of many messages at once, one in each lane of the vectors.
//!
//! A single stream of SM3 cannot be made faster than the portable crate's: its rounds wait for
//! each other. Independent messages, such as the chunks of a batch, can share the rounds.

#[cfg(target_arch = "x86_64")]
mod compress;

use sm3::{Digest, Sm3};

/// How many messages go side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lanes {
    /// AVX-512.
    Sixteen,
    /// AVX2.
    Eight,
    /// The crate `sm3`, one message after the other.
    One,
}

impl Lanes {
    /// What this machine can run, the fastest first; the last is [`Lanes::One`].
    pub fn available() -> impl Iterator<Item = Self> {
        [(Self::Sixteen, sixteen().is_some()), (Self::Eight, eight().is_some()), (Self::One, true)]
            .into_iter()
            .filter_map(|(lanes, runs)| runs.then_some(lanes))
    }
}

/// The digest of each message, of any lengths, in the order of the messages.
pub fn digest_many(messages: &[&[u8]]) -> Vec<[u8; 32]> {
    if let Some(compress) = sixteen() {
        digest_in_lanes(compress, messages)
    } else if let Some(compress) = eight() {
        digest_in_lanes(compress, messages)
    } else {
        one_by_one(messages)
    }
}

/// [`digest_many`] with a given number of lanes, for tests and benches; none where the machine
/// cannot run it.
pub fn digest_many_with(lanes: Lanes, messages: &[&[u8]]) -> Option<Vec<[u8; 32]>> {
    match lanes {
        Lanes::Sixteen => sixteen().map(|compress| digest_in_lanes(compress, messages)),
        Lanes::Eight => eight().map(|compress| digest_in_lanes(compress, messages)),
        Lanes::One => Some(one_by_one(messages)),
    }
}

fn one_by_one(messages: &[&[u8]]) -> Vec<[u8; 32]> {
    messages.iter().map(|message| digest(message)).collect()
}

fn digest(message: &[u8]) -> [u8; 32] {
    Sm3::digest(message).into()
}

/// A block of SM3.
type Bytes = [u8; 64];

/// The chaining values of `N` lanes: word i of all lanes in row i.
type State<const N: usize> = [[u32; N]; 8];

/// Compresses, in each lane, the blocks of one slice; all slices are of the same length.
trait Compress<const N: usize>: Copy {
    fn compress(self, state: &mut State<N>, blocks: &[&[Bytes]; N]);
}

#[cfg(target_arch = "x86_64")]
fn sixteen() -> Option<impl Compress<16>> {
    crate::vector::Avx512::detect()
}

#[cfg(target_arch = "x86_64")]
fn eight() -> Option<impl Compress<8>> {
    crate::vector::Avx2::detect()
}

/// No lanes on this architecture.
#[cfg(not(target_arch = "x86_64"))]
#[derive(Clone, Copy)]
enum Never {}

#[cfg(not(target_arch = "x86_64"))]
impl<const N: usize> Compress<N> for Never {
    fn compress(self, _: &mut State<N>, _: &[&[Bytes]; N]) {
        match self {}
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn sixteen() -> Option<impl Compress<16>> {
    None::<Never>
}

#[cfg(not(target_arch = "x86_64"))]
fn eight() -> Option<impl Compress<8>> {
    None::<Never>
}

/// The initial value (GB/T 32905, 4.1).
const IV: [u32; 8] = [
    0x7380_166f,
    0x4914_b2b9,
    0x1724_42d7,
    0xda8a_0600,
    0xa96f_30bc,
    0x1631_38aa,
    0xe38d_ee4d,
    0xb0fb_0e4e,
];

/// One message on its way through a lane.
struct Lane<'m> {
    /// Its place among the messages.
    index: usize,
    /// The whole blocks to go.
    body: &'m [Bytes],
    /// The padded end: one or two blocks, the last of the two where it is one.
    end: [Bytes; 2],
    /// How much of the end is to go.
    end_left: usize,
}

impl<'m> Lane<'m> {
    fn new(index: usize, message: &'m [u8]) -> Self {
        let (body, rest) = message.as_chunks::<64>();
        let mut end = [[0; 64]; 2];
        let end_left = if rest.len() < 56 { 1 } else { 2 };
        let bytes = end.as_flattened_mut();
        let begin = 64 * (2 - end_left);
        bytes[begin..begin + rest.len()].copy_from_slice(rest);
        bytes[begin + rest.len()] = 0x80;
        bytes[120..].copy_from_slice(&(8 * message.len() as u64).to_be_bytes());
        Self { index, body, end, end_left }
    }

    /// The blocks to go that lie in one piece; empty when all are done.
    fn next(&self) -> &[Bytes] {
        if self.body.is_empty() { &self.end[2 - self.end_left..] } else { self.body }
    }

    /// Takes `count` blocks off [`Lane::next`].
    fn advance(&mut self, count: usize) {
        if self.body.is_empty() {
            self.end_left -= count;
        } else {
            self.body = &self.body[count..];
        }
    }
}

/// The messages in lanes, each lane refilled as soon as its message ends.
fn digest_in_lanes<const N: usize>(
    compress: impl Compress<N>,
    messages: &[&[u8]],
) -> Vec<[u8; 32]> {
    let mut digests = vec![[0; 32]; messages.len()];
    // The longest first, so that the lanes end together.
    let mut order: Vec<usize> = (0..messages.len()).collect();
    order.sort_unstable_by_key(|&index| std::cmp::Reverse(messages[index].len()));
    let (alone, together) = order.split_at(alone::<N>(messages, &order));
    for &index in alone {
        digests[index] = digest(messages[index]);
    }
    let mut waiting = together.iter().copied();

    let mut state: State<N> = [[0; N]; 8];
    let mut lanes: [Option<Lane<'_>>; N] = [const { None }; N];
    loop {
        for (l, lane) in lanes.iter_mut().enumerate() {
            if lane.is_none()
                && let Some(index) = waiting.next()
            {
                *lane = Some(Lane::new(index, messages[index]));
                for (row, word) in state.iter_mut().zip(IV) {
                    row[l] = word;
                }
            }
        }
        let pieces = || lanes.iter().flatten().map(Lane::next);
        let Some(shortest) = pieces().min_by_key(|piece| piece.len()) else {
            return digests;
        };
        let count = shortest.len();
        // An idle lane repeats the work of another for nothing.
        let inputs = std::array::from_fn(|l| match &lanes[l] {
            Some(lane) => &lane.next()[..count],
            None => shortest,
        });
        compress.compress(&mut state, &inputs);
        for (l, lane) in lanes.iter_mut().enumerate() {
            if let Some(message) = lane {
                message.advance(count);
                if message.next().is_empty() {
                    let (words, _) = digests[message.index].as_chunks_mut::<4>();
                    for (word, row) in words.iter_mut().zip(&state) {
                        *word = row[l].to_be_bytes();
                    }
                    *lane = None;
                }
            }
        }
    }
}

/// How many of the longest messages had better go through the scalar code, because most lanes
/// would idle beside them. `order` is the longest first.
///
/// A lane is about half as fast as the scalar code; so, counted in blocks of the latter, those
/// in lanes take twice the longest of them or twice their share of all, whichever is more.
fn alone<const N: usize>(messages: &[&[u8]], order: &[usize]) -> usize {
    let blocks = |&index: &usize| messages[index].len() / 64 + 1;
    let mut scalar = 0;
    let mut rest: usize = order.iter().map(blocks).sum();
    let mut best = (usize::MAX, 0);
    for (count, longest) in order.iter().map(blocks).chain([0]).enumerate() {
        best = best.min((scalar + 2 * longest.max(rest / N), count));
        scalar += longest;
        rest -= longest;
    }
    best.1
}
