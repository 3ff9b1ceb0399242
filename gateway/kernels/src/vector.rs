//! Vectors of 32-bit words, in two widths under one trait, so that a round is written once.
//!
//! [`Avx512`] and [`Avx2`] are witnesses: only `detect` makes one, and only where the processor
//! has the instructions. A vector comes from a witness or from another vector, so whoever holds
//! a vector holds the proof that the instructions behind its methods may run.
//!
//! Every method is inlined into a function compiled for its instructions (`#[target_feature]`);
//! called from anywhere else it would be right, but slow.
#![expect(unsafe_code, reason = "processor instructions behind run-time detection")]

use std::arch::x86_64::*;

/// Words that move together.
pub(crate) trait Vector: Copy {
    /// The witness that the processor has the instructions.
    type Isa: Copy;

    /// Words in a vector.
    const LANES: usize;

    /// The same word in every lane.
    fn splat(isa: Self::Isa, word: u32) -> Self;

    /// The first `4 * LANES` bytes of `bytes`, at least as long.
    fn load(isa: Self::Isa, bytes: &[u8]) -> Self;

    /// Writes the vector over the first `4 * LANES` bytes of `bytes`, at least as long.
    fn store(self, bytes: &mut [u8]);

    /// The first `LANES` words of `words`, at least as long.
    fn load_words(isa: Self::Isa, words: &[u32]) -> Self;

    /// Writes the lanes over the first `LANES` words of `words`, at least as long.
    fn store_words(self, words: &mut [u32]);

    /// The word of lane 0.
    fn first(self) -> u32;

    /// `self + other`, modulo 2^32.
    fn add(self, other: Self) -> Self;

    /// `self ^ other`.
    fn xor(self, other: Self) -> Self;

    /// `self ^ b ^ c`.
    fn xor3(self, b: Self, c: Self) -> Self;

    /// Of each bit what two or three of the vectors have.
    fn majority(self, b: Self, c: Self) -> Self;

    /// Of each bit that of `b` where `self` has a one, else that of `c`.
    fn choose(self, b: Self, c: Self) -> Self;

    /// Each word rotated left by `N` bits.
    fn rotl<const N: i32>(self) -> Self;

    /// Each word with its bytes in the opposite order.
    fn swap_bytes(self) -> Self;

    /// Of every four lanes that stand together, the 4 × 4 words of the four vectors transposed.
    fn transpose4(rows: [Self; 4]) -> [Self; 4];

    /// One block of 64 bytes per lane as sixteen vectors: word k of every block, big-endian.
    /// There are `LANES` blocks.
    fn gather_blocks(isa: Self::Isa, blocks: &[&[u8; 64]]) -> [Self; 16];
}

/// Witness of AVX-512F and AVX-512BW.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// The witness, where the processor has the instructions.
    pub(crate) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw"))
            .then_some(Self(()))
    }
}

/// Witness of AVX2.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// The witness, where the processor has the instructions.
    pub(crate) fn detect() -> Option<Self> {
        is_x86_feature_detected!("avx2").then_some(Self(()))
    }
}

/// Sixteen words (AVX-512).
#[derive(Clone, Copy)]
pub(crate) struct V512(pub(crate) __m512i);

/// Eight words (AVX2).
#[derive(Clone, Copy)]
pub(crate) struct V256(pub(crate) __m256i);

/// An expression of instructions on values that a witness vouches for.
macro_rules! proven {
    ($instructions:expr) => {{
        // SAFETY: the instructions touch no memory, and need only what the witness or the
        // vectors at hand (made from a witness) prove the processor has.
        unsafe { $instructions }
    }};
}

/// Byte positions that swap the bytes of each word, for 128 bits.
#[inline(always)]
fn swapped() -> __m128i {
    // SAFETY: SSE2 belongs to every x86-64 processor.
    unsafe { _mm_setr_epi8(3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12) }
}

impl Vector for V512 {
    type Isa = Avx512;
    const LANES: usize = 16;

    #[inline(always)]
    fn splat(_: Avx512, word: u32) -> Self {
        Self(proven!(_mm512_set1_epi32(word.cast_signed())))
    }

