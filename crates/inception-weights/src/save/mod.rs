//! A writer for each format.

pub(crate) mod burnpack;
mod integers;
pub(crate) mod onnx;
pub(crate) mod safetensors;

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::TempPath;

use crate::error::Error;

/// A file under way: written beside its place, and put there by [`finish`](PartFile::finish), so that no half-written
/// file is ever there. Dropped before, it leaves nothing.
#[derive(Debug)]
pub struct PartFile {
    path: PathBuf,
    temporary: TempPath,
    file: BufWriter<File>,
}

impl PartFile {
    /// Starts a file that will be at `path`.
    ///
    /// # Errors
    ///
    /// If `path` is there and no regular file, if its folder is not there, or nothing can be written to it.
    pub fn create(path: &Path) -> io::Result<Self> {
        let folder = folder_for(path)?;
        let mut builder = tempfile::Builder::new();
        // The umask applies, as to any new file; a temporary file would be its owner's alone.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        // The error of `tempfile` names the temporary file, which says nothing to a user.
        let made = builder.tempfile_in(folder).map_err(|error| io::Error::from(error.kind()))?;
        let (file, temporary) = made.into_parts();
        Ok(Self { path: path.to_owned(), temporary, file: BufWriter::new(file) })
    }

    /// Puts the file in its place, once it is on the disk.
    ///
    /// # Errors
    ///
    /// Those of writing; the place is then as it was.
    pub fn finish(self) -> io::Result<()> {
        self.file.into_inner()?.sync_all()?;
        Ok(self.temporary.persist(self.path)?)
    }
}

impl Write for PartFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for PartFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// The folder of `path`, where a file can be written.
pub(crate) fn folder_for(path: &Path) -> io::Result<&Path> {
    if path.exists() && !path.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is there, and no regular file"));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match folder.is_dir() {
        true => Ok(folder),
        false => {
            let missing = format!("there is no folder {}", folder.display());
            Err(io::Error::new(io::ErrorKind::NotFound, missing))
        }
    }
}

/// Writes the file at `path` as a [`PartFile`].
pub(crate) fn replace_file(
    path: &Path,
    write: impl FnOnce(&mut PartFile) -> io::Result<()>,
) -> Result<(), Error> {
    let replace = || {
        let mut file = PartFile::create(path)?;
        write(&mut file)?;
        file.finish()
    };
    replace().map_err(|source| Error::Io { path: path.to_owned(), source })
}
