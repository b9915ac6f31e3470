//! Outcomes of pictures and their exact sums.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// The result of one picture, which is written as a row of four.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Row", into = "Row")]
#[non_exhaustive]
pub struct Outcome {
    /// Its class.
    pub label: u32,
    /// The likeliest class.
    pub guess: u32,
    /// How many classes are likelier than its own; equal ones of a lower number are.
    pub rank: u32,
    /// Cross entropy, [`LOSS_UNIT`](Self::LOSS_UNIT) for one, or `None` if it is no finite number.
    pub loss: Option<u64>,
}

/// Label, guess, rank and loss.
type Row = (u32, u32, u32, Option<u64>);

impl From<Row> for Outcome {
    fn from((label, guess, rank, loss): Row) -> Self {
        Self { label, guess, rank, loss }
    }
}

impl From<Outcome> for Row {
    fn from(Outcome { label, guess, rank, loss }: Outcome) -> Self {
        (label, guess, rank, loss)
    }
}

/// A score as it is compared with others: one that is not a number is likelier than all others.
fn key(logit: f32) -> f32 {
    if logit.is_nan() { f32::INFINITY } else { logit }
}

/// The class with the largest score, of equal ones the first.
pub(crate) fn likeliest(logits: &[f32]) -> usize {
    let mut guess = 0;
    for (class, &logit) in logits.iter().enumerate() {
        if key(logit) > key(logits[guess]) {
            guess = class;
        }
    }
    guess
}

/// How far the logits of two runs are apart.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Differences {
    images: u64,
    agreeing: u64,
    largest: f64,
    difference: f64,
}

impl Differences {
    /// Adds a picture by its logits in a run and in the one that it is held against. Returns the likeliest class of
    /// both, and the largest difference of a logit over the largest logit of the second.
    pub fn add(&mut self, logits: &[f32], against: &[f32]) -> ([usize; 2], f64) {
        let classes = [logits, against].map(likeliest);
        let largest = against.iter().fold(f64::MIN_POSITIVE, |m, x| m.max(f64::from(x.abs())));
        let differences = logits.iter().zip(against).map(|(a, b)| f64::from((a - b).abs()));
        // `max` would pass over a NaN.
        let difference = differences.fold(0.0, |m: f64, d| if d.is_nan() { f64::INFINITY } else { m.max(d) });
        self.images += 1;
        self.agreeing += u64::from(classes[0] == classes[1]);
        self.largest = self.largest.max(largest);
        self.difference = self.difference.max(difference);
        (classes, difference / largest)
    }

    /// Share of the pictures with the same likeliest class in both runs; 0 without a picture.
    pub fn agreement(&self) -> f64 {
        self.agreeing as f64 / self.images.max(1) as f64
    }

    /// The largest difference of a logit, over the largest logit of the second run.
    pub fn error(&self) -> f64 {
        if self.difference > 0.0 { self.difference / self.largest } else { 0.0 }
    }
}

impl Outcome {
    /// What [`loss`](Self::loss) counts one as: 2^40, so that a picture's loss is kept to a part in 10^12 and
    /// sums do not depend on the order.
    pub const LOSS_UNIT: f64 = (1_u64 << 40) as f64;

    /// The probability of the likeliest class, which is softmax's; `None` if it is no number.
    pub(crate) fn confidence(logits: &[f32]) -> Option<f64> {
        let largest = logits.iter().copied().map(f64::from).fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - largest).exp()).sum();
        Some(sum.recip()).filter(|probability| probability.is_finite())
    }

    /// Judges the scores of a picture of class `label`, which must be one of them.
    ///
    /// The loss is `-log(softmax(logits)[label])`, computed in double precision. A score that is not a number
    /// is likelier than all others, so that it cannot pass for a good answer.
    pub fn of(logits: &[f32], label: u32) -> Self {
        let own = logits.get(label as usize).copied().unwrap_or(f32::NAN);
        let likelier = logits.iter().enumerate().filter(|&(class, &logit)| {
            class != label as usize
                && (own.is_nan() || key(logit) > own || (key(logit) == own && class < label as usize))
        });
        let rank = likelier.count() as u32;
        let guess = likeliest(logits);
        let largest = logits.iter().copied().map(f64::from).fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - largest).exp()).sum();
        let loss = sum.ln() + largest - f64::from(own);
        // Far below 2^64 for all finite scores that a network gives; a loss of 2^23 and more is as bad as
        // infinite.
        let loss = (loss.is_finite() && loss < f64::from(1 << 23))
            .then(|| (loss.max(0.0) * Self::LOSS_UNIT).round() as u64);
        Self { label, guess: guess as u32, rank, loss }
    }
}

/// A picture that could not be used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Skipped {
    /// Its path in the dataset.
    pub image: String,
    /// Why.
    pub reason: String,
}

impl Skipped {
    /// The picture at `image`, and what is wrong with it.
    pub fn new(image: &Path, error: &inception_data::Error) -> Self {
        Self { image: image.to_string_lossy().into_owned(), reason: reason(error) }
    }
}

