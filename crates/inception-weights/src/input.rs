//! The bytes of a checkpoint, in a file or in memory, with positioned reads.

use std::fs::File;
use std::io;
use std::path::{Component, Path};

/// Where bytes come from.
#[derive(Debug)]
enum Bytes {
    File(File),
    Memory(Vec<u8>),
    /// One after the other, each with where it begins.
    Joined(Vec<(u64, Input)>),
}

/// Opens a file beside another one, by its name there; nothing if there is no such file.
pub(crate) type Beside<'a> = &'a dyn Fn(&Path) -> Result<Option<Input>, Fault>;

/// A file or a piece of memory, and its length.
#[derive(Debug)]
pub(crate) struct Input {
    bytes: Bytes,
    len: u64,
}

impl Input {
    pub fn file(file: File) -> io::Result<Self> {
        Ok(Self { len: file.metadata()?.len(), bytes: Bytes::File(file) })
    }

    pub fn memory(bytes: Vec<u8>) -> Self {
        Self { len: bytes.len() as u64, bytes: Bytes::Memory(bytes) }
    }

    /// Several inputs as one.
    pub fn joined(inputs: Vec<Self>) -> Self {
        let mut len = 0;
        let inputs = inputs.into_iter().map(|input| {
            let start = len;
            len += input.len;
            (start, input)
        });
        let inputs = inputs.collect();
        Self { bytes: Bytes::Joined(inputs), len }
    }

    /// The file `name` in the folder of the file at `path`: one that is below it, whatever a name says.
    pub fn beside(path: &Path, name: &Path) -> Result<Option<Self>, Fault> {
        let text = name.as_os_str().as_encoded_bytes();
        if text.is_empty()
            || text.contains(&b'\\')
            || !name.components().all(|part| matches!(part, Component::Normal(_)))
        {
            return unsupported(format!("it names `{}`, which is not in its folder", name.display()));
        }
        let path = path.parent().unwrap_or(Path::new("")).join(name);
        // No pipe and no device.
        match std::fs::metadata(&path) {
            Ok(kind) if kind.is_file() => Ok(Some(Self::file(File::open(path)?)?)),
            Ok(_) => unsupported(format!("it names `{}`, which is no file", name.display())),
            Err(_) => Ok(None),
        }
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    /// Fills `buffer` from `offset` on.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        match &self.bytes {
            Bytes::File(file) => read_exact_at(file, offset, buffer),
            Bytes::Joined(inputs) => {
                let after = inputs.partition_point(|(start, _)| *start <= offset);
                let (start, input) =
                    after.checked_sub(1).map(|i| &inputs[i]).ok_or(io::ErrorKind::UnexpectedEof)?;
                input.read_at(offset - start, buffer)
            }
            Bytes::Memory(bytes) => {
                let start = usize::try_from(offset).ok();
                let from = start.and_then(|start| bytes.get(start..start.checked_add(buffer.len())?));
                buffer.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
        }
    }

    /// The bytes `offset..offset + len`, if there are so many.
    pub fn read(&self, offset: u64, len: u64) -> io::Result<Vec<u8>> {
        if offset.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let mut bytes = vec![0; len];
        self.read_at(offset, &mut bytes)?;
        Ok(bytes)
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

#[cfg(not(unix))]
fn read_exact_at(mut file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
    use std::io::{Read, Seek, SeekFrom};
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(buffer)
}

/// Bytes of an [`Input`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub offset: u64,
    pub len: u64,
}

/// A reader's error: what is wrong with a file, and where. [`Error`](crate::Error) adds the path.
#[derive(Debug)]
pub(crate) enum Fault {
    Io(io::Error),
    Damaged(String),
    /// What is not read, or what the file needs besides and lacks.
    Unsupported(String),
}

impl Fault {
    pub fn at(offset: u64, reason: impl std::fmt::Display) -> Self {
        Self::Damaged(format!("at byte {offset}: {reason}"))
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A [`Fault::Damaged`].
pub(crate) fn damaged<T>(reason: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Damaged(reason.into()))
}

/// A [`Fault::Unsupported`].
pub(crate) fn unsupported<T>(reason: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Unsupported(reason.into()))
}

/// A number of up to 8 bytes, the lowest first.
pub(crate) fn le(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
}

/// Reads a range of an [`Input`] from front to back, in blocks.
pub(crate) struct Stream<'a> {
    input: &'a Input,
    /// Where the next byte is.
    pub pos: u64,
    end: u64,
    block: Vec<u8>,
    /// Where `block` starts.
    block_at: u64,
}

impl<'a> Stream<'a> {
    const BLOCK: u64 = 1 << 16;

    /// Over `start..end`, which the caller has checked to be within the input.
    pub fn new(input: &'a Input, start: u64, end: u64) -> Self {
        Self { input, pos: start, end: end.min(input.len()), block: Vec::new(), block_at: start }
    }

    /// How many bytes are left.
    pub fn left(&self) -> u64 {
        self.end.saturating_sub(self.pos)
    }

    fn need(&self, count: u64, what: &str) -> Result<(), Fault> {
        match count <= self.left() {
            true => Ok(()),
            false => Err(Fault::at(
                self.pos,
                format!("{what} of {count} bytes, but only {} are left", self.left()),
            )),
        }
    }

    /// Passes over `count` bytes.
    pub fn skip(&mut self, count: u64, what: &str) -> Result<(), Fault> {
        self.need(count, what)?;
        self.pos += count;
        Ok(())
    }

    /// The next byte.
    pub fn byte(&mut self) -> Result<u8, Fault> {
        self.need(1, "an item")?;
        let inside = |s: &Self| s.pos.checked_sub(s.block_at).filter(|&at| at < s.block.len() as u64);
        let at = match inside(self) {
            Some(at) => at,
            None => {
                self.block = self.input.read(self.pos, Self::BLOCK.min(self.left()))?;
                self.block_at = self.pos;
                0
            }
        };
        self.pos += 1;
        Ok(self.block[at as usize])
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        self.need(N as u64, "an item")?;
        let mut array = [0; N];
        for byte in &mut array {
            *byte = self.byte()?;
        }
        Ok(array)
    }

    /// The next `count` bytes, where there are so many.
    pub fn bytes(&mut self, count: u64, what: &str) -> Result<Vec<u8>, Fault> {
        self.need(count, what)?;
        let bytes = self.input.read(self.pos, count)?;
        self.pos += count;
        Ok(bytes)
    }

    /// The bytes up to the next line feed, which is passed over; at most `limit`.
    pub fn line(&mut self, limit: usize) -> Result<Vec<u8>, Fault> {
        let start = self.pos;
        let mut line = Vec::new();
        loop {
            match self.byte()? {
                b'\n' => return Ok(line),
                _ if line.len() == limit => {
                    return Err(Fault::at(start, format!("a line of over {limit} bytes")));
                }
                byte => line.push(byte),
            }
        }
    }
}
