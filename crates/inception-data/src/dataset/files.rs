//! Names and entries of folders, shared by the layouts.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::error::Error;

/// Whether a name is a hidden file's, `.name`.
pub(super) fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

/// Whether a file's name is an image's. Formats that cannot be decoded are among them, so that such files are
/// reported and not passed over.
pub(super) fn is_image(path: &Path) -> bool {
    const EXTENSIONS: [&str; 18] = [
        "jpg", "jpeg", "jpe", "jfif", "png", "bmp", "gif", "webp", "tif", "tiff", "ppm", "pgm", "pbm",
        "avif", "heic", "heif", "jp2", "jxl",
    ];
    EXTENSIONS.iter().any(|extension| has_extension(path, extension))
}

/// Whether a file's name ends in `.extension`, in whatever case.
pub(super) fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found.eq_ignore_ascii_case(extension))
}

/// A relative path without `.` components: `./a/b` and `a/b` are the same.
pub(super) fn without_dots(path: &Path) -> PathBuf {
    path.components().filter(|component| *component != Component::CurDir).collect()
}

/// The entries of a folder, in the order of their names.
pub(super) fn entries(path: &Path) -> Result<Vec<fs::DirEntry>, Error> {
    let entries = fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let mut entries = entries.map_err(Error::reading(path))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    Ok(entries)
}
