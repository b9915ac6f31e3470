//! Which pictures are for validation.

use crate::draw::{Use, generator};

/// Pictures for training and for validation, by their places among the labels, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Split {
    /// Those for training.
    pub training: Vec<usize>,
    /// Those for validation.
    pub validation: Vec<usize>,
    /// Classes with a single picture, which is for training.
    pub single: Vec<u32>,
    /// Classes without a picture.
    pub empty: Vec<u32>,
}

/// Takes `share` of the pictures of each class for validation, rounded, drawn by `seed`; at least one of a
/// class that has two or more, and never all of a class.
pub fn split(labels: &[u32], classes: usize, share: f64, seed: u64) -> Split {
    let mut of_class = vec![Vec::new(); classes];
    for (picture, &label) in labels.iter().enumerate() {
        of_class[label as usize].push(picture);
    }
    let mut split = Split::default();
    for (class, pictures) in (0_u32..).zip(of_class) {
        match pictures.len() {
            0 => split.empty.push(class),
            1 => split.single.push(class),
            _ => {}
        }
        let count = match share > 0.0 && pictures.len() > 1 {
            true => ((pictures.len() as f64 * share).round() as usize).clamp(1, pictures.len() - 1),
            false => 0,
        };
        // A dataset of 2^32 pictures of a class fits into no memory.
        let drawn = u32::try_from(pictures.len()).unwrap_or(u32::MAX);
        let order = generator(seed, Use::Split, [class.into(), 0]).permutation(drawn);
        let (validation, training) = order.split_at(count);
        split.validation.extend(validation.iter().map(|&at| pictures[at]));
        split.training.extend(training.iter().map(|&at| pictures[at]));
    }
    split.validation.sort_unstable();
    split.training.sort_unstable();
    split
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_is_split() {
        let mut labels = vec![0; 100];
        labels.extend(vec![1; 3]);
        labels.extend([2, 4, 4]);
        let found = split(&labels, 5, 0.1, 7);
        assert_eq!((found.training.len(), found.validation.len()), (106 - 12, 12));
        let of = |class: u32| found.validation.iter().filter(|&&at| labels[at] == class).count();
        assert_eq!([0, 1, 2, 3, 4].map(of), [10, 1, 0, 0, 1]);
        assert_eq!((&found.single[..], &found.empty[..]), (&[2][..], &[3][..]));
        let mut all = [&found.training[..], &found.validation[..]].concat();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..106));
        assert_eq!(found, split(&labels, 5, 0.1, 7));
        assert_ne!(found, split(&labels, 5, 0.1, 8));
        assert!(split(&labels, 5, 0.0, 7).validation.is_empty());
        assert_eq!(split(&labels, 5, 0.99, 7).training.len(), 4, "one of each class that has some stays");
    }
}
