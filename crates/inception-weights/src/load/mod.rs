//! From a checkpoint to a network with all its weights.

mod by_graph;
mod by_key;
mod found;
mod keys;
mod likely;

use burn::tensor::{Device, TensorData};
use inception_nn::{ModelSpec, Network, TensorInfo, load_tensors};

pub use likely::likely_models;

use crate::checkpoint::Checkpoint;
use crate::error::Error;
use crate::key_scheme::KeyScheme;
use by_graph::by_graph;
use by_key::by_key;
use found::{Found, Source};

/// A network with a checkpoint's weights.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Loaded {
    /// The network.
    pub network: Network,
    /// Number of classes, found from the classifier's shape.
    pub num_classes: usize,
    /// How the file names its tensors.
    pub key_scheme: KeyScheme,
    /// Our names of tensors in which a value is infinite or not a number.
    pub not_finite: Vec<String>,
    /// Whether the classifier had one class more than published, TensorFlow's "background" before all others,
    /// which has been left out.
    pub background_dropped: bool,
    /// Keys of the file that no part of the network needs, as the key scheme allows them: counters of batches
    /// and heads for training only.
    pub unused: Vec<String>,
    /// Our names of tensors that inference does not need and that the file, a graph for inference, does not
    /// have: they keep their initial values.
    pub not_in_file: Vec<String>,
}

impl Loaded {
    /// Warnings for whoever uses the network, with the first few names.
    pub fn warnings(&self) -> Vec<String> {
        const NAMED: usize = 5;
        let named = |names: &[String]| {
            let first: Vec<_> = names.iter().take(NAMED).map(|name| format!("`{name}`")).collect();
            let more = names.len().saturating_sub(NAMED);
            first.join(", ") + &if more > 0 { format!(" and {more} more") } else { String::new() }
        };
        let mut warnings = Vec::new();
        if !self.not_finite.is_empty() {
            warnings.push(format!("infinities or NaN in {}", named(&self.not_finite)));
        }
        if self.background_dropped {
            let classes = self.num_classes;
            warnings
                .push(format!("of {} classes the first, TensorFlow's background, is left out", classes + 1));
        }
        if !self.not_in_file.is_empty() {
            let tensors = named(&self.not_in_file);
            warnings.push(format!("not in the file, and needed for training only: {tensors}"));
        }
        warnings
    }
}

/// How to load a checkpoint.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct LoadOptions {
    /// Keeps the first of 1001 classes. Without it the classifier of another library that has one class more
    /// than published is taken for TensorFlow's and loses its first class, the background.
    pub keep_background: bool,
}

/// Builds the network of `spec` with as many classes as `checkpoint` has, on `device`, and fills all of it.
///
/// # Errors
///
/// [`Error::Mismatch`] with every tensor that is missing, unknown, misshapen, of the wrong kind or there
/// twice; [`Error::NoClassifier`] where only the classifier is missing; [`Error::Graph`] for a file whose operations are others; [`Error::Io`] and [`Error::Damaged`] while
/// reading the values.
pub fn load(spec: &ModelSpec, checkpoint: &Checkpoint, device: &Device) -> Result<Loaded, Error> {
    load_with(spec, checkpoint, device, LoadOptions::default())
}

/// As [`load`], with options.
///
/// # Errors
///
/// As [`load`].
pub fn load_with(
    spec: &ModelSpec,
    checkpoint: &Checkpoint,
    device: &Device,
    options: LoadOptions,
) -> Result<Loaded, Error> {
    let Found { key_scheme, classes, sources, unused } = match &checkpoint.graph {
        Some(graph) => by_graph(spec, checkpoint, graph, device)?,
        None => by_key(spec, checkpoint, device)?,
    };
    let background_dropped =
        key_scheme != KeyScheme::Native && classes == spec.num_classes + 1 && !options.keep_background;
    let num_classes = if background_dropped { spec.num_classes } else { classes };
    let network = spec.config().with_num_classes(num_classes).init(device)?;
    let (mut not_finite, mut not_in_file) = (Vec::new(), Vec::new());
    let mut sources = sources.into_iter();
    let network = load_tensors(network, |info: &TensorInfo| {
        let values = match sources.next().expect("a source for each tensor, whatever the classes") {
            Source::Entry { entry, transposed } => {
                let values = checkpoint.values(entry)?;
                match (transposed, &entry.shape[..]) {
                    (true, &[rows, columns]) => {
                        without_background(transpose(&values, rows, columns), &[columns, rows], &info.shape)
                    }
                    _ => without_background(values, &entry.shape, &info.shape),
                }
            }
            Source::Constant(value) => vec![value; info.shape.iter().product()],
            Source::Nowhere => {
                not_in_file.push(info.name.clone());
                return Ok(None);
            }
        };
        if values.iter().any(|v| !v.is_finite()) {
            not_finite.push(info.name.clone());
        }
        Ok::<_, Error>(Some(TensorData::new(values, info.shape.clone())))
    })?;
    Ok(Loaded { network, num_classes, key_scheme, not_finite, background_dropped, unused, not_in_file })
}

/// Leaves out the first class where the file has one more than we want.
fn without_background(values: Vec<f32>, in_file: &[usize], wanted: &[usize]) -> Vec<f32> {
    match in_file.last() {
        // The classes are the last dimension.
        Some(&last) if in_file != wanted => {
            values.chunks(last).flat_map(|classes| &classes[1..]).copied().collect()
        }
        _ => values,
    }
}

fn transpose(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut result = Vec::with_capacity(values.len());
    for column in 0..columns {
        result.extend((0..rows).map(|row| values[row * columns + column]));
    }
    result
}
