//! The losses: cross entropy with targets that are shares of all classes, and binary cross entropy.

use std::borrow::Cow;

use inception::data::{Mixup, smooth_label};
use inception::weights::Activation;

use crate::error::Error;
use crate::recipe::ClassWeights;

/// What is made as small as possible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Loss {
    /// [`cross_entropy`]: each picture has one class.
    #[default]
    CrossEntropy,
    /// [`binary_cross_entropy`]: each picture has any number of classes.
    BinaryCrossEntropy,
    /// That of two classes of which each picture has one, by one logit, the log-odds of the second: the binary
    /// cross entropy of its sigmoid, which is the [`cross_entropy`] of a logit of zero for the first class and this
    /// one. Class weights and label smoothing are those of two classes.
    OneLogit,
}

impl Loss {
    /// The sum over pictures of the losses of `logits` by `targets`, both `[pictures, classes]` (but for the
    /// logits of [`OneLogit`](Self::OneLogit)), each class weighted. Writes the gradient of their mean to
    /// `gradient`.
    pub fn compute(
        self,
        logits: &[f32],
        targets: &[f32],
        classes: usize,
        weights: Option<&[f32]>,
        gradient: &mut [f32],
    ) -> f64 {
        let compute = match self {
            Self::CrossEntropy => cross_entropy,
            Self::BinaryCrossEntropy => binary_cross_entropy,
            Self::OneLogit => {
                let mut both = vec![0.0; 2 * logits.len()];
                let loss = cross_entropy(&self.scores(logits), targets, 2, weights, &mut both);
                gradient.iter_mut().zip(both.chunks_exact(2)).for_each(|(own, both)| *own = both[1]);
                return loss;
            }
        };
        compute(logits, targets, classes, weights, gradient)
    }

    /// How many logits a network for so many classes has.
    pub fn outputs(self, classes: usize) -> usize {
        match self {
            Self::CrossEntropy | Self::BinaryCrossEntropy => classes,
            Self::OneLogit => 1,
        }
    }

    /// A score for each class of each picture: the logits, with a zero before each of [`OneLogit`](Self::OneLogit).
    pub fn scores(self, logits: &[f32]) -> Cow<'_, [f32]> {
        match self {
            Self::CrossEntropy | Self::BinaryCrossEntropy => logits.into(),
            Self::OneLogit => logits.iter().flat_map(|&logit| [0.0, logit]).collect(),
        }
    }

    /// What the scores of the classes stand for of a network that was trained with it.
    pub fn activation(self) -> Activation {
        match self {
            Self::CrossEntropy | Self::OneLogit => Activation::Softmax,
            Self::BinaryCrossEntropy => Activation::Sigmoid,
        }
    }

    /// That of a picture, where all logits are equal to zero.
    pub(crate) fn of_guessing(self, classes: usize) -> f64 {
        match self {
            Self::CrossEntropy => (classes as f64).ln(),
            Self::BinaryCrossEntropy | Self::OneLogit => std::f64::consts::LN_2,
        }
    }

    /// How many decisions, right or wrong, are made of a picture.
    pub(crate) fn decisions(self, classes: usize) -> u64 {
        match self {
            Self::CrossEntropy | Self::OneLogit => 1,
            Self::BinaryCrossEntropy => classes as u64,
        }
    }
}

/// The targets of a batch, `[labels, classes]`: each label's class, blended by `mixup` with its partner's, of
/// which `smoothing` is spread over all classes.
///
/// PaddleClas takes the loss of both labels and blends the losses (`MixCELoss`); that is the same, as the
/// loss is linear in the target.
///
/// # Errors
///
/// [`Error::Inception`] where a partner is none of the batch.
pub fn targets(
    labels: &[u32],
    classes: usize,
    smoothing: f64,
    mixup: Option<&Mixup>,
) -> Result<Vec<f32>, Error> {
    let labels: Vec<[u32; 1]> = labels.iter().map(|&label| [label]).collect();
    targets_of_several(&labels, classes, smoothing, mixup)
}

/// The targets of a batch of pictures of any number of classes, `[labels, classes]`: 1 for each that a picture
/// has, otherwise 0; blended by `mixup`, and smoothed as PaddleClas does (`MultiLabelLoss`): of 1 and 0
/// `smoothing` is taken, and its part for each class added.
///
/// # Errors
///
/// [`Error::Inception`] where a partner is none of the batch.
pub fn targets_of_several(
    labels: &[impl AsRef<[u32]>],
    classes: usize,
    smoothing: f64,
    mixup: Option<&Mixup>,
) -> Result<Vec<f32>, Error> {
    let mut rows = vec![0.0; labels.len() * classes];
    for (row, labels) in rows.chunks_exact_mut(classes).zip(labels) {
        labels.as_ref().iter().for_each(|&label| row[label as usize] = 1.0);
    }
    if let Some(mixup) = mixup {
        let own = rows.clone();
        mixup.blend(&own, &mut rows)?;
    }
    if smoothing > 0.0 {
        rows.chunks_exact_mut(classes).for_each(|row| smooth_label(row, smoothing as f32));
    }
    Ok(rows)
}

