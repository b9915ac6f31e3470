//! Names of image files, and reading them whole, with a bound.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

/// The largest image file that is read, in bytes: 2^29.
pub const MAX_FILE_BYTES: u64 = 1 << 29;

/// Whether a file's name is an image's. Formats that cannot be decoded are among them, so that such files are
/// reported and not passed over.
pub fn is_image(path: &Path) -> bool {
    const EXTENSIONS: [&str; 20] = [
        "jpg", "jpeg", "jpe", "jfif", "png", "bmp", "dib", "gif", "webp", "tif", "tiff", "ppm", "pgm", "pbm",
        "pnm", "avif", "heic", "heif", "jp2", "jxl",
    ];
    EXTENSIONS.iter().any(|extension| has_extension(path, extension))
}

/// Whether a file's name ends in `.extension`, in whatever case.
pub(crate) fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found.eq_ignore_ascii_case(extension))
}

/// Appends the bytes of the file at `path`. Pipes and devices are refused: opening a pipe would wait for
/// somebody to write to it, and a device may have no end.
pub(crate) fn read_file(path: &Path, bytes: &mut Vec<u8>) -> io::Result<()> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    check_len(metadata.len())?;
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(bytes)?;
    check_len(bytes.len() as u64)
}

/// Refuses a file of more than [`MAX_FILE_BYTES`].
pub(crate) fn check_len(len: u64) -> io::Result<()> {
    match len <= MAX_FILE_BYTES {
        true => Ok(()),
        false => Err(io::Error::other(format!("{len} bytes, more than the limit of {MAX_FILE_BYTES}"))),
    }
}
