//! PBM, PGM and PPM, plain and binary, to 8-bit RGB.

use super::options::{DecodeOptions, Reader};
use crate::error::Error;
use crate::format::ImageFormat;
use crate::image::{RgbImage, check_size};

/// Decodes the first picture of a file.
pub(super) fn decode(bytes: &[u8], options: &DecodeOptions) -> Result<RgbImage, Error> {
    let kind = bytes.get(1).copied().unwrap_or_default();
    let plain = kind < b'4';
    let (bitmap, channels) = (matches!(kind, b'1' | b'4'), if matches!(kind, b'3' | b'6') { 3 } else { 1 });
    let mut text = Text { bytes, at: 2 };
    let (width, height) = (text.number()?, text.number()?);
    check_size(width, height, options.max_pixels)?;
    let most = if bitmap { 1 } else { text.number()? };
    if !(1..=65535).contains(&most) {
        return Err(Error::undecodable(ImageFormat::Pnm, format!("a largest value of {most}")));
    }
    let count = width as usize * height as usize * channels;
    let scale = Scale { most, plain, colour: channels == 3, reader: options.reader };
    let samples: Vec<u8> = if plain {
        // A sample is a byte at least.
        if count > bytes.len() {
            return Err(text.cut());
        }
        let sample = |_| match bitmap {
            true => text.bit(),
            false => text.number().map(|sample| scale.apply(sample)),
        };
        (0..count).map(sample).collect::<Result<_, Error>>()?
    } else {
        // One white space ends the head.
        let data = bytes.get(text.at + 1..).ok_or_else(|| text.cut())?;
        let stride = match (bitmap, most > 255) {
            (true, _) => (width as usize).div_ceil(8),
            (false, wide) => width as usize * channels * if wide { 2 } else { 1 },
        };
        if data.len() / stride < height as usize {
            return Err(text.cut());
        }
        let data = &data[..stride * height as usize];
        match (bitmap, most > 255) {
            (true, _) => {
                let bit = |row: &[u8], x: usize| if row[x / 8] >> (7 - x % 8) & 1 == 0 { 255 } else { 0 };
                data.chunks_exact(stride)
                    .flat_map(|row| (0..width as usize).map(move |x| bit(row, x)))
                    .collect()
            }
            (false, false) => data.iter().map(|&sample| scale.apply(sample.into())).collect(),
            (false, true) => data
                .as_chunks::<2>()
                .0
                .iter()
                .map(|&pair| scale.apply(u16::from_be_bytes(pair).into()))
                .collect(),
        }
    };
    let pixels = match channels {
        3 => samples,
        _ => samples.into_iter().flat_map(|grey| [grey; 3]).collect(),
    };
    RgbImage::from_raw(width, height, pixels)
}

/// What becomes of a sample.
struct Scale {
    most: u32,
    plain: bool,
    colour: bool,
    reader: Reader,
}

impl Scale {
    fn apply(&self, sample: u32) -> u8 {
        let sample = sample.min(self.most);
        // Python's `round`.
        let spread = |to: f64| (f64::from(sample) / f64::from(self.most) * to).round_ties_even();
        match (self.reader, self.most > 255) {
            // OpenCV takes binary samples as they are, and of 16 bits the high byte.
            (Reader::OpenCv, false) if self.plain => (sample * 255 / self.most) as u8,
            (Reader::OpenCv, false) => sample as u8,
            (Reader::OpenCv, true) => (sample >> 8) as u8,
            // Grey of more than 8 bits has a mode of its own in Pillow, which is cut off at 255.
            (Reader::Pillow, true) if !self.colour => spread(65535.0).min(255.0) as u8,
            (Reader::Pillow, _) => spread(255.0) as u8,
        }
    }
}

/// Numbers with white space and comments between.
struct Text<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Text<'_> {
    /// The error of a file that ends too early.
    fn cut(&self) -> Error {
        Error::Truncated { format: ImageFormat::Pnm, bytes: self.bytes.len(), source: None }
    }

    fn skip_space(&mut self) {
        while let Some(&byte) = self.bytes.get(self.at) {
            match byte {
                b'#' => {
                    let rest = &self.bytes[self.at..];
                    self.at += rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
                }
                byte if byte.is_ascii_whitespace() => self.at += 1,
                _ => return,
            }
        }
    }

    fn number(&mut self) -> Result<u32, Error> {
        self.skip_space();
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let text = std::str::from_utf8(&rest[..digits]).unwrap_or_default();
        self.at += digits;
        match text.parse() {
            Ok(number) => Ok(number),
            Err(_) if rest.is_empty() => Err(self.cut()),
            Err(_) => Err(Error::undecodable(ImageFormat::Pnm, "something that is no number")),
        }
    }

    /// White for 0, black for 1.
    fn bit(&mut self) -> Result<u8, Error> {
        self.skip_space();
        let byte = self.bytes.get(self.at).copied();
        self.at += 1;
        match byte {
            Some(b'0') => Ok(255),
            Some(b'1') => Ok(0),
            Some(_) => Err(Error::undecodable(ImageFormat::Pnm, "something that is no bit")),
            None => Err(self.cut()),
        }
    }
}
