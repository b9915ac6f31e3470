//! What a layout lists: images in a fixed order, and the source of their bytes.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::item::Item;
#[cfg(feature = "parquet")]
use super::parquet::ParquetFiles;
use crate::error::Error;
use crate::files::{check_len, read_file};
use crate::scan_stats::ScanStats;

/// The images of a dataset.
#[derive(Debug)]
pub(super) struct Listing {
    pub items: Vec<Item>,
    /// The folder, archive or file that the paths of the items are relative to.
    pub root: PathBuf,
    pub source: Source,
    pub stats: ScanStats,
}

/// Where the bytes of the images are.
#[derive(Debug)]
pub(super) enum Source {
    /// In files of their own.
    Files,
    /// In a tar archive, at the items' spans.
    Archive(Mutex<File>),
    /// In rows of Parquet files.
    #[cfg(feature = "parquet")]
    Parquet(Box<ParquetFiles>),
}

impl Listing {
    /// Appends the bytes of image `index` to `bytes`, which is empty.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn read(&self, index: usize, bytes: &mut Vec<u8>) -> Result<(), Error> {
        let Some(item) = self.items.get(index) else {
            let source = io::Error::new(io::ErrorKind::NotFound, "the dataset has no such picture");
            return Err(Error::Read { path: self.root.clone(), source });
        };
        let path = self.root.join(&item.path);
        let (path, read) = match (&self.source, item.span) {
            (Source::Archive(archive), Some(span)) => (path, read_span(archive, span, bytes)),
            (Source::Files | Source::Archive(_), _) => {
                let read = read_file(&path, bytes);
                (path, read)
            }
            #[cfg(feature = "parquet")]
            (Source::Parquet(files), _) => {
                let read = files.read(index, bytes).and_then(|()| check_len(bytes.len() as u64));
                (files.file(index).to_owned(), read)
            }
        };
        read.map_err(|source| Error::Read { path, source })
    }
}

fn read_span(archive: &Mutex<File>, (start, len): (u64, u64), bytes: &mut Vec<u8>) -> io::Result<()> {
    check_len(len)?;
    // A thread that panicked while it held the file has left nothing half-done: each seeks first.
    let mut archive = archive.lock().unwrap_or_else(PoisonError::into_inner);
    archive.seek(SeekFrom::Start(start))?;
    (&mut *archive).take(len).read_to_end(bytes)?;
    match bytes.len() as u64 == len {
        true => Ok(()),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
