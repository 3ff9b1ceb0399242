//! The rounds of SM4 over many blocks, once for all engines, and the choice between these.
#![expect(unsafe_code, reason = "entering code compiled for detected instructions")]

use cipher::InOutBuf;

use super::Path;
use super::engine::{Avx2Aes, Avx2Gfni, Avx512Gfni, Engine};
use crate::vector::Vector;

/// The round keys in the order in which the rounds take them.
pub(super) type RoundKeys = [u32; 32];

/// A vector path that this machine can run.
#[derive(Clone, Copy)]
pub(super) enum Kernel {
    /// 64 blocks at once.
    Avx512Gfni(Avx512Gfni),
    /// 32 blocks at once.
    Avx2Gfni(Avx2Gfni),
    /// 32 blocks at once.
    Avx2Aes(Avx2Aes),
}

impl Kernel {
    /// The kernel of a path; none for the portable path or without the instructions.
    pub(super) fn detect(path: Path) -> Option<Self> {
        match path {
            Path::Avx512Gfni => Avx512Gfni::detect().map(Self::Avx512Gfni),
            Path::Avx2Gfni => Avx2Gfni::detect().map(Self::Avx2Gfni),
            Path::Avx2Aes => Avx2Aes::detect().map(Self::Avx2Aes),
            Path::Portable => None,
        }
    }

    /// The path that the kernel is.
    pub(super) fn path(self) -> Path {
        match self {
            Self::Avx512Gfni(_) => Path::Avx512Gfni,
            Self::Avx2Gfni(_) => Path::Avx2Gfni,
            Self::Avx2Aes(_) => Path::Avx2Aes,
        }
    }

    /// The round keys of a key, for encryption.
    pub(super) fn expand(self, key: &[u8; 16], keys: &mut RoundKeys) {
        match self {
            Self::Avx512Gfni(engine) => engine.enter_expand(key, keys),
            Self::Avx2Gfni(engine) => engine.enter_expand(key, keys),
            Self::Avx2Aes(engine) => engine.enter_expand(key, keys),
        }
    }

    /// Puts `data` through the cipher: whole blocks where `counter` is none, else added to the
    /// key stream that begins with the block of these four words and counts the last up.
    pub(super) fn crypt(self, keys: &RoundKeys, counter: Counter, data: InOutBuf<'_, '_, u8>) {
        match self {
            Self::Avx512Gfni(engine) => engine.enter_crypt(keys, counter, data),
            Self::Avx2Gfni(engine) => engine.enter_crypt(keys, counter, data),
            Self::Avx2Aes(engine) => engine.enter_crypt(keys, counter, data),
        }
    }
}

/// The words of the first counter block (counter mode), or none (block by block).
pub(super) type Counter = Option<[u32; 4]>;

/// Entrances into [`expand`] and [`crypt`] compiled for the instructions of an engine, with as
/// many groups side by side as measured best: four, even where AVX2 cannot keep all in registers.
macro_rules! entrances {
    ($engine:ty, $features:literal, $groups:literal) => {
        impl $engine {
            fn enter_expand(self, key: &[u8; 16], keys: &mut RoundKeys) {
                #[target_feature(enable = $features)]
                fn inner(engine: $engine, key: &[u8; 16], keys: &mut RoundKeys) {
                    expand(engine, key, keys);
                }
                // SAFETY: `self` is the witness of these instructions.
                unsafe { inner(self, key, keys) }
            }

            fn enter_crypt(self, keys: &RoundKeys, counter: Counter, data: InOutBuf<'_, '_, u8>) {
                #[target_feature(enable = $features)]
                fn inner(
                    engine: $engine,
                    keys: &RoundKeys,
                    counter: Counter,
                    data: InOutBuf<'_, '_, u8>,
                ) {
                    crypt::<_, $groups>(engine, keys, counter, data);
                }
                // SAFETY: `self` is the witness of these instructions.
                unsafe { inner(self, keys, counter, data) }
            }
        }
    };
}

entrances!(Avx512Gfni, "avx512f,avx512bw,gfni", 4);
entrances!(Avx2Gfni, "avx2,gfni", 4);
entrances!(Avx2Aes, "avx2,aes", 4);

/// The key expansion of GB/T 32907, 7.3.
#[inline(always)]
fn expand<E: Engine>(engine: E, key: &[u8; 16], keys: &mut RoundKeys) {
    const FK: [u32; 4] = [0xa3b1_bac6, 0x56aa_3350, 0x677d_9197, 0xb270_22dc];
    let isa = engine.isa();
    let (words, _) = key.as_chunks::<4>();
    let mut k = [E::V::splat(isa, 0); 4];
    for i in 0..4 {
        k[i] = E::V::splat(isa, u32::from_be_bytes(words[i]) ^ FK[i]);
    }
    for (i, round_key) in keys.iter_mut().enumerate() {
        // CK: byte j of word i is 7 * (4 * i + j) modulo 256.
        let constant = u32::from_be_bytes(std::array::from_fn(|j| (7 * (4 * i + j)) as u8));
        let x = k[1].xor3(k[2], E::V::splat(isa, constant)).xor(k[3]);
        let s = engine.sbox(x);
        let next = k[0].xor(s).xor3(s.rotl::<13>(), s.rotl::<23>());
        k = [k[1], k[2], k[3], next];
        *round_key = next.first();
    }
}

