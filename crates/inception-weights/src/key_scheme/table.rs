//! The layers of a network by the names of another library.

use inception_nn::Architecture;

/// The key table of a network.
pub(super) struct KeyTable {
    pub architecture: Architecture,
    /// Paths of the layers, in the order of our fields.
    pub layers: fn() -> Vec<String>,
    /// Prefixes of keys that inference does not need: auxiliary heads.
    pub unused: &'static [&'static str],
    /// Paths of the layers of the auxiliary classifier that a network has where it is built for training.
    pub auxiliary: &'static [&'static str],
    /// The norms have no scale; it is 1.
    pub without_scale: bool,
}

impl KeyTable {
    pub const fn new(architecture: Architecture, layers: fn() -> Vec<String>) -> Self {
        Self { architecture, layers, unused: &[], auxiliary: &[], without_scale: false }
    }

    /// With norms that have no scale.
    pub const fn without_scale(self) -> Self {
        Self { without_scale: true, ..self }
    }

    /// With the layers of an auxiliary classifier.
    pub const fn auxiliary(self, auxiliary: &'static [&'static str]) -> Self {
        Self { auxiliary, ..self }
    }

    /// With prefixes of keys that inference does not need.
    pub const fn unused(self, unused: &'static [&'static str]) -> Self {
        Self { unused, ..self }
    }
}

/// The convolutions of a stage: their common prefix, and their names below it.
pub(super) type Stage = (&'static str, &'static [&'static str]);

/// The layers of `stages`, each convolution as the layers `parts` of it, of which an empty one is itself, and
/// then those of the classifier.
pub(super) fn stages(stages: &[Stage], parts: &[&str], heads: &[&str]) -> Vec<String> {
    let convs =
        stages.iter().flat_map(|(prefix, convs)| convs.iter().map(move |conv| format!("{prefix}{conv}")));
    let layer = |conv: &str, part: &str| match part {
        "" => conv.to_owned(),
        _ => format!("{conv}.{part}"),
    };
    let layers = convs.flat_map(|conv| parts.iter().map(move |part| layer(&conv, part)));
    layers.chain(heads.iter().map(|&head| head.to_owned())).collect()
}
