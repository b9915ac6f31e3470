//! From a picture to its classes.

use std::io;
use std::path::PathBuf;

use burn::tensor::Device;
use inception_data::{Preprocessing, Resampler, RgbImage};
use inception_engine::graph::Graph;
use inception_engine::quantization_of_nodes;
use inception_nn::{Arithmetic, ModelSpec, Network, NetworkConfig, Normalisation, Origin};
use inception_weights::{Activation, Checkpoint, Dtype, LoadOptions, Metadata, activation_scales};
use serde::Serialize;

use crate::calibration::Calibration;
use crate::error::Error;
use crate::eval::file_hash;
use crate::options::RunOptions;
use crate::precision::Precision;
use crate::runner::Runner;

/// Where a network's weights come from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Weights {
    /// A checkpoint.
    File(PathBuf),
    /// One of several dictionaries of tensors in a checkpoint.
    StateDict {
        /// The checkpoint.
        path: PathBuf,
        /// The dictionary's place in it, or the last part of that.
        name: String,
    },
    /// Drawn from a seeded generator: good for timing and for trying things out, meaningless as a classifier.
    Random {
        /// The generator's seed.
        seed: u64,
    },
}

impl Weights {
    /// What identifies them: length and hash of the file, or the seed.
    ///
    /// # Errors
    ///
    /// What reading the file gives.
    pub fn identity(&self) -> io::Result<String> {
        match self {
            Self::File(path) => file_hash(path),
            Self::StateDict { path, name } => Ok(format!("{}, {name}", file_hash(path)?)),
            Self::Random { seed } => Ok(format!("random, seed {seed}")),
        }
    }

    /// What they expect of a picture, as weights of `spec`'s network.
    ///
    /// # Errors
    ///
    /// Those of reading them, and of [`recipe`].
    pub fn recipe(&self, spec: &'static ModelSpec) -> Result<Recipe, Error> {
        Opened::new(spec, self)?.recipe(spec)
    }

    /// Builds the network of `spec` on `device` and fills it.
    ///
    /// # Errors
    ///
    /// Those of reading and of fitting the weights.
    pub fn network(&self, spec: &'static ModelSpec, device: &Device) -> Result<Network, Error> {
        Ok(Opened::new(spec, self)?.network(spec, device)?.0)
    }

    /// As [`network`](Self::network), with the auxiliary classifier that only training uses, where the model has
    /// one and the weights have it; random ones have it.
    ///
    /// # Errors
    ///
    /// As [`network`](Self::network).
    pub fn training_network(&self, spec: &'static ModelSpec, device: &Device) -> Result<Network, Error> {
        let mut opened = Opened::new(spec, self)?;
        opened.how.auxiliary = true;
        opened.config = opened.config.with_auxiliary(spec.auxiliary);
        Ok(opened.network(spec, device)?.0)
    }
}

/// What the weights of `spec`'s origin expect of a picture, unless a checkpoint says otherwise itself.
pub fn preprocessing(spec: &ModelSpec) -> Preprocessing {
    // Both sizes are small constants of the table.
    let (resize_short, crop) = (spec.resize_short as u32, spec.input_size as u32);
    let recipe = match spec.arithmetic {
        Arithmetic::PaddleClas => Preprocessing::paddleclas(resize_short, crop),
        Arithmetic::Torchvision => Preprocessing::torchvision(resize_short, crop),
    };
    let resampler = match spec.resampler {
        inception_nn::Resampler::Cv2Bilinear => Resampler::Cv2Bilinear,
        inception_nn::Resampler::PilBilinear => Resampler::PilBilinear,
        inception_nn::Resampler::PilBicubic => Resampler::PilBicubic,
    };
    let (mean, std) = match spec.normalisation {
        Normalisation::ImageNet => (recipe.mean, recipe.std),
        Normalisation::Half => ([0.5; 3], [0.5; 3]),
    };
    Preprocessing { resampler, mean, std, ..recipe }
}

/// Who says what is done to a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecipeSource {
    /// The file, in its metadata.
    File,
    /// The file, by its operations before the network.
    Operations,
    /// Nobody: it is what the origin's published weights expect.
    Origin,
}

