//! TIFF's first picture to 8-bit RGB, as OpenCV (by libtiff's RGBA interface) and Pillow give it. Both turn
//! it upright.

use std::io::{Cursor, ErrorKind};

use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::tags::Tag;
use tiff::{ColorType, TiffError};

use super::exif::{TiffBlock, turn_upright};
use super::ink;
use super::options::{DecodeOptions, Reader};
use crate::error::Error;
use crate::format::ImageFormat;
use crate::image::{RgbImage, check_size};

/// The value of the tag ExtraSamples for alpha that colours are not multiplied with.
const UNASSOCIATED: u16 = 2;

/// Decodes the first picture of a TIFF file.
pub(super) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<RgbImage, Error> {
    let error = |source: TiffError| {
        let cut = matches!(&source, TiffError::IoError(io) if io.kind() == ErrorKind::UnexpectedEof);
        Error::decoding(ImageFormat::Tiff, bytes.len(), cut, source)
    };
    check_directory(bytes)?;
    let mut limits = Limits::default();
    // Four channels of 16 bits.
    limits.decoding_buffer_size = usize::try_from(options.max_pixels.saturating_mul(8)).unwrap_or(usize::MAX);
    limits.intermediate_buffer_size = limits.decoding_buffer_size;
    let mut decoder = Decoder::new(Cursor::new(bytes)).map_err(error)?.with_limits(limits);
    let (width, height) = decoder.dimensions().map_err(error)?;
    let len = check_size(width, height, options.max_pixels)?;
    let colour = decoder.colortype().map_err(error)?;
    let planes = decoder.find_tag_unsigned::<u16>(Tag::PlanarConfiguration).map_err(error)?;
    if planes == Some(2) && colour.num_samples() > 1 {
        return Err(Error::undecodable(ImageFormat::Tiff, "separate planes (PlanarConfiguration 2)"));
    }
    let orientation = decoder.find_tag_unsigned::<u16>(Tag::Orientation).map_err(error)?;
    let extra = decoder.find_tag_unsigned_vec::<u16>(Tag::ExtraSamples).map_err(error)?;
    let samples = decoder.read_image().map_err(error)?;

    let opencv = options.reader == Reader::OpenCv;
    let mut pixels: Vec<u8> = match (colour, samples) {
        (ColorType::Gray(8), DecodingResult::U8(grey)) => grey.iter().flat_map(|&grey| [grey; 3]).collect(),
        (ColorType::Gray(bits @ (1 | 2 | 4)), DecodingResult::U8(packed)) => {
            let scale = u8::MAX / (u8::MAX >> (8 - bits));
            unpack(&packed, width, bits).flat_map(|grey| [grey * scale; 3]).collect()
        }
        (ColorType::Gray(16), DecodingResult::U16(grey)) => {
            let narrow = if opencv { high_byte } else { clipped };
            grey.iter().flat_map(|&grey| [narrow(grey); 3]).collect()
        }
        // Neither library multiplies grey with its alpha.
        (ColorType::Multiband { bit_depth: 8, num_samples: 2 }, DecodingResult::U8(grey)) => {
            grey.as_chunks::<2>().0.iter().flat_map(|&[grey, _]| [grey; 3]).collect()
        }
        (ColorType::RGB(8), DecodingResult::U8(rgb)) => rgb,
        (ColorType::RGB(16), DecodingResult::U16(rgb)) => {
            let narrow = if opencv { rounded } else { high_byte };
            rgb.iter().map(|&sample| narrow(sample)).collect()
        }
        (ColorType::RGBA(8), DecodingResult::U8(rgba)) => {
            let multiply = opencv && extra.is_some_and(|extra| extra.first() == Some(&UNASSOCIATED));
            rgba.as_chunks::<4>().0.iter().flat_map(|&pixel| without_alpha(pixel, multiply)).collect()
        }
        (ColorType::CMYK(8), DecodingResult::U8(ink)) => {
            ink.as_chunks::<4>().0.iter().flat_map(|&ink| ink_to_rgb(ink, options.reader)).collect()
        }
        (colour, _) => return Err(Error::undecodable(ImageFormat::Tiff, format!("pixels of {colour:?}"))),
    };
    // Damage can leave more behind than the pixels; less is an error below.
    pixels.truncate(len);
    turn_upright(RgbImage::from_raw(width, height, pixels)?, orientation.unwrap_or(1))
}

/// Refuses a directory with an entry of more values than the file has room for: the crate takes memory for as
/// many as an entry says before it reads one. What it cannot read is left to it.
fn check_directory(bytes: &[u8]) -> Result<(), Error> {
    let block = TiffBlock { bytes, big_endian: bytes.starts_with(b"MM") };
    let number = |at: usize, len: usize| block.number(at, len);
    // Where the directory is, and how many bytes its count of entries, an entry and an entry's count have.
    let (directory, head, len, count_len) = match number(2, 2) {
        Some(43) => (number(8, 8), 8, 20, 8),
        _ => (number(4, 4), 2, 12, 4),
    };
    let Some(directory) = directory else { return Ok(()) };
    for entry in 0..number(directory, head).unwrap_or(0) {
        let entry = entry.saturating_mul(len).saturating_add(directory).saturating_add(head);
        let (kind, count) = (entry.saturating_add(2), entry.saturating_add(4));
        let (Some(kind), Some(count)) = (number(kind, 2), number(count, count_len)) else { break };
        let size = match kind {
            3 | 8 => 2,
            4 | 9 | 11 | 13 => 4,
            5 | 10 | 12 | 16..=18 => 8,
            _ => 1,
        };
        if count.saturating_mul(size) > bytes.len() {
            return Err(Error::undecodable(
                ImageFormat::Tiff,
                format!("an entry of {count} values in {} bytes", bytes.len()),
            ));
        }
    }
    Ok(())
}

/// The samples of fewer than 8 bits in rows of whole bytes.
fn unpack(packed: &[u8], width: u32, bits: u8) -> impl Iterator<Item = u8> {
    let (width, bits) = (width as usize, usize::from(bits));
    let mask = u8::MAX >> (8 - bits);
    packed
        .chunks_exact((width * bits).div_ceil(8))
        .flat_map(move |row| (0..width).map(move |x| (row[x * bits / 8] >> (8 - bits - x * bits % 8)) & mask))
}

/// libtiff's table `Bitdepth16To8`.
fn rounded(sample: u16) -> u8 {
    ((u32::from(sample) + 128) / 257) as u8
}

fn high_byte(sample: u16) -> u8 {
    (sample >> 8) as u8
}

fn clipped(sample: u16) -> u8 {
    sample.min(255) as u8
}

/// libtiff multiplies colours with an alpha that they are not multiplied with; Pillow drops it.
fn without_alpha([red, green, blue, alpha]: [u8; 4], multiply: bool) -> [u8; 3] {
    match multiply {
        true => [red, green, blue].map(|value| ((u32::from(value) * u32::from(alpha) + 127) / 255) as u8),
        false => [red, green, blue],
    }
}

/// Ink that is stored as it is, 255 for full, to RGB; the two libraries round otherwise, and OpenCV otherwise
/// than in JPEG.
fn ink_to_rgb(inks: [u8; 4], reader: Reader) -> [u8; 3] {
    let inverted @ [red, green, blue, light] = inks.map(|ink| 255 - ink);
    match reader {
        Reader::OpenCv => [red, green, blue].map(|free| (u32::from(light) * u32::from(free) / 255) as u8),
        Reader::Pillow => ink::ink_to_rgb(inverted, reader),
    }
}
