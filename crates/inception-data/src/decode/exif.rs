//! The orientation tag of Exif data, read and applied as cv2 does (`modules/imgcodecs/src/exif.cpp`,
//! `loadsave.cpp`).

use crate::error::Error;
use crate::image::RgbImage;

/// Exif tag 0x0112: how the stored image has to be turned to stand upright.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Orientation {
    /// 1, and every value that is not listed here.
    Upright,
    /// 2.
    MirroredLeftRight,
    /// 3.
    Turned180,
    /// 4.
    MirroredTopBottom,
    /// 5: rows become columns.
    Transposed,
    /// 6: has to be turned clockwise by a quarter.
    TurnedLeft,
    /// 7: rows become columns, and then half a turn.
    Transversed,
    /// 8: has to be turned anticlockwise by a quarter.
    TurnedRight,
}

impl Orientation {
    /// Reads the orientation from the TIFF block of Exif data. Never fails: where cv2 finds nothing of use it
    /// leaves the image as it is, and so does this.
    pub(super) fn from_tiff(block: &[u8]) -> Self {
        Self::of(orientation_value(block).unwrap_or(1))
    }

    /// That of a value of the tag.
    pub(super) fn of(value: u16) -> Self {
        match value {
            2 => Self::MirroredLeftRight,
            3 => Self::Turned180,
            4 => Self::MirroredTopBottom,
            5 => Self::Transposed,
            6 => Self::TurnedLeft,
            7 => Self::Transversed,
            8 => Self::TurnedRight,
            _ => Self::Upright,
        }
    }

    /// Turns the image upright.
    pub(super) fn apply(self, image: RgbImage) -> Result<RgbImage, Error> {
        let (width, height) = (image.width() as usize, image.height() as usize);
        let turned: Vec<u8> = match self {
            Self::Upright => return Ok(image),
            Self::MirroredLeftRight => collect(width, height, |x, y| at(&image, width - 1 - x, y)),
            Self::Turned180 => collect(width, height, |x, y| at(&image, width - 1 - x, height - 1 - y)),
            Self::MirroredTopBottom => collect(width, height, |x, y| at(&image, x, height - 1 - y)),
            Self::Transposed => collect(height, width, |x, y| at(&image, y, x)),
            Self::TurnedLeft => collect(height, width, |x, y| at(&image, y, height - 1 - x)),
            Self::Transversed => collect(height, width, |x, y| at(&image, width - 1 - y, height - 1 - x)),
            Self::TurnedRight => collect(height, width, |x, y| at(&image, width - 1 - y, x)),
        };
        let (width, height) = match self {
            Self::Transposed | Self::TurnedLeft | Self::Transversed | Self::TurnedRight => {
                (image.height(), image.width())
            }
            _ => (image.width(), image.height()),
        };
        RgbImage::from_raw(width, height, turned)
    }
}

/// The pixel in column `x` of row `y`; both must lie inside.
fn at(image: &RgbImage, x: usize, y: usize) -> [u8; 3] {
    let row = image.row(y);
    [row[x * 3], row[x * 3 + 1], row[x * 3 + 2]]
}

/// The pixels of an image of `width` x `height` whose pixel `(x, y)` is `pixel(x, y)`.
fn collect(width: usize, height: usize, pixel: impl Fn(usize, usize) -> [u8; 3]) -> Vec<u8> {
    let mut pixels = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            pixels.extend_from_slice(&pixel(x, y));
        }
    }
    pixels
}

/// Value of the first orientation tag of the first directory, whatever type the tag claims to have.
fn orientation_value(block: &[u8]) -> Option<u16> {
    let block = TiffBlock { bytes: block, little_endian: block.starts_with(b"II") };
    if block.u16(2)? != 42 {
        return None;
    }
    let directory = block.u32(4)? as usize;
    let entries = usize::from(block.u16(directory)?);
    for entry in 0..entries {
        let entry = directory.checked_add(2 + entry * 12)?;
        let tag = block.u16(entry)?;
        if tag == 0x0112 {
            return block.u16(entry.checked_add(8)?);
        }
        // cv2 reads the data of these tags, too, and gives up at the first one whose data lie outside the
        // block.
        let size = match tag {
            // Strings: description, maker, model, software, date, copyright. Up to four bytes lie in the
            // entry itself.
            0x010e | 0x010f | 0x0110 | 0x0131 | 0x0132 | 0x8298 => {
                match block.u32(entry.checked_add(4)?)? as usize {
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
        let start = block.u32(entry.checked_add(8)?)? as usize;
        if start.checked_add(size)? > block.bytes.len() {
            return None;
        }
    }
    None
}

/// Numbers in the byte order that the block announces; `None` outside the block.
struct TiffBlock<'a> {
    bytes: &'a [u8],
    little_endian: bool,
}

impl TiffBlock<'_> {
    fn u16(&self, at: usize) -> Option<u16> {
        let bytes = self.bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if self.little_endian { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    }

    fn u32(&self, at: usize) -> Option<u32> {
        let bytes = self.bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if self.little_endian { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    }
}
