//! The S-box of SM4 without a table, in three ways.
//!
//! GB/T 32907 builds its S-box as `S(x) = A·(A·x + c)⁻¹ + c`, inverse in the field of
//! x⁸+x⁷+x⁶+x⁵+x⁴+x²+1. All fields of 256 elements are the same but for a linear change of
//! coordinates φ, so the inverse of the AES field, which the processor has, does as well:
//! `S(x) = POST·inv(PRE·x + PRE_C) + POST_C` with `PRE = φ·A`, `POST = A·φ⁻¹`. The tests below
//! find A and φ by search and with them the constants.
#![expect(unsafe_code, reason = "processor instructions behind run-time detection")]

use std::arch::x86_64::*;

use crate::vector::{Avx2, Avx512, V256, V512, Vector};

/// One way to run SM4: vectors and the S-box on them. A value is a witness of the instructions.
pub(super) trait Engine: Copy {
    /// The vectors it works on.
    type V: Vector;

    /// The witness of the vectors.
    fn isa(self) -> <Self::V as Vector>::Isa;

    /// The S-box on every byte.
    fn sbox(self, x: Self::V) -> Self::V;
}

/// AVX-512 with GFNI.
#[derive(Clone, Copy)]
pub(super) struct Avx512Gfni(Avx512);

/// AVX2 with GFNI.
#[derive(Clone, Copy)]
pub(super) struct Avx2Gfni(Avx2);

/// AVX2 with AES-NI, the state of x86 servers before GFNI.
#[derive(Clone, Copy)]
pub(super) struct Avx2Aes(Avx2);

impl Avx512Gfni {
    /// The witness, where the processor has the instructions.
    pub(super) fn detect() -> Option<Self> {
        Avx512::detect().filter(|_| is_x86_feature_detected!("gfni")).map(Self)
    }
}

impl Avx2Gfni {
    /// The witness, where the processor has the instructions.
    pub(super) fn detect() -> Option<Self> {
        Avx2::detect().filter(|_| is_x86_feature_detected!("gfni")).map(Self)
    }
}

impl Avx2Aes {
    /// The witness, where the processor has the instructions.
    pub(super) fn detect() -> Option<Self> {
        Avx2::detect().filter(|_| is_x86_feature_detected!("aes")).map(Self)
    }
}

/// Matrix before the inverse, as GFNI reads it: byte 7 - i gives bit i of the result.
const PRE: u64 = 0x34ac_259e_022d_bc52;
/// Constant added before the inverse.
const PRE_C: u8 = 0x65;
/// Matrix after the inverse.
const POST: u64 = 0xd72d_8e51_1e6c_8b19;
/// Constant added after the inverse: the c of the standard.
const POST_C: u8 = 0xd3;

impl Engine for Avx512Gfni {
    type V = V512;

    #[inline(always)]
    fn isa(self) -> Avx512 {
        self.0
    }

    #[inline(always)]
    fn sbox(self, x: V512) -> V512 {
        // SAFETY: `self` is the witness of AVX-512 and GFNI; no memory is touched.
        V512(unsafe {
            let pre = _mm512_set1_epi64(PRE.cast_signed());
            let post = _mm512_set1_epi64(POST.cast_signed());
            let x = _mm512_gf2p8affine_epi64_epi8::<{ PRE_C as i32 }>(x.0, pre);
            _mm512_gf2p8affineinv_epi64_epi8::<{ POST_C as i32 }>(x, post)
        })
    }
}

impl Engine for Avx2Gfni {
    type V = V256;

    #[inline(always)]
    fn isa(self) -> Avx2 {
        self.0
    }

    #[inline(always)]
    fn sbox(self, x: V256) -> V256 {
        // SAFETY: `self` is the witness of AVX2 and GFNI; no memory is touched.
        V256(unsafe {
            let pre = _mm256_set1_epi64x(PRE.cast_signed());
            let post = _mm256_set1_epi64x(POST.cast_signed());
            let x = _mm256_gf2p8affine_epi64_epi8::<{ PRE_C as i32 }>(x.0, pre);
            _mm256_gf2p8affineinv_epi64_epi8::<{ POST_C as i32 }>(x, post)
        })
    }
}

