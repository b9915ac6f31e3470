//! A network with another classifier, and the file that holds it.

use std::collections::BTreeMap;
use std::path::Path;

use inception::Weights;
use inception::burn::tensor::{Device, TensorData};
use inception::data::Preprocessing;
use inception::nn::{ModelSpec, Network, NetworkConfig, load_tensors, read_tensors, with_storage_device};
use inception::weights::{Activation, Metadata, save};

use crate::error::Error;
use crate::linear::Linear;

/// What a trained file is made of, apart from the classifier.
#[derive(Clone, Copy, Debug)]
pub struct TrainedFile<'a> {
    /// The model.
    pub spec: &'static ModelSpec,
    /// The weights of all but the classifier.
    pub weights: &'a Weights,
    /// Seed of what neither has: other classifiers that only training uses.
    pub seed: u64,
    /// What is done to a picture.
    pub preprocessing: &'a Preprocessing,
    /// Names of the classes, where they have names.
    pub labels: Option<&'a [String]>,
    /// What the logits stand for: `Softmax` where each picture has one class, `Sigmoid` where it has any number.
    pub activation: Activation,
    /// What else is to be known of it, as JSON under the key `training`.
    pub training: &'a str,
}

impl Linear {
    /// The classifier of a new network of `spec`, from `seed`.
    ///
    /// # Errors
    ///
    /// [`Error::Inception`] for no classes.
    pub fn initial(spec: &ModelSpec, classes: usize, seed: u64) -> Result<Self, Error> {
        with_storage_device(|device| {
            let network = spec.config().with_num_classes(classes).with_seed(seed).init(device)?;
            Ok(Self { weight: network.classifier_weight(), bias: vec![0.0; classes] })
        })
    }
}

/// `trained` for training with another classifier, from `seed`, for `classes`; where the shapes are equal, all
/// else is as it was. It has the auxiliary classifiers that its origin trains it with, new ones where `trained`
/// has none.
///
/// # Errors
///
/// [`Error::Inception`] for no classes.
pub fn with_new_classifier(
    trained: Network,
    spec: &ModelSpec,
    classes: usize,
    seed: u64,
    device: &Device,
) -> Result<Network, Error> {
    with_classifier(trained, spec.training_config(), classes, seed, device)
}

/// `trained` as a network of `config` with another classifier, from `seed`, for `classes`.
fn with_classifier(
    trained: Network,
    config: NetworkConfig,
    classes: usize,
    seed: u64,
    device: &Device,
) -> Result<Network, Error> {
    let mut tensors = BTreeMap::new();
    read_tensors(&trained, |info, data| {
        tensors.insert(info.name.clone(), (info.shape.clone(), data));
        Ok::<_, Error>(())
    })?;
    drop(trained);
    let new = config.with_num_classes(classes).with_seed(seed).init(device)?;
    load_tensors(new, |info| {
        // An auxiliary classifier of as many classes as before keeps its weights, though they are of other
        // classes.
        let own = tensors.remove(&info.name).filter(|(shape, _)| *shape == info.shape);
        Ok(own.filter(|_| !info.name.starts_with("head.")).map(|(_, data)| data))
    })
}

/// What a trained file says of itself.
pub(crate) fn metadata(file: &TrainedFile<'_>) -> Result<Metadata, Error> {
    let json = |source: serde_json::Error| inception::Error::Metadata { key: "preprocessing", source };
    let mut metadata = Metadata::of(file.spec)
        .with(Metadata::PREPROCESSING, serde_json::to_string(file.preprocessing).map_err(json)?)
        .with("training", file.training)
        .with_activation(file.activation);
    if let Some(labels) = file.labels {
        metadata = metadata.with(Metadata::LABELS, serde_json::to_string(labels).map_err(json)?);
    }
    Ok(metadata)
}

/// Writes the network of `file` with `head` for its classifier to `path`, a safetensors file that all
/// commands read.
///
/// # Errors
///
/// [`Error::Inception`] for weights that cannot be read, and a file that cannot be written.
pub(crate) fn save_with_head(file: &TrainedFile<'_>, head: &Linear, path: &Path) -> Result<(), Error> {
    let TrainedFile { spec, weights, seed, .. } = *file;
    let metadata = metadata(file)?;
    with_storage_device(|device| {
        let trained = weights.network(spec, device)?;
        let new = with_classifier(trained, spec.config(), head.bias.len(), seed, device)?;
        let network = load_tensors(new, |info| {
            let own = match info.name.as_str() {
                "head.fc.weight" => Some(&head.weight),
                "head.fc.bias" => Some(&head.bias),
                _ => None,
            };
            Ok::<_, Error>(own.map(|values| TensorData::new(values.clone(), info.shape.clone())))
        })?;
        Ok(save(&network, &metadata, path)?)
    })
}
