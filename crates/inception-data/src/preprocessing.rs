//! From a decoded picture to the input of a network.

use serde::{Deserialize, Serialize};

use crate::resize::Cv2Bilinear;
use crate::{Error, RgbImage};

/// How pixels are interpolated when a picture is resized.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Resampler {
    /// OpenCV's `INTER_LINEAR`: bilinear without antialiasing, in fixed point. PaddleClas's evaluation uses it.
    Cv2Bilinear,
}

/// What a checkpoint expects to be done to a picture. It belongs to the weights, not to the network.
///
/// Plain data: no field has a default, and reading it from JSON or another format fails if a field is missing or
/// unknown, so that nothing falls back in silence.
///
/// ```
/// use inception_data::Preprocessing;
///
/// let json = serde_json::to_string(&Preprocessing::paddleclas(256, 224))?;
/// assert_eq!(
///     json,
///     r#"{"resampler":"cv2-bilinear","resize_short":256,"crop":224,"mean":[0.485,0.456,0.406],"std":[0.229,0.224,0.225]}"#
/// );
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocessing {
    /// Interpolation.
    pub resampler: Resampler,
    /// Length of the shorter side after resizing, in pixels; the ratio of the sides is kept up to rounding.
    pub resize_short: u32,
    /// Side of the square that is cut from the centre, in pixels.
    pub crop: u32,
    /// Subtracted from red, green and blue after scaling to 0..=1.
    pub mean: [f32; 3],
    /// Red, green and blue are divided by it after that.
    pub std: [f32; 3],
}

impl Preprocessing {
    /// What PaddleClas's configurations for ImageNet do (`ppcls/configs/ImageNet/Inception/*.yaml`, section `Eval`):
    /// cv2's bilinear resizing and ImageNet's mean and standard deviation.
    ///
    /// GoogLeNet has `paddleclas(256, 224)`, the other networks of this workspace `paddleclas(320, 299)`.
    pub const fn paddleclas(resize_short: u32, crop: u32) -> Self {
        Self {
            resampler: Resampler::Cv2Bilinear,
            resize_short,
            crop,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
        }
    }

    /// Number of elements that [`apply`](Self::apply) writes: `3 * crop * crop`.
    pub const fn output_len(&self) -> usize {
        3 * self.crop as usize * self.crop as usize
    }

    /// Width and height after resizing a picture of `width` x `height`, in pixels.
    ///
    /// Both sides are multiplied by `resize_short / shorter side` in double precision and rounded half to even, as
    /// Python's `round` does in PaddleClas's `ResizeImage`.
    ///
    /// # Errors
    /// [`Error::ZeroSize`] if a side is 0 before or after, [`Error::ResizeTooLarge`] if one exceeds 2^31 - 1.
    pub fn resized_size(&self, width: u32, height: u32) -> Result<(u32, u32), Error> {
        if width == 0 || height == 0 {
            return Err(Error::ZeroSize { width: width.into(), height: height.into() });
        }
        let percent = f64::from(self.resize_short) / f64::from(width.min(height));
        // Converting saturates and is never negative.
        let [width, height] =
            [width, height].map(|side| (f64::from(side) * percent).round_ties_even() as u64);
        if width == 0 || height == 0 {
            return Err(Error::ZeroSize { width, height });
        }
        match (i32::try_from(width), i32::try_from(height)) {
            (Ok(_), Ok(_)) => Ok((width as u32, height as u32)),
            _ => Err(Error::ResizeTooLarge { width, height }),
        }
    }

    /// Resizes, crops and normalises `image`, `[height, width, 3]`, into `out`, `[3, crop, crop]`: all of red, then
    /// green, then blue, rows from the top.
    ///
    /// Equal to PaddleClas's `ResizeImage(resize_short)`, `CropImage(crop)`, `NormalizeImage(1/255, mean, std)` and
    /// `ToCHWImage` to the last bit. `out` may be one picture's part of a batch. Only the pixels that the crop keeps
    /// are computed, so memory is bounded by the crop, however long and thin the picture is.
    ///
    /// # Errors
    /// [`Error::BufferLength`] if `out` is not [`output_len`](Self::output_len) long;
    /// [`Error::InvalidPreprocessing`] if `crop` is 0, a mean is not finite, or a standard deviation is not finite and
    /// positive; [`Error::CropTooLarge`] if `crop` exceeds `resize_short` (PaddleClas raises there, too); those of
    /// [`resized_size`](Self::resized_size). `out` is left untouched by each.
    pub fn apply(&self, image: &RgbImage, out: &mut [f32]) -> Result<(), Error> {
        self.check()?;
        if out.len() != self.output_len() {
            return Err(Error::BufferLength { expected: self.output_len(), found: out.len() });
        }
        let (width, height) = self.resized_size(image.width(), image.height())?;
        if width < self.crop || height < self.crop {
            return Err(Error::CropTooLarge { crop: self.crop, width, height });
        }
        let [left, top] = [width, height].map(|side| (side - self.crop) / 2);
        let (columns, rows) = (left..left + self.crop, top..top + self.crop);

        let [red_of, green_of, blue_of] = self.normalised();
        let side = self.crop as usize;
        let (red, rest) = out.split_at_mut(side * side);
        let (green, blue) = rest.split_at_mut(side * side);
        let planes =
            red.chunks_exact_mut(side).zip(green.chunks_exact_mut(side)).zip(blue.chunks_exact_mut(side));

        match self.resampler {
            Resampler::Cv2Bilinear => {
                let mut resized = Cv2Bilinear::new(image, width, height, columns, rows)?;
                for ((red, green), blue) in planes {
                    let Some(row) = resized.next_row() else { break };
                    let pixels = row.iter().zip(red).zip(green).zip(blue);
                    for (((pixel, red), green), blue) in pixels {
                        *red = red_of[usize::from(pixel[0])];
                        *green = green_of[usize::from(pixel[1])];
                        *blue = blue_of[usize::from(pixel[2])];
                    }
                }
            }
        }
        Ok(())
    }

    /// The normalised value of each 8-bit value, for red, green and blue: there are only 256, so that a division per
    /// pixel is not needed. Single precision throughout and in this order, as NumPy computes PaddleClas's expression.
    fn normalised(&self) -> [[f32; 256]; 3] {
        // `np.float32(1.0 / 255.0)`
        const SCALE: f32 = (1.0_f64 / 255.0) as f32;
        std::array::from_fn(|channel| {
            std::array::from_fn(|value| (value as f32 * SCALE - self.mean[channel]) / self.std[channel])
        })
    }

    fn check(&self) -> Result<(), Error> {
        if self.crop == 0 {
            return Err(Error::InvalidPreprocessing { field: "crop", value: 0.0 });
        }
        if let Some(value) = self.mean.into_iter().find(|mean| !mean.is_finite()) {
            return Err(Error::InvalidPreprocessing { field: "mean", value: value.into() });
        }
        if let Some(value) = self.std.into_iter().find(|std| !(std.is_finite() && *std > 0.0)) {
            return Err(Error::InvalidPreprocessing { field: "std", value: value.into() });
        }
        Ok(())
    }
}