/// What weights expect of a picture.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Recipe {
    /// What is done to it.
    pub preprocessing: Preprocessing,
    /// Who says so.
    pub source: RecipeSource,
    /// What was found in the file, as sentences for the user.
    pub notes: Vec<String>,
}

impl Recipe {
    /// What the published weights of `spec`'s origin expect.
    fn of_origin(spec: &ModelSpec) -> Self {
        Self { preprocessing: preprocessing(spec), source: RecipeSource::Origin, notes: Vec::new() }
    }
}

/// Largest side of an image that a file may ask for by the size that it fixes.
const MAX_SIDE: usize = 2048;

/// What `checkpoint`, weights of `spec`'s network, expects of a picture: what it says itself, or what its
/// origin's published weights expect.
///
/// # Errors
///
/// [`Error::Metadata`] for a recipe that cannot be read;
/// [`weights::Error::Graph`](inception_weights::Error::Graph) for operations on the image that no
/// preprocessing stands for.
pub fn recipe(spec: &ModelSpec, checkpoint: &Checkpoint) -> Result<Recipe, Error> {
    if let Some(json) = checkpoint.metadata.preprocessing() {
        let key = Metadata::PREPROCESSING;
        let preprocessing = serde_json::from_str(json).map_err(|source| Error::Metadata { key, source })?;
        return Ok(Recipe { preprocessing, source: RecipeSource::File, notes: Vec::new() });
    }
    let mut preprocessing = preprocessing(spec);
    let (mut source, mut notes) = (RecipeSource::Origin, Vec::new());
    let around = &checkpoint.surroundings;
    if let Some(transform) = &around.input {
        let Some((mean, std, given)) = normalisation(transform) else {
            let (path, model) = (checkpoint.path().to_owned(), spec.name);
            let difference = format!("its image is changed by {transform:?}, which no preprocessing does");
            return Err(inception_weights::Error::Graph { path, model, difference }.into());
        };
        (preprocessing.mean, preprocessing.std, source) = (mean, std, RecipeSource::Operations);
        notes.push(format!(
            "the file transforms its image itself, {given}: mean {mean:?}, deviation {std:?} in all"
        ));
    } else if checkpoint.graph().is_some()
        && (spec.origin, spec.normalisation) == (Origin::Torchvision, Normalisation::Half)
    {
        let plain = Preprocessing::torchvision(preprocessing.resize_short, preprocessing.crop);
        (preprocessing.mean, preprocessing.std, source) = (plain.mean, plain.std, RecipeSource::Operations);
        notes.push("the file has no transform_input: ImageNet's mean and standard deviation".to_owned());
    }
    match around.size {
        Some([height, width]) if height == width && height <= MAX_SIDE => {
            let (side, own) = (height as u32, preprocessing.crop);
            if side != own {
                let resized = f64::from(preprocessing.resize_short) * f64::from(side) / f64::from(own);
                preprocessing.resize_short = (resized.round() as u32).max(side);
                preprocessing.crop = side;
                notes.push(format!("the file is for images of {side}x{side}, not of {own}x{own}"));
            }
        }
        Some([height, width]) => {
            let side = preprocessing.crop;
            notes.push(format!(
                "the file is for images of {height}x{width}; it gets {side}x{side} all the same"
            ));
        }
        None => {}
    }
    Ok(Recipe { preprocessing, source, notes })
}

/// Mean and standard deviation, on the scale of 0 to 1, of a transformation of the image; and what that is
/// given.
fn normalisation(transform: &[[f64; 2]; 3]) -> Option<([f32; 3], [f32; 3], &'static str)> {
    let largest = transform.iter().map(|[scale, _]| *scale).fold(0.0, f64::max);
    let imagenet = Preprocessing::torchvision(1, 1);
    // What a file is given is not written down, but the factors tell: 1/255 and less are for bytes, those of
    // torchvision's transform_input are below one half, and one over a standard deviation is above one.
    let (mean, std, given) = match largest {
        largest if largest < 0.1 => ([0.0; 3], [1.0 / 255.0; 3], "from pixels of 0 to 255"),
        largest if largest < 0.95 => (
            imagenet.mean.map(f64::from),
            imagenet.std.map(f64::from),
            "from pixels normalised as ImageNet's (torchvision's transform_input)",
        ),
        _ => ([0.0; 3], [1.0; 3], "from pixels of 0 to 1"),
    };
    // To six digits: the factors are single-precision numbers.
    let round = |value: f64| ((value * 1e6).round() / 1e6) as f32;
    let mut all = ([0.0; 3], [0.0; 3]);
    for (i, &[scale, shift]) in transform.iter().enumerate() {
        all.0[i] = round(mean[i] - shift * std[i] / scale);
        all.1[i] = round(std[i] / scale);
        if !(scale > 0.0 && all.0[i].is_finite() && all.1[i].is_finite() && all.1[i] > 0.0) {
            return None;
        }
    }
    Some((all.0, all.1, given))
}

