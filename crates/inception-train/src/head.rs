//! Training of a classifier on features that do not change.

use std::path::Path;

use crate::error::Error;
use crate::features::LabelledFeatures;
use crate::labels::Judgement;
use crate::linear::Linear;
use crate::loss::Loss;
use crate::optimizer::Optimizer;
use crate::recipe::Recipe;
use crate::run::{Batch, BatchResult, Learner};
use crate::state::Value;
use crate::transfer::{TrainedFile, save_with_head};

/// Pictures that are validated together.
const CHUNK: usize = 512;

/// Part of the mean variance of all features that is added to the variance of each before it is divided by:
/// a feature that hardly varies in the pictures for training is not blown up in others.
const LEAST_VARIANCE: f64 = 1e-3;

/// What is done to a row of features: each is multiplied and added to, so that over the pictures for training
/// its mean is 0 and its variance 1. Learning rates then suit any network.
#[derive(Debug)]
struct Standardisation {
    factor: Vec<f64>,
    offset: Vec<f64>,
}

impl Standardisation {
    fn of<'a>(dimensions: usize, rows: impl Iterator<Item = &'a [f32]> + Clone) -> Self {
        let count = rows.clone().count().max(1) as f64;
        let mut mean = vec![0.0; dimensions];
        let mut variance = mean.clone();
        for row in rows.clone() {
            mean.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value) / count);
        }
        for row in rows {
            let row = row.iter().zip(&mean);
            let squares = row.map(|(&value, mean)| (f64::from(value) - mean).powi(2) / count);
            variance.iter_mut().zip(squares).for_each(|(sum, square)| *sum += square);
        }
        let least = LEAST_VARIANCE * variance.iter().sum::<f64>() / dimensions.max(1) as f64;
        // Features that do not vary at all are equal in all pictures, and become 0.
        let deviation = variance.iter().map(|variance| (variance + least.max(f64::MIN_POSITIVE)).sqrt());
        let factor: Vec<f64> = deviation.map(|deviation| 1.0 / deviation).collect();
        let offset = mean.iter().zip(&factor).map(|(mean, factor)| -mean * factor).collect();
        Self { factor, offset }
    }

    /// The layer that makes of features times `scale` what `linear` makes of standardised ones.
    fn folded_into(&self, linear: &Linear, scale: f64) -> Linear {
        let outputs = linear.bias.len();
        let mut folded = linear.clone();
        let mut bias: Vec<f64> = linear.bias.iter().copied().map(f64::from).collect();
        let rows = folded.weight.chunks_exact_mut(outputs).zip(self.factor.iter().zip(&self.offset));
        for (row, (factor, offset)) in rows {
            for (weight, bias) in row.iter_mut().zip(&mut bias) {
                *bias += f64::from(*weight) * offset;
                *weight = (f64::from(*weight) * factor / scale) as f32;
            }
        }
        folded.bias = bias.into_iter().map(|bias| bias as f32).collect();
        folded
    }
}

