//! SM3 in lanes: the published vectors, and every number of lanes against the crate `sm3`.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use proptest::prelude::*;
use sm3::{Digest, Sm3};
use xinqiao_kernels::sm3_lanes::{Lanes, digest_many, digest_many_with};

/// GB/T 32905-2016, A.1 and A.2, each beside the other in every place of a batch.
#[test]
fn the_standard_examples_in_every_lane() {
    let long = b"abcd".repeat(16);
    let examples: [(&[u8], &str); 2] = [
        (b"abc", "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"),
        (&long, "debe9ff92275b8a138604889c18e5a4d6fdb70e5387e5765293dcba39c0c5732"),
    ];
    let batch: Vec<_> = examples.iter().cycle().take(40).collect();
    let messages: Vec<&[u8]> = batch.iter().map(|example| example.0).collect();
    for lanes in Lanes::available() {
        let digests = digest_many_with(lanes, &messages).unwrap();
        for (digest, (_, expected)) in digests.iter().zip(&batch) {
            let shown: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(&shown, expected, "{lanes:?}");
        }
    }
}

#[test]
fn the_empty_batch_has_no_digests() {
    for lanes in Lanes::available() {
        assert_eq!(digest_many_with(lanes, &[]), Some(Vec::new()));
    }
    assert!(digest_many(&[]).is_empty());
}

#[test]
fn a_long_message_among_short_ones() {
    let text: Vec<u8> = (0..300_000_u32).map(|i| ((i % 9973 * (i % 997)) >> 3) as u8).collect();
    let mut messages: Vec<&[u8]> = text.chunks(1000).collect();
    messages.insert(5, &text);
    messages.insert(9, &text[1..200_000]);
    assert_as_one_by_one(&messages);
}

proptest! {
    #[test]
    fn any_lengths_equal_the_portable_crate(
        lengths in proptest::collection::vec(length(), 0..100),
        seed: u8,
    ) {
        let text: Vec<u8> = (0..20_000_u32)
            .map(|i| (i * 31 + i / 253) as u8 ^ seed)
            .collect();
        let messages: Vec<&[u8]> = lengths
            .iter()
            .enumerate()
            .map(|(i, length)| &text[i..i + length])
            .collect();
        assert_as_one_by_one(&messages);
    }
}

/// Lengths around the ends of blocks, and any.
fn length() -> impl Strategy<Value = usize> {
    prop_oneof![
        proptest::sample::select(vec![0, 1, 55, 56, 63, 64, 65, 119, 120, 127, 128, 129]),
        0..300_usize,
        0..19_000_usize,
    ]
}

fn assert_as_one_by_one(messages: &[&[u8]]) {
    let expected: Vec<[u8; 32]> =
        messages.iter().map(|message| Sm3::digest(message).into()).collect();
    for lanes in Lanes::available() {
        let digests = digest_many_with(lanes, messages).unwrap();
        assert_eq!(digests, expected, "{lanes:?}");
    }
    assert_eq!(digest_many(messages), expected);
}
