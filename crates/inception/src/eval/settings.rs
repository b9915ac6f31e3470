//! The settings that an evaluation's figures depend on, and its shards.

use std::fmt;
use std::str::FromStr;

use inception_data::Preprocessing;
use serde::{Deserialize, Serialize};

use crate::state::difference;

/// Everything that an evaluation's figures depend on. Parts with different settings are never merged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvalSettings {
    /// The model's name.
    pub model: String,
    /// What identifies the weights: a hash of the file, or the seed of random ones.
    pub weights: String,
    /// Where and how the network runs.
    pub device: String,
    /// What is done to a picture.
    pub preprocessing: Preprocessing,
    /// Hash of the pictures' names and labels, in order.
    pub dataset: String,
    /// Pictures of the whole dataset.
    pub pictures: usize,
    /// Number of classes.
    pub classes: usize,
    /// Pictures in a batch.
    pub batch: usize,
    /// The names of the classes, where they are not ImageNet's. The figures do not depend on them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<String>>,
}

impl EvalSettings {
    /// The first setting in which `other` differs, by name, with both values.
    pub fn difference(&self, other: &Self) -> Option<(String, String, String)> {
        let unnamed = |settings: &Self| Self { labels: None, ..settings.clone() };
        difference(&unnamed(self), &unnamed(other))
    }

    /// Batches of the whole dataset.
    pub fn batches(&self) -> usize {
        self.pictures.div_ceil(self.batch.max(1))
    }
}

/// Which part of a dataset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// Number of the part, from 0.
    pub index: usize,
    /// Number of parts.
    pub count: usize,
}

impl Shard {
    /// All of it.
    pub const WHOLE: Self = Self { index: 0, count: 1 };

    /// The batches of this part, of `batches` in all.
    pub fn batches(self, batches: usize) -> impl Iterator<Item = usize> {
        (self.index..batches).step_by(self.count.max(1))
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match parts {
            Some((index, count)) if index < count => Ok(Self { index, count }),
            Some((index, count)) if count > 0 => {
                Err(format!("shards are counted from 0: of {count} the last is {}, not {index}", count - 1))
            }
            _ => Err("expected I/N, for instance 0/4".to_owned()),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}
