//! JPEG to 8-bit RGB, as cv2 sets up libjpeg-turbo (`modules/imgcodecs/src/grfmt_jpeg.cpp`).
//!
//! The decoder is `zune-jpeg` itself and not the `image` crate's door to it, because that door is always
//! lenient: an image of which half is missing comes back grey in that half, without an error.

use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;

use super::exif::Orientation;
use crate::error::Error;
use crate::format::ImageFormat;
use crate::image::{RgbImage, check_size};

/// Decodes a whole JPEG; one without an end is an error.
pub(super) fn decode(bytes: &[u8], max_pixels: u64) -> Result<(RgbImage, Orientation), Error> {
    let layout = Layout::scan(bytes)?;
    if let Some((width, height)) = layout.size {
        check_size(width.into(), height.into(), max_pixels)?;
    }
    if !layout.complete {
        return Err(Error::Truncated { format: ImageFormat::Jpeg, bytes: bytes.len(), source: None });
    }
    match layout.adobe_transform {
        // Adobe's mark for "three components, plain RGB". zune-jpeg takes it for CMYK, but copies components
        // without conversion if it is told YCbCr and asked for the same.
        Some((at, 0)) if layout.components == 3 && !layout.jfif => {
            let mut relabelled = bytes.to_vec();
            relabelled[at] = 1;
            decode_as(&relabelled, true, &layout, max_pixels)
        }
        _ => decode_as(bytes, false, &layout, max_pixels),
    }
}

/// Decodes and makes RGB of it; three components are RGB already if `as_stored`.
fn decode_as(
    bytes: &[u8],
    as_stored: bool,
    layout: &Layout<'_>,
    max_pixels: u64,
) -> Result<(RgbImage, Orientation), Error> {
    let error = |source| error(source, bytes.len());
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX));
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(error)?;

    let (width, height) = decoder.dimensions().unwrap_or_default();
    let (width, height) = (width as u32, height as u32);
    check_size(width, height, max_pixels)?;

    // Four components are taken as they are stored, for cv2's own formula.
    let out = match (layout.components, decoder.input_colorspace()) {
        (1, _) => ColorSpace::Luma,
        (3, Some(stored @ (ColorSpace::YCbCr | ColorSpace::RGB))) if as_stored => stored,
        (3, _) => ColorSpace::RGB,
        (4, Some(stored @ (ColorSpace::CMYK | ColorSpace::YCCK))) => stored,
        (components, _) => {
            return Err(Error::UnsupportedColour { format: ImageFormat::Jpeg, components });
        }
    };
    decoder.set_options(options.jpeg_set_out_colorspace(out));
    let samples = decoder.decode().map_err(error)?;

    let pixels = match out {
        ColorSpace::Luma => samples.iter().flat_map(|&grey| [grey; 3]).collect(),
        ColorSpace::CMYK => {
            samples.chunks_exact(4).flat_map(|p| cmyk_to_rgb([p[0], p[1], p[2], p[3]])).collect()
        }
        ColorSpace::YCCK => samples
            .chunks_exact(4)
            .flat_map(|p| {
                let [red, green, blue] = ycc_to_rgb([p[0], p[1], p[2]]);
                cmyk_to_rgb([255 - red, 255 - green, 255 - blue, p[3]])
            })
            .collect(),
        _ => samples,
    };
    let orientation = layout.exif.map_or(Orientation::Upright, Orientation::from_tiff);
    Ok((RgbImage::from_raw(width, height, pixels)?, orientation))
}

/// cv2's conversion (`icvCvt_CMYK2BGR_8u_C4C3R`) of ink values as Adobe stores them: inverted, 255 is no ink.
fn cmyk_to_rgb([cyan, magenta, yellow, black]: [u8; 4]) -> [u8; 3] {
    let black = u32::from(black);
    // At most `black`, so it fits.
    [cyan, magenta, yellow].map(|ink| (black - (((255 - u32::from(ink)) * black) >> 8)) as u8)
}

/// JFIF's conversion with libjpeg's 16-bit constants and rounding (`jdcolor.c`).
fn ycc_to_rgb([luma, blue, red]: [u8; 3]) -> [u8; 3] {
    const HALF: i32 = 1 << 15;
    let (luma, blue, red) = (i32::from(luma), i32::from(blue) - 128, i32::from(red) - 128);
    [
        luma + ((91881 * red + HALF) >> 16),
        luma + ((-22554 * blue - 46802 * red + HALF) >> 16),
        luma + ((116130 * blue + HALF) >> 16),
    ]
    .map(|value| value.clamp(0, 255) as u8)
}

fn error(source: DecodeErrors, bytes: usize) -> Error {
    let format = ImageFormat::Jpeg;
    match source {
        DecodeErrors::ExhaustedData | DecodeErrors::IoErrors(_) => {
            Error::Truncated { format, bytes, source: Some(source.into()) }
        }
        source => Error::Undecodable { format, source: source.into() },
    }
}

/// What the markers of a file say, before any pixel is decoded.
#[derive(Debug, Default)]
struct Layout<'a> {
    /// Width and height of the frame.
    size: Option<(u16, u16)>,
    /// Number of colour components of the frame.
    components: u8,
    /// Whether a JFIF segment was there, which means YCbCr whatever Adobe's segment says.
    jfif: bool,
    /// Position and value of the colour transform in Adobe's segment.
    adobe_transform: Option<(usize, u8)>,
    /// The TIFF block in the first APP1 segment. cv2 looks at no other one and doesn't check that it is Exif.
    exif: Option<&'a [u8]>,
    /// Whether the end-of-image marker was reached. The decoder itself wouldn't miss it.
    complete: bool,
}

impl<'a> Layout<'a> {
    /// Walks over the segments up to the end-of-image marker or the end of the data.
    fn scan(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut layout = Self::default();
        let mut seen_app1 = false;
        let mut in_header = true;
        let mut at = 2;
        // Between segments, as in the entropy-coded data after a scan's header, everything up to the next
        // marker is skipped. FF 00 is a data byte, FF FF is padding, and restart markers belong to the data.
        while let Some(offset) = bytes.get(at..).and_then(|rest| rest.iter().position(|&byte| byte == 0xff)) {
            at += offset + 1;
            let Some(&marker) = bytes.get(at) else { break };
            match marker {
                0xff => continue,
                0x00 | 0x01 | 0xd0..=0xd8 => {
                    at += 1;
                    continue;
                }
                0xd9 => {
                    layout.complete = true;
                    break;
                }
                _ => {}
            }
            at += 1;
            let Some(length) = bytes.get(at..at + 2) else {
                break;
            };
            let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
            let start = at + 2;
            let end = at + length.max(2);
            let Some(segment) = bytes.get(start..end) else {
                break;
            };
            match marker {
                // All frame headers; C4, C8 and CC are tables and reserved.
                0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf if segment.len() >= 6 => {
                    let height = u16::from_be_bytes([segment[1], segment[2]]);
                    let width = u16::from_be_bytes([segment[3], segment[4]]);
                    layout.size = layout.size.or(Some((width, height)));
                    layout.components = segment[5];
                }
                0xda => in_header = false,
                0xe0 if in_header && segment.starts_with(b"JFIF\0") => layout.jfif = true,
                0xe1 if in_header && !seen_app1 => {
                    seen_app1 = true;
                    layout.exif = segment.get(b"Exif\0\0".len()..);
                }
                0xee if in_header && segment.starts_with(b"Adobe") && segment.len() >= 12 => {
                    layout.adobe_transform = Some((start + 11, segment[11]));
                }
                _ => {}
            }
            at = end;
        }
        Ok(layout)
    }
}
