//! How a checkpoint is loaded.

/// How to load a checkpoint.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct LoadOptions {
    /// Which of a file's dictionaries of tensors to take: its place in the file, or the last part of that.
    /// Without it the one that fits, and of several the average that training has kept (EMA), as timm does.
    pub state_dict: Option<String>,
    /// Keeps the first of 1001 classes. Without it the classifier of another library that has one class more
    /// than published is taken for TensorFlow's and loses its first class, the background.
    pub keep_background: bool,
    /// Takes the auxiliary classifier, too, which only training uses, where the model has one that its network can
    /// go without, and the file has all of it, for the same classes. Without it the file's is passed over.
    pub auxiliary: bool,
}
