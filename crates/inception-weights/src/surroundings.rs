//! What a file's operations do before and after the network itself.

/// What is done to the pixels before the network, and to its logits after it, by operations of the file.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Surroundings {
    /// For red, green and blue a factor and a summand that are applied to what the file is given.
    pub input: Option<[[f64; 2]; 3]>,
    /// What is made of the logits.
    pub activation: Activation,
    /// What was understood and left out, as sentences for the user.
    pub notes: Vec<String>,
    /// Rows and columns of the image, where the file fixes them.
    pub size: Option<[usize; 2]>,
}

/// What a network's logits are made into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Activation {
    /// Shares of one: each picture has one class. What a classifier's logits stand for unless a file says
    /// otherwise.
    #[default]
    Softmax,
    /// A probability for each class by itself: a picture may have several.
    Sigmoid,
}
