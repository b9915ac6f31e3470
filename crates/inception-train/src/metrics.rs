//! The figures of an epoch.

use serde::{Deserialize, Serialize};

/// The figures of an epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EpochMetrics {
    /// The epoch, from 1.
    pub epoch: u32,
    /// Steps of the run so far.
    pub step: u64,
    /// The mean loss of the pictures, each before the step that it was in.
    pub loss: f64,
    /// Share of them that were right then.
    pub accuracy: f64,
    /// The mean cross entropy of the pictures for validation.
    pub val_loss: Option<f64>,
    /// Share of them that are right.
    pub val_accuracy: Option<f64>,
    /// The learning rate of the last step.
    pub lr: f64,
    /// Pictures a second, training and validation together.
    pub images_per_second: f64,
    /// The epoch was ended before its last batch.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub interrupted: bool,
}
