//! From pictures to features.

use burn::tensor::Device;
use inception_data::{Prepare, Preprocessing, RgbImage, Stretch};
use inception_nn::{ModelSpec, Output};
use inception_weights::Activation;
use serde::{Deserialize, Serialize};

use crate::classifier::{Opened, Recipe, Weights};
use crate::error::Error;
use crate::options::RunOptions;
use crate::runner::Runner;

/// What is done to a picture before a network sees it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Preparation {
    /// A classifier's: the short side resized, the centre cropped.
    Classifier(Preprocessing),
    /// FID's: all of it, stretched to a square.
    Stretch(Stretch),
}

impl Preparation {
    /// The recipe as what [`inception_data::load`] takes.
    pub fn prepare(&self) -> &dyn Prepare {
        match self {
            Self::Classifier(preprocessing) => preprocessing,
            Self::Stretch(stretch) => stretch,
        }
    }

    /// Rows and columns of the network's input.
    pub fn side(&self) -> usize {
        match self {
            Self::Classifier(preprocessing) => preprocessing.crop as usize,
            Self::Stretch(stretch) => stretch.side as usize,
        }
    }
}

/// A network with weights on a device, of which one output is taken.
#[derive(Debug)]
pub struct FeatureExtractor {
    spec: &'static ModelSpec,
    runner: Runner,
    recipe: Preparation,
    own: Recipe,
    activation: Activation,
    classifier: Vec<f32>,
    scale: f32,
    warnings: Vec<String>,
}

impl FeatureExtractor {
    /// Builds and fills the network of `spec`. `choose` makes the recipe for pictures of what the weights ask for.
    ///
    /// # Errors
    ///
    /// Those of opening the device, of reading and of fitting the weights; [`Error::Network`] for a stage that the
    /// network does not have.
    pub fn new(
        spec: &'static ModelSpec,
        weights: &Weights,
        output: Output,
        options: &RunOptions,
        choose: impl FnOnce(Preprocessing) -> Preparation,
    ) -> Result<Self, Error> {
        options.check()?;
        let mut opened = Opened::new(spec, weights)?;
        let options = &opened.calibrated(spec, options)?;
        let own = opened.recipe(spec)?;
        let recipe = choose(own.preprocessing);
        if let Preparation::Classifier(preprocessing) = &recipe {
            preprocessing.check()?;
        }
        let side = recipe.side();
        let (mut classifier, mut scale, mut activation) = (Vec::new(), 1.0, Activation::default());
        let init = |device: &Device| {
            let network;
            (network, _, activation) = opened.network(spec, device)?;
            classifier = network.classifier_weight();
            scale = network.classifier_scale();
            Ok(network)
        };
        let runner = Runner::build_output(init, [side, side], output, options)?;
        let mut warnings = opened.warnings;
        warnings.extend(own.notes.iter().cloned());
        Ok(Self { spec, runner, recipe, own, activation, classifier, scale, warnings })
    }

    /// The model.
    pub fn spec(&self) -> &'static ModelSpec {
        self.spec
    }

    /// Features of a picture.
    pub fn dimensions(&self) -> usize {
        self.runner.output_len()
    }

    /// What is done to a picture.
    pub fn recipe(&self) -> &Preparation {
        &self.recipe
    }

    /// What the weights ask of a picture, and who says so. [`recipe`](Self::recipe) is what is done.
    pub fn own_recipe(&self) -> &Recipe {
        &self.own
    }

    /// What the logits stand for, as [`probabilities`](crate::probabilities) takes it.
    pub fn activation(&self) -> Activation {
        self.activation
    }

    /// The classifier's weights, `[channels, classes]` row-major: from pooled features to logits without bias.
    pub fn classifier(&self) -> &[f32] {
        &self.classifier
    }

    /// What pooled features are multiplied by before the classifier.
    pub fn classifier_scale(&self) -> f32 {
        self.scale
    }

    /// What a user should know before trusting the features.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The network itself, for prepared images.
    pub fn runner(&self) -> &Runner {
        &self.runner
    }

    /// The features of one picture.
    ///
    /// # Errors
    ///
    /// [`Error::Picture`] where it cannot be resized; those of [`Runner::run`].
    pub fn features(&self, picture: &RgbImage) -> Result<Vec<f32>, Error> {
        let prepare = self.recipe.prepare();
        let mut input = vec![0.0; prepare.output_len()];
        prepare.apply(picture, &mut input)?;
        self.runner.run(&input, 1)
    }
}
