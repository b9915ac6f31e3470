//! Mean and covariance.

use crate::error::Error;

/// Mean and covariance of features, all that the Fréchet distance knows of a set of pictures.
#[derive(Clone, Debug, PartialEq)]
pub struct Gaussian {
    mean: Vec<f64>,
    covariance: Vec<f64>,
    images: Option<u64>,
}

impl Gaussian {
    /// A mean `[dimensions]` and a covariance `[dimensions, dimensions]`, of `images` pictures if that is
    /// known.
    ///
    /// # Errors
    ///
    /// [`Error::Rows`] for a covariance of another size, [`Error::NotFinite`] for entries that are no finite
    /// numbers.
    pub fn new(mean: Vec<f64>, covariance: Vec<f64>, images: Option<u64>) -> Result<Self, Error> {
        let dimensions = mean.len();
        if dimensions == 0 || dimensions.checked_mul(dimensions) != Some(covariance.len()) {
            return Err(Error::Rows { values: covariance.len(), dimensions });
        }
        for (what, values) in [("the mean", &mean), ("the covariance", &covariance)] {
            if let Some(&value) = values.iter().find(|value| !value.is_finite()) {
                return Err(Error::NotFinite { what, value });
            }
        }
        Ok(Self { mean, covariance, images })
    }

    /// Features of a picture.
    pub fn dimensions(&self) -> usize {
        self.mean.len()
    }

    /// The mean, `[dimensions]`.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// The covariance, `[dimensions, dimensions]`, of a sample: divided by one less than the pictures.
    pub fn covariance(&self) -> &[f64] {
        &self.covariance
    }

    /// Pictures that it is of, where that is known.
    pub fn images(&self) -> Option<u64> {
        self.images
    }

    /// The sum of the variances.
    pub fn trace(&self) -> f64 {
        self.covariance.iter().step_by(self.mean.len() + 1).sum()
    }
}
