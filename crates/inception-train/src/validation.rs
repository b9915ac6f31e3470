//! How a network does on the pictures for validation.

use inception::{LabelTally, Outcome};
use serde::{Deserialize, Serialize};

use crate::labels::Judgement;

/// How a network does on the pictures for validation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "Row", from = "Row")]
pub struct Validation {
    /// Decisions that were right: the likeliest class of a picture, or of several classes whether it has each.
    pub correct: u64,
    /// All decisions: one for each picture, or one for each class of each.
    pub decisions: u64,
    /// All pictures.
    pub pictures: u64,
    /// The mean loss: cross entropy, or binary cross entropy of pictures with several classes.
    pub loss: f64,
    /// Of pictures with several classes: the mean of the classes' average precisions, where one has pictures.
    pub mean_average_precision: Option<f64>,
}

/// A [`Validation`] as JSON keeps it to the bit: of one class a picture, or of several.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Row {
    One(u64, u64, Bits),
    Several(u64, u64, u64, Bits, Option<Bits>),
}

impl From<Row> for Validation {
    fn from(row: Row) -> Self {
        let (correct, decisions, pictures, loss, average) = match row {
            Row::One(correct, pictures, loss) => (correct, pictures, pictures, loss, None),
            Row::Several(correct, decisions, pictures, loss, average) => {
                (correct, decisions, pictures, loss, average)
            }
        };
        let mean_average_precision = average.map(|average| average.0);
        Self { correct, decisions, pictures, loss: loss.0, mean_average_precision }
    }
}

impl From<Validation> for Row {
    fn from(of: Validation) -> Self {
        let Validation { correct, decisions, pictures, loss, mean_average_precision } = of;
        match (decisions == pictures, mean_average_precision) {
            (true, None) => Self::One(correct, pictures, Bits(loss)),
            (_, average) => Self::Several(correct, decisions, pictures, Bits(loss), average.map(Bits)),
        }
    }
}

impl Validation {
    /// Share of the decisions that were right; of pictures with several classes one minus the Hamming loss.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.decisions.max(1) as f64
    }

    /// Whether it is better: a higher mean average precision, where there is one, more that is right, where
    /// there is none, or as much at a lower loss.
    pub(crate) fn is_better_than(&self, other: &Self) -> bool {
        let key = |of: &Self| match of.mean_average_precision {
            Some(average) => (average, 0, -of.loss),
            None => (0.0, of.correct, -of.loss),
        };
        key(self) > key(other)
    }
}

/// Adds up what came of pictures to a [`Validation`].
#[derive(Default)]
pub(crate) struct Count {
    correct: u64,
    pictures: u64,
    loss: u128,
    not_finite: bool,
    several: Option<LabelTally>,
}

impl Count {
    /// Adds a picture.
    pub(crate) fn add(&mut self, judgement: &Judgement<'_>) {
        match *judgement {
            Judgement::One(outcome) => {
                self.correct += u64::from(outcome.rank == 0);
                self.pictures += 1;
                self.loss += u128::from(outcome.loss.unwrap_or(0));
                self.not_finite |= outcome.loss.is_none();
            }
            Judgement::Several { labels, logits } => {
                self.several.get_or_insert_with(|| LabelTally::new(logits.len())).add(labels, logits);
            }
        }
    }

    /// The sum, if there was a picture; its loss is infinite if that of one was.
    pub(crate) fn finish(self) -> Option<Validation> {
        let Self { correct, pictures, loss, not_finite, several } = self;
        let finite = |loss: f64| if loss.is_finite() { loss } else { f64::INFINITY };
        if let Some(tally) = several {
            let pictures = tally.pictures();
            return Some(Validation {
                correct: tally.correct(),
                decisions: pictures * tally.classes() as u64,
                pictures,
                loss: finite(tally.loss()),
                mean_average_precision: tally.mean_average_precision(),
            });
        }
        let mean = loss as f64 / Outcome::LOSS_UNIT / pictures as f64;
        let loss = if not_finite { f64::INFINITY } else { mean };
        let validation =
            Validation { correct, decisions: pictures, pictures, loss, mean_average_precision: None };
        (pictures > 0).then_some(validation)
    }
}

/// The epoch that did best on the pictures for validation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// The epoch, from 1.
    pub epoch: u32,
    /// How it did; without such pictures the last epoch is the best one.
    pub validation: Option<Validation>,
}

/// A number that JSON keeps to the last bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "u64", into = "u64")]
pub(crate) struct Bits(pub f64);

impl From<u64> for Bits {
    fn from(bits: u64) -> Self {
        Self(f64::from_bits(bits))
    }
}

impl From<Bits> for u64 {
    fn from(bits: Bits) -> Self {
        bits.0.to_bits()
    }
}
