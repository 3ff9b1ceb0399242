//! Content on its way that must not lie readable on the disk: in memory while it is short, then in
//! an unnamed file sealed under a key that is in this process's memory only.

use std::fs::{File, OpenOptions};
use std::io::{Cursor, Error, Result as IoResult, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use xinqiao_core::spi::ReadSeek;
use xinqiao_crypto::sm4::Sm4Key;
use zeroize::Zeroizing;

use crate::StoreError;
use crate::blob::{Blob, Sealer};

/// Longer content goes to the disk.
const MEMORY: usize = 1 << 20;

/// Takes content in, then gives it out again from anywhere. Gone when it or its reader is dropped.
pub struct Scratch {
    path: PathBuf,
    held: Zeroizing<Vec<u8>>,
    file: Option<Spilled>,
}

struct Spilled {
    file: File,
    key: Sm4Key,
    sealer: Sealer,
    sealed: Vec<u8>,
}

impl Scratch {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, held: Zeroizing::default(), file: None }
    }

    /// What was written, from its beginning.
    pub fn into_reader(mut self) -> IoResult<Box<dyn ReadSeek>> {
        match self.file.take() {
            None => Ok(Box::new(Cursor::new(Held(self.held)))),
            Some(spilled) => Ok(Box::new(spilled.into_reader()?)),
        }
    }
}

impl xinqiao_core::spi::Scratch for Scratch {
    fn into_reader(self: Box<Self>) -> IoResult<Box<dyn ReadSeek>> {
        Self::into_reader(*self)
    }
}

impl Write for Scratch {
    fn write(&mut self, bytes: &[u8]) -> IoResult<usize> {
        if self.file.is_none() && self.held.len() + bytes.len() > MEMORY {
            let mut spilled = Spilled::new(&self.path)?;
            spilled.write(&std::mem::take(&mut self.held))?;
            self.file = Some(spilled);
        }
        match &mut self.file {
            None => self.held.extend_from_slice(bytes),
            Some(spilled) => spilled.write(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> IoResult<()> {
        Ok(())
    }
}

impl Spilled {
    /// The file loses its name at once: whatever happens, nothing stays.
    fn new(path: &PathBuf) -> IoResult<Self> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(path)?;
        std::fs::remove_file(path)?;
        let key = Sm4Key::generate().map_err(Error::other)?;
        let sealer = Sealer::bare(&key);
        Ok(Self { file, key, sealer, sealed: Vec::new() })
    }

    fn write(&mut self, bytes: &[u8]) -> IoResult<()> {
        self.sealer.update(bytes, &mut self.sealed).map_err(other)?;
        self.file.write_all(&self.sealed)?;
        self.sealed.clear();
        Ok(())
    }

    fn into_reader(mut self) -> IoResult<Blob> {
        let length = self.sealer.length();
        self.sealer.finish(&[0; 32], &mut self.sealed).map_err(other)?;
        self.file.write_all(&self.sealed)?;
        Ok(Blob::bare(self.file, &self.key, length))
    }
}

/// Erased on drop.
struct Held(Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

fn other(error: StoreError) -> Error {
    Error::other(error)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _, SeekFrom};

    use super::*;

    #[test]
    fn what_goes_in_comes_out_and_never_lies_readable() {
        let dir = tempfile::tempdir().unwrap();
        for length in [0, 1, MEMORY, MEMORY + 1, MEMORY + (64 << 10), 3_000_001] {
            let content: Vec<u8> =
                (0..length).map(|at| u8::try_from(at % 251).unwrap_or(0)).collect();
            let mut scratch = Scratch::new(dir.path().join("scratch"));
            for part in content.chunks(100_000) {
                scratch.write_all(part).unwrap();
            }
            if let Some(spilled) = &mut scratch.file {
                let mut raw = Vec::new();
                spilled.file.rewind().unwrap();
                spilled.file.read_to_end(&mut raw).unwrap();
                assert!(raw.len() > MEMORY - (64 << 10));
                assert!(memchr::memmem::find(&raw, &content[..64]).is_none());
            }
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "it has no name");
            let mut reader = scratch.into_reader().unwrap();
            let mut back = Vec::new();
            reader.read_to_end(&mut back).unwrap();
            assert!(back == content, "{length}");
            let middle = length / 2;
            reader.seek(SeekFrom::Start(middle as u64)).unwrap();
            let mut rest = Vec::new();
            reader.read_to_end(&mut rest).unwrap();
            assert!(rest == content[middle..], "{length}");
        }
    }
}