/// What there is of a network beside its graph.
pub(crate) struct Ends {
    /// By what pooled features are multiplied before the classifier.
    pub classifier_scale: f32,
    /// What a file says of the classifier's layers.
    pub metadata: Metadata,
}

/// Weights before a network takes them.
pub(crate) struct Opened {
    /// The file, where they are in one.
    checkpoint: Option<Checkpoint>,
    /// How to load it.
    how: LoadOptions,
    /// What to build.
    config: NetworkConfig,
    /// What a user should know before trusting them.
    pub warnings: Vec<String>,
}

impl Opened {
    /// Opens the weights of `spec`'s network.
    pub fn new(spec: &'static ModelSpec, weights: &Weights) -> Result<Self, Error> {
        let mut warnings = Vec::new();
        let mut config = spec.config();
        let mut how = LoadOptions::default();
        let checkpoint = match weights {
            Weights::Random { seed } => {
                warnings.push(format!("random weights (seed {seed}): the classes mean nothing"));
                config = config.with_seed(*seed);
                None
            }
            Weights::File(path) => Some(Checkpoint::open(path)?),
            Weights::StateDict { path, name } => {
                how.state_dict = Some(name.clone());
                Some(Checkpoint::open(path)?)
            }
        };
        let model = checkpoint.as_ref().and_then(|checkpoint| checkpoint.metadata.model());
        if let Some(model) = model.filter(|model| *model != spec.name) {
            warnings.push(format!("the file says that it is {model}, not {}", spec.name));
        }
        Ok(Self { checkpoint, how, config, warnings })
    }

    /// Builds the network of `spec` on `device` and fills it; how many classes it has, and what their scores
    /// are.
    pub fn network(
        &mut self,
        spec: &'static ModelSpec,
        device: &Device,
    ) -> Result<(Network, usize, Activation), Error> {
        let Some(checkpoint) = &self.checkpoint else {
            return Ok((self.config.init(device)?, spec.num_classes, Activation::default()));
        };
        let loaded = inception_weights::load_with(spec, checkpoint, device, self.how.clone())?;
        self.warnings.extend(loaded.warnings());
        Ok((loaded.network, loaded.num_classes, loaded.activation))
    }

    /// The graph of the network for images of `side`, with its weights.
    pub fn graph(&mut self, spec: &'static ModelSpec, side: usize) -> Result<(Graph, Ends), Error> {
        let mut ends = None;
        let init = |device: &Device| {
            let (network, ..) = self.network(spec, device)?;
            let metadata = Metadata::default().with_head(&network);
            ends = Some(Ends { classifier_scale: network.classifier_scale(), metadata });
            Ok::<_, Error>(network)
        };
        let forward =
            |network: &Network, images| network.forward_output(images, &inception_nn::Output::Logits);
        let graph = inception_engine::capture_init(init, forward, [3, side, side])?;
        Ok((graph, ends.expect("the network has been built")))
    }

    /// The calibration of a file whose operations quantise, as other programs write it.
    fn calibration_of_operations(&mut self, spec: &'static ModelSpec) -> Result<Option<Calibration>, Error> {
        let Some(checkpoint) = &self.checkpoint else { return Ok(None) };
        let Some(scales) = activation_scales(spec, checkpoint)? else { return Ok(None) };
        // What is said of the weights is said when they are taken.
        let said = self.warnings.len();
        let (graph, _) = self.graph(spec, spec.input_size)?;
        self.warnings.truncate(said);
        let mut quantization = quantization_of_nodes(graph, &scales.tensors)?;
        quantization.floats.extend(scales.floats);
        quantization.biases = scales.biases;
        Ok(Some(Calibration::new(quantization)))
    }

