//! Data augmentation of PaddleClas's Inception configurations
//! (`ppcls/configs/ImageNet/Inception/*.yaml`, section `Train`), from the same seeds the same bits.

use crate::error::Error;
use crate::image::RgbImage;
use crate::preprocessing::{Arithmetic, Preprocessing, write_planes};
use crate::random::MersenneTwister;
use crate::resize::{Resampler, ResizedRows};

/// A random crop of an image, resized to a square, flipped half of the time, and normalised.
///
/// ```
/// # fn main() -> Result<(), inception_data::Error> {
/// use inception_data::{Augmentation, MersenneTwister, RgbImage};
///
/// let image = RgbImage::from_raw(40, 30, vec![128; 40 * 30 * 3])?;
/// let augmentation = Augmentation::paddleclas(16);
/// // As after `random.seed(7)` in Python.
/// let mut random = MersenneTwister::python(7);
/// let mut input = vec![0.0; augmentation.output_len()];
/// augmentation.apply(&image, &mut random, &mut input)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Augmentation {
    /// Side of the square in pixels.
    pub crop: u32,
    /// Least and largest share of the image's area that the part has.
    pub area: [f64; 2],
    /// Least and largest ratio of the part's width to its height.
    pub ratio: [f64; 2],
    /// Subtracted from red, green and blue after scaling to 0..=1.
    pub mean: [f32; 3],
    /// Red, green and blue are divided by it after that.
    pub std: [f32; 3],
}

/// A crop that [`Augmentation::draw`] drew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RandomCrop {
    /// Columns left of the part.
    pub left: u32,
    /// Rows above it.
    pub top: u32,
    /// Its columns; 0 is possible where an image is tiny.
    pub width: u32,
    /// Its rows; 0 is possible where an image is tiny.
    pub height: u32,
    /// Whether left and right change places.
    pub flipped: bool,
}

impl Augmentation {
    /// `RandCropImage(crop)`, `RandFlipImage(1)` and `NormalizeImage` with ImageNet's mean and standard
    /// deviation, as all Inception configurations have them: 224 for GoogLeNet, 299 for the others.
    pub const fn paddleclas(crop: u32) -> Self {
        let Preprocessing { mean, std, .. } = Preprocessing::paddleclas(crop, crop);
        Self { crop, area: [0.08, 1.0], ratio: [3.0 / 4.0, 4.0 / 3.0], mean, std }
    }

    /// Number of elements that [`apply`](Self::apply) writes: `3 * crop * crop`.
    pub const fn output_len(&self) -> usize {
        self.normalising().output_len()
    }

    /// Draws the part of an image of `width` x `height`.
    pub fn draw(&self, random: &mut MersenneTwister, width: u32, height: u32) -> RandomCrop {
        let aspect = random.uniform(self.ratio).sqrt();
        let (wide, high) = (f64::from(width), f64::from(height));
        let inverse = 1.0 / aspect;
        let bound = ((wide / high) / (aspect * aspect)).min((high / wide) / (inverse * inverse));
        let area = wide * high * random.uniform(self.area.map(|share| share.min(bound)));
        let side = area.sqrt();
        // Converting rounds down and saturates.
        let (part_width, part_height) = ((side * aspect) as u32, (side * inverse) as u32);
        RandomCrop {
            left: random.integer(width.saturating_sub(part_width)),
            top: random.integer(height.saturating_sub(part_height)),
            width: part_width.min(width),
            height: part_height.min(height),
            flipped: random.integer(1) == 1,
        }
    }