/// How often each class is among `labels`.
fn counts<'a>(labels: impl IntoIterator<Item = &'a u32>, classes: usize) -> Vec<usize> {
    let mut counts = vec![0; classes];
    labels.into_iter().for_each(|&label| counts[label as usize] += 1);
    counts
}

/// How much each class counts: `None` for all the same.
///
/// Balanced weights are inverse to the pictures of a class, and their mean over the pictures is 1
/// (scikit-learn's `balanced`). A class without pictures has none.
pub fn class_weights(kind: ClassWeights, labels: &[u32], classes: usize) -> Option<Vec<f32>> {
    if kind == ClassWeights::None {
        return None;
    }
    let counts = counts(labels, classes);
    let present = counts.iter().filter(|&&count| count > 0).count();
    let weight = |count: usize| match count {
        0 => 0.0,
        count => (labels.len() as f64 / (present * count) as f64) as f32,
    };
    Some(counts.into_iter().map(weight).collect())
}

/// How much a picture that has a class counts for it, beside one that has it not: `None` for the same.
///
/// Balanced are those that have it as much as those that have it not, as PyTorch's documentation has
/// `pos_weight`: by the number of the one divided by that of the other. A class that all or none have has 1.
pub fn label_weights(kind: ClassWeights, labels: &[Box<[u32]>], classes: usize) -> Option<Vec<f32>> {
    if kind == ClassWeights::None {
        return None;
    }
    let counts = counts(labels.iter().flatten(), classes);
    let weight = |count: usize| match (count, labels.len() - count) {
        (0, _) | (_, 0) => 1.0,
        (with, without) => (without as f64 / with as f64) as f32,
    };
    Some(counts.into_iter().map(weight).collect())
}

/// The sum over pictures of the binary cross entropies of `logits` and `targets`, both `[pictures, classes]`,
/// each the mean over its classes: PyTorch's `BCEWithLogitsLoss(pos_weight=weights)`, whose mean is over both.
/// Writes the gradient of their mean to `gradient`. In double precision but for what it reads and writes.
pub fn binary_cross_entropy(
    logits: &[f32],
    targets: &[f32],
    classes: usize,
    weights: Option<&[f32]>,
    gradient: &mut [f32],
) -> f64 {
    let mut sum = 0.0;
    let count = logits.len().max(1) as f64;
    for (at, (&logit, &target)) in logits.iter().zip(targets).enumerate() {
        let (logit, target) = (f64::from(logit), f64::from(target));
        let positive = target * weights.map_or(1.0, |weights| f64::from(weights[at % classes]));
        let negative = 1.0 - target;
        // Of the sigmoids of the logit and of its opposite the logarithms, neither of which overflows.
        let rest = (-logit.abs()).exp().ln_1p();
        let [log, log_opposite] = [logit, -logit].map(|value| if value < 0.0 { value } else { 0.0 } - rest);
        // A logit that is not a number makes the loss one, too.
        sum -= positive * log + negative * log_opposite;
        let sigmoid = log.exp();
        gradient[at] = ((negative * sigmoid - positive * log_opposite.exp()) / count) as f32;
    }
    sum / classes.max(1) as f64
}

