//! WebP to 8-bit RGB: alpha is dropped, of an animation the first frame counts.

use std::io::{Cursor, ErrorKind};

use image_webp::{DecodingError, WebPDecoder};

use super::options::DecodeOptions;
use crate::error::Error;
use crate::format::ImageFormat;
use crate::image::{RgbImage, check_size};

/// Decodes the first picture of a WebP file.
pub(super) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<RgbImage, Error> {
    let error = |source: DecodingError| {
        let cut = matches!(&source, DecodingError::IoError(io) if io.kind() == ErrorKind::UnexpectedEof);
        Error::decoding(ImageFormat::WebP, bytes.len(), cut, source)
    };
    let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(error)?;
    let (width, height) = decoder.dimensions();
    let len = check_size(width, height, options.max_pixels)?;
    check_frames(bytes.get(12..).unwrap_or_default(), [width, height], true)?;
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

/// Refuses a lossy frame that is larger than the canvas: the crate takes memory for as many pixels as the
/// frame's own header says before it compares the two.
fn check_frames(mut chunks: &[u8], canvas: [u32; 2], is_file: bool) -> Result<(), Error> {
    while let Some((head, rest)) = chunks.split_first_chunk::<8>() {
        let size = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let data = &rest[..size.min(rest.len())];
        match &head[..4] {
            // What a frame of an animation holds is behind 16 bytes that place it.
            b"ANMF" if is_file => check_frames(data.get(16..).unwrap_or_default(), canvas, false)?,
            b"VP8 " => {
                if let Some([_, _, _, 0x9d, 0x01, 0x2a, size @ ..]) = data.first_chunk::<10>() {
                    let frame = [[size[0], size[1]], [size[2], size[3]]];
                    let frame = frame.map(|side| u32::from(u16::from_le_bytes(side) & 0x3fff));
                    if frame[0] > canvas[0] || frame[1] > canvas[1] {
                        let [[width, height], [wide, high]] = [frame, canvas];
                        let what = format!("a frame of {width} x {height} on a canvas of {wide} x {high}");
                        return Err(Error::undecodable(ImageFormat::WebP, what));
                    }
                }
            }
            _ => {}
        }
        // Chunks are padded to an even length.
        chunks = rest.get(size.next_multiple_of(2)..).unwrap_or_default();
    }
    Ok(())
}
