//! Training of a classifier on features that do not change.

use inception::Outcome;

use crate::error::Error;
use crate::features::LabelledFeatures;
use crate::linear::Linear;
use crate::loss::{class_weights, cross_entropy, targets};
use crate::optimizer::Optimizer;
use crate::recipe::Recipe;
use crate::run::{Batch, BatchResult, Learner};
use crate::state::Value;

/// Pictures that are validated together.
const CHUNK: usize = 512;

/// A classifier of one fully connected layer, and the features that it learns from.
///
/// With mixup it blends features, not pixels (*manifold mixup*): the pictures were seen once, before.
#[derive(Debug)]
pub struct HeadLearner<'a> {
    training: (&'a LabelledFeatures, Vec<usize>),
    validation: Option<(&'a LabelledFeatures, Vec<usize>)>,
    linear: Linear,
    scale: f32,
    smoothing: f64,
    weights: Option<Vec<f32>>,
    optimizer: Optimizer,
}

impl<'a> HeadLearner<'a> {
    /// A learner that starts with `linear`. Pictures for training and validation are rows of features. These
    /// are multiplied by `scale` first, as the network does before its classifier.
    ///
    /// # Errors
    ///
    /// [`Error::Classes`] for pictures of a single class, [`Error::Inception`] for a label that the
    /// classifier does not have.
    pub fn new(
        training: (&'a LabelledFeatures, Vec<usize>),
        validation: Option<(&'a LabelledFeatures, Vec<usize>)>,
        linear: Linear,
        scale: f32,
        recipe: &Recipe,
    ) -> Result<Self, Error> {
        let classes = linear.bias.len();
        for (features, pictures) in [Some(&training), validation.as_ref()].into_iter().flatten() {
            let mut labels = pictures.iter().map(|&picture| features.labels[picture]);
            if let Some(label) = labels.find(|&label| label as usize >= classes) {
                return Err(inception::Error::Label { label, classes }.into());
            }
        }
        let labels: Vec<u32> = training.1.iter().map(|&picture| training.0.labels[picture]).collect();
        if labels.iter().all(|label| Some(label) == labels.first()) {
            return Err(Error::Classes { classes: labels.len().min(1) });
        }
        let lengths = [("weight", linear.weight.len()), ("bias", linear.bias.len())];
        Ok(Self {
            weights: class_weights(recipe.class_weights, &labels, classes),
            optimizer: Optimizer::new(recipe, lengths),
            smoothing: recipe.label_smoothing,
            validation: validation.filter(|(_, pictures)| !pictures.is_empty()),
            training,
            linear,
            scale,
        })
    }

    /// The classifier.
    pub fn linear(&self) -> &Linear {
        &self.linear
    }

    /// The rows of these pictures, scaled.
    fn rows(&self, features: &LabelledFeatures, pictures: &[usize]) -> Vec<f32> {
        let mut rows = Vec::with_capacity(pictures.len() * features.dimensions);
        for &picture in pictures {
            rows.extend(features.row(picture).iter().map(|value| value * self.scale));
        }
        rows
    }
}

impl Learner for HeadLearner<'_> {
    fn classes(&self) -> usize {
        self.linear.bias.len()
    }

    fn pictures(&self) -> usize {
        self.training.1.len()
    }

    fn learn(&mut self, batch: &Batch<'_>) -> Result<BatchResult, Error> {
        let (features, all) = &self.training;
        let pictures: Vec<usize> = batch.pictures.iter().map(|&at| all[at]).collect();
        let labels: Vec<u32> = pictures.iter().map(|&picture| features.labels[picture]).collect();
        let mut rows = self.rows(features, &pictures);
        let mixup = batch.blend(labels.len())?;
        if let Some(mixup) = &mixup {
            let own = rows.clone();
            mixup.blend(&own, &mut rows)?;
        }
        let classes = self.classes();
        let targets = targets(&labels, classes, self.smoothing, mixup.as_ref())?;
        let logits = self.linear.forward(&rows);
        let mut gradient = vec![0.0; logits.len()];
        let loss = cross_entropy(&logits, &targets, classes, self.weights.as_deref(), &mut gradient);
        let pairs = logits.chunks_exact(classes).zip(&labels);
        let correct = pairs.filter(|&(logits, &label)| Outcome::of(logits, label).rank == 0).count() as u64;
        let gradients = self.linear.gradients(&rows, &gradient);
        self.optimizer.begin_step();
        self.optimizer.update(0, batch.lr, &mut self.linear.weight, &gradients.weight);
        self.optimizer.update(1, batch.lr, &mut self.linear.bias, &gradients.bias);
        Ok(BatchResult { loss, correct, pictures: labels.len() as u64 })
    }

    fn judge(&mut self, each: &mut dyn FnMut(usize, Outcome)) -> Result<(), Error> {
        let Some((features, pictures)) = &self.validation else { return Ok(()) };
        for chunk in pictures.chunks(CHUNK) {
            let logits = self.linear.forward(&self.rows(features, chunk));
            for (logits, &picture) in logits.chunks_exact(self.classes()).zip(chunk) {
                each(features.items[picture], Outcome::of(logits, features.labels[picture]));
            }
        }
        Ok(())
    }

    fn values(&self) -> Vec<Value> {
        let Linear { weight, bias } = self.linear.clone();
        let shape = vec![self.linear.inputs(), bias.len()];
        let bias = Value { name: "bias".to_owned(), shape: vec![bias.len()], values: bias };
        vec![Value { name: "weight".to_owned(), shape, values: weight }, bias]
    }

    fn set_values(&mut self, values: Vec<Value>) {
        for Value { name, values, .. } in values {
            match name.as_str() {
                "weight" => self.linear.weight = values,
                _ => self.linear.bias = values,
            }
        }
    }

    fn optimizer(&self) -> &Optimizer {
        &self.optimizer
    }

    fn optimizer_mut(&mut self) -> &mut Optimizer {
        &mut self.optimizer
    }
}