    /// Draws a part of `image` and writes it to `out`, `[3, crop, crop]`, as [`Preprocessing::apply`] does.
    ///
    /// Equal to PaddleClas's operators to the last bit, if `random` is in the state of Python's `random`.
    ///
    /// # Errors
    /// [`Error::BufferLength`], [`Error::InvalidPreprocessing`] as [`Preprocessing::apply`];
    /// [`Error::ZeroSize`] if the part drawn has no pixels (PaddleClas raises there, too).
    pub fn apply(
        &self,
        image: &RgbImage,
        random: &mut MersenneTwister,
        out: &mut [f32],
    ) -> Result<(), Error> {
        let normalising = self.normalising();
        normalising.check()?;
        if out.len() != self.output_len() {
            return Err(Error::BufferLength { expected: self.output_len(), found: out.len() });
        }
        for (field, [low, high]) in [("area", self.area), ("ratio", self.ratio)] {
            if let Some(value) = [low, high].into_iter().find(|value| !(value.is_finite() && *value > 0.0)) {
                return Err(Error::InvalidPreprocessing { field, value });
            }
        }
        let part = self.draw(random, image.width(), image.height());
        let cut = image.cut(part.left, part.top, part.width, part.height)?;
        let all = 0..self.crop;
        let size = (self.crop, self.crop);
        let mut resized = ResizedRows::new(Resampler::Cv2Bilinear, &cut, size, all.clone(), all)?;
        write_planes(&mut resized, &normalising.normalised(), self.crop as usize, part.flipped, out);
        Ok(())
    }

    const fn normalising(&self) -> Preprocessing {
        Preprocessing {
            resampler: Resampler::Cv2Bilinear,
            arithmetic: Arithmetic::Paddleclas,
            resize_short: self.crop,
            crop: self.crop,
            mean: self.mean,
            std: self.std,
        }
    }
}

/// Which images of a batch are blended, and how: PaddleClas's `MixupOperator`. Its configurations of
/// InceptionV3, V4 and the Xceptions have `alpha: 0.2`.
#[derive(Debug, Clone, PartialEq)]
pub struct Mixup {
    /// For each image of the batch the one that is blended into it.
    pub partners: Vec<usize>,
    /// Share of the image itself; the partner has the rest.
    pub share: f64,
}

impl Mixup {
    /// Draws for a batch of `count` images.
    ///
    /// # Errors
    /// [`Error::InvalidPreprocessing`] if `alpha` is not above 0 and at most 1.
    pub fn draw(random: &mut MersenneTwister, count: u32, alpha: f64) -> Result<Self, Error> {
        if !(alpha > 0.0 && alpha <= 1.0) {
            return Err(Error::InvalidPreprocessing { field: "alpha", value: alpha });
        }
        let partners = random.permutation(count);
        Ok(Self { partners, share: random.symmetric_beta(alpha) })
    }

    /// Blends rows, one for each image of the batch: its pixels, or its labels as a share for each class.
    ///
    /// # Errors
    /// [`Error::BufferLength`] if `rows` and `out` are not of one length, or that is no multiple of the
    /// batch.
    pub fn blend(&self, rows: &[f32], out: &mut [f32]) -> Result<(), Error> {
        let count = self.partners.len();
        if rows.len() != out.len() {
            return Err(Error::BufferLength { expected: rows.len(), found: out.len() });
        }
        let len = rows.len().checked_div(count).unwrap_or(0);
        if len * count != rows.len() {
            return Err(Error::BufferLength { expected: len * count, found: rows.len() });
        }
        if len == 0 {
            return Ok(());
        }
        // NumPy brings both factors to single precision first.
        let (own, other) = (self.share as f32, (1.0 - self.share) as f32);
        let pairs = rows.chunks_exact(len).zip(&self.partners).zip(out.chunks_exact_mut(len));
        for ((row, &partner), out) in pairs {
            let Some(partner) = rows.chunks_exact(len).nth(partner) else {
                return Err(Error::BufferLength { expected: (partner + 1) * len, found: rows.len() });
            };
            for ((out, &row), &partner) in out.iter_mut().zip(row).zip(partner) {
                *out = own * row + other * partner;
            }
        }
        Ok(())
    }
}

/// Takes `epsilon` of the label and spreads it over all classes: `paddle.nn.functional.label_smooth`, as
/// `CELoss` calls it with `epsilon: 0.1` in the configurations of InceptionV3, V4 and the Xceptions. `shares`
/// is one row, a share for each class.
pub fn smooth_label(shares: &mut [f32], epsilon: f32) {
    let spread = epsilon / shares.len() as f32;
    for share in shares {
        *share = (1.0 - epsilon) * *share + spread;
    }
}
