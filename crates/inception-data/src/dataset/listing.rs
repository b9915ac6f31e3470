//! What a layout lists: images in a fixed order, and the source of their bytes.

use std::io;
use std::path::PathBuf;

use super::archive::Archive;
use super::item::Item;
#[cfg(feature = "parquet")]
use super::parquet::ParquetFiles;
use crate::error::Error;
#[cfg(feature = "parquet")]
use crate::files::check_len;
use crate::files::read_file;
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
    /// In an archive, at the items' spans.
    Archive(Archive),
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
            (Source::Archive(archive), Some(span)) => (path, archive.read(span, bytes)),
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
