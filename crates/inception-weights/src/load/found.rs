//! The tensors of a network in a file.

use inception_nn::{HiddenLayer, ModelSpec};

use super::head::Layer;
use crate::entry::{Dtype, Entry};
use crate::error::Problem;
use crate::key_scheme::KeyScheme;

/// Where the values of one of our tensors come from.
#[derive(Clone, Copy)]
pub(super) enum ValueSource<'a> {
    Entry {
        entry: &'a Entry,
        transposed: bool,
    },
    /// The weight or the bias of a layer with norms.
    Normed {
        layer: Layer<'a>,
        transposed: bool,
        bias: bool,
    },
    Constant(f32),
    Nowhere,
}

/// A network's tensors in a file: all there, with the network's shapes but for the number of classes.
pub(super) struct Found<'a> {
    pub key_scheme: KeyScheme,
    /// Classes that the file's classifier has.
    pub classes: usize,
    /// The classifier's layers before its last.
    pub hidden: Vec<HiddenLayer>,
    /// Whether its auxiliary classifier, which only training uses, is among the tensors.
    pub auxiliary: bool,
    /// One for each of our tensors, in their order.
    pub sources: Vec<ValueSource<'a>>,
    /// Keys that no part of the network needs, as the key scheme allows them.
    pub unused: Vec<String>,
    /// Keys that nothing that is known needs.
    pub unexpected: Vec<String>,
    /// What was taken, where the file leaves a choice or has names of its own.
    pub notes: Vec<String>,
}

impl Found<'_> {
    /// The classes that the network gets: without TensorFlow's background unless it is to be kept, and two
    /// for the one logit of a sigmoid.
    pub fn kept_classes(&self, spec: &ModelSpec, keep_background: bool) -> usize {
        match self.classes {
            1 => 2,
            classes if self.key_scheme == KeyScheme::Native || keep_background => classes,
            classes if classes == spec.num_classes + 1 => spec.num_classes,
            classes => classes,
        }
    }
}

/// Whether `found` is the shape `wanted`; a 1x1 convolution is a matrix, too.
fn is_shape(found: &[usize], wanted: &[usize]) -> bool {
    found == wanted
        || (wanted.len() == 2 && found.len() == 4 && found[..2] == *wanted && found[2..] == [1, 1])
}

/// What keeps `entry` from being a tensor of the shape `wanted`.
pub(super) fn misfit(entry: &Entry, wanted: Vec<usize>) -> Option<Problem> {
    let key = entry.key.clone();
    match &entry.dtype {
        _ if !is_shape(&entry.shape, &wanted) => {
            Some(Problem::Shape { key, wanted, found: entry.shape.clone() })
        }
        Dtype::Other(dtype) => Some(Problem::Dtype { key, dtype: dtype.clone() }),
        _ => None,
    }
}