/// A classifier of one fully connected layer, and the features that it learns from.
///
/// It learns from standardised features (over the pictures for training, each has mean 0 and variance 1), so
/// that learning rates do not depend on how large a network's features are. What it starts with and what
/// [`values`](Learner::values) has belongs to those; [`classifier`](Self::classifier) to the network's own.
///
/// With mixup it blends features, not pixels (*manifold mixup*): the pictures were seen before.
#[derive(Debug)]
pub struct HeadLearner<'a> {
    training: (&'a LabelledFeatures, Vec<usize>),
    /// Of the pictures for training, changed; without one they are seen as they are.
    views: Vec<LabelledFeatures>,
    validation: Option<(&'a LabelledFeatures, Vec<usize>)>,
    linear: Linear,
    scale: f64,
    standardisation: Standardisation,
    loss: Loss,
    classes: usize,
    smoothing: f64,
    weights: Option<Vec<f32>>,
    optimizer: Optimizer,
}

impl<'a> HeadLearner<'a> {
    /// A learner that starts with `linear`. Pictures for training and validation are rows of features. These
    /// are multiplied by `scale` by the network, before its classifier. For one logit, `linear` has one output.
    ///
    /// # Errors
    ///
    /// [`Error::Classes`] and [`Error::EqualLabels`] for pictures that all have the same classes,
    /// [`Error::Recipe`] for one logit where there are other outputs or several classes a picture,
    /// [`Error::Inception`] for a label that the classifier does not have.
    pub fn new(
        training: (&'a LabelledFeatures, Vec<usize>),
        validation: Option<(&'a LabelledFeatures, Vec<usize>)>,
        linear: Linear,
        scale: f32,
        recipe: &Recipe,
    ) -> Result<Self, Error> {
        let classes = match (recipe.one_logit, linear.bias.len()) {
            (true, 1) => 2,
            (_, outputs) => outputs,
        };
        let loss = training.0.labels.loss(recipe.one_logit, classes)?;
        if loss.outputs(classes) != linear.bias.len() {
            let wanted = "the classifier has an output for each class";
            return Err(Error::Recipe { field: "one-logit", value: recipe.one_logit.to_string(), wanted });
        }
        for (features, pictures) in [Some(&training), validation.as_ref()].into_iter().flatten() {
            features.labels.select(pictures).check(classes)?;
        }
        let labels = training.0.labels.select(&training.1);
        labels.check_training()?;
        let lengths = [("weight", linear.weight.len()), ("bias", linear.bias.len())];
        Ok(Self {
            weights: labels.weights(recipe.class_weights, classes),
            optimizer: Optimizer::new(recipe, lengths),
            smoothing: recipe.label_smoothing,
            loss,
            classes,
            validation: validation.filter(|(_, pictures)| !pictures.is_empty()),
            standardisation: Standardisation::of(
                training.0.dimensions,
                training.1.iter().map(|&picture| training.0.row(picture)),
            ),
            views: Vec::new(),
            training,
            linear,
            scale: scale.into(),
        })
    }

    /// The same, which sees one of these views of the pictures for training in each epoch, in turn, in the place of
    /// the pictures as they are. Each has a row for each of those, in their order.
    ///
    /// # Panics
    ///
    /// For a view of other pictures.
    #[must_use]
    pub fn with_views(mut self, views: Vec<LabelledFeatures>) -> Self {
        let items: Vec<usize> = self.training.1.iter().map(|&at| self.training.0.items[at]).collect();
        assert!(views.iter().all(|view| view.items == items), "views of the pictures for training");
        let dimensions = self.training.0.dimensions;
        if !views.is_empty() {
            let rows = views.iter().flat_map(|view| (0..items.len()).map(|picture| view.row(picture)));
            self.standardisation = Standardisation::of(dimensions, rows);
        }
        Self { views, ..self }
    }

    /// The classifier as it is now, of the features that the network has before it.
    pub fn classifier(&self) -> Linear {
        self.standardisation.folded_into(&self.linear, self.scale)
    }

    /// The rows of these pictures, standardised.
    fn rows(&self, features: &LabelledFeatures, pictures: &[usize]) -> Vec<f32> {
        let Standardisation { factor, offset } = &self.standardisation;
        let mut rows = Vec::with_capacity(pictures.len() * features.dimensions);
        for &picture in pictures {
            let row = features.row(picture).iter().zip(factor.iter().zip(offset));
            rows.extend(row.map(|(&value, (factor, offset))| (f64::from(value) * factor + offset) as f32));
        }
        rows
    }
}

impl Learner for HeadLearner<'_> {
    fn classes(&self) -> usize {
        self.classes
    }

    fn pictures(&self) -> usize {
        self.training.1.len()
    }

    fn loss(&self) -> Loss {
        self.loss
    }

    fn learn(&mut self, batch: &Batch<'_>) -> Result<BatchResult, Error> {
        let (features, all) = &self.training;
        let pictures: Vec<usize> = batch.pictures.iter().map(|&at| all[at]).collect();
        let labels = features.labels.select(&pictures);
        let turn = (batch.epoch as usize).saturating_sub(1).checked_rem(self.views.len());
        let mut rows = match turn {
            Some(view) => self.rows(&self.views[view], batch.pictures),
            None => self.rows(features, &pictures),
        };
        let mixup = batch.blend(labels.len())?;
        if let Some(mixup) = &mixup {
            let own = rows.clone();
            mixup.blend(&own, &mut rows)?;
        }
        let classes = self.classes();
        let targets = labels.targets(classes, self.smoothing, mixup.as_ref())?;
        let logits = self.linear.forward(&rows);
        let mut gradient = vec![0.0; logits.len()];
        let weights = self.weights.as_deref();
        let loss = self.loss.compute(&logits, &targets, classes, weights, &mut gradient);
        let correct = labels.correct(&self.loss.scores(&logits), classes);
        let gradients = self.linear.gradients(&rows, &gradient);
        self.optimizer.begin_step();
        self.optimizer.update(0, batch.lr, &mut self.linear.weight, &gradients.weight);
        self.optimizer.update(1, batch.lr, &mut self.linear.bias, &gradients.bias);
        Ok(BatchResult { loss, correct, pictures: labels.len() as u64 })
    }

    fn judge(&mut self, each: &mut dyn FnMut(usize, Judgement<'_>)) -> Result<(), Error> {
        let Some((features, pictures)) = &self.validation else { return Ok(()) };
        for chunk in pictures.chunks(CHUNK) {
            let logits = self.linear.forward(&self.rows(features, chunk));
            let scores = self.loss.scores(&logits);
            for (logits, &picture) in scores.chunks_exact(self.classes).zip(chunk) {
                each(features.items[picture], features.labels.judge(picture, logits));
            }
        }
        Ok(())
    }

    fn write(&self, file: &TrainedFile<'_>, path: &Path) -> Result<(), Error> {
        save_with_head(file, &self.classifier(), path)
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

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test fails by panicking.
mod tests {
    use super::*;

    /// Features of very different sizes, one of which never varies, are standardised; and the layer for the
    /// network's own features makes the same of them.
    #[test]
    fn features_are_standardised_and_the_layer_takes_it_back() {
        let (count, dimensions, scale) = (50, 4, 0.6);
        let value = |at: usize| ((at * 37) % 101) as f32 / 101.0;
        let size = [1e-3, 1.0, 40.0];
        let values: Vec<f32> = (0..count)
            .flat_map(|row| (0..3).map(move |d| value(row * 3 + d) * size[d] + size[d]).chain([7.0]))
            .collect();
        let labels: Vec<u32> = (0..count).map(|row| (row % 3) as u32).collect();
        let features = LabelledFeatures::new(dimensions, values, labels);
        let start = Linear { weight: (0..12).map(value).collect(), bias: vec![0.1, -0.2, 0.3] };
        let all: Vec<usize> = (0..count).collect();
        let learner =
            HeadLearner::new((&features, all.clone()), None, start.clone(), scale, &Recipe::head()).unwrap();
        let rows = learner.rows(&features, &all);
        for d in 0..dimensions {
            let column = || rows.iter().skip(d).step_by(dimensions).map(|&value| f64::from(value));
            let mean = column().sum::<f64>() / count as f64;
            let variance = column().map(|value| (value - mean).powi(2)).sum::<f64>() / count as f64;
            assert!(mean.abs() < 1e-5, "{d}: {mean}");
            // The first varies less than a thousandth of the mean variance does, and is left small.
            let wanted = [0.0, 1.0, 1.0, 0.0][d];
            assert!((variance - wanted).abs() < [1e-3, 0.9, 1e-2, 1e-9][d], "{d}: {variance}");
        }
        let own: Vec<f32> = features.values.iter().map(|value| value * scale).collect();
        let (ours, networks) = (start.forward(&rows), learner.classifier().forward(&own));
        for (a, b) in ours.iter().zip(&networks) {
            // Sums of single precision, of terms up to 40.
            assert!((a - b).abs() < 1e-4, "{a} {b}");
        }
    }
}
