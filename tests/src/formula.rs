//! Weights and images of the formula of [`values`] as Burn's tensors.

use burn::tensor::TensorData;
use inception_nn::{TensorInfo, TensorRole};

pub use crate::values::uniform;
use crate::values::{self, Spread};

/// The values of the tensor that PaddleClas calls `key`.
pub fn tensor(key: &str, info: &TensorInfo) -> TensorData {
    let spread = match info.role {
        TensorRole::ConvWeight => Spread::ConvWeight,
        TensorRole::LinearWeight => Spread::LinearWeight,
        TensorRole::RunningVariance => Spread::Variance,
        TensorRole::Bias | TensorRole::NormShift | TensorRole::RunningMean => Spread::Shift,
        TensorRole::NormScale => Spread::Scale,
    };
    TensorData::new(values::tensor(key, &info.shape, spread), info.shape.clone())
}

/// Images `start..end` of the formula, `[end - start, 3, size, size]`.
pub fn images(range: std::ops::Range<usize>, size: usize) -> TensorData {
    let count = range.len();
    TensorData::new(values::images(range, size), [count, 3, size, size])
}
