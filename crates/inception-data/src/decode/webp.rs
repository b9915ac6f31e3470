//! WebP to 8-bit RGB: alpha is dropped, of an animation the first frame counts.

use std::io::{Cursor, ErrorKind};

use image_webp::{DecodingError, WebPDecoder};

use super::options::DecodeOptions;
use crate::error::Error;
use crate::format::ImageFormat;
use crate::image::{RgbImage, check_size};

/// Decodes the first picture of a WebP file.
pub(super) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<RgbImage, Error> {
    let error = |source| error(source, bytes.len());
    let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(error)?;
    let (width, height) = decoder.dimensions();
    let len = check_size(width, height, options.max_pixels)?;
    decoder.set_memory_limit(len.saturating_mul(2));
    let channels = if decoder.has_alpha() { 4 } else { 3 };
    let mut samples = vec![0; len / 3 * channels];
    decoder.read_image(&mut samples).map_err(error)?;
    let pixels = match channels {
        3 => samples,
        _ => {
            samples.as_chunks::<4>().0.iter().flat_map(|&[red, green, blue, _]| [red, green, blue]).collect()
        }
    };
    RgbImage::from_raw(width, height, pixels)
}

fn error(source: DecodingError, bytes: usize) -> Error {
    let format = ImageFormat::WebP;
    match source {
        DecodingError::IoError(ref io) if io.kind() == ErrorKind::UnexpectedEof => {
            Error::Truncated { format, bytes, source: Some(source.into()) }
        }
        source => Error::Undecodable { format, source: source.into() },
    }
}
