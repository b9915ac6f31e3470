//! BMP to 8-bit RGB. The `image` crate reads BMP, too, but brings a colour management of its own, which takes
//! longer to compile than all decoders here.

use super::exif::turn_upright;
use super::options::{DecodeOptions, Reader};
use crate::error::Error;
use crate::format::ImageFormat;
use crate::image::{RgbImage, check_size};

/// What the headers say.
struct Header<'a> {
    width: usize,
    height: usize,
    top_down: bool,
    bits: u16,
    compression: Compression,
    /// Blue, green, red of each colour.
    palette: Vec<[u8; 3]>,
    /// What follows the headers.
    data: &'a [u8],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Compression {
    /// Rows of plain pixels; of 16 bits 5 are green.
    None,
    /// The same with 6 bits of green.
    Green6,
    /// Runs of pixels, of 8 or of 4 bits.
    Runs,
}

/// Decodes a BMP file.
pub(super) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<RgbImage, Error> {
    let header = Header::read(bytes, options.max_pixels)?;
    let (width, height) = (header.width, header.height);
    let rows = match header.compression {
        Compression::Runs => indexed_rows(&header),
        _ => plain_rows(&header, bytes.len(), options.reader)?,
    };
    let image = RgbImage::from_raw(width as u32, height as u32, rows)?;
    turn_upright(image, if header.top_down { 1 } else { 4 })
}

impl<'a> Header<'a> {
    fn read(bytes: &'a [u8], max_pixels: u64) -> Result<Self, Error> {
        let cut = || Error::Truncated { format: ImageFormat::Bmp, bytes: bytes.len(), source: None };
        let u16_at = |at: usize| Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        let u32_at = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let start = u32_at(10).ok_or_else(cut)? as usize;
        let size = u32_at(14).ok_or_else(cut)? as usize;
        let core = size == 12;
        let (width, height, bits) = match core {
            true => (u16_at(18).map(i64::from), u16_at(20).map(i64::from), u16_at(24)),
            false => (
                u32_at(18).map(|side| i64::from(side as i32)),
                u32_at(22).map(|side| i64::from(side as i32)),
                u16_at(28),
            ),
        };
        let (width, height, bits) = (width.ok_or_else(cut)?, height.ok_or_else(cut)?, bits.ok_or_else(cut)?);
        let side = |side: i64| {
            u32::try_from(side).map_err(|_| Error::undecodable(ImageFormat::Bmp, "a negative width"))
        };
        let (wide, high) = (side(width)?, side(height.abs())?);
        check_size(wide, high, max_pixels)?;
        let number = if core { 0 } else { u32_at(30).ok_or_else(cut)? };
        let compression = match (number, bits) {
            (0, 1 | 4 | 8 | 16 | 24 | 32) => Compression::None,
            (1, 8) | (2, 4) => Compression::Runs,
            (3, 16 | 32) => {
                let masks = [54, 58, 62].map(u32_at);
                match (bits, masks) {
                    (16, [Some(0x7c00), Some(0x3e0), Some(0x1f)]) => Compression::None,
                    (16, [Some(0xf800), Some(0x7e0), Some(0x1f)]) => Compression::Green6,
                    (32, [Some(0xff_0000), Some(0xff00), Some(0xff)]) => Compression::None,
                    _ => {
                        return Err(Error::undecodable(ImageFormat::Bmp, format!("colour masks {masks:x?}")));
                    }
                }
            }
            _ => {
                return Err(Error::undecodable(
                    ImageFormat::Bmp,
                    format!("{bits} bits a pixel with compression {number}"),
                ));
            }
        };
        let mut palette = Vec::new();
        if bits <= 8 {
            let entry = if core { 3 } else { 4 };
            let used = if core { 0 } else { u32_at(46).ok_or_else(cut)? as usize };
            let count = if used == 0 { 1 << bits } else { used.min(256) };
            let entries = bytes.get(14 + size..).ok_or_else(cut)?.chunks_exact(entry).take(count);
            palette = entries.map(|entry| [entry[0], entry[1], entry[2]]).collect();
        }
        let data = bytes.get(start..).ok_or_else(cut)?;
        let (width, height_of_rows) = (wide as usize, high as usize);
        Ok(Self { width, height: height_of_rows, top_down: height < 0, bits, compression, palette, data })
    }