/// `AESENCLAST` with a zero key is ShiftRows and the S-box of AES, `B·inv(x) + 0x63`. Between
/// the affine maps around it, by half bytes, stands the undoing of B and of ShiftRows.
impl Engine for Avx2Aes {
    type V = V256;

    #[inline(always)]
    fn isa(self) -> Avx2 {
        self.0
    }

    #[inline(always)]
    fn sbox(self, x: V256) -> V256 {
        const BEFORE: HalfBytes = half_bytes(PRE, false, PRE_C);
        const AFTER: HalfBytes = half_bytes(POST, true, affine(POST, undo_aes(0x63)) ^ POST_C);
        const UNSHIFT: [u8; 16] = [0, 13, 10, 7, 4, 1, 14, 11, 8, 5, 2, 15, 12, 9, 6, 3];
        let x = self.affine(x, &BEFORE);
        // SAFETY: `self` is the witness of AVX2 and AES-NI; the load is of sixteen bytes.
        let x = V256(unsafe {
            let zero = _mm_setzero_si128();
            let low = _mm_aesenclast_si128(_mm256_castsi256_si128(x.0), zero);
            let high = _mm_aesenclast_si128(_mm256_extracti128_si256::<1>(x.0), zero);
            let unshift = _mm_loadu_si128(UNSHIFT.as_ptr().cast());
            _mm256_shuffle_epi8(_mm256_set_m128i(high, low), _mm256_broadcastsi128_si256(unshift))
        });
        self.affine(x, &AFTER)
    }
}

impl Avx2Aes {
    /// The affine map of `table` on every byte.
    #[inline(always)]
    fn affine(self, x: V256, table: &HalfBytes) -> V256 {
        // SAFETY: `self` is the witness of AVX2; the loads are of sixteen bytes each.
        V256(unsafe {
            let low = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.low.as_ptr().cast()));
            let high = _mm256_broadcastsi128_si256(_mm_loadu_si128(table.high.as_ptr().cast()));
            let mask = _mm256_set1_epi8(0x0f);
            _mm256_xor_si256(
                _mm256_shuffle_epi8(low, _mm256_and_si256(x.0, mask)),
                _mm256_shuffle_epi8(high, _mm256_and_si256(_mm256_srli_epi32::<4>(x.0), mask)),
            )
        })
    }
}

/// An affine map as what it makes of the low and of the high half of a byte.
struct HalfBytes {
    low: [u8; 16],
    high: [u8; 16],
}

/// The map `matrix·x + constant`, or `matrix·B⁻¹·x + constant` after the S-box of AES.
const fn half_bytes(matrix: u64, after_aes: bool, constant: u8) -> HalfBytes {
    let mut table = HalfBytes { low: [0; 16], high: [0; 16] };
    let mut i = 0;
    while i < 16 {
        let (low, high) = (i as u8, (i as u8) << 4);
        let (low, high) = if after_aes { (undo_aes(low), undo_aes(high)) } else { (low, high) };
        table.low[i] = affine(matrix, low) ^ constant;
        table.high[i] = affine(matrix, high);
        i += 1;
    }
    table
}

/// The inverse of the matrix in the S-box of AES (FIPS 197, 5.3.2).
const fn undo_aes(x: u8) -> u8 {
    x.rotate_left(1) ^ x.rotate_left(3) ^ x.rotate_left(6)
}

