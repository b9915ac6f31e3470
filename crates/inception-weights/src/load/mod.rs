//! From a checkpoint to a network with all its weights.

mod by_graph;
mod by_key;
mod find;
mod found;
mod head;
mod keys;
mod likely;
mod options;

use burn::tensor::{Device, TensorData};
use inception_graph::with_storage_device;
use inception_nn::{HiddenLayer, ModelSpec, Network, TensorInfo, load_tensors};

pub use by_graph::{ActivationScales, activation_scales};
pub use likely::{fitting_models, likely_models};
pub use options::LoadOptions;

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Problem};
use crate::key_scheme::KeyScheme;
use crate::surroundings::Activation;
use find::find;
use found::{Found, ValueSource};

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
    /// Whether the file has one logit, the log-odds of class 1: class 0 has a logit of zero beside it, so
    /// that the softmax of both is the sigmoid of the one.
    pub single_logit: bool,
    /// The classifier's layers before its last.
    pub hidden: Vec<HiddenLayer>,
    /// What the logits stand for.
    pub activation: Activation,
    /// Keys of the file that no part of the network needs, as the key scheme allows them: counters of batches
    /// and heads for training only.
    pub unused: Vec<String>,
    /// Keys of the file that nothing needs that is known: counters of operations, weights of losses.
    pub unexpected: Vec<String>,
    /// What was taken of the file, where it leaves a choice or has names of its own.
    pub notes: Vec<String>,
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
        let mut warnings = self.notes.clone();
        if !self.unexpected.is_empty() {
            warnings.push(format!("unexpected keys: {}", named(&self.unexpected)));
        }
        if self.single_logit {
            warnings.push("one logit: it is taken for the log-odds of class 1 against class 0".to_owned());
        }
        if self.activation == Activation::Sigmoid {
            warnings.push(
                "each class has a probability by itself (sigmoid): they do not add up to one".to_owned(),
            );
        }
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

/// Builds the network of `spec` with as many classes as `checkpoint` has, on `device`, and fills all of it.
///
/// # Errors
///
/// [`Error::Mismatch`] with every tensor that is missing, unknown, misshapen, of the wrong kind or there
/// twice; [`Error::NoClassifier`] where only the classifier is missing; [`Error::Graph`] for a file whose
/// operations are others; [`Error::Io`] and [`Error::Damaged`] while reading the values.
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
    let found = find(spec, checkpoint, device, &options);
    let found = found.map_err(|error| with_likely(error, spec, checkpoint))?;
    let num_classes = found.kept_classes(spec, options.keep_background);
    let Found { key_scheme, classes, hidden, auxiliary, sources, unused, unexpected, notes } = found;
    let (background_dropped, single_logit) = (num_classes < classes, classes == 1);
    let config = spec.config().with_num_classes(num_classes).with_hidden(&hidden);
    let network = config.with_auxiliary(auxiliary).init(device)?;
    let (mut not_finite, mut not_in_file) = (Vec::new(), Vec::new());
    let mut sources = sources.into_iter();
    let network = load_tensors(network, |info: &TensorInfo| {
        let values = match sources.next().expect("a source for each tensor, whatever the classes") {
            ValueSource::Entry { entry, transposed } => {
                let values = checkpoint.values(entry)?;
                match (transposed, &entry.shape[..]) {
                    // A fully connected layer may be written as a 1x1 convolution.
                    (true, &[rows, columns] | &[rows, columns, 1, 1]) => {
                        with_classes(transpose(&values, rows, columns), Some(rows), &info.shape)
                    }
                    (_, shape) => with_classes(values, shape.last().copied(), &info.shape),
                }
            }
            ValueSource::Normed { layer, transposed, bias } => {
                let values = layer.with_norms(checkpoint, transposed, bias)?;
                with_classes(values, Some(layer.outputs), &info.shape)
            }
            ValueSource::Constant(value) => vec![value; info.shape.iter().product()],
            ValueSource::Nowhere => {
                not_in_file.push(info.name.clone());
                return Ok(None);
            }
        };
        if values.iter().any(|v| !v.is_finite()) {
            not_finite.push(info.name.clone());
        }
        Ok::<_, Error>(Some(TensorData::new(values, info.shape.clone())))
    })?;
    let activation = checkpoint.activation();
    Ok(Loaded {
        network,
        num_classes,
        key_scheme,
        not_finite,
        background_dropped,
        single_logit,
        hidden,
        activation,
        unused,
        unexpected,
        notes,
        not_in_file,
    })
}

/// How many classes [`load_with`] would find, read from the shapes alone.
///
/// # Errors
///
/// As [`load`], but for those of reading values.
pub fn num_classes(spec: &ModelSpec, checkpoint: &Checkpoint, options: &LoadOptions) -> Result<usize, Error> {
    let keep = options.keep_background;
    let classes = with_storage_device(|device| {
        find(spec, checkpoint, device, options).map(|found| found.kept_classes(spec, keep))
    });
    classes.map_err(|error| with_likely(error, spec, checkpoint))
}

/// Adds to a mismatch what networks the tensors are those of.
fn with_likely(error: Error, spec: &ModelSpec, checkpoint: &Checkpoint) -> Error {
    match error {
        Error::Mismatch { path, model, mut problems, .. } => {
            name_nearest(&mut problems);
            let likely = likely_models(checkpoint).into_iter().map(|spec| spec.name);
            let likely = likely.filter(|&name| name != spec.name).collect();
            Error::Mismatch { path, model, problems, likely }
        }
        other => other,
    }
}

/// Names beside what is missing the unknown key that is most like it.
fn name_nearest(problems: &mut [Problem]) {
    let unknown = problems.iter().filter_map(|problem| match problem {
        Problem::Unexpected { key, .. } => Some(key.clone()),
        _ => None,
    });
    let unknown: Vec<String> = unknown.collect();
    // The search takes time, and in a file of another network only the first few keys are shown.
    for problem in problems.iter_mut().take(20) {
        if let Problem::Missing { key, nearest, .. } = problem {
            *nearest = inception_nn::nearest(key, &unknown, |known| known, 1).pop().cloned();
        }
    }
}

/// The values of the wanted classes, which are the last dimension: without the first where the file has one
/// more, the background; with zeros before them where it has one and two are wanted.
fn with_classes(values: Vec<f32>, in_file: Option<usize>, wanted: &[usize]) -> Vec<f32> {
    match (in_file, wanted.last()) {
        (Some(1), Some(2)) => values.into_iter().flat_map(|value| [0.0, value]).collect(),
        (Some(found), Some(&wanted)) if found == wanted + 1 => {
            values.chunks(found).flat_map(|classes| &classes[1..]).copied().collect()
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
