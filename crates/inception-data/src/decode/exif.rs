//! The orientation tag of Exif data, read and applied as cv2 does (`modules/imgcodecs/src/exif.cpp`,
//! `loadsave.cpp`).

use crate::error::Error;
use crate::image::RgbImage;

/// Turns an image upright: the Exif tag 0x0112 says how it is stored. 2 is mirrored, 4 upside down, and 3 both;
/// 5 to 8 have rows for columns, 7 and 8 mirrored, 6 and 7 upside down. Any other value is upright.
pub(super) fn turn_upright(image: RgbImage, orientation: u16) -> Result<RgbImage, Error> {
    let (mirrored, flipped) = (matches!(orientation, 2 | 3 | 7 | 8), matches!(orientation, 3 | 4 | 6 | 7));
    let (width, height) = (image.width() as usize, image.height() as usize);
    let row = |y: usize| image.row(if flipped { height - 1 - y } else { y });
    let mut pixels = Vec::with_capacity(image.pixels().len());
    match orientation {
        2..=4 => {
            for y in 0..height {
                match mirrored {
                    true => row(y).rchunks_exact(3).for_each(|pixel| pixels.extend_from_slice(pixel)),
                    false => pixels.extend_from_slice(row(y)),
                }
            }
            RgbImage::from_raw(image.width(), image.height(), pixels)
        }
        5..=8 => {
            for x in 0..width {
                let at = if mirrored { width - 1 - x } else { x } * 3;
                (0..height).for_each(|y| pixels.extend_from_slice(&row(y)[at..at + 3]));
            }
            RgbImage::from_raw(image.height(), image.width(), pixels)
        }
        _ => Ok(image),
    }
}

/// Value of the first orientation tag of the first directory in the TIFF block of Exif data, whatever type the
/// tag claims to have; 1 where cv2 finds nothing of use.
pub(super) fn orientation(block: &[u8]) -> u16 {
    value(&TiffBlock { bytes: block, big_endian: !block.starts_with(b"II") }).unwrap_or(1)
}

fn value(block: &TiffBlock<'_>) -> Option<u16> {
    if block.number(2, 2)? != 42 {
        return None;
    }
    let directory = block.number(4, 4)?;
    let entries = block.number(directory, 2)?;
    for entry in 0..entries {
        let entry = directory.checked_add(2 + entry * 12)?;
        let tag = block.number(entry, 2)?;
        if tag == 0x0112 {
            return block.number(entry.checked_add(8)?, 2).map(|value| value as u16);
        }
        // cv2 reads the data of these tags, too, and gives up at the first one whose data lie outside the
        // block.
        let size = match tag {
            // Strings: description, maker, model, software, date, copyright. Up to four bytes lie in the
            // entry itself.
            0x010e | 0x010f | 0x0110 | 0x0131 | 0x0132 | 0x8298 => {
                match block.number(entry.checked_add(4)?, 4)? {
                    0..=4 => continue,
                    size => size,
                }
            }
            // Pairs of 32-bit numbers: resolutions, white point, chromaticities, coefficients, black and
            // white.
            0x011a | 0x011b => 8,
            0x013e => 2 * 8,
            0x013f | 0x0214 => 6 * 8,
            0x0211 => 3 * 8,
            _ => continue,
        };
        let start = block.number(entry.checked_add(8)?, 4)?;
        if start.checked_add(size)? > block.bytes.len() {
            return None;
        }
    }
    None
}

/// The structure of TIFF, in files and in Exif data.
pub(super) struct TiffBlock<'a> {
    pub bytes: &'a [u8],
    pub big_endian: bool,
}

impl TiffBlock<'_> {
    /// The number in the `len` bytes from `at` on; `None` outside the block.
    pub fn number(&self, at: usize, len: usize) -> Option<usize> {
        let bytes = self.bytes.get(at..at.checked_add(len)?)?;
        let push = |value: usize, &byte: &u8| value << 8 | usize::from(byte);
        Some(if self.big_endian { bytes.iter().fold(0, push) } else { bytes.iter().rev().fold(0, push) })
    }
}
