//! Recipes: from the bytes of a picture to the input of a network.

use serde::{Deserialize, Serialize};

use crate::decode::{DecodeOptions, Reader};
use crate::error::Error;
use crate::image::RgbImage;
use crate::preprocessing::{Preprocessing, plane_rows};
use crate::resize::{FloatResampler, stretch};

/// What is done to a picture before a network sees it.
pub trait Prepare: Send + Sync {
    /// Number of elements that [`apply`](Self::apply) writes.
    fn output_len(&self) -> usize;

    /// How pictures are decoded.
    fn decode_options(&self) -> DecodeOptions;

    /// Writes the input of a network, `[3, side, side]`, to `out`.
    ///
    /// # Errors
    /// What cannot be done to this image.
    fn apply(&self, image: &RgbImage, out: &mut [f32]) -> Result<(), Error>;
}

impl Prepare for Preprocessing {
    fn output_len(&self) -> usize {
        self.output_len()
    }

    fn decode_options(&self) -> DecodeOptions {
        self.into()
    }

    fn apply(&self, image: &RgbImage, out: &mut [f32]) -> Result<(), Error> {
        self.apply(image, out)
    }
}

/// How values of 0 to 255 become those from -1 to 1 that a network of TensorFlow's takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scaling {
    /// `2 * (value / 255) - 1`.
    Unit,
    /// `(value - 128) / 128`: 255 becomes a little less than 1.
    Byte,
}

/// A whole picture stretched to a square, whatever the ratio of its sides, in single precision: what the
/// tools that compute FID do. Exif data do not turn it, as Pillow's `Image.open` does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stretch {
    /// Interpolation.
    pub resampler: FloatResampler,
    /// Side of the square in pixels.
    pub side: u32,
    /// Scaling of the values.
    pub scaling: Scaling,
}

impl Prepare for Stretch {
    fn output_len(&self) -> usize {
        3 * self.side as usize * self.side as usize
    }

    fn decode_options(&self) -> DecodeOptions {
        DecodeOptions::new(Reader::Pillow)
    }

    fn apply(&self, image: &RgbImage, out: &mut [f32]) -> Result<(), Error> {
        if out.len() != self.output_len() {
            return Err(Error::BufferLength { expected: self.output_len(), found: out.len() });
        }
        if self.side == 0 {
            return Err(Error::ZeroSize { width: 0, height: 0 });
        }
        let side = self.side as usize;
        let mut rows = plane_rows(out, side);
        stretch(image, self.resampler, (self.side, self.side), |row| {
            let Some([red, green, blue]) = rows.next() else { return };
            let pixels = row.as_chunks::<3>().0;
            for (((pixel, red), green), blue) in pixels.iter().zip(red).zip(green).zip(blue) {
                [*red, *green, *blue] = match self.scaling {
                    Scaling::Unit => pixel.map(|value| value / 255.0 * 2.0 - 1.0),
                    Scaling::Byte => pixel.map(|value| (value - 128.0) / 128.0),
                };
            }
        })
    }
}