/// Bytes that the tail of any engine fits in: four groups of sixteen blocks.
const TAIL: usize = 4 * 16 * 16;

/// See [`Kernel::crypt`]; `G` groups at once, and the rest in as few as hold it.
#[inline(always)]
fn crypt<E: Engine, const G: usize>(
    engine: E,
    keys: &RoundKeys,
    mut counter: Counter,
    mut data: InOutBuf<'_, '_, u8>,
) {
    let group = 16 * E::V::LANES;
    while data.len() >= G * group {
        let (now, rest) = data.split_at(G * group);
        batch::<E, G>(engine, keys, counter, now);
        data = rest;
        if let Some([.., last]) = &mut counter {
            *last = last.wrapping_add((G * E::V::LANES) as u32);
        }
    }
    let len = data.len();
    if len == 0 {
        return;
    }
    let mut tail = [0; TAIL];
    tail[..len].copy_from_slice(data.get_in());
    let groups = len.div_ceil(group);
    let padded = InOutBuf::from(&mut tail[..groups * group]);
    match groups {
        1 => batch::<E, 1>(engine, keys, counter, padded),
        2 => batch::<E, 2>(engine, keys, counter, padded),
        3 if G > 2 => batch::<E, 3>(engine, keys, counter, padded),
        _ => batch::<E, G>(engine, keys, counter, padded),
    }
    data.get_out().copy_from_slice(&tail[..len]);
}

/// `G` groups of as many blocks as a vector has lanes, all at once; `data` is as long as that.
///
/// A group is four vectors: word i of all its blocks in vector i. Nothing is written before all
/// is read, for output may lie over input. Plain loops over constant
/// bounds, here and below: closures would be compiled on their own, for no such instructions.
#[inline(always)]
fn batch<E: Engine, const G: usize>(
    engine: E,
    keys: &RoundKeys,
    counter: Counter,
    mut data: InOutBuf<'_, '_, u8>,
) {
    let isa = engine.isa();
    let vector = 4 * E::V::LANES;
    let input = data.get_in();
    assert!(input.len() == G * 4 * vector);
    let mut x = [[E::V::splat(isa, 0); 4]; G];
    for g in 0..G {
        match counter {
            None => {
                for i in 0..4 {
                    x[g][i] = E::V::load(isa, &input[(4 * g + i) * vector..]).swap_bytes();
                }
                x[g] = E::V::transpose4(x[g]);
            }
            Some(words) => {
                for i in 0..4 {
                    x[g][i] = E::V::splat(isa, words[i]);
                }
                x[g][3] = x[g][3].add(E::V::load_words(isa, &steps::<E>(g)));
            }
        }
    }
    for [k0, k1, k2, k3] in keys.as_chunks::<4>().0 {
        step::<E, G, 0>(engine, &mut x, *k0);
        step::<E, G, 1>(engine, &mut x, *k1);
        step::<E, G, 2>(engine, &mut x, *k2);
        step::<E, G, 3>(engine, &mut x, *k3);
    }
    for g in 0..G {
        let [a, b, c, d] = x[g];
        x[g] = E::V::transpose4([d, c, b, a]);
        for i in 0..4 {
            x[g][i] = x[g][i].swap_bytes();
            if counter.is_some() {
                let text = E::V::load(isa, &input[(4 * g + i) * vector..]);
                x[g][i] = x[g][i].xor(text);
            }
        }
    }
    let output = data.get_out();
    assert!(output.len() == G * 4 * vector);
    for g in 0..G {
        for i in 0..4 {
            x[g][i].store(&mut output[(4 * g + i) * vector..]);
        }
    }
}

/// One round in every group, side by side so that they hide each other's latency; it renews
/// word `I`.
#[inline(always)]
fn step<E: Engine, const G: usize, const I: usize>(engine: E, x: &mut [[E::V; 4]; G], key: u32) {
    for x in x {
        let words = [x[I], x[(I + 1) % 4], x[(I + 2) % 4], x[(I + 3) % 4]];
        x[I] = round(engine, words, key);
    }
}

/// The round function of GB/T 32907, 6: `x0 ^ L(S(x1 ^ x2 ^ x3 ^ key))`.
///
/// `L(s) = s ^ s<<<2 ^ s<<<10 ^ s<<<18 ^ s<<<24`, its middle three as one rotation of bytes
/// moved whole; x3 is the last to be known, so it comes in last.
#[inline(always)]
fn round<E: Engine>(engine: E, [x0, x1, x2, x3]: [E::V; 4], key: u32) -> E::V {
    let key = E::V::splat(engine.isa(), key);
    let s = engine.sbox(x1.xor3(x2, key).xor(x3));
    let middle = s.xor3(s.rotl::<8>(), s.rotl::<16>()).rotl::<2>();
    x0.xor3(s, s.rotl::<24>()).xor(middle)
}

/// How far the counter of each lane of group `g` is from the first: a group takes the block at
/// part p of its vector i to lane 4 * p + i.
#[inline(always)]
fn steps<E: Engine>(g: usize) -> [u32; 16] {
    let parts = E::V::LANES / 4;
    let mut steps = [0; 16];
    for (lane, step) in steps.iter_mut().enumerate() {
        *step = (g * E::V::LANES + lane % 4 * parts + lane / 4) as u32;
    }
    steps
}
