//! Training on one's own pictures: from a dataset and a network with weights to a file that all commands
//! read, with the names of the classes in it.
//!
//! Of a frozen network only the classifier is trained. The engine computes the features of each picture once
//! ([`extract_features`]), and [`HeadLearner`] trains a fully connected layer on them.
//!
//! Of a network that is not frozen all is trained, on the CPU by `inception-gradient` or on a device of Burn's:
//! [`NetworkLearner`] from the pictures of a dataset, [`TrainingNetwork`] a step at a time. Of one that is frozen up
//! to a stage the engine computes that part, and the rest is trained on the CPU.
//!
//! A [`Recipe`] says how; [`train`] goes through the epochs of any [`Learner`] and keeps a state from which a
//! run that was killed goes on to the same values, to the bit.
//!
//! ```
//! use inception_train::{Recipe, Schedule};
//!
//! let recipe = Recipe { epochs: 10, schedule: Schedule::Cosine, ..Recipe::head() };
//! recipe.check()?;
//! // With 100 steps an epoch the learning rate has halved after 500 of the 1000.
//! assert!((recipe.lr_at(500, 100) / recipe.lr - 0.5).abs() < 1e-12);
//! # Ok::<(), inception_train::Error>(())
//! ```

mod compiled;
mod draw;
mod error;
mod features;
mod folder;
mod head;
mod labels;
mod linear;
mod loss;
mod metrics;
mod network;
mod optimizer;
mod pictures;
mod recipe;
mod run;
mod schedule;
mod split;
mod state;
mod transfer;
mod validation;
mod views;
mod whole;

pub use error::{Error, FolderProblem};
pub use features::{
    FeatureOptions, LabelledFeatures, ViewOptions, extract_features, extract_views, feature_bytes,
};
pub use folder::RunFolder;
pub use head::HeadLearner;
pub use labels::{Judgement, Labels};
pub use linear::Linear;
pub use loss::{
    Loss, binary_cross_entropy, class_weights, cross_entropy, label_weights, targets, targets_of_several,
};
pub use metrics::EpochMetrics;
pub use network::{Step, TrainingNetwork};
pub use optimizer::Optimizer;
pub use recipe::{Augment, ClassWeights, Freeze, OptimizerKind, Recipe, RecipeChanges};
pub use run::{Batch, BatchResult, Event, Learner, Outcome, RunOptions, train};
pub use schedule::Schedule;
pub use split::{Split, split, split_several};
pub use state::Value;
pub use transfer::{TrainedFile, with_new_classifier};
pub use validation::{Best, Validation};
pub use whole::{FrozenOptions, NetworkLearner, NetworkOptions};
