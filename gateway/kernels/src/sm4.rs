//! SM4 as a block cipher of RustCrypto.
#![expect(unsafe_code, reason = "a view of blocks as bytes")]
#![cfg_attr(
    not(target_arch = "x86_64"),
    expect(unreachable_code, reason = "there is no vector kernel to reach")
)]

#[cfg(target_arch = "x86_64")]
mod engine;
#[cfg(target_arch = "x86_64")]
mod kernel;
#[cfg(not(target_arch = "x86_64"))]
#[path = "sm4/no_kernel.rs"]
mod kernel;

use std::fmt;
use std::marker::PhantomData;

use cipher::array::ArraySize;
use cipher::consts::{U16, U32, U64};
use cipher::{
    AlgorithmName, Block, BlockCipherDecBackend, BlockCipherDecClosure, BlockCipherDecrypt,
    BlockCipherEncBackend, BlockCipherEncClosure, BlockCipherEncrypt, BlockSizeUser, InOut,
    InOutBuf, Key, KeyInit, KeySizeUser, ParBlocks, ParBlocksSizeUser,
};
use zeroize::{Zeroize, ZeroizeOnDrop};

use kernel::{Kernel, RoundKeys};

/// A way to compute SM4, the fastest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// AVX-512 with GFNI (Intel from Ice Lake, AMD from Zen 4): 64 blocks at once.
    Avx512Gfni,
    /// AVX2 with GFNI: 32 blocks at once.
    Avx2Gfni,
    /// AVX2 with AES-NI (Hygon 海光, Zhaoxin 兆芯, older Intel and AMD): 32 blocks at once.
    Avx2Aes,
    /// The crate `sm4`: any processor, block by block, by a table (not constant-time).
    Portable,
}

impl Path {
    const ALL: [Self; 4] = [Self::Avx512Gfni, Self::Avx2Gfni, Self::Avx2Aes, Self::Portable];

    /// The paths that this machine can run, the fastest first; the last is
    /// [`Path::Portable`].
    pub fn available() -> impl Iterator<Item = Self> {
        Self::ALL
            .into_iter()
            .filter(|&path| path == Self::Portable || Kernel::detect(path).is_some())
    }
}

/// SM4 with one key, on the fastest path of this machine.
///
/// For GCM prefer [`Sm4Gcm`](crate::Sm4Gcm): the generic modes hand their last blocks over one
/// by one.
#[derive(Clone)]
pub struct Sm4(Inner);

#[derive(Clone)]
enum Inner {
    Vector { kernel: Kernel, encrypt: RoundKeys, decrypt: RoundKeys },
    Portable(sm4::Sm4),
}

impl Sm4 {
    /// The cipher on a given path, for tests and benches; none where the machine cannot run it.
    pub fn with_path(path: Path, key: &[u8; 16]) -> Option<Self> {
        match (path, Kernel::detect(path)) {
            (Path::Portable, _) => Some(Self::portable(key)),
            (_, kernel) => kernel.map(|kernel| Self::vector(kernel, key)),
        }
    }

    /// The path that the cipher takes.
    pub fn path(&self) -> Path {
        match &self.0 {
            Inner::Vector { kernel, .. } => kernel.path(),
            Inner::Portable(_) => Path::Portable,
        }
    }

    /// Adds to `data` the key stream of counter mode: the first block encrypts `counter`, each
    /// next one the same with its last 32 bits, big-endian, one higher (modulo 2^32).
    pub(crate) fn add_key_stream(&self, counter: &[u8; 16], mut data: InOutBuf<'_, '_, u8>) {
        let (words, _) = counter.as_chunks::<4>();
        let first: [u32; 4] = std::array::from_fn(|i| u32::from_be_bytes(words[i]));
        match &self.0 {
            Inner::Vector { kernel, encrypt, .. } => kernel.crypt(encrypt, Some(first), data),
            Inner::Portable(cipher) => {
                let mut last = first[3];
                while !data.is_empty() {
                    let mut block = Block::<Self>::from(*counter);
                    block[12..].copy_from_slice(&last.to_be_bytes());
                    BlockCipherEncrypt::encrypt_block(cipher, &mut block);
                    let len = data.len().min(block.len());
                    let (mut now, rest) = data.split_at(len);
                    now.xor_in2out(&block[..len]);
                    data = rest;
                    last = last.wrapping_add(1);
                }
            }
        }
    }

    fn vector(kernel: Kernel, key: &[u8; 16]) -> Self {
        let mut cipher = Self(Inner::Vector { kernel, encrypt: [0; 32], decrypt: [0; 32] });
        if let Inner::Vector { encrypt, decrypt, .. } = &mut cipher.0 {
            kernel.expand(key, encrypt);
            *decrypt = *encrypt;
            decrypt.reverse();
        }
        cipher
    }

