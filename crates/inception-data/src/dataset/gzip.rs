//! What a gzip file holds, as a reader that goes forward, and starts again to go back.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use flate2::bufread::MultiGzDecoder;

/// How many times larger than the file what is unpacked may be. Pictures hardly shrink, and headers of tar
/// archives of tiny ones to a fiftieth; DEFLATE comes to a thousandth. What is kept of each header of a tar
/// archive is less than the header, so that this bounds memory, too.
const MAX_RATIO: u64 = 250;
/// Unpacked bytes that are not asked about.
const FREE: u64 = 4 << 20;

/// An unpacked gzip file, of one member or several.
pub(super) struct GzipStream {
    /// `None` where starting again has failed.
    decoder: Option<MultiGzDecoder<BufReader<File>>>,
    /// Unpacked bytes that were read.
    at: u64,
    /// Bytes of the file.
    packed: u64,
}

impl GzipStream {
    pub fn new(file: File) -> io::Result<Self> {
        let packed = file.metadata()?.len();
        let decoder = Some(MultiGzDecoder::new(BufReader::with_capacity(1 << 16, file)));
        Ok(Self { decoder, at: 0, packed })
    }

    fn restart(&mut self) -> io::Result<()> {
        let gone = || io::Error::other("the archive could not be read again");
        let mut file = self.decoder.take().ok_or_else(gone)?.into_inner().into_inner();
        file.rewind()?;
        self.decoder = Some(MultiGzDecoder::new(BufReader::with_capacity(1 << 16, file)));
        self.at = 0;
        Ok(())
    }
}

impl std::fmt::Debug for GzipStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GzipStream").field("at", &self.at).finish_non_exhaustive()
    }
}

impl Read for GzipStream {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let decoder = self.decoder.as_mut().ok_or(io::ErrorKind::UnexpectedEof)?;
        let read = decoder.read(bytes)?;
        self.at += read as u64;
        if self.at > FREE && self.at / MAX_RATIO > self.packed {
            let message = format!("it unpacks to more than {MAX_RATIO} times its size, which no pictures do");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(read)
    }
}

impl Seek for GzipStream {
    /// Goes to a place by unpacking what is before it. A place behind the end is the end.
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => at,
            SeekFrom::Current(by) => self.at.checked_add_signed(by).ok_or(io::ErrorKind::InvalidInput)?,
            SeekFrom::End(0) => u64::MAX,
            SeekFrom::End(_) => return Err(io::ErrorKind::Unsupported.into()),
        };
        if target < self.at {
            self.restart()?;
        }
        let ahead = target - self.at;
        io::copy(&mut self.by_ref().take(ahead), &mut io::sink())?;
        Ok(self.at)
    }
}
