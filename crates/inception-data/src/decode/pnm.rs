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
    let mut text = Text { bytes, at: 2, cut: Truncated(bytes.len()) };
    let (width, height) = (text.number()?, text.number()?);
    check_size(width, height, options.max_pixels)?;
    let most = if bitmap { 1 } else { text.number()? };
    if !(1..=65535).contains(&most) {
        return Err(undecodable(format!("a largest value of {most}")));
    }
    let count = width as usize * height as usize * channels;
    let scale = Scale { most, plain, colour: channels == 3, reader: options.reader };
    let samples: Vec<u8> = if plain {
        // A sample is a byte at least.
        if count > bytes.len() {
            return Err(text.cut.error());
        }
        let sample = |_| if bitmap { text.bit() } else { text.number() };
        let samples = (0..count).map(sample).collect::<Result<Vec<u32>, Error>>()?;
        samples
            .into_iter()
            .map(|sample| if bitmap { u8::from(sample == 0) * 255 } else { scale.apply(sample) })
            .collect()
    } else {
        // One white space ends the head.
        let data = bytes.get(text.at + 1..).ok_or_else(|| text.cut.error())?;
        let stride = match (bitmap, most > 255) {
            (true, _) => (width as usize).div_ceil(8),
            (false, wide) => width as usize * channels * if wide { 2 } else { 1 },
        };
        if data.len() / stride < height as usize {
            return Err(text.cut.error());
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

/// The end of a file of so many bytes.
struct Truncated(usize);

impl Truncated {
    fn error(&self) -> Error {
        Error::Truncated { format: ImageFormat::Pnm, bytes: self.0, source: None }
    }
}

/// Numbers with white space and comments between.
struct Text<'a> {
    bytes: &'a [u8],
    at: usize,
    cut: Truncated,
}

impl Text<'_> {
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
            Err(_) if rest.is_empty() => Err(self.cut.error()),
            Err(_) => Err(undecodable("something that is no number".to_owned())),
        }
    }

    fn bit(&mut self) -> Result<u32, Error> {
        self.skip_space();
        let byte = self.bytes.get(self.at).copied();
        self.at += 1;
        match byte {
            Some(bit @ (b'0' | b'1')) => Ok(u32::from(bit - b'0')),
            Some(_) => Err(undecodable("something that is no bit".to_owned())),
            None => Err(self.cut.error()),
        }
    }
}

fn undecodable(reason: String) -> Error {
    Error::Undecodable { format: ImageFormat::Pnm, source: reason.into() }
}
