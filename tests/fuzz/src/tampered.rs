//! Envelopes and receipts with some bytes changed.

use std::sync::LazyLock;

use base64ct::{Base64, Encoding as _};
use xinqiao_crypto::receipt::{self, SignedReceipt};

use crate::open_envelope;
use crate::world::{CONTENT, STATEMENT, world};

/// Changes at once.
const MOST: usize = 8;

/// The first byte chooses an envelope or the receipt; then three bytes each change one of its
/// bytes: where (two) and by what. Unchanged it verifies; changed, never.
pub fn tampered(data: &[u8]) {
    static WHOLE: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
        let receipt = Base64::decode_vec(&world().receipt()).expect("base64");
        let mut all = world().envelopes();
        all.push(receipt);
        all
    });
    let Some((which, changes)) = data.split_first() else { return };
    let which = usize::from(*which) % WHOLE.len();
    let whole = &WHOLE[which];
    let mut bytes = whole.clone();
    for change in changes.chunks_exact(3).take(MOST) {
        let at = usize::from(u16::from_be_bytes([change[0], change[1]])) % bytes.len();
        bytes[at] ^= change[2];
    }
    let verified = if which + 1 == WHOLE.len() {
        let signature = Base64::encode_string(&bytes);
        let receipt = SignedReceipt { statement: STATEMENT, signature: &signature };
        receipt::verify(&receipt, &[], &world().trust()).is_ok()
    } else {
        open_envelope(&bytes).is_some_and(|content| {
            assert_eq!(content, CONTENT);
            true
        })
    };
    assert_eq!(verified, bytes == *whole, "envelope {which}");
}
