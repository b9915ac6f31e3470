//! From a picture to its classes.

use std::io;
use std::path::PathBuf;

use burn::tensor::Device;
use inception_data::{Preprocessing, Resampler, RgbImage};
use inception_nn::{ModelSpec, Normalisation, Rounding};
use inception_weights::{Checkpoint, Metadata};
use serde::Serialize;

use crate::error::Error;
use crate::eval::file_hash;
use crate::options::RunOptions;
use crate::runner::Runner;

/// Where a network's weights come from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Weights {
    /// A checkpoint.
    File(PathBuf),
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
            Self::Random { seed } => Ok(format!("random, seed {seed}")),
        }
    }
}

/// What the weights of `spec`'s origin expect of a picture, unless a checkpoint says otherwise itself.
pub fn preprocessing(spec: &ModelSpec) -> Preprocessing {
    // Both sizes are small constants of the table.
    let (resize_short, crop) = (spec.resize_short as u32, spec.input_size as u32);
    let recipe = match spec.rounding {
        Rounding::PaddleClas => Preprocessing::paddleclas(resize_short, crop),
        Rounding::Torchvision => Preprocessing::torchvision(resize_short, crop),
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

/// A network with weights on a device, ready for pictures.
#[derive(Debug)]
pub struct Classifier {
    spec: &'static ModelSpec,
    runner: Runner,
    num_classes: usize,
    preprocessing: Preprocessing,
    warnings: Vec<String>,
}

/// The scores of one picture.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Prediction {
    /// One for each class, before the softmax.
    pub logits: Vec<f32>,
}

/// A class and how likely it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Guess {
    /// The class, from 0.
    pub index: usize,
    /// Its name, where it has one.
    pub label: Option<&'static str>,
    /// Its share of the softmax over all classes.
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
        let mut warnings = Vec::new();
        let mut config = spec.config();
        let checkpoint = match weights {
            Weights::Random { seed } => {
                warnings.push(format!("random weights (seed {seed}): the classes mean nothing"));
                config = config.with_seed(*seed);
                None
            }
            Weights::File(path) => {
                let checkpoint = Checkpoint::open(path)?;
                if let Some(model) = checkpoint.metadata.model().filter(|model| *model != spec.name) {
                    warnings.push(format!("the file says that it is {model}, not {}", spec.name));
                }
                Some(checkpoint)
            }
        };
        let preprocessing =
            match checkpoint.as_ref().and_then(|checkpoint| checkpoint.metadata.preprocessing()) {
                Some(json) => serde_json::from_str(json)
                    .map_err(|source| Error::Metadata { key: Metadata::PREPROCESSING, source })?,
                None => preprocessing(spec),
            };
        let preprocessing = change(&preprocessing);
        let side = preprocessing.crop as usize;
        let mut num_classes = spec.num_classes;
        let init = |device: &Device| {
            if let Some(checkpoint) = &checkpoint {
                let loaded = inception_weights::load(spec, checkpoint, device)?;
                warnings.extend(loaded.warnings());
                num_classes = loaded.num_classes;
                return Ok(loaded.network);
            }
            Ok(config.init(device)?)
        };
        let runner = Runner::build(init, [side, side], options)?;
        Ok(Self { spec, runner, num_classes, preprocessing, warnings })
    }

    /// The model.
    pub fn spec(&self) -> &'static ModelSpec {
        self.spec
    }

    /// Number of logits.
    pub fn num_classes(&self) -> usize {
        self.num_classes
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
        let logits = self.runner.run(&input, 1)?;
        match logits.iter().copied().enumerate().find(|(_, value)| !value.is_finite()) {
            Some((class, value)) => Err(Error::NotFinite { class, value }),
            None => Ok(Prediction { logits }),
        }
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
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weight = |logit: f32| f64::from(logit - largest).exp();
        let sum: f64 = logits.iter().map(|&logit| weight(logit)).sum();
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
        // The labels are ImageNet's 1000; other classes have names that we do not know.
        let named = self.num_classes == inception_data::labels().len();
        let guess = |index: usize| Guess {
            index,
            label: inception_data::label(index).filter(|_| named),
            probability: weight(logits[index]) / sum,
        };
        order.into_iter().take(k).map(guess).collect()
    }
}
