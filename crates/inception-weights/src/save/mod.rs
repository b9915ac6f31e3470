//! A writer for each format.

pub(crate) mod burnpack;
pub(crate) mod onnx;
pub(crate) mod safetensors;

use crate::error::Error;

/// Writes a file beside `path`, then renames it to it, so that no half-written file is ever there.
pub(crate) fn write_whole(
    path: &std::path::Path,
    write: impl FnOnce(&mut std::io::BufWriter<std::fs::File>) -> std::io::Result<()>,
) -> Result<(), Error> {
    use std::io::Write;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(name);
    let result = std::fs::File::create(&part).map(std::io::BufWriter::new).and_then(|mut file| {
        write(&mut file)?;
        file.flush()?;
        file.get_ref().sync_all()?;
        std::fs::rename(&part, path)
    });
    result.map_err(|source| {
        // Nothing is left to do if it cannot be removed, or was never there.
        let _ = std::fs::remove_file(&part);
        Error::Io { path: path.to_owned(), source }
    })
}