/// `matrix·x` over bits, as GFNI computes it.
const fn affine(matrix: u64, x: u8) -> u8 {
    let mut result = 0;
    let mut i = 0;
    while i < 8 {
        let row = (matrix >> (8 * (7 - i))) as u8;
        result |= (((row & x).count_ones() & 1) as u8) << i;
        i += 1;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    const AES_FIELD: u16 = 0x11b;
    const SM4_FIELD: u16 = 0x1f5;

    /// The first row of the S-box in GB/T 32907, table 1, and its last value.
    const PUBLISHED: [(u8, u8); 17] = [
        (0x00, 0xd6),
        (0x01, 0x90),
        (0x02, 0xe9),
        (0x03, 0xfe),
        (0x04, 0xcc),
        (0x05, 0xe1),
        (0x06, 0x3d),
        (0x07, 0xb7),
        (0x08, 0x16),
        (0x09, 0xb6),
        (0x0a, 0x14),
        (0x0b, 0xc2),
        (0x0c, 0x28),
        (0x0d, 0xfb),
        (0x0e, 0x2c),
        (0x0f, 0x05),
        (0xff, 0x48),
    ];

    fn multiply(a: u8, b: u8, field: u16) -> u8 {
        let mut product = 0;
        for i in (0..8).rev() {
            product <<= 1;
            if product & 0x100 != 0 {
                product ^= field;
            }
            if b >> i & 1 == 1 {
                product ^= u16::from(a);
            }
        }
        product as u8
    }

    fn inverse(a: u8, field: u16) -> u8 {
        (0..=255).find(|&b| multiply(a, b, field) == 1).unwrap_or(0)
    }

    /// The matrix that has `image(1 << i)` as its column i, as GFNI reads it.
    fn matrix(image: impl Fn(u8) -> u8) -> u64 {
        let mut matrix = 0;
        for column in 0..8 {
            let image = u64::from(image(1 << column));
            for row in 0..8 {
                matrix |= (image >> row & 1) << (8 * (7 - row) + column);
            }
        }
        matrix
    }

    /// A of the standard: the only matrix whose rows are rotations of the first with which
    /// `A·(A·x + c)⁻¹ + c` gives the published values.
    fn published_matrix() -> u64 {
        let inverses: Vec<u8> = (0..=255).map(|x| inverse(x, SM4_FIELD)).collect();
        let mut found = Vec::new();
        for first in 0..=255_u8 {
            for step in [1, 7] {
                let candidate = (0..8)
                    .fold(0, |matrix, i| matrix << 8 | u64::from(first.rotate_left(i * step)));
                let sbox = |x| {
                    affine(candidate, inverses[usize::from(affine(candidate, x) ^ POST_C)]) ^ POST_C
                };
                if PUBLISHED.iter().all(|&(x, y)| sbox(x) == y) {
                    found.push(candidate);
                }
            }
        }
        assert_eq!(found.len(), 1);
        found[0]
    }

    #[test]
    fn the_constants_follow_from_the_standard() {
        let a = published_matrix();
        let mut derived = Vec::new();
        for root in 2..=255 {
            // φ sends x to a root, in the AES field, of the polynomial of the SM4 field.
            let powers: Vec<u8> =
                std::iter::successors(Some(1), |&p| Some(multiply(p, root, AES_FIELD)))
                    .take(9)
                    .collect();
            let of =
                |bits: u16| (0..9).filter(|i| bits >> i & 1 == 1).fold(0, |sum, i| sum ^ powers[i]);
            if of(SM4_FIELD) == 0 {
                let phi = |x: u8| of(u16::from(x));
                let back = |y: u8| (0..=255).find(|&x| phi(x) == y).unwrap();
                derived.push((
                    matrix(|x| phi(affine(a, x))),
                    phi(POST_C),
                    matrix(|x| affine(a, back(x))),
                ));
            }
        }
        assert_eq!(derived.len(), 8, "an irreducible octic has eight roots");
        assert!(derived.contains(&(PRE, PRE_C, POST)));
    }

    /// The S-box by the formula of the standard, of all bytes.
    fn sbox_of_the_standard() -> Vec<u8> {
        let a = published_matrix();
        (0..=255).map(|x| affine(a, inverse(affine(a, x) ^ POST_C, SM4_FIELD)) ^ POST_C).collect()
    }

    fn sbox_of<E: Engine>(engine: E) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..=255).collect();
        for part in bytes.chunks_mut(4 * E::V::LANES) {
            engine.sbox(E::V::load(engine.isa(), part)).store(part);
        }
        bytes
    }

    #[test]
    fn every_engine_computes_the_s_box() {
        let expected = sbox_of_the_standard();
        assert_eq!(expected.iter().collect::<std::collections::BTreeSet<_>>().len(), 256);
        let computed = [
            Avx512Gfni::detect().map(sbox_of),
            Avx2Gfni::detect().map(sbox_of),
            Avx2Aes::detect().map(sbox_of),
        ];
        for sbox in computed.into_iter().flatten() {
            assert_eq!(sbox, expected);
        }
    }
}
