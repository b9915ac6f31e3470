//! Training of a whole network on the CPU, without Burn.

use std::collections::BTreeMap;
use std::fmt::Debug;

use inception::nn::{Network, TrainingGraph, read_tensors};
use inception_gradient::{Options, Real, Trainer};

use crate::error::Error;
use crate::state::Value;

/// A graph in training, in single or double precision.
pub(crate) trait Training: Debug + Send {
    /// Logits of all classifiers side by side for images `[batch, 3, height, width]`, row-major.
    fn forward(&mut self, images: &[f32], batch: usize, seed: u64) -> Vec<f32>;
    /// From the gradient of the logits those of all tensors.
    fn backward(&mut self, gradient: &[f32]);
    /// Numbers of the tensors by name.
    fn names(&self) -> BTreeMap<String, usize>;
    /// The values of a tensor.
    fn values(&self, index: usize) -> &[f32];
    /// The same, to be changed.
    fn values_mut(&mut self, index: usize) -> &mut [f32];
    /// Of these tensors the values, to be changed, and gradients. The numbers are all different.
    fn values_and_gradients(&mut self, indices: &[usize]) -> Vec<(&mut [f32], &[f32])>;
    /// Bytes that a batch takes.
    fn bytes(&self, batch: usize) -> u64;
}

impl<T: Real> Training for Trainer<T> {
    fn forward(&mut self, images: &[f32], batch: usize, seed: u64) -> Vec<f32> {
        Trainer::forward(self, images, batch, seed).into_iter().map(Real::to_f32).collect()
    }

    fn backward(&mut self, gradient: &[f32]) {
        let gradient: Vec<T> = gradient.iter().map(|&value| T::of(value)).collect();
        Trainer::backward(self, &gradient);
    }

    fn names(&self) -> BTreeMap<String, usize> {
        self.tensors().enumerate().map(|(index, (tensor, _))| (tensor.name.clone(), index)).collect()
    }

    fn values(&self, index: usize) -> &[f32] {
        Trainer::values(self, index)
    }

    fn values_mut(&mut self, index: usize) -> &mut [f32] {
        Trainer::values_mut(self, index)
    }

    fn values_and_gradients(&mut self, indices: &[usize]) -> Vec<(&mut [f32], &[f32])> {
        let mut all: Vec<_> = Trainer::values_and_gradients(self).map(Some).collect();
        indices.iter().map(|&index| all[index].take().expect("the numbers are different")).collect()
    }

    fn bytes(&self, batch: usize) -> u64 {
        Trainer::bytes(self, batch)
    }
}

/// A network whose operations were recorded, in training.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub training: Box<dyn Training>,
    /// Factors of the classifiers' losses.
    pub heads: Vec<f64>,
    /// What the next step draws from.
    pub seed: u64,
    /// All tensors in their order: where the training has one, or the values of those without a part in it.
    tensors: Vec<Place>,
}

/// A tensor of the network.
#[derive(Debug)]
struct Place {
    name: String,
    shape: Vec<usize>,
    trainable: bool,
    values: Result<usize, Vec<f32>>,
}

impl Compiled {
    /// `network` for images of `[height, width]`, or its part after a stage for the maps that the stage makes of
    /// such images.
    ///
    /// # Errors
    ///
    /// [`Error::Inception`] for a size that the network does not take, [`Error::Gradient`] for operations
    /// whose gradients are not known.
    pub fn new<T: Real>(network: &Network, size: [usize; 2], after: Option<&str>) -> Result<Self, Error> {
        let TrainingGraph { graph, heads, dropout, norm_momentum, norm_unbiased } = match after {
            None => network.training_graph(size)?,
            Some(stage) => network.training_graph_after(stage, size)?,
        };
        let dropout = dropout.into_iter().collect();
        let options = Options { norm_momentum, norm_unbiased, dropout };
        let mut training: Box<dyn Training> = Box::new(Trainer::<T>::new(&graph, &options)?);
        let mut known = training.names();
        let mut tensors = Vec::new();
        read_tensors(network, |info, data| {
            let values = data.convert::<f32>().try_into_vec::<f32>().expect("just converted");
            let values = match known.remove(&info.name) {
                Some(index) => {
                    training.values_mut(index).copy_from_slice(&values);
                    Ok(index)
                }
                None => Err(values),
            };
            let (name, shape, trainable) = (info.name.clone(), info.shape.clone(), info.role.is_trainable());
            tensors.push(Place { name, shape, trainable, values });
            Ok::<_, Error>(())
        })?;
        assert!(known.is_empty(), "recorded from the network");
        Ok(Self { training, heads, seed: 0, tensors })
    }

    /// The names of the tensors that take part and have gradients, and their numbers in the training.
    pub fn trained(&self) -> Vec<(String, usize)> {
        let trainable = self.tensors.iter().filter(|place| place.trainable);
        trainable.filter_map(|place| Some((place.name.clone(), *place.values.as_ref().ok()?))).collect()
    }

    /// All tensors.
    pub fn values(&self) -> Vec<Value> {
        let value = |place: &Place| {
            let values = match &place.values {
                Ok(index) => self.training.values(*index).to_vec(),
                Err(values) => values.clone(),
            };
            Value { name: place.name.clone(), shape: place.shape.clone(), values }
        };
        self.tensors.iter().map(value).collect()
    }

    /// Takes back what [`values`](Self::values) gave.
    pub fn set_values(&mut self, values: Vec<Value>) {
        let mut values: BTreeMap<String, Value> =
            values.into_iter().map(|value| (value.name.clone(), value)).collect();
        for place in &mut self.tensors {
            let Some(value) = values.remove(&place.name).filter(|value| value.shape == place.shape) else {
                continue;
            };
            match &mut place.values {
                Ok(index) => self.training.values_mut(*index).copy_from_slice(&value.values),
                Err(own) => *own = value.values,
            }
        }
    }
}
