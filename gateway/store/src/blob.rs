//! Sealed files: payloads too long for the engine, in chunks, written and read in bounded memory.
//!
//! Each file has a key of its own, made for it and used by one writer once, so that the number of a
//! chunk is its nonce. The file's end seals its length and its name: what is cut, extended or under
//! another name is refused before a byte is given out.

use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result as IoResult, Seek, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use xinqiao_core::fault::io_words;
use xinqiao_crypto::aead::{Nonce, Sm4Gcm, TAG_LENGTH};
use xinqiao_crypto::sm4::Sm4Key;
use zeroize::Zeroizing;

use crate::StoreError;
use crate::seal::{Current, NONCE, Seals};

/// Plaintext bytes of a chunk.
pub(crate) const CHUNK: usize = 64 << 10;
/// What the file's key is sealed for, as if it were a table.
const PLACE: &str = "blob";
/// At the head of the file: the file's key, sealed.
const HEADER: usize = NONCE + 16 + TAG_LENGTH;

/// Seals a file as its content comes.
pub(crate) struct Sealer {
    cipher: Sm4Gcm,
    /// Less than a chunk.
    rest: Vec<u8>,
    chunks: u64,
    length: u64,
}

impl Sealer {
    /// Starts a file; gives its first bytes. `segment` must be durable.
    pub(crate) fn start(segment: &Current) -> Result<(Self, Vec<u8>), StoreError> {
        let key = Sm4Key::generate().map_err(|error| StoreError::Io(error.to_string()))?;
        let mut header = Vec::with_capacity(HEADER);
        header.resize(NONCE, 0);
        header.extend_from_slice(key.as_bytes());
        let header = segment.seal(PLACE, b"", header)?;
        Ok((Self::bare(&key), header))
    }

    /// Seals under a key of one use, which is kept elsewhere.
    pub(crate) fn bare(key: &Sm4Key) -> Self {
        Self { cipher: Sm4Gcm::new(key), rest: Vec::with_capacity(CHUNK), chunks: 0, length: 0 }
    }

    /// Bytes of content so far.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Takes in content; adds the chunks that are full to `out`.
    pub(crate) fn update(
        &mut self,
        mut content: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        self.length += content.len() as u64;
        while self.rest.len() + content.len() >= CHUNK {
            let (head, tail) = content.split_at(CHUNK - self.rest.len());
            self.rest.extend_from_slice(head);
            content = tail;
            self.chunk(out)?;
        }
        self.rest.extend_from_slice(content);
        Ok(())
    }

    /// The last bytes of the file that will bear `name`.
    pub(crate) fn finish(mut self, name: &[u8; 32], out: &mut Vec<u8>) -> Result<(), StoreError> {
        if !self.rest.is_empty() {
            self.chunk(out)?;
        }
        let nonce = Nonce::from_protocol(end_nonce(self.length));
        out.extend_from_slice(&self.cipher.seal(nonce, name, b"").map_err(too_long)?);
        Ok(())
    }

    fn chunk(&mut self, out: &mut Vec<u8>) -> Result<(), StoreError> {
        let nonce = Nonce::from_protocol(chunk_nonce(self.chunks));
        let tag = self.cipher.seal_in_place(nonce, b"", &mut self.rest).map_err(too_long)?;
        out.extend_from_slice(&self.rest);
        out.extend_from_slice(&tag);
        self.rest.clear();
        self.chunks += 1;
        Ok(())
    }
}

/// A sealed file, read from anywhere.
pub(crate) struct Blob {
    file: File,
    cipher: Sm4Gcm,
    /// Where damage is told, and as whose; of a file without a name it is not.
    told: Option<(Arc<Seals>, [u8; 32])>,
    /// Where the first chunk begins.
    begin: u64,
    length: u64,
    position: u64,
    /// The chunk at hand and its number.
    chunk: Vec<u8>,
    number: Option<u64>,
}

