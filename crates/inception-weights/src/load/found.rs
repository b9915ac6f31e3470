//! The tensors of a network in a file.

use inception_nn::ModelSpec;

use crate::entry::{Dtype, Entry};
use crate::error::Problem;
use crate::key_scheme::KeyScheme;

/// The classifier's bias, by our name.
pub(super) const CLASSIFIER_BIAS: &str = "head.fc.bias";

/// Prefix of our names of the classifier's tensors, whose shapes depend on the number of classes.
pub(super) const CLASSIFIER: &str = "head.fc.";

/// Where the values of one of our tensors come from.
pub(super) enum Source<'a> {
    Entry { entry: &'a Entry, transposed: bool },
    Constant(f32),
    Nowhere,
}

/// A network's tensors in a file: all there, with the network's shapes but for the number of classes.
pub(super) struct Found<'a> {
    pub key_scheme: KeyScheme,
    /// Classes that the file's classifier has.
    pub classes: usize,
    /// One for each of our tensors, in their order.
    pub sources: Vec<Source<'a>>,
    pub unused: Vec<String>,
}

/// The number of classes that a classifier has, from its bias; the published one if that says nothing, so
/// that the difference comes to light.
pub(super) fn classes(spec: &ModelSpec, bias: Option<&Entry>) -> usize {
    let classes = bias.and_then(|entry| entry.shape.first().copied());
    classes.filter(|&classes| classes > 0).unwrap_or(spec.num_classes)
}

/// What keeps `entry` from being a tensor of the shape `wanted`.
pub(super) fn misfit(entry: &Entry, wanted: Vec<usize>) -> Option<Problem> {
    let key = entry.key.clone();
    match &entry.dtype {
        _ if entry.shape != wanted => Some(Problem::Shape { key, wanted, found: entry.shape.clone() }),
        Dtype::Other(dtype) => Some(Problem::Dtype { key, dtype: dtype.clone() }),
        _ => None,
    }
}
