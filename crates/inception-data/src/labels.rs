//! ImageNet's class names.

use std::sync::LazyLock;

/// One line a class, in the order of the 1000 classes of ILSVRC 2012. Source:
/// `ppcls/utils/imagenet1k_label_list.txt` of PaddleClas 2.6.0 (Apache-2.0), less the number at the start of
/// each line.
static LABELS: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| include_str!("imagenet1k_labels.txt").lines().collect());

/// Name of class `index` of ImageNet's 1000 (ILSVRC 2012, counted from 0), or `None` from 1000 on.
///
/// Names are not unique: 134 and 517 are both "crane", the bird and the machine.
///
/// ```
/// assert_eq!(inception_data::label(0), Some("tench, Tinca tinca"));
/// assert_eq!(inception_data::label(1000), None);
/// ```
pub fn label(index: usize) -> Option<&'static str> {
    LABELS.get(index).copied()
}

/// Names of all of ImageNet's 1000 classes, by class number.
pub fn labels() -> &'static [&'static str] {
    &LABELS
}

/// The WordNet id of each class, by class number: ImageNet's folders are named so. They are in alphabetical
/// order, which is what numbers the classes.
static WORDNET_IDS: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| include_str!("imagenet1k_wordnet_ids.txt").lines().collect());

/// The class whose WordNet id is `id`, or `None` if it is none of ImageNet's 1000.
///
/// ```
/// assert_eq!(inception_data::class_of_wordnet_id("n02328150"), Some(332));
/// assert_eq!(inception_data::label(332), Some("Angora, Angora rabbit"));
/// ```
pub fn class_of_wordnet_id(id: &str) -> Option<usize> {
    WORDNET_IDS.binary_search(&id).ok()
}

/// The WordNet id of each class in the order of the development kit of ILSVRC 2012, whose first is 1.
///
/// Source: `map_clsloc.txt` of the development kit of ILSVRC 2015 (classification and localisation), whose
/// numbers are those of `ILSVRC2012_ID` in the kit of 2012. Checked against the first 199 validation
/// pictures: their numbers in the ground truth, and their WordNet ids in TensorFlow's
/// `imagenet_2012_validation_synset_labels.txt`.
static DEVKIT_ORDER: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| include_str!("imagenet1k_devkit_order.txt").lines().collect());

/// The class that the development kit of ILSVRC 2012 numbers `id`, from 1 to 1000: its order is another one
/// than that of the classes.
///
/// ```
/// // The label of ILSVRC2012_val_00000010.JPEG in ILSVRC2012_validation_ground_truth.txt.
/// assert_eq!(inception_data::class_of_devkit_id(164), Some(332));
/// assert_eq!(inception_data::class_of_devkit_id(0), None);
/// ```
pub fn class_of_devkit_id(id: usize) -> Option<usize> {
    class_of_wordnet_id(DEVKIT_ORDER.get(id.checked_sub(1)?)?)
}
