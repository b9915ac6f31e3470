//! The layouts of datasets, told by content.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use super::archive::ArchiveFormat;
use super::gzip::GzipStream;
use super::shards::holds_parquet;
use crate::error::{DatasetProblem, Error};
use crate::files::has_extension;

/// How the images of a dataset are laid out.
pub(super) enum Layout {
    /// A folder with a folder for each class.
    Folder,
    /// An archive of such folders.
    Archive(ArchiveFormat),
    /// A text file with a path and a label on each line.
    List,
    /// A file `NAME.csv` with a head and a row of labels for each image.
    LabelTable,
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
        if head.starts_with(b"\x1f\x8b") {
            // Old tar archives have no signature, and are told by the name `NAME.tar.gz`.
            let inner = path.file_stem().map(Path::new);
            let is_named =
                has_extension(path, "tgz") || inner.is_some_and(|inner| has_extension(inner, "tar"));
            return match is_named || is_tar(&unpacked(path)) {
                true => Ok(Self::Archive(ArchiveFormat::TarGzip)),
                false => Err(Error::dataset(path, DatasetProblem::Compressed { format: "gzip" })),
            };
        }
        if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
            return Ok(Self::Archive(ArchiveFormat::Zip));
        }
        const COMPRESSED: [(&[u8], &str); 4] = [
            (b"\x28\xb5\x2f\xfd", "zstd"),
            (b"BZh", "bzip2"),
            (b"\xfd7zXZ\0", "xz"),
            (b"7z\xbc\xaf", "7-Zip"),
        ];
        if let Some((_, format)) = COMPRESSED.into_iter().find(|(magic, _)| head.starts_with(magic)) {
            return Err(Error::dataset(path, DatasetProblem::Compressed { format }));
        }
        if head.starts_with(b"PAR1") {
            return Ok(Self::Parquet);
        }
        if has_extension(path, "tar") || is_tar(&head) {
            return Ok(Self::Archive(ArchiveFormat::Tar));
        }
        match head.contains(&0) {
            true => Err(Error::dataset(path, DatasetProblem::UnknownKind)),
            false if is_label_table(path, &head) => Ok(Self::LabelTable),
            false => Ok(Self::List),
        }
    }
}

/// The first line of `LOC_val_solution.csv`, ImageNet's validation labels as Kaggle ships them.
pub(super) const KAGGLE_HEAD: &str = "ImageId,PredictionString";

/// Whether a text begins as a table of labels does, by its name and its first line; the one of Kaggle's is a
/// list.
fn is_label_table(path: &Path, head: &[u8]) -> bool {
    let head = head.strip_prefix("\u{feff}".as_bytes()).unwrap_or(head);
    let first_line = head.split(|&byte| byte == b'\n').next().unwrap_or_default();
    has_extension(path, "csv") && first_line.contains(&b',') && !head.starts_with(KAGGLE_HEAD.as_bytes())
}

/// Whether a file begins as a tar archive does.
fn is_tar(head: &[u8]) -> bool {
    head.get(257..262) == Some(b"ustar")
}

/// The first bytes of what a gzip file unpacks to, as far as it does.
fn unpacked(path: &Path) -> Vec<u8> {
    let mut head = Vec::new();
    if let Ok(stream) = File::open(path).and_then(GzipStream::new) {
        // What is wrong with it is said when it is opened.
        let _ = stream.take(512).read_to_end(&mut head);
    }
    head
}
