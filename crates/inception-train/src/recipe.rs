//! How to train: a recipe, and what changes it.

use std::fs;
use std::path::Path;

use inception::ModelSpec;
use inception::data::{Augmentation, Preprocessing};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::schedule::Schedule;

/// Which part of the network keeps its weights and running statistics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
#[non_exhaustive]
pub enum Freeze {
    /// All but the classifier.
    Head,
    /// None.
    None,
    /// The stage of this name, and all before it.
    Stage(String),
}

impl From<String> for Freeze {
    fn from(name: String) -> Self {
        match name.as_str() {
            "head" => Self::Head,
            "none" => Self::None,
            _ => Self::Stage(name),
        }
    }
}

impl From<Freeze> for String {
    fn from(freeze: Freeze) -> Self {
        match freeze {
            Freeze::Head => "head".to_owned(),
            Freeze::None => "none".to_owned(),
            Freeze::Stage(name) => name,
        }
    }
}

/// How pictures are changed each time that they are seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Augment {
    /// Not at all: as for validation.
    None,
    /// A random part of 8 to 100 % of the area, flipped half of the time, as PaddleClas has it.
    Paddleclas,
}

impl Augment {
    /// What is done to pictures that are for validation what `preprocessing` says.
    pub(crate) fn of(self, preprocessing: &Preprocessing) -> Option<Augmentation> {
        let &Preprocessing { crop, mean, std, .. } = preprocessing;
        match self {
            Self::None => None,
            Self::Paddleclas => Some(Augmentation { mean, std, ..Augmentation::paddleclas(crop) }),
        }
    }
}

/// Which optimiser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum OptimizerKind {
    /// Stochastic gradient descent with momentum.
    Sgd,
    /// Adam, with weight decay in the gradient.
    Adam,
    /// Adam, with weight decay taken from the weights themselves.
    Adamw,
}

/// How much the pictures of a class count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ClassWeights {
    /// As much as those of any other class.
    None,
    /// All classes count the same, however many pictures they have.
    Balanced,
}

