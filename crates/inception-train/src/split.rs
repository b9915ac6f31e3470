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
    let labels: Vec<[u32; 1]> = labels.iter().map(|&label| [label]).collect();
    split_several(&labels, classes, share, seed)
}

/// As [`split`], of pictures with any number of classes each. The rarest class comes first, and its pictures
/// are not drawn again for others, so that a class has about its share (as in iterative stratification), and
/// at least one picture for training. Those without a class are split last.
pub fn split_several(labels: &[impl AsRef<[u32]>], classes: usize, share: f64, seed: u64) -> Split {
    // The last group is of those without a class.
    let mut of_class = vec![Vec::new(); classes + 1];
    for (picture, labels) in labels.iter().enumerate() {
        let labels = labels.as_ref();
        labels.iter().for_each(|&label| of_class[label as usize].push(picture));
        if labels.is_empty() {
            of_class[classes].push(picture);
        }
    }
    let mut split = Split::default();
    for (class, pictures) in (0_u32..).zip(&of_class[..classes]) {
        match pictures.len() {
            0 => split.empty.push(class),
            1 => split.single.push(class),
            _ => {}
        }
    }
    let mut order: Vec<usize> = (0..classes).collect();
    order.sort_by_key(|&class| of_class[class].len());
    order.push(classes);
    let mut validated = vec![None; labels.len()];
    for class in order {
        let pictures = &of_class[class];
        let wanted = match share > 0.0 && pictures.len() > 1 {
            true => ((pictures.len() as f64 * share).round() as usize).clamp(1, pictures.len() - 1),
            false => 0,
        };
        let known = pictures.iter().filter(|&&at| validated[at] == Some(true)).count();
        // A dataset of 2^32 pictures of a class fits into no memory.
        let drawn = u32::try_from(pictures.len()).unwrap_or(u32::MAX);
        let order = generator(seed, Use::Split, [class as u64, 0]).permutation(drawn);
        let mut left = wanted.saturating_sub(known);
        for picture in order.into_iter().map(|at| pictures[at]) {
            if validated[picture].is_none() {
                validated[picture] = Some(left > 0);
                left = left.saturating_sub(1);
            }
        }
    }
    for pictures in &of_class[..classes] {
        if pictures.iter().all(|&at| validated[at] == Some(true)) {
            // Other classes have taken all of them.
            pictures.first().into_iter().for_each(|&first| validated[first] = Some(false));
        }
    }
    let those =
        |wanted: bool| (0..labels.len()).filter(|&at| (validated[at] == Some(true)) == wanted).collect();
    (split.training, split.validation) = (those(false), those(true));
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

    #[test]
    fn pictures_of_several_classes_are_split() {
        // Every third has the first class, every fifth the second one; a few the last one, with the first.
        let labels: Vec<Vec<u32>> = (0..300)
            .map(|at| {
                let has = [at % 3 == 0, at % 5 == 0, at < 12 && at % 3 == 0];
                (0..).zip(has).filter(|(_, has)| *has).map(|(class, _)| class).collect()
            })
            .collect();
        let found = split_several(&labels, 4, 0.2, 7);
        let count = |pictures: &[usize], class: u32| {
            pictures.iter().filter(|&&at| labels[at].contains(&class)).count()
        };
        assert_eq!([0, 1, 2, 3].map(|class| count(&found.validation, class)), [20, 12, 1, 0]);
        assert_eq!((&found.single[..], &found.empty[..]), (&[][..], &[3][..]));
        let without = found.validation.iter().filter(|&&at| labels[at].is_empty()).count();
        assert_eq!(without, 32, "of 160");
        let mut all = [&found.training[..], &found.validation[..]].concat();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..300));
        assert_eq!(found, split_several(&labels, 4, 0.2, 7));
        // Of two pictures each, in a ring: whatever is drawn, each class keeps one for training.
        let ring: [&[u32]; 4] = [&[0, 1], &[1, 2], &[2, 3], &[3, 0]];
        for seed in 0..20 {
            let found = split_several(&ring, 4, 0.5, seed);
            for class in 0..4 {
                let kept = found.training.iter().any(|&at| ring[at].contains(&class));
                assert!(kept, "{seed}: {found:?}");
            }
        }
    }
}
