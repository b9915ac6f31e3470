//! A writer for each format.

pub(crate) mod burnpack;
mod integers;
pub(crate) mod onnx;
pub(crate) mod safetensors;

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;

use crate::error::Error;

/// Writes a temporary file in the folder of `path` and renames it to `path`, so that no half-written file is
/// ever there.
pub(crate) fn replace_file(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<(), Error> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let replace = || -> io::Result<()> {
        let mut builder = tempfile::Builder::new();
        // The umask applies, as to any new file; a temporary file would be its owner's alone.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let (file, temporary) = builder.tempfile_in(folder)?.into_parts();
        let mut file = BufWriter::new(file);
        write(&mut file)?;
        file.into_inner()?.sync_all()?;
        Ok(temporary.persist(path)?)
    };
    replace().map_err(|source| Error::Io { path: path.to_owned(), source })
}