    #[inline(always)]
    fn load(_: Avx512, bytes: &[u8]) -> Self {
        assert!(bytes.len() >= 64);
        // SAFETY: 64 readable bytes stand there (checked), and a witness is at hand.
        Self(unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) })
    }

    #[inline(always)]
    fn store(self, bytes: &mut [u8]) {
        assert!(bytes.len() >= 64);
        // SAFETY: 64 writable bytes stand there (checked), and `self` is the proof.
        unsafe { _mm512_storeu_si512(bytes.as_mut_ptr().cast(), self.0) }
    }

    #[inline(always)]
    fn load_words(_: Avx512, words: &[u32]) -> Self {
        assert!(words.len() >= Self::LANES);
        // SAFETY: sixteen readable words stand there (checked), and a witness is at hand.
        Self(unsafe { _mm512_loadu_si512(words.as_ptr().cast()) })
    }

    #[inline(always)]
    fn store_words(self, words: &mut [u32]) {
        assert!(words.len() >= Self::LANES);
        // SAFETY: sixteen writable words stand there (checked), and `self` is the proof.
        unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), self.0) }
    }

    #[inline(always)]
    fn first(self) -> u32 {
        proven!(_mm_cvtsi128_si32(_mm512_castsi512_si128(self.0))).cast_unsigned()
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(proven!(_mm512_add_epi32(self.0, other.0)))
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        Self(proven!(_mm512_xor_si512(self.0, other.0)))
    }

    // The truth tables of three bits: index = 4 * self + 2 * b + c.

    #[inline(always)]
    fn xor3(self, b: Self, c: Self) -> Self {
        Self(proven!(_mm512_ternarylogic_epi32::<0b1001_0110>(self.0, b.0, c.0)))
    }

    #[inline(always)]
    fn majority(self, b: Self, c: Self) -> Self {
        Self(proven!(_mm512_ternarylogic_epi32::<0b1110_1000>(self.0, b.0, c.0)))
    }

    #[inline(always)]
    fn choose(self, b: Self, c: Self) -> Self {
        Self(proven!(_mm512_ternarylogic_epi32::<0b1100_1010>(self.0, b.0, c.0)))
    }

    #[inline(always)]
    fn rotl<const N: i32>(self) -> Self {
        Self(proven!(_mm512_rol_epi32::<N>(self.0)))
    }

    #[inline(always)]
    fn swap_bytes(self) -> Self {
        Self(proven!(_mm512_shuffle_epi8(self.0, _mm512_broadcast_i32x4(swapped()))))
    }

    #[inline(always)]
    fn transpose4([a, b, c, d]: [Self; 4]) -> [Self; 4] {
        proven!({
            let (ab_low, ab_high) =
                (_mm512_unpacklo_epi32(a.0, b.0), _mm512_unpackhi_epi32(a.0, b.0));
            let (cd_low, cd_high) =
                (_mm512_unpacklo_epi32(c.0, d.0), _mm512_unpackhi_epi32(c.0, d.0));
            [
                Self(_mm512_unpacklo_epi64(ab_low, cd_low)),
                Self(_mm512_unpackhi_epi64(ab_low, cd_low)),
                Self(_mm512_unpacklo_epi64(ab_high, cd_high)),
                Self(_mm512_unpackhi_epi64(ab_high, cd_high)),
            ]
        })
    }

    #[inline(always)]
    fn gather_blocks(isa: Avx512, blocks: &[&[u8; 64]]) -> [Self; 16] {
        assert!(blocks.len() >= Self::LANES);
        // After the 4 × 4 transposition, `groups[i][k]` holds in its 128-bit part p the word
        // 4 * p + k of the blocks 4 * i .. 4 * i + 4; what is left is to transpose i and p.
        let mut groups = [[Self::splat(isa, 0); 4]; 4];
        for i in 0..4 {
            for j in 0..4 {
                groups[i][j] = Self::load(isa, blocks[4 * i + j]).swap_bytes();
            }
            groups[i] = Self::transpose4(groups[i]);
        }
        let mut words = [Self::splat(isa, 0); 16];
        for k in 0..4 {
            let [a, b, c, d] = [groups[0][k].0, groups[1][k].0, groups[2][k].0, groups[3][k].0];
            proven!({
                let (ab_even, ab_odd) =
                    (_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0xdd>(a, b));
                let (cd_even, cd_odd) =
                    (_mm512_shuffle_i32x4::<0x88>(c, d), _mm512_shuffle_i32x4::<0xdd>(c, d));
                words[k] = Self(_mm512_shuffle_i32x4::<0x88>(ab_even, cd_even));
                words[4 + k] = Self(_mm512_shuffle_i32x4::<0x88>(ab_odd, cd_odd));
                words[8 + k] = Self(_mm512_shuffle_i32x4::<0xdd>(ab_even, cd_even));
                words[12 + k] = Self(_mm512_shuffle_i32x4::<0xdd>(ab_odd, cd_odd));
            });
        }
        words
    }
}

impl Vector for V256 {
    type Isa = Avx2;
    const LANES: usize = 8;

    #[inline(always)]
    fn splat(_: Avx2, word: u32) -> Self {
        Self(proven!(_mm256_set1_epi32(word.cast_signed())))
    }

