//! Pictures of any number of classes each: how well the classes' probabilities, each by itself, are.

use serde::{Deserialize, Serialize};

/// The logits and classes of pictures, each of which has any number of classes. A class is guessed where its
/// probability, the sigmoid of its logit, is above a half.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelTally {
    classes: usize,
    /// `[pictures, classes]`.
    logits: Vec<f32>,
    /// Whether a picture has a class.
    labels: Vec<bool>,
    loss: f64,
    correct: u64,
}

/// How well a class is told from its absence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LabelRow {
    /// The class.
    pub index: u32,
    /// Pictures that have it.
    pub positives: u64,
    /// Pictures for which it is guessed.
    pub guessed: u64,
    /// Those of them that have it.
    pub correct: u64,
    /// The mean precision over recall; `None` where no picture has it.
    pub average_precision: Option<f64>,
}

impl LabelTally {
    /// Without pictures.
    pub const fn new(classes: usize) -> Self {
        Self { classes, logits: Vec::new(), labels: Vec::new(), loss: 0.0, correct: 0 }
    }

    /// Adds a picture with the classes `labels`. Logits of another number than the classes are cut or filled
    /// with what is no number.
    pub fn add(&mut self, labels: &[u32], logits: &[f32]) {
        let start = self.labels.len();
        self.labels.resize(start + self.classes, false);
        let own = &mut self.labels[start..];
        for &label in labels {
            if let Some(own) = own.get_mut(label as usize) {
                *own = true;
            }
        }
        let mut loss = 0.0;
        for (class, &own) in own.iter().enumerate() {
            let logit = logits.get(class).copied().unwrap_or(f32::NAN);
            self.correct += u64::from(Self::is_right(logit, own));
            loss += cross_entropy(logit.into(), own);
            self.logits.push(logit);
        }
        self.loss += loss / self.classes.max(1) as f64;
    }

    /// Whether what a logit says of a class is right: that a picture has it, above zero. What is no number is no
    /// right answer.
    pub fn is_right(logit: f32, has: bool) -> bool {
        !logit.is_nan() && (logit > 0.0) == has
    }

    /// Number of classes.
    pub const fn classes(&self) -> usize {
        self.classes
    }

    /// Number of pictures.
    pub fn pictures(&self) -> u64 {
        (self.labels.len() / self.classes.max(1)) as u64
    }

    /// How often a guess is right, of as many as pictures times classes.
    pub const fn correct(&self) -> u64 {
        self.correct
    }

    /// The mean binary cross entropy over pictures and classes: PyTorch's `BCEWithLogitsLoss`.
    pub fn loss(&self) -> f64 {
        self.loss / self.pictures().max(1) as f64
    }

    /// Share of the guesses that are right: one minus the Hamming loss.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.labels.len().max(1) as f64
    }

    /// The mean of the average precisions of all classes that a picture has (mAP, macro); `None` without such
    /// a class.
    pub fn mean_average_precision(&self) -> Option<f64> {
        let all = self.rows().into_iter().filter_map(|row| row.average_precision);
        let (sum, count) = all.fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
        (count > 0).then(|| sum / f64::from(count))
    }

    /// All classes.
    pub fn rows(&self) -> Vec<LabelRow> {
        let row = |index: u32| {
            let column = || {
                let values = self.logits.iter().copied().zip(self.labels.iter().copied());
                values.skip(index as usize).step_by(self.classes)
            };
            let count = |of: &dyn Fn((f32, bool)) -> bool| column().filter(|&pair| of(pair)).count() as u64;
            LabelRow {
                index,
                positives: count(&|(_, own)| own),
                guessed: count(&|(logit, _)| logit > 0.0),
                correct: count(&|(logit, own)| own && logit > 0.0),
                average_precision: average_precision(column()),
            }
        };
        (0..u32::try_from(self.classes).unwrap_or(u32::MAX)).map(row).collect()
    }
}

