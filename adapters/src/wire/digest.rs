//! A stable 128-bit digest (FNV-1a) for telling things apart where nobody gains by a collision:
//! remembered files, batch names. Never for proofs: those are SM3, in `xinqiao-crypto`.

/// FNV-1a, 128 bits, over length-prefixed parts, so that `["ab", "c"]` differs from `["a", "bc"]`.
pub(crate) fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u128 {
    let mut hash = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128;
    let mut eat = |bytes: &[u8]| {
        for byte in bytes {
            hash =
                (hash ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    };
    for part in parts {
        eat(&part.len().to_le_bytes());
        eat(part);
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_order_and_borders_count() {
        let of = |parts: &[&str]| digest(parts.iter().map(|p| p.as_bytes()));
        assert_eq!(of(&["ab", "c"]), of(&["ab", "c"]));
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_ne!(of(&["a", "b"]), of(&["b", "a"]));
    }
}