/// Longest recipe that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// The fields of a recipe, all there in [`Recipe`] and each optional in [`RecipeChanges`].
macro_rules! recipe {
    ($($(#[$doc:meta])* $field:ident: $kind:ty,)*) => {
        /// How to train.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case", deny_unknown_fields)]
        pub struct Recipe {
            $($(#[$doc])* pub $field: $kind,)*
        }

        /// What is different from a recipe; a TOML file or flags have these fields.
        #[derive(Clone, Debug, Default, PartialEq, Deserialize)]
        #[serde(rename_all = "kebab-case", deny_unknown_fields)]
        pub struct RecipeChanges {
            $($(#[$doc])* pub $field: Option<$kind>,)*
        }

        impl Recipe {
            /// The recipe with these changes.
            pub fn with(self, changes: &RecipeChanges) -> Self {
                Self { $($field: changes.$field.clone().unwrap_or(self.$field),)* }
            }
        }
    };
}

recipe! {
    /// Which part of the network keeps its weights.
    freeze: Freeze,
    /// How pictures are changed.
    augment: Augment,
    /// Views of each picture that are kept of what is frozen, and seen in turn, one an epoch; with 0 none is kept,
    /// and a picture is seen anew each time.
    views: u32,
    /// Times that each picture is seen.
    epochs: u32,
    /// Pictures in a batch; the last one of an epoch may have fewer.
    batch: usize,
    /// Which optimiser.
    optimizer: OptimizerKind,
    /// The highest learning rate.
    lr: f64,
    /// Its course after the warm-up.
    schedule: Schedule,
    /// Epochs, or a part of one, in which it rises from 0 along a line.
    warmup: f64,
    /// Of [`Sgd`](OptimizerKind::Sgd): the share of the last step that the next one has.
    momentum: f64,
    /// Factor of the weights that is added to their gradients, or by [`Adamw`](OptimizerKind::Adamw) taken
    /// from the weights.
    weight_decay: f64,
    /// Share of a label that is spread over all classes.
    label_smoothing: f64,
    /// Parameter of the beta distribution of mixup; 0 is without.
    mixup: f64,
    /// How much the pictures of a class count.
    class_weights: ClassWeights,
    /// Of two classes: one logit, whose sigmoid is the probability of the second class.
    one_logit: bool,
    /// Epochs without an improvement after which a run ends; 0 is never.
    patience: u32,
    /// Seed of everything random.
    seed: u64,
}

impl Recipe {
    /// For a classifier on features that do not change.
    pub fn head() -> Self {
        Self {
            freeze: Freeze::Head,
            augment: Augment::None,
            views: 0,
            epochs: 30,
            batch: 64,
            optimizer: OptimizerKind::Adam,
            lr: 1e-3,
            schedule: Schedule::Cosine,
            warmup: 0.0,
            momentum: 0.9,
            weight_decay: 0.0,
            label_smoothing: 0.0,
            mixup: 0.0,
            class_weights: ClassWeights::None,
            one_logit: false,
            patience: 0,
            seed: 0,
        }
    }

    /// For a whole network.
    pub fn whole() -> Self {
        Self {
            freeze: Freeze::None,
            augment: Augment::Paddleclas,
            batch: 32,
            optimizer: OptimizerKind::Sgd,
            lr: 0.01,
            warmup: 1.0,
            weight_decay: 1e-4,
            ..Self::head()
        }
    }

    /// For what is frozen.
    pub fn of(freeze: Freeze) -> Self {
        match freeze {
            Freeze::Head => Self::head(),
            Freeze::None | Freeze::Stage(_) => Self { freeze, ..Self::whole() },
        }
    }

    /// How the published weights of `spec` were trained, for what is frozen.
    ///
    /// # Errors
    ///
    /// [`Error::NoRecipe`] where that is not known.
    pub fn published(spec: &ModelSpec, freeze: Freeze) -> Result<Self, Error> {
        let Some(training) = spec.training else { return Err(Error::NoRecipe { model: spec.name }) };
        Ok(Self {
            epochs: training.epochs,
            batch: training.batch,
            optimizer: OptimizerKind::Sgd,
            lr: training.lr,
            warmup: training.warmup,
            weight_decay: training.weight_decay,
            label_smoothing: training.label_smoothing,
            mixup: training.mixup,
            ..Self::of(freeze)
        })
    }

    /// Whether all values make sense.
    ///
    /// # Errors
    ///
    /// [`Error::Recipe`] for the first that does not.
    pub fn check(&self) -> Result<(), Error> {
        const SHARE: &str = "it is at least 0 and below 1";
        const POSITIVE: &str = "it is above 0";
        let share = |value: f64| (0.0..1.0).contains(&value);
        let finite = |value: f64| value.is_finite() && value >= 0.0;
        let checks = [
            ("epochs", f64::from(self.epochs), self.epochs > 0, POSITIVE),
            ("batch", self.batch as f64, (1..=65536).contains(&self.batch), "it is 1 to 65536"),
            ("lr", self.lr, finite(self.lr) && self.lr > 0.0, POSITIVE),
            (
                "warmup",
                self.warmup,
                finite(self.warmup) && self.warmup <= f64::from(self.epochs),
                "it is a number of epochs, and at most `epochs`",
            ),
            ("momentum", self.momentum, share(self.momentum), SHARE),
            ("weight-decay", self.weight_decay, finite(self.weight_decay), "it is at least 0"),
            ("label-smoothing", self.label_smoothing, share(self.label_smoothing), SHARE),
            ("mixup", self.mixup, (0.0..=1.0).contains(&self.mixup), "it is at least 0 and at most 1"),
        ];
        let augments = self.augment != Augment::None;
        let views = |wanted| Err(Error::Recipe { field: "views", value: self.views.to_string(), wanted });
        match self.freeze {
            Freeze::Head if augments && self.views == 0 => {
                let wanted =
                    "the features of a frozen network are those of pictures as they are, without `views`";
                return Err(Error::Recipe { field: "augment", value: "paddleclas".to_owned(), wanted });
            }
            Freeze::Head if !augments && self.views > 0 => {
                return views("without `augment` the features of a picture are kept anyway");
            }
            Freeze::None if self.views > 0 => return views("they are of what is frozen"),
            _ if !augments && self.views > 1 => return views("without `augment` all views are the same"),
            _ => {}
        }
        match checks.into_iter().find(|(_, _, fine, _)| !fine) {
            Some((field, value, _, wanted)) => Err(Error::Recipe { field, value: value.to_string(), wanted }),
            None => Ok(()),
        }
    }

    /// The learning rate of the step after `step` others, with `steps` steps an epoch.
    ///
    /// As PaddleClas has it: the first step of a warm-up has a rate of 0, and the schedule begins after the
    /// warm-up.
    pub fn lr_at(&self, step: u64, steps: u64) -> f64 {
        let warmup = (self.warmup * steps as f64).round();
        let step = step as f64;
        if step < warmup {
            return self.lr * step / warmup;
        }
        let total = f64::from(self.epochs) * steps as f64 - warmup;
        self.lr * self.schedule.factor(step - warmup, total, steps)
    }
}

impl RecipeChanges {
    /// Those in a TOML file, whose keys are the names of the flags: `label-smoothing = 0.1`.
    ///
    /// # Errors
    ///
    /// [`Error::RecipeFile`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        let fail = |reason: String| Error::RecipeFile { path: path.to_owned(), reason };
        let metadata = fs::metadata(path).map_err(|e| fail(e.to_string()))?;
        if !metadata.is_file() || metadata.len() > MAX_BYTES {
            return Err(fail("not a file of at most a megabyte".to_owned()));
        }
        let text = fs::read_to_string(path).map_err(|e| fail(e.to_string()))?;
        toml::from_str(&text).map_err(|e| fail(e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand, what PaddleClas builds for 4 epochs of 5 steps with a warm-up of one: five steps from 0 along
    /// a line (`LinearWarmup`), then half a cosine over the other fifteen (`CosineAnnealingDecay`).
    #[test]
    fn rates_are_those_of_paddleclas() {
        let recipe = Recipe { epochs: 4, lr: 0.01, warmup: 1.0, ..Recipe::head() };
        let rates: Vec<f64> = (0..20).map(|step| recipe.lr_at(step, 5)).collect();
        let expected = [0.0, 0.002, 0.004, 0.006, 0.008, 0.01];
        for (rate, expected) in rates.iter().zip(expected) {
            assert!((rate - expected).abs() < 1e-15, "{rates:?}");
        }
        // Five of fifteen steps: (1 + cos(pi / 3)) / 2.
        assert!((rates[10] - 0.0075).abs() < 1e-15 && rates[19] > 0.0, "{rates:?}");
    }

    #[test]
    fn schedules_by_name() {
        let recipe = |text: &str| Recipe { schedule: text.parse().expect(text), ..Recipe::head() };
        assert!((recipe("linear").lr_at(150, 10) - 0.0005).abs() < 1e-15);
        assert!((recipe("constant").lr_at(299, 10) - 0.001).abs() < 1e-15);
        assert!((recipe("step:10:0.1").lr_at(99, 10) - 0.001).abs() < 1e-15);
        assert!((recipe("step:10:0.1").lr_at(200, 10) - 0.00001).abs() < 1e-15);
        for text in ["", "step", "step:0:0.1", "step:3:-1", "step:3:nan", "cosine:2"] {
            assert!(text.parse::<Schedule>().is_err(), "{text}");
        }
    }

    #[test]
    fn files_change_what_they_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("recipe.toml");
        let read = |text: &str| {
            fs::write(&path, text).expect("written");
            RecipeChanges::read(&path)
        };
        let changes =
            read("label-smoothing = 0.1\nschedule = \"step:5:0.5\"\noptimizer = \"sgd\"\nepochs = 3\n");
        let recipe = Recipe::head().with(&changes.expect("a recipe"));
        let schedule = Schedule::Step { epochs: 5, factor: 0.5 };
        let expected = Recipe {
            label_smoothing: 0.1,
            schedule,
            optimizer: OptimizerKind::Sgd,
            epochs: 3,
            ..Recipe::head()
        };
        assert_eq!(recipe, expected);
        for text in ["epoch = 3", "epochs = -1", "optimizer = \"lamb\"", "epochs", "schedule = \"up\""] {
            assert!(matches!(read(text), Err(Error::RecipeFile { .. })), "{text}");
        }
        assert!(matches!(RecipeChanges::read(folder.path()), Err(Error::RecipeFile { .. })));
    }

    #[test]
    fn senseless_values_are_named() {
        let field = |recipe: Recipe| match recipe.check() {
            Err(Error::Recipe { field, .. }) => field,
            other => panic!("{other:?}"),
        };
        let good = Recipe::head;
        assert_eq!(field(Recipe { epochs: 0, ..good() }), "epochs");
        assert_eq!(field(Recipe { batch: 0, ..good() }), "batch");
        assert_eq!(field(Recipe { lr: f64::NAN, ..good() }), "lr");
        assert_eq!(field(Recipe { lr: 0.0, ..good() }), "lr");
        assert_eq!(field(Recipe { momentum: 1.0, ..good() }), "momentum");
        assert_eq!(field(Recipe { label_smoothing: 1.0, ..good() }), "label-smoothing");
        assert_eq!(field(Recipe { mixup: 1.5, ..good() }), "mixup");
        assert_eq!(field(Recipe { warmup: f64::INFINITY, ..good() }), "warmup");
        assert_eq!(field(Recipe { augment: Augment::Paddleclas, ..good() }), "augment");
        assert_eq!(field(Recipe { views: 2, ..good() }), "views");
        assert_eq!(field(Recipe { views: 1, ..Recipe::whole() }), "views");
        let stage = Recipe::of(Freeze::Stage("4a".to_owned()));
        assert_eq!(field(Recipe { views: 2, augment: Augment::None, ..stage.clone() }), "views");
        for (views, augment) in [(0, Augment::None), (1, Augment::None), (3, Augment::Paddleclas)] {
            assert!(Recipe { views, augment, ..stage.clone() }.check().is_ok());
        }
        assert!(Recipe { views: 3, augment: Augment::Paddleclas, ..good() }.check().is_ok());
    }

    #[test]
    fn paddleclas_has_recipes() -> Result<(), Error> {
        let googlenet = Recipe::published(inception::model("GoogLeNet")?, Freeze::Head)?;
        assert_eq!((googlenet.lr, googlenet.warmup, googlenet.mixup), (0.01, 5.0, 0.0));
        let v3 = Recipe::published(inception::model("InceptionV3")?, Freeze::None)?;
        assert_eq!((v3.lr, v3.label_smoothing, v3.mixup), (0.045, 0.1, 0.2));
        let timm = Recipe::published(inception::model("timm-xception41")?, Freeze::None);
        assert!(matches!(timm, Err(Error::NoRecipe { .. })));
        inception::MODELS
            .iter()
            .filter(|spec| spec.training.is_some())
            .try_for_each(|spec| Recipe::published(spec, Freeze::None)?.check())
    }
}
