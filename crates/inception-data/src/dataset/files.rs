//! Names and entries of folders, shared by the layouts.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::error::{DatasetProblem, Error};

/// Whether a name is a hidden file's, `.name`.
pub(super) fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
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

/// Whether an entry is a folder, or a link to one, that is not hidden.
pub(super) fn is_folder(entry: &fs::DirEntry) -> bool {
    !is_hidden(&entry.file_name()) && fs::metadata(entry.path()).is_ok_and(|metadata| metadata.is_dir())
}

/// The text of a list or a table, without a byte order mark.
///
/// # Errors
/// [`Error::Read`]; [`Error::Dataset`] for what is no text.
pub(super) fn read_text(path: &Path) -> Result<String, Error> {
    let bytes = fs::read(path).map_err(Error::reading(path))?;
    let mut text = String::from_utf8(bytes).map_err(|_| Error::dataset(path, DatasetProblem::UnknownKind))?;
    if text.starts_with('\u{feff}') {
        text.remove(0);
    }
    Ok(text)
}
