//! How a network does on the pictures for validation.

use inception::Outcome;
use serde::{Deserialize, Serialize};

/// How a network does on the pictures for validation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "Row", from = "Row")]
pub struct Validation {
    /// Pictures of which the likeliest class was right.
    pub correct: u64,
    /// All pictures.
    pub pictures: u64,
    /// The mean cross entropy.
    pub loss: f64,
}

/// A [`Validation`] as JSON keeps it to the bit.
type Row = (u64, u64, Bits);

impl From<Row> for Validation {
    fn from((correct, pictures, loss): Row) -> Self {
        Self { correct, pictures, loss: loss.0 }
    }
}

impl From<Validation> for Row {
    fn from(of: Validation) -> Self {
        (of.correct, of.pictures, Bits(of.loss))
    }
}

impl Validation {
    /// Share of the pictures that were right.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.pictures.max(1) as f64
    }

    /// Whether it is better: more pictures right, or as many at a lower loss.
    pub(crate) fn is_better_than(&self, other: &Self) -> bool {
        (self.correct, -self.loss) > (other.correct, -other.loss)
    }
}

/// Adds up outcomes to a [`Validation`].
#[derive(Default)]
pub(crate) struct Count {
    correct: u64,
    pictures: u64,
    loss: u128,
    not_finite: bool,
}

impl Count {
    /// Adds a picture.
    pub(crate) fn add(&mut self, outcome: Outcome) {
        self.correct += u64::from(outcome.rank == 0);
        self.pictures += 1;
        self.loss += u128::from(outcome.loss.unwrap_or(0));
        self.not_finite |= outcome.loss.is_none();
    }

    /// The sum, if there was a picture; its loss is infinite if that of one was.
    pub(crate) fn finish(self) -> Option<Validation> {
        let Self { correct, pictures, loss, not_finite } = self;
        let mean = loss as f64 / Outcome::LOSS_UNIT / pictures as f64;
        let loss = if not_finite { f64::INFINITY } else { mean };
        (pictures > 0).then_some(Validation { correct, pictures, loss })
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
