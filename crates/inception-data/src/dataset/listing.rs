//! What a layout lists: images in a fixed order, and the source of their bytes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

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

    /// Length and time of the last change of the file that each image is in.
    pub fn versions(&self) -> Vec<[u64; 2]> {
        let mut last: Option<(PathBuf, [u64; 2])> = None;
        let file = |index: usize, item: &Item| match (&self.source, item.span) {
            (Source::Archive(_), Some(_)) => self.root.clone(),
            #[cfg(feature = "parquet")]
            (Source::Parquet(files), _) => files.file(index).to_owned(),
            _ => {
                let _ = index;
                self.root.join(&item.path)
            }
        };
        let mut version = |(index, item): (usize, &Item)| {
            let path = file(index, item);
            match &last {
                Some((known, version)) if *known == path => *version,
                _ => last.insert((path.clone(), version(&path))).1,
            }
        };
        self.items.iter().enumerate().map(&mut version).collect()
    }
}

/// Length and time of the last change of a file; zeros for one that is not there.
fn version(path: &Path) -> [u64; 2] {
    let Ok(metadata) = fs::metadata(path) else { return [0; 2] };
    let since = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    [metadata.len(), since.map_or(0, |since| since.as_nanos() as u64)]
}