    fn colour(&self, index: u8) -> [u8; 3] {
        let [blue, green, red] = self.palette.get(usize::from(index)).copied().unwrap_or_default();
        [red, green, blue]
    }
}

/// Rows of pixels without runs, in the order of the file.
fn plain_rows(header: &Header<'_>, bytes: usize, reader: Reader) -> Result<Vec<u8>, Error> {
    let (width, bits) = (header.width, usize::from(header.bits));
    let stride = (width * bits).div_ceil(32) * 4;
    if header.data.len() / stride < header.height {
        return Err(Error::Truncated { format: ImageFormat::Bmp, bytes, source: None });
    }
    let mut pixels = Vec::with_capacity(width * header.height * 3);
    for row in header.data.chunks_exact(stride).take(header.height) {
        for x in 0..width {
            pixels.extend(match bits {
                1 | 4 | 8 => {
                    let shift = 8 - bits - x * bits % 8;
                    header.colour((row[x * bits / 8] >> shift) & (u8::MAX >> (8 - bits)))
                }
                16 => {
                    let pixel = u16::from_le_bytes([row[2 * x], row[2 * x + 1]]);
                    narrow(pixel, header.compression == Compression::Green6, reader)
                }
                _ => {
                    let at = x * bits / 8;
                    [row[at + 2], row[at + 1], row[at]]
                }
            });
        }
    }
    Ok(pixels)
}

/// A pixel of 16 bits: OpenCV fills up with zeros, Pillow spreads over 0..=255.
fn narrow(pixel: u16, green6: bool, reader: Reader) -> [u8; 3] {
    let green_bits = if green6 { 6 } else { 5 };
    let parts = [(pixel >> (5 + green_bits), 5), (pixel >> 5, green_bits), (pixel, 5)];
    parts.map(|(value, bits)| {
        let most = (1 << bits) - 1;
        let value = value & most;
        match reader {
            Reader::OpenCv => (value << (8 - bits)) as u8,
            Reader::Pillow => (value * 255 / most) as u8,
        }
    })
}

/// Rows of runs. What no run reaches has the first colour.
fn indexed_rows(header: &Header<'_>) -> Vec<u8> {
    let (width, height) = (header.width, header.height);
    let mut indices = vec![0_u8; width * height];
    let nibbles = header.bits == 4;
    let (mut x, mut y) = (0_usize, 0_usize);
    let mut data = header.data.iter().copied();
    let mut put = |x: usize, y: usize, index: u8| {
        if x < width && y < height {
            indices[y * width + x] = index;
        }
    };
    let nibble = |byte: u8, at: usize| match (nibbles, at % 2) {
        (false, _) => byte,
        (true, 0) => byte >> 4,
        (true, _) => byte & 15,
    };
    while let (Some(count), Some(value)) = (data.next(), data.next()) {
        match (count, value) {
            (0, 0) => (x, y) = (0, y + 1),
            (0, 1) => break,
            (0, 2) => {
                let (Some(right), Some(down)) = (data.next(), data.next()) else { break };
                (x, y) = (x + usize::from(right), y + usize::from(down));
            }
            (0, count) => {
                let count = usize::from(count);
                let stored = if nibbles { count.div_ceil(2) } else { count };
                let run: Vec<u8> = data.by_ref().take(stored.next_multiple_of(2)).collect();
                for at in 0..count {
                    let Some(&byte) = run.get(if nibbles { at / 2 } else { at }) else { break };
                    put(x, y, nibble(byte, at));
                    x += 1;
                }
            }
            (count, value) => {
                for at in 0..usize::from(count) {
                    put(x, y, nibble(value, at));
                    x += 1;
                }
            }
        }
        if y >= height {
            break;
        }
    }
    indices.into_iter().flat_map(|index| header.colour(index)).collect()
}
