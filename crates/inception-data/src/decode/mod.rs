//! Bytes to 8-bit RGB, as PaddleClas's `DecodeImage` (`ppcls/data/preprocess/ops/operators.py`) does it:
//! `cv2.imdecode(data, cv2.IMREAD_COLOR)`, BGR converted to RGB.

mod exif;
mod jpeg;
mod png;

use std::path::Path;

use crate::error::Error;
use crate::format::{FoundFormat, ImageFormat};
use crate::image::RgbImage;

/// The most pixels that [`decode`] and [`read`] accept: 2^27, that is 384 MiB of RGB.
pub const MAX_PIXELS: u64 = 1 << 27;

/// Decodes the JPEG or PNG in `bytes` to 8-bit RGB, `[height, width, 3]`.
///
/// The format is told by content. As with cv2's `IMREAD_COLOR`
/// - grey becomes three equal channels, palettes are looked up, 1-, 2- and 4-bit grey is spread over 0..=255;
/// - alpha is dropped, not blended with a background; gamma and colour profiles are ignored;
/// - of 16-bit samples the high byte is kept (no rounding);
/// - the orientation in Exif data is applied, in JPEG (the first APP1 segment before the scan) and in PNG
///   (`eXIf`);
/// - CMYK and YCCK JPEGs (Adobe's, inverted) become RGB by cv2's formula.
///
/// # Errors
/// [`Error::Empty`], [`Error::UnsupportedFormat`], [`Error::Truncated`], [`Error::Undecodable`],
/// [`Error::UnsupportedColour`], [`Error::ZeroSize`]; [`Error::TooLarge`] for more than [`MAX_PIXELS`]
/// pixels.
pub fn decode(bytes: &[u8]) -> Result<RgbImage, Error> {
    decode_with_limit(bytes, MAX_PIXELS)
}

/// As [`decode`], with a limit of one's own on the number of pixels.
///
/// # Errors
/// As [`decode`].
pub fn decode_with_limit(bytes: &[u8], max_pixels: u64) -> Result<RgbImage, Error> {
    let (image, orientation) = as_stored(bytes, max_pixels)?;
    orientation.apply(image)
}

/// As [`decode`], but not turned as Exif data asks for: what Pillow's `Image.open(file).convert("RGB")` has.
///
/// # Errors
/// As [`decode`].
pub fn decode_unturned(bytes: &[u8]) -> Result<RgbImage, Error> {
    as_stored(bytes, MAX_PIXELS).map(|(image, _)| image)
}

/// The picture as it is stored, and how it is to be turned.
fn as_stored(bytes: &[u8], max_pixels: u64) -> Result<(RgbImage, exif::Orientation), Error> {
    if bytes.is_empty() {
        return Err(Error::Empty);
    }
    match ImageFormat::of(bytes) {
        Some(ImageFormat::Jpeg) => jpeg::decode(bytes, max_pixels),
        Some(ImageFormat::Png) => png::decode(bytes, max_pixels),
        None => Err(Error::UnsupportedFormat { found: FoundFormat::sniff(bytes) }),
    }
}

/// Reads the file at `path` and decodes it as [`decode`] does.
///
/// # Errors
/// [`Error::Read`] if the file cannot be read, else [`Error::File`] around an error of [`decode`].
pub fn read(path: impl AsRef<Path>) -> Result<RgbImage, Error> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).map_err(Error::reading(path))?;
    decode(&bytes).map_err(|source| Error::File { path: path.to_owned(), source: Box::new(source) })
}
