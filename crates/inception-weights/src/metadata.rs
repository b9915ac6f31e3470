//! Metadata of our own files.

use std::collections::BTreeMap;

use crate::surroundings::Activation;

/// Key-value metadata of a file, such as its model, beside its tensors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata(pub(crate) BTreeMap<String, String>);

impl Metadata {
    const MODEL: &str = "model";
    /// The key of the preprocessing that the weights expect.
    pub const PREPROCESSING: &str = "preprocessing";
    /// The key of the classes' names, a list in JSON.
    pub const LABELS: &str = "labels";
    /// The key of the scales and zero points of activations, where they have been calibrated.
    pub const QUANTIZATION: &str = "quantization";
    /// The key of what the logits stand for.
    pub const OUTPUT: &str = "output";
    /// The key of the classifier's layers before its last: whether a ReLU follows each, a list in JSON.
    pub const HEAD: &str = "head";

    /// The metadata of a file of `spec`'s network.
    #[cfg(feature = "network")]
    pub fn of(spec: &inception_nn::ModelSpec) -> Self {
        Self(BTreeMap::from([(Self::MODEL.to_owned(), spec.name.to_owned())]))
    }

    /// With the layers of `network`'s classifier, where it has more than one.
    #[cfg(feature = "network")]
    pub fn with_head(self, network: &inception_nn::Network) -> Self {
        let relus: Vec<_> = network.hidden().iter().map(|layer| layer.relu.to_string()).collect();
        if relus.is_empty() { self } else { self.with(Self::HEAD, format!("[{}]", relus.join(","))) }
    }

    /// With what the logits stand for, where that is not the share of one.
    #[must_use]
    pub fn with_activation(self, activation: Activation) -> Self {
        match activation {
            Activation::Softmax => self,
            Activation::Sigmoid => self.with(Self::OUTPUT, "sigmoid"),
        }
    }

    /// Without the scales of a quantised file, for weights that are written as floating-point numbers.
    pub(crate) fn without_quantization(mut self) -> Self {
        self.0.remove(Self::QUANTIZATION);
        self
    }

    /// Without names of classes that are not as many as there are classes.
    pub(crate) fn with_labels_of(mut self, classes: usize) -> Self {
        if self.labels().is_none_or(|labels| labels.len() != classes) {
            self.0.remove(Self::LABELS);
        }
        self
    }

    /// The names of the classes, where the file has them.
    pub fn labels(&self) -> Option<Vec<String>> {
        self.get(Self::LABELS).and_then(|json| serde_json::from_str(json).ok())
    }

    /// The row of [`inception_nn::MODELS`] that the weights are of, where the file says so.
    pub fn model(&self) -> Option<&str> {
        self.get(Self::MODEL)
    }

    /// The preprocessing that the weights expect, as the JSON of `inception_data::Preprocessing`, where the
    /// file says it.
    pub fn preprocessing(&self) -> Option<&str> {
        self.get(Self::PREPROCESSING)
    }

    /// Adds an entry, such as `preprocessing` or `labels`.
    pub fn with(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.insert(key.into(), value.into());
        self
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// All entries, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}
