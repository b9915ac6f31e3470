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
    /// Share of them that were right then; of pictures with several classes the share of all that was said of
    /// a class, one minus the Hamming loss.
    pub accuracy: f64,
    /// The mean loss of the pictures for validation, without weights, smoothing and mixup.
    pub val_loss: Option<f64>,
    /// Share of them that are right, as that of training.
    pub val_accuracy: Option<f64>,
    /// Of pictures with several classes: the mean over classes of the average precision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_mean_average_precision: Option<f64>,
    /// The learning rate of the last step.
    pub lr: f64,
    /// Pictures a second, training and validation together.
    pub images_per_second: f64,
    /// The epoch was ended before its last batch.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub interrupted: bool,
}
