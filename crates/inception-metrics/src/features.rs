//! Features of pictures, all in memory.

use crate::error::Error;
#[cfg(feature = "distances")]
use crate::product::times_transposed;

/// Features of pictures, a row each.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    dimensions: usize,
    values: Vec<f32>,
}

impl Features {
    /// Rows of `dimensions` features, `[pictures, dimensions]` row-major.
    ///
    /// # Errors
    ///
    /// [`Error::Rows`] for rows that are not whole, [`Error::Value`] for a feature that is no finite number.
    pub fn new(dimensions: usize, values: Vec<f32>) -> Result<Self, Error> {
        let features = Self { dimensions, values };
        check_rows(dimensions, &features.values)?;
        Ok(features)
    }

    /// Features of a picture.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.values.len() / self.dimensions
    }

    /// Whether there is no picture.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// All values, `[pictures, dimensions]`.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Adds rows.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn extend(&mut self, rows: &[f32]) -> Result<(), Error> {
        check_rows(self.dimensions, rows)?;
        self.values.extend_from_slice(rows);
        Ok(())
    }

    /// Each row times `matrix`, `[dimensions, columns]` row-major; computed in `f64`.
    ///
    /// # Errors
    ///
    /// [`Error::Rows`] for a matrix of another size; as [`new`](Self::new).
    #[cfg(feature = "distances")]
    pub fn times(&self, matrix: &[f32]) -> Result<Self, Error> {
        let columns = matrix.len() / self.dimensions;
        if columns == 0 || !matrix.len().is_multiple_of(self.dimensions) {
            return Err(Error::Rows { values: matrix.len(), dimensions: self.dimensions });
        }
        let column = |column: usize| matrix[column..].iter().step_by(columns).map(|&value| f64::from(value));
        let transposed: Vec<f64> = (0..columns).flat_map(column).collect();
        let product = times_transposed(&self.widened(), &transposed, self.dimensions);
        Self::new(columns, product.into_iter().map(|value| value as f32).collect())
    }

    /// The rows `pictures` in `f64`.
    #[cfg(feature = "distances")]
    pub(crate) fn gather(&self, pictures: &[usize]) -> Vec<f64> {
        let rows = pictures.iter().flat_map(|&row| &self.values[row * self.dimensions..][..self.dimensions]);
        rows.map(|&value| value.into()).collect()
    }

    /// All rows in `f64`.
    #[cfg(feature = "distances")]
    pub(crate) fn widened(&self) -> Vec<f64> {
        self.values.iter().map(|&value| value.into()).collect()
    }

    /// Refuses features of another network.
    #[cfg(feature = "distances")]
    pub(crate) fn check_like(&self, other: &Self) -> Result<(), Error> {
        match self.dimensions == other.dimensions {
            true => Ok(()),
            false => Err(Error::Dimensions { first: self.dimensions, second: other.dimensions }),
        }
    }
}

/// Refuses rows that are not whole or not finite.
pub(crate) fn check_rows(dimensions: usize, values: &[f32]) -> Result<(), Error> {
    if dimensions == 0 || !values.len().is_multiple_of(dimensions) {
        return Err(Error::Rows { values: values.len(), dimensions });
    }
    match values.iter().position(|value| !value.is_finite()) {
        Some(at) => Err(Error::Value { index: at % dimensions, value: values[at] }),
        None => Ok(()),
    }
}
