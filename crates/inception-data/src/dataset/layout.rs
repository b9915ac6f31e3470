//! The layouts of datasets, told by content.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use super::shards::holds_parquet;
use crate::error::{DatasetProblem, Error};
use crate::files::has_extension;

/// How the images of a dataset are laid out.
pub(super) enum Layout {
    /// A folder with a folder for each class.
    Folder,
    /// A tar archive of such folders.
    Archive,
    /// A text file with a path and a label on each line.
    List,
    /// A Parquet file, or a folder of them.
    Parquet,
}

impl Layout {
    /// That of `path`.
    ///
    /// # Errors
    /// [`Error::Read`]; [`Error::Dataset`] for a path of no layout.
    pub fn of(path: &Path) -> Result<Self, Error> {
        let metadata = fs::metadata(path).map_err(Error::reading(path))?;
        if metadata.is_dir() {
            return Ok(if holds_parquet(path)? { Self::Parquet } else { Self::Folder });
        }
        if !metadata.is_file() {
            return Err(Error::dataset(path, DatasetProblem::UnknownKind));
        }
        let mut head = Vec::new();
        File::open(path)
            .and_then(|file| file.take(512).read_to_end(&mut head))
            .map_err(Error::reading(path))?;
        const COMPRESSED: [(&[u8], &str); 4] =
            [(b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"BZh", "bzip2"), (b"\xfd7zXZ\0", "xz")];
        if let Some((_, format)) = COMPRESSED.into_iter().find(|(magic, _)| head.starts_with(magic)) {
            return Err(Error::dataset(path, DatasetProblem::Compressed { format }));
        }
        if head.starts_with(b"PAR1") {
            return Ok(Self::Parquet);
        }
        if has_extension(path, "tar") || head.get(257..262) == Some(b"ustar") {
            return Ok(Self::Archive);
        }
        match head.contains(&0) {
            true => Err(Error::dataset(path, DatasetProblem::UnknownKind)),
            false => Ok(Self::List),
        }
    }
}