/// An error with its causes, in one line and without the picture's path, which stands beside it.
pub(crate) fn reason(error: &inception_data::Error) -> String {
    if let inception_data::Error::Read { source, .. } = error {
        return format!("cannot be read: {source}");
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// A picture whose likeliest class is not its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Misclassified {
    /// Its number in the dataset.
    pub index: usize,
    /// Its path in the dataset.
    pub image: String,
    /// Its class.
    pub label: u32,
    /// The likeliest class.
    pub guess: u32,
    /// The probability of that one; `None` if a logit is no number.
    pub probability: Option<f64>,
}

/// The results of a batch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    pub batch: usize,
    /// Time that the batch took.
    pub seconds: f64,
    /// Pictures that were classified, in order.
    pub outcomes: Vec<Outcome>,
    /// Pictures that could not be used, with their number in the dataset.
    pub skipped: Vec<(usize, Skipped)>,
    /// Pictures among them that were taken for something else.
    pub wrong: Vec<Misclassified>,
}

/// Counts of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ClassCount {
    /// Pictures of the class.
    pub images: u64,
    /// Of these, the likeliest class was right.
    pub top1: u64,
    /// Of these, one of the five likeliest was.
    pub top5: u64,
}

/// The exact figures of a run or of a part of it.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Tally {
    /// Pictures that were classified.
    pub images: u64,
    /// Of these, the likeliest class was right.
    pub top1: u64,
    /// Of these, one of the five likeliest was.
    pub top5: u64,
    /// Sum of the losses in units of 2^-40.
    pub loss: u128,
    /// Pictures whose loss is no finite number.
    pub not_finite: u64,
    /// Counts by class.
    pub classes: BTreeMap<u32, ClassCount>,
    /// How often pictures of a class (first) were taken for another one or for itself (second).
    pub confusion: BTreeMap<(u32, u32), u64>,
    /// Pictures that could not be used, in the dataset's order.
    pub skipped: BTreeMap<usize, Skipped>,
    /// Pictures that were taken for something else, by their numbers; empty where nobody asks for them.
    pub misclassified: BTreeMap<usize, Misclassified>,
}

impl Tally {
    /// Adds a picture.
    pub fn add(&mut self, outcome: &Outcome) {
        let (top1, top5) = (u64::from(outcome.rank == 0), u64::from(outcome.rank < 5));
        self.images += 1;
        self.top1 += top1;
        self.top5 += top5;
        match outcome.loss {
            Some(loss) => self.loss += u128::from(loss),
            None => self.not_finite += 1,
        }
        let class = self.classes.entry(outcome.label).or_default();
        class.images += 1;
        class.top1 += top1;
        class.top5 += top5;
        *self.confusion.entry((outcome.label, outcome.guess)).or_default() += 1;
    }

    fn share(&self, count: u64) -> f64 {
        if self.images == 0 { 0.0 } else { count as f64 / self.images as f64 }
    }

    /// Share of the pictures whose likeliest class is right.
    pub fn top1_share(&self) -> f64 {
        self.share(self.top1)
    }

    /// Share of the pictures of which one of the five likeliest classes is right.
    pub fn top5_share(&self) -> f64 {
        self.share(self.top5)
    }

    /// Mean cross entropy; `None` without pictures or if one's is no finite number.
    pub fn mean_loss(&self) -> Option<f64> {
        (self.images > 0 && self.not_finite == 0)
            .then(|| self.loss as f64 / Outcome::LOSS_UNIT / self.images as f64)
    }

    /// Adds the figures of another part.
    pub fn add_all(&mut self, other: &Self) {
        self.images += other.images;
        self.top1 += other.top1;
        self.top5 += other.top5;
        self.loss += other.loss;
        self.not_finite += other.not_finite;
        for (&class, count) in &other.classes {
            let sum = self.classes.entry(class).or_default();
            sum.images += count.images;
            sum.top1 += count.top1;
            sum.top5 += count.top5;
        }
        for (&cell, count) in &other.confusion {
            *self.confusion.entry(cell).or_default() += count;
        }
        self.skipped.extend(other.skipped.iter().map(|(&index, skipped)| (index, skipped.clone())));
        self.misclassified.extend(other.misclassified.iter().map(|(&index, wrong)| (index, wrong.clone())));
    }

    /// Those of finished batches, their time and their number. A batch counts once, however often it is
    /// there. `misclassified`: whether those are kept.
    pub(crate) fn of_records(records: &[Record], misclassified: bool) -> (Self, f64, usize) {
        let (mut tally, mut seconds, mut seen) = (Self::default(), 0.0, HashSet::new());
        for record in records.iter().filter(|record| seen.insert(record.batch)) {
            tally.add_record(record, misclassified);
            seconds += record.seconds;
        }
        (tally, seconds, seen.len())
    }

    pub(crate) fn add_record(&mut self, record: &Record, misclassified: bool) {
        for outcome in &record.outcomes {
            self.add(outcome);
        }
        for (index, skipped) in &record.skipped {
            self.skipped.insert(*index, skipped.clone());
        }
        if misclassified {
            self.misclassified.extend(record.wrong.iter().map(|wrong| (wrong.index, wrong.clone())));
        }
    }
}
