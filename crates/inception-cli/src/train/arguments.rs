//! The flags of `train`: which pictures, and how to train.

use std::path::{Path, PathBuf};

use clap::Args;
use inception::ModelSpec;
use inception_train::{Augment, ClassWeights, Freeze, OptimizerKind, Recipe, RecipeChanges, Schedule};
use serde::de::DeserializeOwned;

use crate::args;

/// Which pictures.
#[derive(Args)]
#[command(next_help_heading = "Pictures")]
pub struct DataArgs {
    /// Labelled pictures, as `eval` takes them; the folders of classes may have any names. By a table of labels,
    /// a .csv file with a head, pictures have any number of classes: a column for each with 0 and 1, or one
    /// column with the names, `cat;dog`
    #[arg(long, value_name = "PATH")]
    pub data: PathBuf,
    /// Pictures for validation, of the same classes
    #[arg(long, value_name = "PATH", conflicts_with = "val_share")]
    pub val: Option<PathBuf>,
    /// Without --val: the share of each class that is for validation
    #[arg(long, value_name = "SHARE", default_value_t = 0.1, value_parser = args::share)]
    pub val_share: f64,
    /// Where the pictures of a list are, if not beside it: a folder or a tar archive
    #[arg(long, value_name = "PATH")]
    pub image_root: Option<PathBuf>,
    /// Names of the classes in their order, one a line, which are those of a folder's folders, too
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,
    /// What a list counts its first class as: 0, or 1
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1))]
    pub label_base: u32,
    /// Read JPEG files that end early, what is missing filled in grey
    #[arg(long)]
    pub accept_truncated: bool,
    /// Only the first N pictures, of all classes in turn
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Fail if more than this share of the pictures cannot be used
    #[arg(long, value_name = "SHARE", default_value_t = 0.1, value_parser = args::share)]
    pub max_skipped: f64,
    /// Threads that read and decode pictures [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub workers: Option<u16>,
}

/// How to train.
#[derive(Args)]
#[command(next_help_heading = "Recipe")]
pub struct RecipeArgs {
    /// A TOML file with any of the flags below, or `paddleclas`: the figures of PaddleClas's configuration of
    /// the network; flags come before both
    #[arg(long, value_name = "FILE|paddleclas")]
    recipe: Option<String>,
    /// What keeps its weights: `head` (all but the classifier), `none`, or the name of a stage: it and all before
    /// it. `--freeze list` names the network's stages [default: head]
    #[arg(long, value_name = "PART", value_parser = named::<Freeze>)]
    freeze: Option<Freeze>,
    /// How pictures are changed each time that they are seen: none, or paddleclas (a random part, flipped
    /// half of the time) [default: paddleclas with --freeze none, a stage, or --views]
    #[arg(long, value_name = "NAME", value_parser = named::<Augment>)]
    augment: Option<Augment>,
    /// Keep N augmented views of each picture on disk, as features or as maps of what is frozen; each epoch sees
    /// the next one. Without it, a frozen stage computes each picture anew each time [default: 0]
    #[arg(long, value_name = "N")]
    views: Option<u32>,
    /// Times that each picture is seen [default: 30]
    #[arg(long, value_name = "N")]
    epochs: Option<u32>,
    /// Pictures in a batch [default: 64; 32 with --freeze none or a stage]
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// sgd (with momentum), adam or adamw [default: adam; sgd with --freeze none or a stage]
    #[arg(long, value_name = "NAME", value_parser = named::<OptimizerKind>)]
    optimizer: Option<OptimizerKind>,
    /// The highest learning rate [default: 0.001; 0.01 with --freeze none or a stage]
    #[arg(long, value_name = "RATE")]
    lr: Option<f64>,
    /// Its course after the warm-up: constant, linear, cosine, or step:EPOCHS:FACTOR [default: cosine]
    #[arg(long, value_name = "NAME")]
    schedule: Option<Schedule>,
    /// Epochs in which it rises from 0 [default: 0; 1 with --freeze none or a stage]
    #[arg(long, value_name = "EPOCHS")]
    warmup: Option<f64>,
    /// Share of the last step in the next one, for sgd [default: 0.9]
    #[arg(long, value_name = "SHARE")]
    momentum: Option<f64>,
    /// Factor of the weights that is added to their gradients, or by adamw taken from the weights [default:
    /// 0; 1e-4 with --freeze none or a stage]
    #[arg(long, value_name = "FACTOR")]
    weight_decay: Option<f64>,
    /// Share of a label that is spread over all classes [default: 0]
    #[arg(long, value_name = "SHARE")]
    label_smoothing: Option<f64>,
    /// Blend pictures of a batch in shares of a beta distribution of this parameter; features, with --freeze
    /// head [default: 0, which is without]
    #[arg(long, value_name = "ALPHA")]
    mixup: Option<f64>,
    /// How much the pictures of a class count: none (as all others), or balanced (all classes the same)
    /// [default: none]
    #[arg(long, value_name = "NAME", value_parser = named::<ClassWeights>)]
    class_weights: Option<ClassWeights>,
    /// Of two classes: one logit, whose sigmoid is the probability of the second one
    #[arg(long)]
    one_logit: bool,
    /// End after so many epochs without an improvement [default: 0, which is never]
    #[arg(long, value_name = "EPOCHS")]
    patience: Option<u32>,
}

/// A value by the name that it has in a recipe.
fn named<T: DeserializeOwned>(name: &str) -> Result<T, String> {
    serde_json::from_value(name.into()).map_err(|error| error.to_string())
}

impl RecipeArgs {
    /// The recipe that is asked for, which makes sense.
    pub fn recipe(&self, spec: &'static ModelSpec, seed: Option<u64>) -> anyhow::Result<Recipe> {
        let file = match self.recipe.as_deref() {
            None | Some("paddleclas") => RecipeChanges::default(),
            Some(file) => RecipeChanges::read(Path::new(file))?,
        };
        let freeze = self.freeze.clone().or(file.freeze.clone()).unwrap_or(Freeze::Head);
        let views = self.views.or(file.views).unwrap_or(0);
        let mut base = match self.recipe.as_deref() {
            Some("paddleclas") => Recipe::published(spec, freeze.clone())?,
            _ => Recipe::of(freeze.clone()).with(&file),
        };
        if freeze == Freeze::Head && views > 0 && file.augment.is_none() {
            base.augment = Augment::Paddleclas;
        }
        let changes = RecipeChanges {
            freeze: self.freeze.clone(),
            augment: self.augment,
            views: self.views,
            epochs: self.epochs,
            batch: self.batch,
            optimizer: self.optimizer,
            lr: self.lr,
            schedule: self.schedule,
            warmup: self.warmup,
            momentum: self.momentum,
            weight_decay: self.weight_decay,
            label_smoothing: self.label_smoothing,
            mixup: self.mixup,
            class_weights: self.class_weights,
            one_logit: self.one_logit.then_some(true),
            patience: self.patience,
            seed,
        };
        let recipe = base.with(&changes);
        recipe.check()?;
        Ok(recipe)
    }
}
