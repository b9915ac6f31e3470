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
