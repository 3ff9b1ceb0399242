//! The compression function of SM3 (GB/T 32905, 5.3) in the lanes of vectors.
#![expect(unsafe_code, reason = "entering code compiled for detected instructions")]

use super::{Bytes, Compress, State};
use crate::vector::{Avx2, Avx512, V256, V512, Vector};

/// Entrances into [`compress`] compiled for the instructions of a witness.
macro_rules! entrance {
    ($witness:ty, $vector:ty, $lanes:literal, $features:literal) => {
        impl Compress<$lanes> for $witness {
            fn compress(self, state: &mut State<$lanes>, blocks: &[&[Bytes]; $lanes]) {
                #[target_feature(enable = $features)]
                fn inner(isa: $witness, state: &mut State<$lanes>, blocks: &[&[Bytes]; $lanes]) {
                    compress::<$vector, $lanes>(isa, state, blocks);
                }
                // SAFETY: `self` is the witness of these instructions.
                unsafe { inner(self, state, blocks) }
            }
        }
    };
}

entrance!(Avx512, V512, 16, "avx512f,avx512bw");
entrance!(Avx2, V256, 8, "avx2");

/// The constants of the rounds, each rotated as its round asks.
const T: [u32; 64] = {
    let mut rotated = [0; 64];
    let mut j = 0;
    while j < 64 {
        let constant: u32 = if j < 16 { 0x79cc_4519 } else { 0x7a87_9d8a };
        rotated[j] = constant.rotate_left(j as u32 % 32);
        j += 1;
    }
    rotated
};

/// Rounds `$from` to `$from + 15`, written out: with the window of words `$w` in registers.
macro_rules! sixteen_rounds {
    ($isa:ident, $v:ident, $w:ident, $from:expr, $ff:ident, $gg:ident) => {
        sixteen_rounds!(
            $isa, $v, $w, $from, $ff, $gg, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15
        )
    };
    ($isa:ident, $v:ident, $w:ident, $from:expr, $ff:ident, $gg:ident, $($j:literal)*) => {$(
        let constant = V::splat($isa, T[$from + $j]);
        let word = $w[$j];
        // Words 0 to 3 of the next sixteen already stand at the begin of the window.
        let words = [word, word.xor($w[($j + 4) % 16])];
        let [a, b, c, _, e, f, g, _] = $v;
        $v = round($v, constant, words, a.$ff(b, c), e.$gg(f, g));
        $w[$j] = expand(&$w, $j);
    )*};
}

/// Plain loops and unrolled rounds: closures would be compiled on their own, for no such
/// instructions, and in a loop the working words would move through memory.
#[expect(clippy::needless_range_loop, reason = "one block of every lane")]
#[inline(always)]
fn compress<V: Vector, const N: usize>(isa: V::Isa, state: &mut State<N>, inputs: &[&[Bytes]; N]) {
    let mut chain = [V::splat(isa, 0); 8];
    for i in 0..8 {
        chain[i] = V::load_words(isa, &state[i]);
    }
    for block in 0..inputs[0].len() {
        let mut blocks = [&inputs[0][block]; N];
        for lane in 0..N {
            blocks[lane] = &inputs[lane][block];
        }
        let mut w = V::gather_blocks(isa, &blocks);
        let mut v = chain;
        sixteen_rounds!(isa, v, w, 0, xor3, xor3);
        for from in [16, 32, 48] {
            sixteen_rounds!(isa, v, w, from, majority, choose);
        }
        for i in 0..8 {
            chain[i] = chain[i].xor(v[i]);
        }
    }
    for i in 0..8 {
        chain[i].store_words(&mut state[i]);
    }
}

/// A round; `words` is W and W' of the standard, `ff` and `gg` the Boolean functions of a, b, c
/// and of e, f, g.
#[inline(always)]
fn round<V: Vector>(
    [a, b, c, d, e, f, g, h]: [V; 8],
    constant: V,
    words: [V; 2],
    ff: V,
    gg: V,
) -> [V; 8] {
    let a12 = a.rotl::<12>();
    let ss1 = a12.add(e).add(constant).rotl::<7>();
    let ss2 = ss1.xor(a12);
    let tt1 = ff.add(d).add(ss2.add(words[1]));
    let tt2 = gg.add(h).add(ss1.add(words[0]));
    let p0 = tt2.xor3(tt2.rotl::<9>(), tt2.rotl::<17>());
    [tt1, a, b.rotl::<9>(), c, p0, e, f.rotl::<19>(), g]
}

/// Word `j + 16` of the message expansion in the place of word `j`, in a window of sixteen.
#[inline(always)]
fn expand<V: Vector>(w: &[V; 16], j: usize) -> V {
    let at = |i: usize| w[(j + i) % 16];
    let x = at(0).xor3(at(7), at(13).rotl::<15>());
    let p1 = x.xor3(x.rotl::<15>(), x.rotl::<23>());
    p1.xor3(at(3).rotl::<7>(), at(10))
}
