//! How the learning rate changes in the course of a run.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The course of the learning rate after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum Schedule {
    /// It stays.
    Constant,
    /// It falls to 0 along a line.
    Linear,
    /// It falls to 0 along half a cosine.
    Cosine,
    /// It is multiplied by a factor now and then.
    Step {
        /// Epochs from one time to the next.
        epochs: u32,
        /// The factor.
        factor: f64,
    },
}

impl Schedule {
    /// The share of the highest learning rate after `done` of `total` steps, with `steps` steps an epoch.
    pub(crate) fn factor(self, done: f64, total: f64, steps: u64) -> f64 {
        let share = if total > 0.0 { (done / total).min(1.0) } else { 1.0 };
        match self {
            Self::Constant => 1.0,
            Self::Linear => 1.0 - share,
            Self::Cosine => (1.0 + (std::f64::consts::PI * share).cos()) / 2.0,
            Self::Step { epochs, factor } => {
                factor.powi((done / (f64::from(epochs) * steps as f64)).floor() as i32)
            }
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant => f.write_str("constant"),
            Self::Linear => f.write_str("linear"),
            Self::Cosine => f.write_str("cosine"),
            Self::Step { epochs, factor } => write!(f, "step:{epochs}:{factor}"),
        }
    }
}

impl FromStr for Schedule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "constant" => return Ok(Self::Constant),
            "linear" => return Ok(Self::Linear),
            "cosine" => return Ok(Self::Cosine),
            _ => {}
        }
        let step = text.strip_prefix("step:").and_then(|rest| rest.split_once(':'));
        match step.map(|(epochs, factor)| (epochs.parse(), factor.parse())) {
            Some((Ok(epochs @ 1..), Ok(factor))) if f64::is_finite(factor) && factor > 0.0 => {
                Ok(Self::Step { epochs, factor })
            }
            _ => Err(format!(
                "`{text}` is no schedule: constant, linear, cosine, or step:EPOCHS:FACTOR, for instance step:30:0.1"
            )),
        }
    }
}

impl TryFrom<String> for Schedule {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Schedule> for String {
    fn from(schedule: Schedule) -> Self {
        schedule.to_string()
    }
}
