//! GIF's first frame to 8-bit RGB, as Pillow gives it: OpenCV 4.6 reads no GIF, and OpenCV 5 gives other
//! pixels where the frame is transparent or smaller than the canvas.

use std::io::{Cursor, ErrorKind};
use std::num::NonZeroU64;

use gif::{ColorOutput, DecodingError, MemoryLimit};

use super::options::DecodeOptions;
use crate::error::Error;
use crate::format::ImageFormat;
use crate::image::{RgbImage, check_size};

/// Decodes the first frame of a GIF. What the frame leaves free has the transparent colour of the palette,
/// without one the first.
pub(super) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<RgbImage, Error> {
    let error = |source: DecodingError| {
        let cut = match &source {
            DecodingError::UnexpectedEof => true,
            DecodingError::Io(io) => io.kind() == ErrorKind::UnexpectedEof,
            _ => false,
        };
        Error::decoding(ImageFormat::Gif, bytes.len(), cut, source)
    };
    let mut reader = gif::DecodeOptions::new();
    reader.set_color_output(ColorOutput::Indexed);
    let limit = NonZeroU64::new(options.max_pixels).unwrap_or(NonZeroU64::MIN);
    reader.set_memory_limit(MemoryLimit::Bytes(limit));
    let mut decoder = reader.read_info(Cursor::new(bytes)).map_err(error)?;
    let (width, height) = (decoder.width(), decoder.height());
    let len = check_size(width.into(), height.into(), options.max_pixels)?;
    let global = decoder.global_palette().unwrap_or_default().to_vec();
    let Some(frame) = decoder.read_next_frame().map_err(error)? else {
        return Err(Error::Truncated { format: ImageFormat::Gif, bytes: bytes.len(), source: None });
    };

    let palette = frame.palette.as_ref().unwrap_or(&global);
    let colour = |index: u8| {
        let at = usize::from(index) * 3;
        palette.get(at..at + 3).map_or([0; 3], |rgb| [rgb[0], rgb[1], rgb[2]])
    };
    let mut pixels = colour(frame.transparent.unwrap_or(0)).repeat(len / 3);
    let (width, height) = (usize::from(width), usize::from(height));
    let (left, top) = (usize::from(frame.left), usize::from(frame.top));
    // A frame may lie outside, in part or as a whole.
    let rows = frame.buffer.chunks_exact(usize::from(frame.width.max(1)));
    for (y, row) in (top..height).zip(rows) {
        for (x, &index) in (left..width).zip(row) {
            let at = (y * width + x) * 3;
            pixels[at..at + 3].copy_from_slice(&colour(index));
        }
    }
    RgbImage::from_raw(width as u32, height as u32, pixels)
}
