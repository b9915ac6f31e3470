//! Bytes to 8-bit RGB, as PaddleClas's `DecodeImage` (`ppcls/data/preprocess/ops/operators.py`) does it:
//! `cv2.imdecode(data, cv2.IMREAD_COLOR)`, BGR converted to RGB; or as Pillow does it.

mod bmp;
mod exif;
mod gif;
mod ink;
mod jpeg;
mod options;
mod png;
mod pnm;
mod tiff;
mod webp;

use std::path::Path;

pub use options::{DecodeOptions, MAX_PIXELS, Reader};

use crate::error::Error;
use crate::files::read_file;
use crate::format::{FoundFormat, ImageFormat};
use crate::image::RgbImage;
use exif::turn_upright;

/// Decodes the JPEG, PNG, WebP, BMP, TIFF, GIF or PNM in `bytes` to 8-bit RGB, `[height, width, 3]`.
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
    decode_with(bytes, &DecodeOptions::new(Reader::OpenCv))
}

/// As [`decode`], the way of another library, or with another limit.
///
/// # Errors
/// As [`decode`].
pub fn decode_with(bytes: &[u8], options: &DecodeOptions) -> Result<RgbImage, Error> {
    if bytes.is_empty() {
        return Err(Error::Empty);
    }
    let (image, orientation) = match ImageFormat::of(bytes) {
        Some(ImageFormat::Jpeg) => jpeg::decode(bytes, options)?,
        Some(ImageFormat::Png) => png::decode(bytes, options)?,
        // Their orientation is applied by both libraries or by none.
        Some(ImageFormat::WebP) => return webp::decode(bytes, options),
        Some(ImageFormat::Bmp) => return bmp::decode(bytes, options),
        Some(ImageFormat::Tiff) => return tiff::decode(bytes, options),
        Some(ImageFormat::Gif) => return gif::decode(bytes, options),
        Some(ImageFormat::Pnm) => return pnm::decode(bytes, options),
        None => return Err(Error::UnsupportedFormat { found: FoundFormat::sniff(bytes) }),
    };
    match options.reader {
        Reader::OpenCv => turn_upright(image, orientation),
        Reader::Pillow => Ok(image),
    }
}

/// Reads the file at `path` and decodes it as [`decode`] does.
///
/// # Errors
/// [`Error::Read`] if the file cannot be read, is none, or is larger than
/// [`MAX_FILE_BYTES`](crate::MAX_FILE_BYTES); else [`Error::File`] around an error of [`decode`].
pub fn read(path: impl AsRef<Path>) -> Result<RgbImage, Error> {
    read_with(path, &DecodeOptions::new(Reader::OpenCv))
}

/// As [`read`], with the options of [`decode_with`].
///
/// # Errors
/// As [`read`].
pub fn read_with(path: impl AsRef<Path>, options: &DecodeOptions) -> Result<RgbImage, Error> {
    let path = path.as_ref();
    let mut bytes = Vec::new();
    read_file(path, &mut bytes).map_err(Error::reading(path))?;
    decode_with(&bytes, options)
        .map_err(|source| Error::File { path: path.to_owned(), source: Box::new(source) })
}