    fn portable(key: &[u8; 16]) -> Self {
        Self(Inner::Portable(sm4::Sm4::new(&(*key).into())))
    }
}

impl KeySizeUser for Sm4 {
    type KeySize = U16;
}

impl KeyInit for Sm4 {
    fn new(key: &Key<Self>) -> Self {
        let key = key.as_ref();
        Path::ALL
            .into_iter()
            .find_map(Kernel::detect)
            .map_or_else(|| Self::portable(key), |kernel| Self::vector(kernel, key))
    }
}

impl BlockSizeUser for Sm4 {
    type BlockSize = U16;
}

impl BlockCipherEncrypt for Sm4 {
    fn encrypt_with_backend(&self, f: impl BlockCipherEncClosure<BlockSize = U16>) {
        match &self.0 {
            Inner::Portable(cipher) => cipher.encrypt_with_backend(f),
            Inner::Vector { kernel, encrypt, .. } if kernel.path() == Path::Avx512Gfni => {
                f.call(&Backend::<U64>::new(*kernel, encrypt))
            }
            Inner::Vector { kernel, encrypt, .. } => f.call(&Backend::<U32>::new(*kernel, encrypt)),
        }
    }
}

impl BlockCipherDecrypt for Sm4 {
    fn decrypt_with_backend(&self, f: impl BlockCipherDecClosure<BlockSize = U16>) {
        match &self.0 {
            Inner::Portable(cipher) => cipher.decrypt_with_backend(f),
            Inner::Vector { kernel, decrypt, .. } if kernel.path() == Path::Avx512Gfni => {
                f.call(&Backend::<U64>::new(*kernel, decrypt))
            }
            Inner::Vector { kernel, decrypt, .. } => f.call(&Backend::<U32>::new(*kernel, decrypt)),
        }
    }
}

impl AlgorithmName for Sm4 {
    fn write_alg_name(f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sm4")
    }
}

impl fmt::Debug for Sm4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sm4").field("path", &self.path()).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The portable cipher clears its own keys.
        if let Self::Vector { encrypt, decrypt, .. } = self {
            encrypt.zeroize();
            decrypt.zeroize();
        }
    }
}

impl ZeroizeOnDrop for Sm4 {}

/// A direction of the cipher, `N` blocks at once. In SM4 decryption is encryption with the
/// round keys in the opposite order.
struct Backend<'a, N> {
    kernel: Kernel,
    keys: &'a RoundKeys,
    size: PhantomData<N>,
}

impl<'a, N> Backend<'a, N> {
    fn new(kernel: Kernel, keys: &'a RoundKeys) -> Self {
        Self { kernel, keys, size: PhantomData }
    }

    #[inline(always)]
    fn one(&self, block: InOut<'_, '_, Block<Sm4>>) {
        self.kernel.crypt(self.keys, None, block.into_buf());
    }

    #[inline(always)]
    fn many(&self, blocks: InOutBuf<'_, '_, Block<Sm4>>) {
        let len = blocks.len() * size_of::<Block<Sm4>>();
        let (input, output) = blocks.into_raw();
        // SAFETY: a block is an array of bytes without padding, so the same memory is as many
        // bytes; the pointers come from a buffer that lives on and is not used again.
        let bytes = unsafe { InOutBuf::from_raw(input.cast(), output.cast(), len) };
        self.kernel.crypt(self.keys, None, bytes);
    }
}

impl<N> BlockSizeUser for Backend<'_, N> {
    type BlockSize = U16;
}

impl<N: ArraySize> ParBlocksSizeUser for Backend<'_, N> {
    type ParBlocksSize = N;
}

impl<N: ArraySize> BlockCipherEncBackend for Backend<'_, N> {
    #[inline(always)]
    fn encrypt_block(&self, block: InOut<'_, '_, Block<Self>>) {
        self.one(block);
    }

    #[inline(always)]
    fn encrypt_par_blocks(&self, blocks: InOut<'_, '_, ParBlocks<Self>>) {
        self.many(blocks.into_buf());
    }

    #[inline(always)]
    fn encrypt_tail_blocks(&self, blocks: InOutBuf<'_, '_, Block<Self>>) {
        self.many(blocks);
    }
}

impl<N: ArraySize> BlockCipherDecBackend for Backend<'_, N> {
    #[inline(always)]
    fn decrypt_block(&self, block: InOut<'_, '_, Block<Self>>) {
        self.one(block);
    }

    #[inline(always)]
    fn decrypt_par_blocks(&self, blocks: InOut<'_, '_, ParBlocks<Self>>) {
        self.many(blocks.into_buf());
    }

    #[inline(always)]
    fn decrypt_tail_blocks(&self, blocks: InOutBuf<'_, '_, Block<Self>>) {
        self.many(blocks);
    }
}