    /// `options` with the calibration that the file holds, where `int8` is asked for and nobody has brought one.
    /// A quantised file that runs in another precision is a warning.
    pub fn calibrated(
        &mut self,
        spec: &'static ModelSpec,
        options: &RunOptions,
    ) -> Result<RunOptions, Error> {
        let mut options = options.clone();
        match (options.precision, &options.calibration, self.quantization()) {
            (Precision::Int8, None, Some(json)) => {
                options.calibration = Some(Calibration::from_json(json, self.float_layers())?);
            }
            (Precision::Int8, None, None) => options.calibration = self.calibration_of_operations(spec)?,
            (Precision::Int8, ..) | (.., None) => {}
            (other, ..) => self.warnings.push(format!(
                "the file is quantised for int8, and runs in {other} with the same 8-bit weights"
            )),
        }
        Ok(options)
    }

    /// The calibration that the file holds, in JSON.
    fn quantization(&self) -> Option<&str> {
        self.metadata()?.get(Metadata::QUANTIZATION)
    }

    /// The layers whose weights the file has in single precision.
    fn float_layers(&self) -> impl Iterator<Item = String> {
        let entries = self.checkpoint.iter().flat_map(|checkpoint| &checkpoint.entries);
        let floats = entries.filter(|entry| entry.dtype == Dtype::F32 && entry.shape.len() > 1);
        floats.filter_map(|entry| entry.key.strip_suffix(".weight")).map(str::to_owned)
    }

    /// Refuses a file that is quantised: what its weights were is lost.
    pub fn check_unquantized(&self) -> Result<(), Error> {
        match (&self.checkpoint, self.quantization()) {
            (Some(file), Some(_)) => Err(Error::Quantized { path: file.path().to_owned() }),
            _ => Ok(()),
        }
    }

    /// The metadata of the file.
    pub fn metadata(&self) -> Option<&Metadata> {
        self.checkpoint.as_ref().map(|checkpoint| &checkpoint.metadata)
    }

    /// What they expect of a picture.
    pub fn recipe(&self, spec: &ModelSpec) -> Result<Recipe, Error> {
        match &self.checkpoint {
            Some(checkpoint) => recipe(spec, checkpoint),
            None => Ok(Recipe::of_origin(spec)),
        }
    }
}

/// A network with weights on a device, ready for pictures.
#[derive(Debug)]
pub struct Classifier {
    spec: &'static ModelSpec,
    runner: Runner,
    num_classes: usize,
    preprocessing: Preprocessing,
    own: Recipe,
    labels: Option<Vec<String>>,
    activation: Activation,
    warnings: Vec<String>,
}

/// The scores of one picture.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Prediction {
    /// One for each class, before the softmax.
    pub logits: Vec<f32>,
}

impl Prediction {
    /// Of the logits of a picture.
    ///
    /// # Errors
    ///
    /// [`Error::NotFinite`] where a logit is no finite number.
    pub fn new(logits: Vec<f32>) -> Result<Self, Error> {
        match logits.iter().copied().enumerate().find(|(_, value)| !value.is_finite()) {
            Some((class, value)) => Err(Error::NotFinite { class, value }),
            None => Ok(Self { logits }),
        }
    }
}

/// A class and how likely it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Guess {
    /// The class, from 0.
    pub index: usize,
    /// Its name, where it has one.
    pub label: Option<String>,
    /// Its share of the softmax over all classes, or its sigmoid, as [`Classifier::activation`] says.
    pub probability: f64,
}

impl Classifier {
    /// Builds and fills the network of `spec`.
    ///
    /// # Errors
    ///
    /// Those of opening the device, of reading and of fitting the weights.
    pub fn new(spec: &'static ModelSpec, weights: &Weights, options: &RunOptions) -> Result<Self, Error> {
        Self::with_preprocessing(spec, weights, options, |own| *own)
    }