/// The binary cross entropy of a logit.
fn cross_entropy(logit: f64, own: bool) -> f64 {
    let wrong = if own { -logit } else { logit };
    // `max` would leave out what is no number.
    let above = if wrong < 0.0 { 0.0 } else { wrong };
    above + (-logit.abs()).exp().ln_1p()
}

/// The average precision of scores, each with whether it is a positive's: the sum over thresholds of the
/// precision times what the recall gains, as scikit-learn's `average_precision_score` has it. Equal scores
/// share a threshold. A score that is no number counts as the worst.
fn average_precision(scores: impl Iterator<Item = (f32, bool)>) -> Option<f64> {
    let worst = |own: bool| if own { f32::NEG_INFINITY } else { f32::INFINITY };
    let mut sorted: Vec<(f32, bool)> =
        scores.map(|(score, own)| (if score.is_nan() { worst(own) } else { score }, own)).collect();
    sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
    let positives = sorted.iter().filter(|(_, own)| *own).count();
    if positives == 0 {
        return None;
    }
    let (mut seen, mut right, mut sum) = (0, 0, 0.0);
    for tied in sorted.chunk_by(|a, b| a.0 == b.0) {
        let gained = tied.iter().filter(|(_, own)| *own).count();
        (seen, right) = (seen + tied.len(), right + gained);
        sum += right as f64 / seen as f64 * gained as f64 / positives as f64;
    }
    Some(sum)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test fails by panicking.
mod tests {
    use super::*;

    const AVERAGE_PRECISIONS: [f64; 3] = [0.3666666666666667, 1.0, 0.75];
    const LOSS: f64 = 0.6954678792824278;

    /// `sklearn.metrics.average_precision_score` of scikit-learn 1.9.1 for each column, and
    /// `torch.nn.BCEWithLogitsLoss` of PyTorch 2.15 in double precision.
    #[test]
    fn figures_are_those_of_scikit_learn_and_pytorch() {
        let logits =
            [[0.5, -1.0, 2.0], [1.5, -1.0, -2.0], [-0.5, 3.0, 0.25], [0.5, 0.5, -0.25], [-2.0, -1.0, 1.0]];
        let labels: [&[u32]; 5] = [&[0, 2], &[], &[1], &[1, 2], &[0]];
        let mut tally = LabelTally::new(3);
        labels.iter().zip(&logits).for_each(|(labels, logits)| tally.add(labels, logits));
        let rows = tally.rows();
        let found: Vec<f64> = rows.iter().map(|row| row.average_precision.unwrap()).collect();
        for (found, expected) in found.iter().zip(AVERAGE_PRECISIONS) {
            assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        }
        let mean = AVERAGE_PRECISIONS.iter().sum::<f64>() / 3.0;
        assert!((tally.mean_average_precision().unwrap() - mean).abs() < 1e-12);
        assert!((tally.loss() - LOSS).abs() < 1e-12, "{}", tally.loss());
        assert_eq!((rows[0].positives, rows[0].guessed, rows[0].correct), (2, 3, 1));
        assert_eq!((tally.correct(), tally.pictures()), (9, 5));
    }

    #[test]
    fn classes_without_pictures_have_no_average_precision() {
        let mut tally = LabelTally::new(2);
        assert_eq!((tally.mean_average_precision(), tally.accuracy(), tally.loss()), (None, 0.0, 0.0));
        tally.add(&[0], &[3.0, -3.0]);
        tally.add(&[], &[-3.0, -3.0]);
        assert_eq!(tally.rows()[1].average_precision, None);
        assert_eq!(tally.mean_average_precision(), Some(1.0));
        // What is no number is worse than anything.
        tally.add(&[0], &[f32::NAN, f32::NAN]);
        assert!(tally.mean_average_precision().unwrap() < 1.0 && tally.loss().is_nan());
        assert_eq!(tally.correct(), 4);
    }
}
