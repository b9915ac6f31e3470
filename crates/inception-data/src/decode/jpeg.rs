//! JPEG to 8-bit RGB, as cv2 and Pillow set up libjpeg-turbo (`modules/imgcodecs/src/grfmt_jpeg.cpp`,
//! `src/libImaging/JpegDecode.c`): slow integer DCT, fancy upsampling, block smoothing.

use libjpeg_turbo_rs::{DecodeLimits, DecodeWarning, Decoder, JpegError, PixelFormat};

use super::exif::orientation;
use super::ink::ink_to_rgb;
use super::options::DecodeOptions;
use crate::catch::catch_panic;
use crate::error::Error;
use crate::format::ImageFormat;
use crate::image::{RgbImage, check_size};

/// The most scans of a progressive file: real ones have about ten, and each costs a pass over the picture.
const MAX_SCANS: usize = 500;

/// Decodes a whole JPEG; one that ends early is an error unless the options accept it.
pub(super) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<(RgbImage, u16), Error> {
    let layout = Layout::scan(bytes);
    if let Some((width, height)) = layout.size {
        check_size(width.into(), height.into(), options.max_pixels)?;
    }
    if !layout.complete && !options.accept_truncated {
        return Err(Error::Truncated { format: ImageFormat::Jpeg, bytes: bytes.len(), source: None });
    }
    let error = |source: JpegError| {
        let cut = matches!(source, JpegError::UnexpectedEof);
        Error::decoding(ImageFormat::Jpeg, bytes.len(), cut, source)
    };
    let mut limits = DecodeLimits::default();
    (limits.max_pixels, limits.max_scans) = (options.max_pixels, MAX_SCANS);
    let mut decoder = Decoder::new_with_limits(bytes, limits).map_err(error)?;

    let frame = decoder.header();
    let (width, height) = (u32::from(frame.width), u32::from(frame.height));
    let (components, precision) = (frame.components.len(), frame.precision);
    check_size(width, height, options.max_pixels)?;
    if precision != 8 {
        return Err(Error::undecodable(ImageFormat::Jpeg, format!("samples of {precision} bits, not 8")));
    }
    if let [luma, blue, red, black] = &frame.components[..] {
        let [luma, blue, red, black] =
            [luma, blue, red, black].map(|part| [part.horizontal_sampling, part.vertical_sampling]);
        let divides = |part: [u8; 2]| luma.iter().zip(part).all(|(luma, part)| luma % part.max(1) == 0);
        // What the decoder has no upsampling for: it would index planes beyond their ends.
        if luma != black || !divides(blue) || !divides(red) || (blue == luma) != (red == luma) {
            return Err(Error::undecodable(
                ImageFormat::Jpeg,
                "four components of a sampling that is not supported",
            ));
        }
    }
    decoder.set_output_format(match components {
        1 => PixelFormat::Grayscale,
        3 => PixelFormat::Rgb,
        4 => PixelFormat::Cmyk,
        _ => {
            let components = u8::try_from(components).unwrap_or(u8::MAX);
            return Err(Error::UnsupportedColour { format: ImageFormat::Jpeg, components });
        }
    });
    // Lenient, because its strict mode refuses stray bytes before a marker, which libjpeg skips. What is
    // made up is in the warnings.
    decoder.set_lenient(true);
    decoder.set_block_smoothing(true);
    // It panics over damaged files that it takes for whole ones, as fuzzing has found.
    let gave_up = || JpegError::CorruptData("the decoder gave up".to_owned());
    let decoded = catch_panic(|| decoder.decode_image(), gave_up).map_err(error)?;
    check_warnings(&decoded.warnings, bytes.len(), options)?;

    let pixels = match decoded.pixel_format {
        PixelFormat::Grayscale => decoded.data.iter().flat_map(|&grey| [grey; 3]).collect(),
        // Ink as Adobe stores it, inverted, which both libraries take for granted.
        PixelFormat::Cmyk => {
            let (pixels, _) = decoded.data.as_chunks::<4>();
            pixels.iter().flat_map(|&ink| ink_to_rgb(ink, options.reader)).collect()
        }
        _ => decoded.data,
    };
    let orientation = layout.exif.map_or(1, orientation);
    Ok((RgbImage::from_raw(width, height, pixels)?, orientation))
}

/// Refuses a picture of which a part is made up: cut short, damaged, or of a sampling that the decoder lacks.
fn check_warnings(warnings: &[DecodeWarning], bytes: usize, options: &DecodeOptions) -> Result<(), Error> {
    for warning in warnings {
        match warning {
            DecodeWarning::ExtraneousData { .. } => {}
            DecodeWarning::TruncatedData { .. } if options.accept_truncated => {}
            DecodeWarning::TruncatedData { .. } => {
                let source = Some(warning.to_string().into());
                return Err(Error::Truncated { format: ImageFormat::Jpeg, bytes, source });
            }
            warning => return Err(Error::undecodable(ImageFormat::Jpeg, warning.to_string())),
        }
    }
    Ok(())
}

/// What the markers of a file say, before any pixel is decoded.
#[derive(Debug, Default)]
struct Layout<'a> {
    /// Width and height of the frame.
    size: Option<(u16, u16)>,
    /// The TIFF block in the first APP1 segment. cv2 looks at no other one and doesn't check that it is Exif.
    exif: Option<&'a [u8]>,
    /// Whether the end-of-image marker was reached.
    complete: bool,
}

impl<'a> Layout<'a> {
    /// Walks over the segments up to the end-of-image marker or the end of the data.
    fn scan(bytes: &'a [u8]) -> Self {
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
                }
                0xda => in_header = false,
                0xe1 if in_header && !seen_app1 => {
                    seen_app1 = true;
                    layout.exif = segment.get(b"Exif\0\0".len()..);
                }
                _ => {}
            }
            at = end;
        }
        layout
    }
}
