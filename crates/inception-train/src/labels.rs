//! The classes of pictures: one each, or any number.

use inception::data::{Dataset, Mixup};
use inception::{LabelTally, Outcome};

use crate::error::Error;
use crate::loss::{Loss, class_weights, label_weights, targets, targets_of_several};
use crate::recipe::ClassWeights;
use crate::split::{Split, split, split_several};

/// The classes of pictures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Labels {
    /// Each picture has one.
    One(Vec<u32>),
    /// Each picture has any number of them.
    Several(Vec<Box<[u32]>>),
}

/// What came of a picture for validation.
#[derive(Clone, Copy, Debug)]
pub enum Judgement<'a> {
    /// Of one class.
    One(Outcome),
    /// Of any number of classes.
    Several {
        /// Those that it has.
        labels: &'a [u32],
        /// The logits of all classes.
        logits: &'a [f32],
    },
}

impl Default for Labels {
    fn default() -> Self {
        Self::One(Vec::new())
    }
}

impl From<Vec<u32>> for Labels {
    fn from(labels: Vec<u32>) -> Self {
        Self::One(labels)
    }
}

impl Labels {
    /// Those of these items of a dataset.
    pub fn of(dataset: &Dataset, items: impl Iterator<Item = usize>) -> Self {
        let items = items.map(|item| &dataset.items()[item]);
        match dataset.is_multilabel() {
            true => Self::Several(items.map(|item| item.labels.clone().unwrap_or_default()).collect()),
            false => Self::One(items.map(|item| item.label).collect()),
        }
    }

    /// Number of pictures.
    pub fn len(&self) -> usize {
        match self {
            Self::One(labels) => labels.len(),
            Self::Several(labels) => labels.len(),
        }
    }

    /// Whether there is no picture.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Those of these pictures.
    pub fn select(&self, pictures: &[usize]) -> Self {
        match self {
            Self::One(labels) => Self::One(pictures.iter().map(|&picture| labels[picture]).collect()),
            Self::Several(labels) => {
                Self::Several(pictures.iter().map(|&picture| labels[picture].clone()).collect())
            }
        }
    }

    /// The loss that suits them, of `classes`; `one_logit` asks for a single logit.
    ///
    /// # Errors
    ///
    /// [`Error::Recipe`] where a single logit does not suit them.
    pub fn loss(&self, one_logit: bool, classes: usize) -> Result<Loss, Error> {
        match (self, one_logit, classes) {
            (Self::One(_), false, _) => Ok(Loss::CrossEntropy),
            (Self::Several(_), false, _) => Ok(Loss::BinaryCrossEntropy),
            (Self::One(_), true, 2) => Ok(Loss::OneLogit),
            (_, true, _) => {
                let wanted = "one logit is for two classes, of which each picture has one";
                Err(Error::Recipe { field: "one-logit", value: one_logit.to_string(), wanted })
            }
        }
    }

    /// Which pictures are for validation, as [`split`] and [`split_several`] have it.
    pub fn split(&self, classes: usize, share: f64, seed: u64) -> Split {
        match self {
            Self::One(labels) => split(labels, classes, share, seed),
            Self::Several(labels) => split_several(labels, classes, share, seed),
        }
    }

    /// Refuses labels that are none of `classes`.
    pub(crate) fn check(&self, classes: usize) -> Result<(), Error> {
        let largest = match self {
            Self::One(labels) => labels.iter().max(),
            Self::Several(labels) => labels.iter().flatten().max(),
        };
        match largest {
            Some(&label) if label as usize >= classes => {
                Err(inception::Error::Label { label, classes }.into())
            }
            _ => Ok(()),
        }
    }

    /// Refuses pictures that leave nothing to learn.
    pub(crate) fn check_training(&self) -> Result<(), Error> {
        let equal = match self {
            Self::One(labels) => labels.iter().all(|label| Some(label) == labels.first()),
            Self::Several(labels) => labels.iter().all(|label| Some(label) == labels.first()),
        };
        match (equal, self) {
            (false, _) => Ok(()),
            (true, Self::One(labels)) => Err(Error::Classes { classes: labels.len().min(1) }),
            (true, Self::Several(_)) => Err(Error::EqualLabels),
        }
    }

    /// The targets of a batch of these pictures, `[pictures, classes]`.
    pub(crate) fn targets(
        &self,
        classes: usize,
        smoothing: f64,
        mixup: Option<&Mixup>,
    ) -> Result<Vec<f32>, Error> {
        match self {
            Self::One(labels) => targets(labels, classes, smoothing, mixup),
            Self::Several(labels) => targets_of_several(labels, classes, smoothing, mixup),
        }
    }

    /// The factors of the classes, where they are not all 1.
    pub(crate) fn weights(&self, kind: ClassWeights, classes: usize) -> Option<Vec<f32>> {
        match self {
            Self::One(labels) => class_weights(kind, labels, classes),
            Self::Several(labels) => label_weights(kind, labels, classes),
        }
    }

    /// How many decisions of `logits`, `[pictures, classes]`, are right.
    pub(crate) fn correct(&self, logits: &[f32], classes: usize) -> u64 {
        let rows = logits.chunks_exact(classes);
        match self {
            Self::One(labels) => {
                let pairs = rows.zip(labels);
                pairs.filter(|&(logits, &label)| Outcome::of(logits, label).rank == 0).count() as u64
            }
            Self::Several(labels) => {
                let right = |logits: &[f32], labels: &[u32]| {
                    let decisions = (0..).zip(logits);
                    let is_right =
                        |&(class, &logit): &(u32, &f32)| LabelTally::is_right(logit, labels.contains(&class));
                    decisions.filter(is_right).count() as u64
                };
                rows.zip(labels).map(|(logits, labels)| right(logits, labels)).sum()
            }
        }
    }

    /// What came of a picture.
    pub(crate) fn judge<'a>(&'a self, picture: usize, logits: &'a [f32]) -> Judgement<'a> {
        match self {
            Self::One(labels) => Judgement::One(Outcome::of(logits, labels[picture])),
            Self::Several(labels) => Judgement::Several { labels: &labels[picture], logits },
        }
    }
}
