//! From a decoded image to the input of a network.

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::image::RgbImage;
use crate::resize::{Resampler, ResizedRows};

/// Mean of ImageNet's pixels, scaled to 0..=1.
const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// Their standard deviation.
const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

/// Whose arithmetic is followed where the reference implementations differ by a pixel or by the last bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Arithmetic {
    /// PaddleClas: both sides are multiplied by one factor and rounded half to even; the margin left of and
    /// above the crop is rounded down; pixels are multiplied by 1/255.
    Paddleclas,
    /// torchvision, and timm, which calls it: the longer side is rounded down; that margin is rounded half to
    /// even; pixels are divided by 255.
    Torchvision,
}

/// What a checkpoint expects to be done to an image. It belongs to the weights, not to the network.
///
/// Plain data: no field has a default, and reading it from JSON or another format fails if a field is missing
/// or unknown, so that nothing falls back in silence.
///
/// ```
/// use inception_data::Preprocessing;
///
/// let json = serde_json::to_string(&Preprocessing::paddleclas(256, 224))?;
/// assert_eq!(
///     json,
///     r#"{"resampler":"cv2-bilinear","arithmetic":"paddleclas","resize_short":256,"crop":224,"mean":[0.485,0.456,0.406],"std":[0.229,0.224,0.225]}"#
/// );
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocessing {
    /// Interpolation.
    pub resampler: Resampler,
    /// Rounding of sizes, of the crop's place and of the scaling to 0..=1.
    pub arithmetic: Arithmetic,
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
    /// What PaddleClas's configurations for ImageNet do (`ppcls/configs/ImageNet/Inception/*.yaml`, section
    /// `Eval`): cv2's bilinear resizing and ImageNet's mean and standard deviation.
    ///
    /// GoogLeNet has `paddleclas(256, 224)`, the other networks of this workspace `paddleclas(320, 299)`.
    pub const fn paddleclas(resize_short: u32, crop: u32) -> Self {
        Self {
            resampler: Resampler::Cv2Bilinear,
            arithmetic: Arithmetic::Paddleclas,
            resize_short,
            crop,
            mean: IMAGENET_MEAN,
            std: IMAGENET_STD,
        }
    }

    /// What torchvision's presets for its weights do (`ImageClassification(crop_size, resize_size)`):
    /// Pillow's bilinear resizing and ImageNet's mean and standard deviation.
    ///
    /// timm's weights take the same with another resampler, mean and standard deviation, and
    /// `resize_short = floor(crop / crop_pct)`: write the fields.
    pub const fn torchvision(resize_short: u32, crop: u32) -> Self {
        Self {
            resampler: Resampler::PilBilinear,
            arithmetic: Arithmetic::Torchvision,
            resize_short,
            crop,
            mean: IMAGENET_MEAN,
            std: IMAGENET_STD,
        }
    }

    /// Number of elements that [`apply`](Self::apply) writes: `3 * crop * crop`.
    pub const fn output_len(&self) -> usize {
        3 * self.crop as usize * self.crop as usize
    }

    /// Width and height after resizing an image of `width` x `height`, in pixels.
    ///
    /// [`Arithmetic::Paddleclas`] multiplies both sides by `resize_short / shorter side` in double precision
    /// and rounds half to even, as Python's `round` does in PaddleClas's `ResizeImage`.
    /// [`Arithmetic::Torchvision`] rounds `resize_short * longer side / shorter side` down.
    ///
    /// # Errors
    /// [`Error::ZeroSize`] if a side is 0 before or after, [`Error::ResizeTooLarge`] if one exceeds 2^31 - 1.
    pub fn resized_size(&self, width: u32, height: u32) -> Result<(u32, u32), Error> {
        if width == 0 || height == 0 {
            return Err(Error::ZeroSize { width: width.into(), height: height.into() });
        }
        let shorter = width.min(height);
        let [width, height] = [width, height].map(|side| match self.arithmetic {
            Arithmetic::Paddleclas => {
                let percent = f64::from(self.resize_short) / f64::from(shorter);
                // Converting saturates and is never negative.
                (f64::from(side) * percent).round_ties_even() as u64
            }
            Arithmetic::Torchvision if side == shorter => self.resize_short.into(),
            // A product of two integers and a quotient, the latter in double precision.
            Arithmetic::Torchvision => {
                let product = u64::from(self.resize_short) * u64::from(side);
                (product as f64 / f64::from(shorter)) as u64
            }
        });
        if width == 0 || height == 0 {
            return Err(Error::ZeroSize { width, height });
        }
        match (i32::try_from(width), i32::try_from(height)) {
            (Ok(_), Ok(_)) => Ok((width as u32, height as u32)),
            _ => Err(Error::ResizeTooLarge { width, height }),
        }
    }

    /// Resizes, crops and normalises `image`, `[height, width, 3]`, into `out`, `[3, crop, crop]`: all of
    /// red, then green, then blue, rows from the top.
    ///
    /// As [`paddleclas`](Self::paddleclas) equal to PaddleClas's `ResizeImage(resize_short)`,
    /// `CropImage(crop)`, `NormalizeImage(1/255, mean, std)` and `ToCHWImage` to the last bit; as
    /// [`torchvision`](Self::torchvision) to `Resize(resize_short)`, `CenterCrop(crop)`, `ToTensor` and
    /// `Normalize(mean, std)` on a Pillow image. `out` may be one image of a batch. Only the pixels that the
    /// crop keeps are computed, so memory is bounded by the crop, however long and thin the image is.
    ///
    /// # Errors
    /// [`Error::BufferLength`] if `out` is not [`output_len`](Self::output_len) long;
    /// Those of [`check`](Self::check) (PaddleClas raises for a crop that is too large, too, and torchvision would add
    /// black borders); those of [`resized_size`](Self::resized_size).
    /// `out` is left untouched by each.
    pub fn apply(&self, image: &RgbImage, out: &mut [f32]) -> Result<(), Error> {
        let (width, height) = self.prepare(image, out, 1)?;
        let corner = [width, height].map(|side| self.centre(side));
        self.render(image, (width, height), corner, false, out)
    }

    /// The ten crops of an image, one after the other in `out`, `[10, 3, crop, crop]`: after resizing the
    /// corners top left, top right, bottom left, bottom right, the centre, and the same five of the mirrored
    /// image.
    ///
    /// As [`torchvision`](Self::torchvision) equal to torchvision's `TenCrop(crop)` to the last bit.
    ///
    /// # Errors
    /// As [`apply`](Self::apply), for a buffer ten times as long.
    pub fn ten_crop(&self, image: &RgbImage, out: &mut [f32]) -> Result<(), Error> {
        let size @ (width, height) = self.prepare(image, out, 10)?;
        let [right, bottom] = [width - self.crop, height - self.crop];
        let centre = [width, height].map(|side| self.centre(side));
        let corners = [[0, 0], [right, 0], [0, bottom], [right, bottom], centre];
        for (part, (mirrored, [left, top])) in
            [false, true].into_iter().flat_map(|m| corners.map(|c| (m, c))).enumerate()
        {
            // Counted from the right, where the image is mirrored.
            let left = if mirrored { right - left } else { left };
            let out = &mut out[part * self.output_len()..][..self.output_len()];
            self.render(image, size, [left, top], mirrored, out)?;
        }
        Ok(())
    }

    /// Checks everything that is needed for `count` crops; the size after resizing.
    fn prepare(&self, image: &RgbImage, out: &[f32], count: usize) -> Result<(u32, u32), Error> {
        self.check()?;
        let expected = self.output_len().saturating_mul(count);
        if out.len() != expected {
            return Err(Error::BufferLength { expected, found: out.len() });
        }
        let (width, height) = self.resized_size(image.width(), image.height())?;
        Ok((width, height))
    }

    /// Where the crop starts within `side` resized pixels.
    fn centre(&self, side: u32) -> u32 {
        let margin = side - self.crop;
        match self.arithmetic {
            Arithmetic::Paddleclas => margin / 2,
            // Half to even: of 1, 3, 5, 7 pixels 0, 2, 2, 4.
            Arithmetic::Torchvision => margin / 2 + u32::from(margin % 4 == 3),
        }
    }

    /// One crop of the image resized to `size`.
    fn render(
        &self,
        image: &RgbImage,
        size: (u32, u32),
        [left, top]: [u32; 2],
        mirrored: bool,
        out: &mut [f32],
    ) -> Result<(), Error> {
        let (columns, rows) = (left..left + self.crop, top..top + self.crop);
        let mut resized = ResizedRows::new(self.resampler, image, size, columns, rows)?;
        write_planes(&mut resized, &self.normalised(), self.crop as usize, mirrored, out);
        Ok(())
    }

    /// The normalised value of each 8-bit value, for red, green and blue: there are only 256, so that a
    /// division per pixel is not needed. Single precision throughout and in this order, as NumPy computes
    /// PaddleClas's expression and PyTorch torchvision's.
    pub(crate) fn normalised(&self) -> Normalised {
        // `np.float32(1.0 / 255.0)`
        const SCALE: f32 = (1.0_f64 / 255.0) as f32;
        std::array::from_fn(|channel| {
            std::array::from_fn(|value| {
                let value = match self.arithmetic {
                    Arithmetic::Paddleclas => value as f32 * SCALE,
                    Arithmetic::Torchvision => value as f32 / 255.0,
                };
                (value - self.mean[channel]) / self.std[channel]
            })
        })
    }

    /// Whether it can be done to a picture, of whatever size.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidPreprocessing`] if `crop` or `resize_short` is 0, a mean is not finite, or a standard deviation
    /// is not finite and positive; [`Error::CropTooLarge`] if `crop` exceeds `resize_short`.
    pub fn check(&self) -> Result<(), Error> {
        let &Self { resize_short, crop, .. } = self;
        for (field, value) in [("crop", crop), ("resize_short", resize_short)] {
            if value == 0 {
                return Err(Error::InvalidPreprocessing { field, value: 0.0 });
            }
        }
        if crop > resize_short {
            return Err(Error::CropTooLarge { crop, resize_short });
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

/// The network's value of each 8-bit value, for red, green and blue.
pub(crate) type Normalised = [[f32; 256]; 3];

/// The rows of red, green and blue of `[3, side, side]`, from the top.
pub(crate) fn plane_rows(out: &mut [f32], side: usize) -> impl Iterator<Item = [&mut [f32]; 3]> {
    let (red, rest) = out.split_at_mut(side * side);
    let (green, blue) = rest.split_at_mut(side * side);
    let rows = red.chunks_exact_mut(side).zip(green.chunks_exact_mut(side)).zip(blue.chunks_exact_mut(side));
    rows.map(|((red, green), blue)| [red, green, blue])
}

/// Normalises a square of `side` x `side` pixels into `out`, `[3, side, side]`.
pub(crate) fn write_planes(
    resized: &mut ResizedRows<'_>,
    [red_of, green_of, blue_of]: &Normalised,
    side: usize,
    mirrored: bool,
    out: &mut [f32],
) {
    for [red, green, blue] in plane_rows(out, side) {
        let Some(row) = resized.next_row() else { break };
        for (((pixel, red), green), blue) in row.iter().zip(&mut *red).zip(&mut *green).zip(&mut *blue) {
            *red = red_of[usize::from(pixel[0])];
            *green = green_of[usize::from(pixel[1])];
            *blue = blue_of[usize::from(pixel[2])];
        }
        if mirrored {
            red.reverse();
            green.reverse();
            blue.reverse();
        }
    }
}
