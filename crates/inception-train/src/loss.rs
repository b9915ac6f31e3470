//! The loss: cross entropy with targets that are shares of all classes.

use inception::data::{Mixup, smooth_label};

use crate::error::Error;
use crate::recipe::ClassWeights;

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
    let mut rows = vec![0.0; labels.len() * classes];
    for (row, &label) in rows.chunks_exact_mut(classes).zip(labels) {
        row[label as usize] = 1.0;
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

/// How much each class counts: `None` for all the same.
///
/// Balanced weights are inverse to the pictures of a class, and their mean over the pictures is 1
/// (scikit-learn's `balanced`). A class without pictures has none.
pub fn class_weights(kind: ClassWeights, labels: &[u32], classes: usize) -> Option<Vec<f32>> {
    if kind == ClassWeights::None {
        return None;
    }
    let mut counts = vec![0_usize; classes];
    labels.iter().for_each(|&label| counts[label as usize] += 1);
    let present = counts.iter().filter(|&&count| count > 0).count();
    let weight = |count: usize| match count {
        0 => 0.0,
        count => (labels.len() as f64 / (present * count) as f64) as f32,
    };
    Some(counts.into_iter().map(weight).collect())
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
