//! Metadata of our own files.

use std::collections::BTreeMap;

/// Key-value metadata of a file, such as its model, beside its tensors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata(pub(crate) BTreeMap<String, String>);

impl Metadata {
    const MODEL: &str = "model";
    /// The key of the preprocessing that the weights expect.
    pub const PREPROCESSING: &str = "preprocessing";

    /// The metadata of a file of `spec`'s network.
    #[cfg(feature = "network")]
    pub fn of(spec: &inception_nn::ModelSpec) -> Self {
        Self(BTreeMap::from([(Self::MODEL.to_owned(), spec.name.to_owned())]))
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
