//! The one error type of the crate.

use std::borrow::Cow;
use std::path::PathBuf;

/// What can be wrong with a checkpoint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is none of the formats that can be read.
    #[error(
        "{}: {found}; a checkpoint is a .pdparams, .pth, .safetensors, .bpk, .onnx, .h5 or .keras file or a Paddle inference model",
        path.display()
    )]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// What it looks like instead.
        found: Cow<'static, str>,
    },
    /// A value is too large for the dtype that is written.
    #[error("{}: `{tensor}` holds numbers that f16 has no room for; bf16 does", path.display())]
    TooLarge {
        /// The file to write.
        path: PathBuf,
        /// Our name of the tensor.
        tensor: String,
    },
    /// The format cannot hold the dtype.
    #[error("{}: not to be written in {dtype}; a .safetensors file can hold f32, f16 and bf16, others f32", path.display())]
    UnwritableDtype {
        /// The file to write.
        path: PathBuf,
        /// The dtype.
        dtype: String,
    },
    /// The extension of a file to write is that of no format that can be written.
    #[error("{}: the name has to end in .safetensors, .bpk or .onnx", path.display())]
    UnknownTarget {
        /// The file.
        path: PathBuf,
    },
    /// The file contradicts its own format.
    #[error("{}: damaged {format}: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The format that its first bytes announce.
        format: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The file may be whole, but has something that is not read, or lacks a file that it needs.
    #[error("{}: cannot use this {format}: {reason}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The format that its first bytes announce.
        format: &'static str,
        /// What it has or lacks, and what to do about it.
        reason: String,
    },
    /// The tensors are not those of the network asked for.
    #[error("{} does not fit {model}: {}{}", path.display(), summary(problems), hint(likely))]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// The network asked for.
        model: &'static str,
        /// Every difference.
        problems: Vec<Problem>,
        /// The models whose tensors the file has, where it has another's.
        likely: Vec<&'static str>,
    },
    /// The network is there but for its classifier.
    #[error(
        "{}: {model} without its classifier, as made for features (Keras's include_top=False); no classes can be had from it",
        path.display()
    )]
    NoClassifier {
        /// The file.
        path: PathBuf,
        /// The network asked for.
        model: &'static str,
    },
    /// The file has no dictionary of tensors of this name that has a tensor of the network.
    #[error(
        "{}: no tensors of the network at `{name}`; they are at {}",
        path.display(),
        known.iter().map(|name| place(name)).collect::<Vec<_>>().join(", ")
    )]
    NoStateDict {
        /// The file.
        path: PathBuf,
        /// The name asked for.
        name: String,
        /// The names that there are.
        known: Vec<String>,
    },
    /// The operations of the file are not those of the network asked for.
    #[error("{} is not {model}: {difference}", path.display())]
    Graph {
        /// The file.
        path: PathBuf,
        /// The network asked for.
        model: &'static str,
        /// The first difference, walking from the logits back to the image.
        difference: String,
    },
    /// The model has no published weights that can be downloaded without a login.
    #[error("no published weights of {model} are known")]
    NotPublished {
        /// The model.
        model: &'static str,
    },
    /// The weights are not in the cache, and nothing may be downloaded.
    #[error("{} is not there and may not be downloaded (offline); it is to be had from {url}", path.display())]
    Offline {
        /// Where the cache would have it.
        path: PathBuf,
        /// Where it comes from.
        url: String,
    },
    /// A download failed.
    #[error("{url}: {reason}")]
    Download {
        /// The address.
        url: String,
        /// What went wrong.
        reason: String,
        /// Whether another attempt may succeed.
        retry: bool,
    },
    /// The checksum of a downloaded file has changed.
    #[error(
        "{} is not what was downloaded: its SHA-256 is {found}, not {expected}; remove it to download it again",
        path.display()
    )]
    Changed {
        /// The file.
        path: PathBuf,
        /// The checksum recorded at the download.
        expected: String,
        /// The checksum now.
        found: String,
    },
    /// The network cannot be built.
    #[cfg(feature = "network")]
    #[error(transparent)]
    Network(#[from] inception_nn::Error),
}

/// A difference between the tensors of a checkpoint and those of a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The network has a tensor that the file lacks.
    #[error("`{key}` {shape:?} is missing{}", nearest.as_ref().map(|n| format!(" (the file has `{n}`)")).unwrap_or_default())]
    Missing {
        /// The key under which it is looked for.
        key: String,
        /// The shape that it has to have.
        shape: Vec<usize>,
        /// The unused key of the file that is most like it.
        nearest: Option<String>,
    },
    /// The file has a tensor that the network does not.
    #[error("`{key}` {shape:?} belongs to no part of the network")]
    Unexpected {
        /// Its key.
        key: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// A tensor has another shape than the network's.
    #[error("`{key}` has shape {found:?}, not {wanted:?}{}", if is_transposed(wanted, found) { " (transposed?)" } else { "" })]
    Shape {
        /// Its key.
        key: String,
        /// The network's shape.
        wanted: Vec<usize>,
        /// The file's.
        found: Vec<usize>,
    },
    /// The file has two tensors of one name.
    #[error("`{key}` is there twice")]
    Duplicate {
        /// Their key.
        key: String,
    },
    /// A tensor has a dtype that no weight has.
    #[error("`{key}` holds {dtype}, not floating-point numbers")]
    Dtype {
        /// Its key.
        key: String,
        /// Its dtype.
        dtype: String,
    },
}

fn hint(likely: &[&str]) -> String {
    match likely {
        [] => String::new(),
        _ => format!("\n  its tensors are those of {}", likely.join(" or ")),
    }
}

fn is_transposed(wanted: &[usize], found: &[usize]) -> bool {
    wanted.len() == 2 && wanted.iter().eq(found.iter().rev())
}

/// The first few differences, and how many more there are.
fn summary(problems: &[Problem]) -> String {
    const SHOWN: usize = 5;
    let mut lines: Vec<_> = problems.iter().take(SHOWN).map(|p| format!("\n  {p}")).collect();
    if problems.len() > SHOWN {
        lines.push(format!("\n  and {} more differences", problems.len() - SHOWN));
    }
    lines.concat()
}

/// Where a dictionary of tensors is, for a message.
fn place(name: &str) -> String {
    match name {
        "" => "the top of the file".to_owned(),
        _ => format!("`{name}`"),
    }
}