    /// As [`new`](Self::new), for pictures treated as `change` makes it of what the weights ask for.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn with_preprocessing(
        spec: &'static ModelSpec,
        weights: &Weights,
        options: &RunOptions,
        change: impl FnOnce(&Preprocessing) -> Preprocessing,
    ) -> Result<Self, Error> {
        options.check()?;
        let mut opened = Opened::new(spec, weights)?;
        let calibrated = opened.calibrated(spec, options)?;
        let own = opened.recipe(spec)?;
        let preprocessing = change(&own.preprocessing);
        preprocessing.check()?;
        let side = preprocessing.crop as usize;
        let (mut num_classes, mut activation) = (spec.num_classes, Activation::default());
        let init = |device: &Device| {
            let network;
            (network, num_classes, activation) = opened.network(spec, device)?;
            Ok(network)
        };
        let runner = Runner::build(init, [side, side], &calibrated)?;
        let Opened { checkpoint, mut warnings, .. } = opened;
        warnings.extend(own.notes.iter().cloned());
        let labels = checkpoint.as_ref().and_then(|checkpoint| checkpoint.metadata.labels());
        // The names of ImageNet's 1000 classes; others have names that only the file or the user knows.
        let known = inception_data::labels();
        let of_imagenet = || known.iter().map(|&name| name.to_owned()).collect();
        let labels = labels.filter(|labels| labels.len() == num_classes);
        let labels = labels.or_else(|| (num_classes == known.len()).then(of_imagenet));
        Ok(Self { spec, runner, num_classes, preprocessing, own, labels, activation, warnings })
    }

    /// The model.
    pub fn spec(&self) -> &'static ModelSpec {
        self.spec
    }

    /// Number of logits.
    pub fn num_classes(&self) -> usize {
        self.num_classes
    }

    /// With these names of the classes instead of the file's or ImageNet's.
    ///
    /// # Errors
    ///
    /// [`Error::LabelCount`] if they are not as many as the classes.
    pub fn with_labels(self, labels: Vec<String>) -> Result<Self, Error> {
        match labels.len() == self.num_classes {
            true => Ok(Self { labels: Some(labels), ..self }),
            false => Err(Error::LabelCount { names: labels.len(), classes: self.num_classes }),
        }
    }

    /// The names of the classes, where they are known.
    pub fn labels(&self) -> Option<&[String]> {
        self.labels.as_deref()
    }

    /// What the weights ask of a picture, and who says so. [`preprocessing`](Self::preprocessing) is what is
    /// done.
    pub fn own_recipe(&self) -> &Recipe {
        &self.own
    }

    /// What the logits stand for.
    pub fn activation(&self) -> Activation {
        self.activation
    }

    /// What a user should know before trusting the predictions.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Classifies one picture.
    ///
    /// # Errors
    ///
    /// [`Error::Picture`] where it cannot be resized, [`Error::Device`] where the device fails,
    /// [`Error::NotFinite`] where a logit is no finite number.
    pub fn predict(&self, picture: &RgbImage) -> Result<Prediction, Error> {
        let mut input = vec![0.0; self.preprocessing.output_len()];
        self.preprocessing.apply(picture, &mut input)?;
        Prediction::new(self.runner.run(&input, 1)?)
    }

    /// What is done to a picture before the network sees it.
    pub fn preprocessing(&self) -> &Preprocessing {
        &self.preprocessing
    }

    /// The network itself, for preprocessed images.
    pub fn runner(&self) -> &Runner {
        &self.runner
    }

    /// The `k` most likely classes, the likeliest first; of equal ones the lower index first.
    pub fn top(&self, prediction: &Prediction, k: usize) -> Vec<Guess> {
        let logits = &prediction.logits;
        let probabilities = probabilities(logits, self.activation);
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
        let guess = |index: usize| Guess {
            index,
            label: self.labels.as_ref().and_then(|labels| labels.get(index).cloned()),
            probability: probabilities[index],
        };
        order.into_iter().take(k).map(guess).collect()
    }
}

/// The probabilities of the classes: those of a softmax sum to 1, with [`Activation::Sigmoid`] each is by itself.
pub fn probabilities(logits: &[f32], activation: Activation) -> Vec<f64> {
    if activation == Activation::Sigmoid {
        return logits.iter().map(|&logit| 1.0 / (1.0 + f64::from(-logit).exp())).collect();
    }
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f64> = logits.iter().map(|&logit| f64::from(logit - largest).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}