    #[inline(always)]
    fn load(_: Avx2, bytes: &[u8]) -> Self {
        assert!(bytes.len() >= 32);
        // SAFETY: 32 readable bytes stand there (checked), and a witness is at hand.
        Self(unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) })
    }

    #[inline(always)]
    fn store(self, bytes: &mut [u8]) {
        assert!(bytes.len() >= 32);
        // SAFETY: 32 writable bytes stand there (checked), and `self` is the proof.
        unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), self.0) }
    }

    #[inline(always)]
    fn load_words(_: Avx2, words: &[u32]) -> Self {
        assert!(words.len() >= Self::LANES);
        // SAFETY: eight readable words stand there (checked), and a witness is at hand.
        Self(unsafe { _mm256_loadu_si256(words.as_ptr().cast()) })
    }

    #[inline(always)]
    fn store_words(self, words: &mut [u32]) {
        assert!(words.len() >= Self::LANES);
        // SAFETY: eight writable words stand there (checked), and `self` is the proof.
        unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), self.0) }
    }

    #[inline(always)]
    fn first(self) -> u32 {
        proven!(_mm_cvtsi128_si32(_mm256_castsi256_si128(self.0))).cast_unsigned()
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(proven!(_mm256_add_epi32(self.0, other.0)))
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        Self(proven!(_mm256_xor_si256(self.0, other.0)))
    }

    #[inline(always)]
    fn xor3(self, b: Self, c: Self) -> Self {
        self.xor(b).xor(c)
    }

    #[inline(always)]
    fn majority(self, b: Self, c: Self) -> Self {
        Self(proven!(_mm256_or_si256(
            _mm256_and_si256(self.0, b.0),
            _mm256_and_si256(c.0, _mm256_or_si256(self.0, b.0)),
        )))
    }

    #[inline(always)]
    fn choose(self, b: Self, c: Self) -> Self {
        Self(proven!(_mm256_xor_si256(c.0, _mm256_and_si256(self.0, _mm256_xor_si256(b.0, c.0)),)))
    }

    #[inline(always)]
    fn rotl<const N: i32>(self) -> Self {
        const { assert!(0 < N && N < 32) }
        // Whole bytes move in one shuffle. The other counts are constants after inlining, so the
        // compiler writes the immediate form of the shifts.
        Self(if N % 8 == 0 {
            let bytes: [u8; 16] = const {
                let mut bytes = [0; 16];
                let mut i = 0;
                while i < 16 {
                    bytes[i] = (i & !3 | (i + 4 - N as usize / 8) & 3) as u8;
                    i += 1;
                }
                bytes
            };
            // SAFETY: sixteen readable bytes; and `self` is the proof.
            let positions = unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) };
            proven!(_mm256_shuffle_epi8(self.0, _mm256_broadcastsi128_si256(positions)))
        } else {
            proven!(_mm256_or_si256(
                _mm256_sll_epi32(self.0, _mm_cvtsi32_si128(N)),
                _mm256_srl_epi32(self.0, _mm_cvtsi32_si128(32 - N)),
            ))
        })
    }

    #[inline(always)]
    fn swap_bytes(self) -> Self {
        Self(proven!(_mm256_shuffle_epi8(self.0, _mm256_broadcastsi128_si256(swapped()))))
    }

    #[inline(always)]
    fn transpose4([a, b, c, d]: [Self; 4]) -> [Self; 4] {
        proven!({
            let (ab_low, ab_high) =
                (_mm256_unpacklo_epi32(a.0, b.0), _mm256_unpackhi_epi32(a.0, b.0));
            let (cd_low, cd_high) =
                (_mm256_unpacklo_epi32(c.0, d.0), _mm256_unpackhi_epi32(c.0, d.0));
            [
                Self(_mm256_unpacklo_epi64(ab_low, cd_low)),
                Self(_mm256_unpackhi_epi64(ab_low, cd_low)),
                Self(_mm256_unpacklo_epi64(ab_high, cd_high)),
                Self(_mm256_unpackhi_epi64(ab_high, cd_high)),
            ]
        })
    }

    #[inline(always)]
    fn gather_blocks(isa: Avx2, blocks: &[&[u8; 64]]) -> [Self; 16] {
        assert!(blocks.len() >= Self::LANES);
        let mut words = [Self::splat(isa, 0); 16];
        for half in 0..2 {
            // `groups[i][k]` holds in its 128-bit part p the word 4 * p + k of the half blocks
            // 4 * i .. 4 * i + 4.
            let mut groups = [[Self::splat(isa, 0); 4]; 2];
            for i in 0..2 {
                for j in 0..4 {
                    let part = &blocks[4 * i + j][32 * half..];
                    groups[i][j] = Self::load(isa, part).swap_bytes();
                }
                groups[i] = Self::transpose4(groups[i]);
            }
            for k in 0..4 {
                let (a, b) = (groups[0][k].0, groups[1][k].0);
                words[8 * half + k] = Self(proven!(_mm256_permute2x128_si256::<0x20>(a, b)));
                words[8 * half + 4 + k] = Self(proven!(_mm256_permute2x128_si256::<0x31>(a, b)));
            }
        }
        words
    }
}
