//! Image classifiers of the Inception family: GoogLeNet, the Xceptions, Inception V3, V4 and
//! Inception-ResNet-v2.
//!
//! ```
//! use inception::{Classifier, RunOptions, Weights};
//!
//! let spec = inception::model("GoogLeNet")?;
//! let weights = Weights::Random { seed: 0 }; // or Weights::File("GoogLeNet_pretrained.pdparams".into())
//! let classifier = Classifier::new(spec, &weights, &RunOptions::default())?;
//! # let photograph = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/images/ILSVRC2012_val_00000010.jpeg");
//! let prediction = classifier.predict(&inception::data::read(photograph)?)?;
//! for guess in classifier.top(&prediction, 5) {
//!     println!("{:6.2} %  {}", guess.probability * 100.0, guess.label.unwrap_or_default());
//! }
//! # assert_eq!(prediction.logits.len(), 1000);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Classifier`] goes from a picture to its classes, [`Runner`] from normalised pixels to logits,
//! [`evaluate`] from a labelled dataset to its accuracy, [`FeatureExtractor`] from pictures to features.
//! [`RunOptions`] says where and how a network runs: on the [engine], on a CPU backend of Burn's, or on a
//! GPU. The crates below this one are its modules [`nn`], [`weights`], [`data`], [`metrics`] and [`engine`],
//! and Burn is [`burn`], so that a program depends on this crate alone.
//!
//! # Features
//!
//! `download`: published weights by name, with [`weights`]' `Cache`. `parquet`: datasets and features in
//! Parquet files. `distances`: FID and its relatives in [`metrics`]. `flex`, `ndarray`, `wgpu`, `vulkan` and
//! `cuda`: the devices of these names. The engine needs none of them.

mod answer;
mod calibration;
mod classifier;
mod cpu;
mod device;
mod error;
mod eval;
mod features;
mod gpu;
mod layers;
mod name;
mod options;
mod precision;
mod quantize;
mod recorded;
mod runner;
mod state;
mod table;
mod tuning;

pub use answer::Answer;
pub use burn;
pub use calibration::Calibration;
pub use classifier::{
    Classifier, Guess, Prediction, Recipe, RecipeSource, Weights, preprocessing, probabilities, recipe,
};
pub use cpu::{Cores, cores, cpu_name};
pub use device::DeviceKind;
pub use error::{Error, MergeProblem, StateProblem};
pub use eval::{
    Against, Apart, ClassCount, ClassRow, ConfusionRow, Details, EvalOptions, EvalReport, EvalSettings,
    Evaluation, Exact, LabelRow, LabelTally, Misclassified, Other, Outcome, Progress, Shard, Skipped,
    StateFile, Tally, Wrong, check_skipped, dataset_hash, dataset_version, evaluate, evaluate_against, merge,
    run_batches,
};
pub use features::{
    ExtractOptions, ExtractProgress, Extraction, FeatureBatch, FeatureBatches, FeatureExtractor,
    FeatureSettings, FeatureState, FidProtocol, Generator, PROTOCOLS, Preparation, extract,
};
pub use gpu::{Adapter, adapters, catch_panic};
pub use inception_data as data;
pub use inception_data::read_labels;
pub use inception_engine as engine;
pub use inception_metrics as metrics;
pub use inception_nn as nn;
pub use inception_nn::{MODELS, ModelSpec, Origin, model};
pub use inception_weights as weights;
pub use layers::LayerInFloat;
pub use name::UnknownName;
pub use options::{Pool, RunOptions};
pub use precision::Precision;
pub use quantize::{
    QuantizeOptions, QuantizeProgress, QuantizeStage, Quantized, quantize, quantized_to_onnx,
};
pub use runner::{Pending, Runner};
pub use table::{ModelRow, Published, counts_markdown, model_rows, models_markdown};