impl Blob {
    /// Opens a file and checks its end: it is whole, and it is the one of this name.
    pub(crate) fn open(
        path: PathBuf,
        name: [u8; 32],
        seals: Arc<Seals>,
    ) -> Result<Self, StoreError> {
        let io = |error: Error| StoreError::Io(io_words(&error).into_owned());
        let damaged = || {
            seals.log(PLACE, &name);
            StoreError::Damaged(PLACE)
        };
        let file = File::open(path).map_err(io)?;
        let size = file.metadata().map_err(io)?.len();
        let bodies = size.checked_sub((HEADER + TAG_LENGTH) as u64).ok_or_else(damaged)?;
        let chunks = bodies.div_ceil((CHUNK + TAG_LENGTH) as u64);
        let length = bodies.checked_sub(chunks * TAG_LENGTH as u64).ok_or_else(damaged)?;

        let mut header = [0; HEADER];
        file.read_exact_at(&mut header, 0).map_err(io)?;
        let key = Zeroizing::new(seals.open(PLACE, b"", &header)?);
        let key = Sm4Key::from_slice(&key).ok_or_else(damaged)?;
        let cipher = Sm4Gcm::new(&key);
        let mut end = [0; TAG_LENGTH];
        file.read_exact_at(&mut end, size - TAG_LENGTH as u64).map_err(io)?;
        cipher.open(&end_nonce(length), &name, &end).map_err(|_| damaged())?;
        let (told, begin) = (Some((seals, name)), HEADER as u64);
        Ok(Self { told, begin, ..Self::new(file, cipher, length) })
    }

    /// Reads what [`Sealer::bare`] sealed from the beginning of a file.
    pub(crate) fn bare(file: File, key: &Sm4Key, length: u64) -> Self {
        Self::new(file, Sm4Gcm::new(key), length)
    }

    fn new(file: File, cipher: Sm4Gcm, length: u64) -> Self {
        let (chunk, number) = (Vec::with_capacity(CHUNK), None);
        Self { file, cipher, told: None, begin: 0, length, position: 0, chunk, number }
    }

    /// Length of the content.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    fn load(&mut self, number: u64) -> IoResult<()> {
        let begin = number * CHUNK as u64;
        let length = (self.length - begin).min(CHUNK as u64);
        let place = self.begin + number * (CHUNK + TAG_LENGTH) as u64;
        self.number = None;
        self.chunk.resize(usize::try_from(length).unwrap_or(CHUNK), 0);
        let mut tag = [0; TAG_LENGTH];
        self.file.read_exact_at(&mut self.chunk, place)?;
        self.file.read_exact_at(&mut tag, place + length)?;
        let opened = self.cipher.open_in_place(&chunk_nonce(number), b"", &mut self.chunk, &tag);
        if opened.is_err() {
            self.chunk.clear();
            if let Some((seals, name)) = &self.told {
                seals.log(PLACE, name);
            }
            return Err(Error::new(ErrorKind::InvalidData, "报文文件损坏或被改动"));
        }
        self.number = Some(number);
        Ok(())
    }
}

impl Read for Blob {
    fn read(&mut self, out: &mut [u8]) -> IoResult<usize> {
        if self.position >= self.length || out.is_empty() {
            return Ok(0);
        }
        let number = self.position / CHUNK as u64;
        if self.number != Some(number) {
            self.load(number)?;
        }
        let within = usize::try_from(self.position % CHUNK as u64).unwrap_or(CHUNK);
        let count = self.chunk.get(within..).unwrap_or_default().read(out)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for Blob {
    fn seek(&mut self, to: SeekFrom) -> IoResult<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(offset) => self.length.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.ok_or_else(|| Error::from(ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}

fn chunk_nonce(number: u64) -> [u8; NONCE] {
    numbered([0; 4], number)
}

fn end_nonce(length: u64) -> [u8; NONCE] {
    numbered([0xff; 4], length)
}

fn numbered(kind: [u8; 4], number: u64) -> [u8; NONCE] {
    let mut nonce = [0; NONCE];
    let (head, tail) = nonce.split_at_mut(4);
    head.copy_from_slice(&kind);
    tail.copy_from_slice(&number.to_be_bytes());
    nonce
}

fn too_long(error: xinqiao_crypto::aead::TooLong) -> StoreError {
    StoreError::Io(error.to_string())
}
