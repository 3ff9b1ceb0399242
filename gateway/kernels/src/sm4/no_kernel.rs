//! No vector path: only the portable one is left on this architecture.

use cipher::InOutBuf;

use super::Path;

/// The round keys in the order in which the rounds take them.
pub(super) type RoundKeys = [u32; 32];

/// A vector path, of which there is none.
#[derive(Clone, Copy)]
pub(super) enum Kernel {}

impl Kernel {
    /// None.
    pub(super) fn detect(_: Path) -> Option<Self> {
        None
    }

    pub(super) fn path(self) -> Path {
        match self {}
    }

    pub(super) fn expand(self, _: &[u8; 16], _: &mut RoundKeys) {
        match self {}
    }

    pub(super) fn crypt(self, _: &RoundKeys, _: Option<[u32; 4]>, _: InOutBuf<'_, '_, u8>) {
        match self {}
    }
}
