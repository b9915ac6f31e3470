//! PNG to 8-bit RGB, as cv2 sets up libpng (`modules/imgcodecs/src/grfmt_png.cpp`).

use std::io::{Cursor, ErrorKind};

use png::{BitDepth, ColorType, DecodingError, Transformations};

use super::exif::orientation;
use super::options::{DecodeOptions, Reader};
use crate::error::Error;
use crate::format::ImageFormat;
use crate::image::{RgbImage, check_size};

/// Decodes all of a PNG, up to and including its end chunk, without which Pillow reads it, too.
pub(super) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<(RgbImage, u16), Error> {
    match decode_whole(bytes, options) {
        Err(cut @ Error::Truncated { .. })
            if options.accept_truncated || options.reader == Reader::Pillow =>
        {
            decode_whole(&with_end(bytes), options).map_err(|_| cut)
        }
        decoded => decoded,
    }
}

/// The whole chunks of a PNG, and an end chunk.
fn with_end(bytes: &[u8]) -> Vec<u8> {
    let mut at = 8;
    while let Some(length) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        // A length, a kind and a checksum are beside the data.
        let next = at.saturating_add(12).saturating_add(u32::from_be_bytes(*length) as usize);
        if next > bytes.len() {
            break;
        }
        at = next;
    }
    [&bytes[..at.min(bytes.len())], b"\0\0\0\0IEND\xae\x42\x60\x82"].concat()
}

fn decode_whole(bytes: &[u8], options: &DecodeOptions) -> Result<(RgbImage, u16), Error> {
    let error = |source: DecodingError| {
        let cut = matches!(&source, DecodingError::IoError(io) if io.kind() == ErrorKind::UnexpectedEof);
        Error::decoding(ImageFormat::Png, bytes.len(), cut, source)
    };
    let max_pixels = options.max_pixels;
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    // Palettes are looked up, grey of fewer than 8 bits is spread, and of 16 bits the high byte is kept.
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);

    let header = decoder.read_header_info().map_err(error)?;
    let (width, height) = (header.width, header.height);
    check_size(width, height, max_pixels)?;
    // Grey of 16 bits has a mode of its own in Pillow, which is made 8 bits by cutting off at 255.
    let clips = options.reader == Reader::Pillow
        && (header.color_type, header.bit_depth) == (ColorType::Grayscale, BitDepth::Sixteen);
    if clips {
        decoder.set_transformations(Transformations::EXPAND);
    }

    let mut reader = decoder.read_info().map_err(error)?;
    let (colour, _) = reader.output_color_type();
    let len = reader.output_buffer_size().ok_or(Error::TooLarge {
        width: width.into(),
        height: height.into(),
        max_pixels,
    })?;
    let mut samples = vec![0; len];
    let frame = reader.next_frame(&mut samples).map_err(error)?;
    // The end of the file is checked, and an `eXIf` chunk may still follow the pixels.
    reader.finish().map_err(error)?;
    if (frame.width, frame.height) != (width, height) {
        // Only an animation whose first frame breaks the rules.
        return Err(Error::BufferLength { expected: len, found: frame.buffer_size() });
    }
    let orientation = reader.info().exif_metadata.as_ref().map_or(1, |exif| orientation(exif));

    let clipped = |sample: &[u8]| if sample[0] > 0 { u8::MAX } else { sample[1] };
    let pixels = match colour {
        ColorType::Grayscale if clips => {
            samples.chunks_exact(2).flat_map(|grey| [clipped(grey); 3]).collect()
        }
        ColorType::GrayscaleAlpha if clips => {
            samples.chunks_exact(4).flat_map(|pixel| [clipped(pixel); 3]).collect()
        }
        ColorType::Rgb => samples,
        ColorType::Rgba => samples.chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect(),
        ColorType::Grayscale => samples.iter().flat_map(|&grey| [grey; 3]).collect(),
        ColorType::GrayscaleAlpha => samples.chunks_exact(2).flat_map(|pixel| [pixel[0]; 3]).collect(),
        // The decoder has turned it into RGB.
        ColorType::Indexed => {
            return Err(Error::UnsupportedColour { format: ImageFormat::Png, components: 1 });
        }
    };
    Ok((RgbImage::from_raw(width, height, pixels)?, orientation))
}