/// The sum over pictures of the cross entropies of `logits` and `targets`, both `[pictures, classes]`, each
/// class weighted (PyTorch's `CrossEntropyLoss(weight)` with shares for targets). Writes the gradient of
/// their mean to `gradient`. In double precision but for what it reads and writes.
pub fn cross_entropy(
    logits: &[f32],
    targets: &[f32],
    classes: usize,
    weights: Option<&[f32]>,
    gradient: &mut [f32],
) -> f64 {
    let pictures = (logits.len() / classes.max(1)).max(1) as f64;
    let mut sum = 0.0;
    let mut powers = vec![0.0_f64; classes];
    let rows = logits.chunks_exact(classes).zip(targets.chunks_exact(classes));
    for ((logits, targets), gradient) in rows.zip(gradient.chunks_exact_mut(classes)) {
        // A logit that is not a number makes the loss one, too.
        let largest = logits.iter().copied().map(f64::from).fold(f64::NEG_INFINITY, f64::max);
        for (power, &logit) in powers.iter_mut().zip(logits) {
            *power = (f64::from(logit) - largest).exp();
        }
        let total: f64 = powers.iter().sum();
        let log_total = total.ln() + largest;
        let weight = |class: usize| weights.map_or(1.0, |weights| f64::from(weights[class]));
        let mut mass = 0.0;
        for (class, (&logit, &target)) in logits.iter().zip(targets).enumerate() {
            let counted = weight(class) * f64::from(target);
            mass += counted;
            if counted != 0.0 {
                sum += counted * (log_total - f64::from(logit));
            }
        }
        for (class, gradient) in gradient.iter_mut().enumerate() {
            let counted = weight(class) * f64::from(targets[class]);
            *gradient = ((powers[class] / total * mass - counted) / pictures) as f32;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: (f64, [f64; 15]) = (
        0.6954678792824278,
        [
            -0.02516937791987636,
            0.017929428091333008,
            -0.00794686146814117,
            0.054504965079576244,
            0.017929428091333008,
            0.00794686146814117,
            0.02516937791987636,
            -0.0031617248785044422,
            0.03747843339238654,
            0.0414972887467903,
            -0.02516937791987636,
            -0.03747843339238654,
            -0.058719805198525495,
            0.017929428091333008,
            0.04873723857533366,
        ],
    );
    const WEIGHTED: (f64, [f64; 15]) = (
        0.9939864309474495,
        [
            -0.044216352867316525,
            0.016519493178699676,
            -0.018336558430893626,
            0.05187735280445101,
            0.016519493178699676,
            0.001809985566017247,
            0.021563912739427794,
            0.002758191175908749,
            0.03331032895187898,
            0.0384360872605722,
            -0.00897922377948961,
            -0.10299373128039697,
            -0.10908051227270485,
            0.016519493178699676,
            0.04531972114702257,
        ],
    );

    /// By hand: softmax of (0, ln 3) is (1/4, 3/4).
    #[test]
    fn losses_by_hand() -> Result<(), Error> {
        let logits = [0.0, 3.0_f32.ln()];
        let mut gradient = [0.0; 2];
        let loss = cross_entropy(&logits, &targets(&[0], 2, 0.0, None)?, 2, None, &mut gradient);
        assert!((loss - 4.0_f64.ln()).abs() < 1e-7, "{loss}");
        assert!((gradient[0] + 0.75).abs() < 1e-7 && (gradient[1] - 0.75).abs() < 1e-7, "{gradient:?}");
        // Smoothed by 0.2 the target is (0.9, 0.1).
        let smoothed = targets(&[0], 2, 0.2, None)?;
        let loss = cross_entropy(&logits, &smoothed, 2, None, &mut gradient);
        assert!((loss - (0.9 * 4.0_f64.ln() + 0.1 * (4.0_f64 / 3.0).ln())).abs() < 1e-7, "{loss}");
        // A class that counts twice.
        let weights = [2.0, 1.0];
        let loss = cross_entropy(&logits, &targets(&[0], 2, 0.0, None)?, 2, Some(&weights), &mut gradient);
        assert!((loss - 2.0 * 4.0_f64.ln()).abs() < 1e-6 && (gradient[0] + 1.5).abs() < 1e-6);
        Ok(())
    }

    /// The gradient is the slope of the mean loss: by differences in double precision of logits that are far
    /// enough apart for single precision.
    #[test]
    fn gradients_are_slopes() -> Result<(), Error> {
        let mixup = Mixup { partners: vec![1, 2, 0], share: 0.7 };
        let rows = targets(&[0, 3, 2], 4, 0.1, Some(&mixup))?;
        let weights = [0.5, 1.0, 2.0, 1.5];
        let logits: Vec<f32> = (0..12).map(|i| ((i * 7 % 5) as f32 - 2.0) / 2.0).collect();
        let loss = |logits: &[f32]| cross_entropy(logits, &rows, 4, Some(&weights), &mut [0.0; 12]) / 3.0;
        let mut gradient = [0.0; 12];
        cross_entropy(&logits, &rows, 4, Some(&weights), &mut gradient);
        for at in 0..12 {
            let moved = |by: f32| {
                let mut moved = logits.clone();
                moved[at] += by;
                loss(&moved)
            };
            let slope = (moved(1.0 / 1024.0) - moved(-1.0 / 1024.0)) * 512.0;
            assert!((slope - f64::from(gradient[at])).abs() < 1e-6, "{at}: {slope} {}", gradient[at]);
        }
        Ok(())
    }

    const LOGITS: [f32; 15] =
        [0.5, -1.0, 2.0, 1.5, -1.0, -2.0, -0.5, 3.0, 0.25, 0.5, 0.5, -0.25, -2.0, -1.0, 1.0];

    /// `torch.nn.BCEWithLogitsLoss` of PyTorch 2.15 in double precision, plain, and with `pos_weight` and
    /// smoothed targets (0.9 and 0 plus a thirtieth).
    #[test]
    fn binary_losses_are_those_of_pytorch() -> Result<(), Error> {
        let labels: [&[u32]; 5] = [&[0, 2], &[], &[1], &[1, 2], &[0]];
        let labels = labels.map(Box::<[u32]>::from);
        let weights = [2.0, 0.5, 3.0];
        for (smoothing, weights, loss, gradients) in
            [(0.0, None, PLAIN.0, PLAIN.1), (0.1, Some(&weights[..]), WEIGHTED.0, WEIGHTED.1)]
        {
            let targets = targets_of_several(&labels, 3, smoothing, None)?;
            let mut gradient = [0.0; 15];
            let found = binary_cross_entropy(&LOGITS, &targets, 3, weights, &mut gradient) / 5.0;
            // Targets and gradients are in single precision.
            assert!((found - loss).abs() < 1e-7, "{found} {loss}");
            for (found, expected) in gradient.into_iter().zip(gradients) {
                assert!((f64::from(found) - expected).abs() < 1e-8, "{found} {expected}");
            }
        }
        Ok(())
    }

    /// One logit is what [`binary_cross_entropy`] makes of it, whose loss and gradient are PyTorch's, and no less where
    /// targets are smoothed and blended.
    #[test]
    fn one_logit_is_binary() -> Result<(), Error> {
        let labels = [0, 1, 1, 0, 1];
        let mixup = Mixup { partners: vec![1, 0, 3, 4, 2], share: 0.7 };
        for (smoothing, mixup) in [(0.0, None), (0.2, Some(&mixup))] {
            let both = targets(&labels, 2, smoothing, mixup)?;
            let second: Vec<f32> = both.chunks_exact(2).map(|row| row[1]).collect();
            let logits = &LOGITS[..5];
            let (mut ours, mut theirs) = ([0.0; 5], [0.0; 5]);
            let loss = Loss::OneLogit.compute(logits, &both, 1, None, &mut ours);
            let binary = binary_cross_entropy(logits, &second, 1, None, &mut theirs);
            // Targets are in single precision, and those of two classes need not add up to one exactly.
            assert!((loss - binary).abs() < 1e-6, "{loss} {binary}");
            for (ours, theirs) in ours.into_iter().zip(theirs) {
                assert!((ours - theirs).abs() < 1e-7, "{ours} {theirs}");
            }
        }
        assert_eq!((Loss::OneLogit.outputs(2), Loss::OneLogit.decisions(2)), (1, 1));
        assert_eq!(*Loss::OneLogit.scores(&[3.0, -1.0]), [0.0, 3.0, 0.0, -1.0]);
        Ok(())
    }

    /// What is far from zero neither overflows nor loses its gradient; what is no number shows.
    #[test]
    fn binary_losses_of_large_logits() {
        let mut gradient = [0.0];
        let mut loss = |logit: f32, target: f32| {
            let loss = binary_cross_entropy(&[logit], &[target], 1, None, &mut gradient);
            (loss, gradient[0])
        };
        assert_eq!(loss(1e30, 1.0), (0.0, 0.0));
        assert_eq!(loss(-1000.0, 1.0), (1000.0, -1.0));
        assert_eq!(loss(1000.0, 0.0), (1000.0, 1.0));
        assert!(!loss(f32::NAN, 1.0).0.is_finite() && !loss(f32::INFINITY, 0.0).0.is_finite());
    }

    #[test]
    fn balanced_labels_count_as_much_as_their_absence() {
        let labels: [&[u32]; 4] = [&[0, 1], &[0, 1], &[1], &[1, 3]];
        let weights =
            label_weights(ClassWeights::Balanced, &labels.map(Box::<[u32]>::from), 4).expect("weights");
        assert_eq!(weights, [1.0, 1.0, 1.0, 3.0]);
        assert_eq!(label_weights(ClassWeights::None, &[], 1), None);
    }

    #[test]
    fn balanced_classes_count_the_same() {
        let weights = class_weights(ClassWeights::Balanced, &[0, 0, 0, 2], 3).expect("weights");
        assert_eq!(weights, [4.0 / 6.0, 0.0, 2.0]);
        assert_eq!(class_weights(ClassWeights::None, &[0], 1), None);
    }

    #[test]
    fn what_is_no_number_shows() -> Result<(), Error> {
        let rows = targets(&[1], 2, 0.0, None)?;
        let loss = |logit: f32| cross_entropy(&[logit, 0.0], &rows, 2, None, &mut [0.0; 2]);
        assert!(!loss(f32::NAN).is_finite() && !loss(f32::INFINITY).is_finite());
        assert!(loss(1e30).is_finite());
        Ok(())
    }
}
