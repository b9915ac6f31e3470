//! Training of a whole network, on the CPU or on a device of Burn's.

use std::collections::BTreeMap;
use std::convert::Infallible;

use inception::burn::module::Module;
use inception::burn::tensor::{Device, Gradients, Tensor, TensorData};
use inception::nn::{
    self, Network, load_tensors, read_tensors, tensors, update_tensors, with_storage_device,
};
use inception_gradient::Real;

use crate::compiled::Compiled;
use crate::error::Error;
use crate::loss::Loss;
use crate::optimizer::Optimizer;
use crate::recipe::{Freeze, Recipe};
use crate::state::Value;

/// A network in training, and its optimiser: one step at a time, from tensors.
///
/// `inception-gradient` computes logits and gradients on the CPU, or Burn on one of its devices. The loss and
/// its gradient by the logits are computed here, in double precision, and the optimiser works on the host.
#[derive(Debug)]
pub struct TrainingNetwork {
    /// Of Burn's, with the values; on the CPU without.
    network: Network,
    computation: Computation,
    optimizer: Optimizer,
    auxiliary: bool,
    loss: Loss,
}

/// What computes.
#[derive(Debug)]
enum Computation {
    Burn(Device),
    Compiled(Compiled),
}

/// What a step found before it changed the network.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Step {
    /// The sum over pictures of the losses, auxiliary ones included.
    pub loss: f64,
    /// The logits of the network's own classifier, `[batch, classes]` row-major.
    pub logits: Vec<f32>,
}

impl TrainingNetwork {
    /// All of `network`, which is on `device`, a device for training (`Device::autodiff`).
    pub fn new(network: Network, device: Device, recipe: &Recipe) -> Self {
        let infos = tensors(&network).into_iter().filter(|info| info.role.is_trainable());
        let infos: Vec<(String, usize)> =
            infos.map(|info| (info.name, info.shape.iter().product())).collect();
        let optimizer = Optimizer::new(recipe, infos.iter().map(|(name, len)| (name.as_str(), *len)));
        let computation = Computation::Burn(device);
        Self { network, computation, optimizer, auxiliary: true, loss: Loss::default() }
    }

    /// `network` on the CPU, for images of `[height, width]`, in the precision of `T`; on rayon's threads. Where the
    /// recipe freezes it up to a stage, it is trained from the maps that the stage makes of such images, which are
    /// then the images of a [`step`](Self::step); what is frozen keeps its running statistics, too.
    ///
    /// # Errors
    ///
    /// [`Error::Inception`] for a size that the network does not take, and a stage that it does not have.
    pub fn compiled<T: Real>(network: &Network, size: [usize; 2], recipe: &Recipe) -> Result<Self, Error> {
        let after = match &recipe.freeze {
            Freeze::Stage(stage) => Some(stage.as_str()),
            Freeze::Head | Freeze::None => None,
        };
        let compiled = Compiled::new::<T>(network, size, after)?;
        let auxiliary = compiled.heads.len() > 1 || !network.has_auxiliary();
        let trained = compiled.trained();
        let lengths = trained.iter().map(|(name, at)| (name.as_str(), compiled.training.values(*at).len()));
        let optimizer = Optimizer::new(recipe, lengths);
        let network = with_storage_device(|device| network.untrained(device));
        let computation = Computation::Compiled(compiled);
        Ok(Self { network, computation, optimizer, auxiliary, loss: Loss::default() })
    }

    /// With this loss; without, it is cross entropy.
    #[must_use]
    pub fn with_loss(self, loss: Loss) -> Self {
        Self { loss, ..self }
    }

    /// The loss.
    pub fn loss(&self) -> Loss {
        self.loss
    }

    /// Bytes that a batch of so many images takes beside the weights, where that is known.
    pub fn batch_bytes(&self, batch: usize) -> Option<u64> {
        match &self.computation {
            Computation::Burn(_) => None,
            Computation::Compiled(compiled) => Some(compiled.training.bytes(batch)),
        }
    }

    /// Whether the auxiliary classifiers take part; they do not where the images are not of their size.
    pub fn has_auxiliary(&self) -> bool {
        self.auxiliary
    }

    /// The optimiser.
    pub fn optimizer(&self) -> &Optimizer {
        &self.optimizer
    }

    /// The optimiser, to be given its state.
    pub fn optimizer_mut(&mut self) -> &mut Optimizer {
        &mut self.optimizer
    }

    /// Seeds what the device draws: which values are dropped out.
    pub fn seed(&mut self, seed: u64) {
        match &mut self.computation {
            Computation::Burn(device) => device.seed(seed),
            Computation::Compiled(compiled) => compiled.seed = seed,
        }
    }

    /// The network as it is now, for inference; `device` is where it is made if it is not on one of Burn's.
    pub fn network_on(&self, device: &Device) -> Network {
        match &self.computation {
            // Brings the running statistics up to date, too.
            Computation::Burn(_) => self.network.valid().to_device(device),
            Computation::Compiled(compiled) => with_values(self.network.untrained(device), compiled.values()),
        }
    }

    /// Makes one step on images `[batch, channels, height, width]` and targets `[batch, classes]`, both row-major.
    /// `weights` are the classes' factors; `observe` is shown each gradient with the name of its tensor.
    ///
    /// # Errors
    ///
    /// What the device gives.
    pub fn step(
        &mut self,
        images: TensorData,
        targets: &[f32],
        weights: Option<&[f32]>,
        lr: f64,
        observe: impl FnMut(&str, &[f32]),
    ) -> Result<Step, Error> {
        let Self { network, computation, optimizer, auxiliary, loss } = self;
        let objective = Objective { loss: *loss, targets, weights };
        match computation {
            Computation::Burn(device) => {
                let (step, gradients) = backward(network, device, auxiliary, images, objective)?;
                update(network, optimizer, gradients, lr, observe);
                Ok(step)
            }
            Computation::Compiled(compiled) => {
                compiled_step(compiled, optimizer, images, objective, lr, observe)
            }
        }
    }

    /// All tensors, running statistics included.
    pub fn values(&self) -> Vec<Value> {
        if let Computation::Compiled(compiled) = &self.computation {
            return compiled.values();
        }
        let mut all = Vec::new();
        let Ok(()) = read_tensors(&self.network.valid(), |info, data| {
            let values = data.convert::<f32>().try_into_vec::<f32>().expect("just converted");
            all.push(Value { name: info.name.clone(), shape: info.shape.clone(), values });
            Ok::<_, Infallible>(())
        });
        all
    }

    /// Takes back what [`values`](Self::values) gave.
    pub fn set_values(&mut self, values: Vec<Value>) {
        if let Computation::Compiled(compiled) = &mut self.computation {
            return compiled.set_values(values);
        }
        // What is pending of running statistics would otherwise come over them.
        drop(self.network.valid());
        self.network = with_values(self.network.clone(), values);
    }
}

/// `network` with these values in the place of its own, by name.
pub(crate) fn with_values(network: Network, values: Vec<Value>) -> Network {
    let mut values: BTreeMap<String, Value> =
        values.into_iter().map(|value| (value.name.clone(), value)).collect();
    let Ok(network) = load_tensors(network, |info| {
        let value = values.remove(&info.name).filter(|value| value.shape == info.shape);
        Ok::<_, Infallible>(value.map(|value| TensorData::new(value.values, value.shape)))
    });
    network
}

/// What a step makes smaller.
#[derive(Clone, Copy)]
struct Objective<'a> {
    loss: Loss,
    /// `[batch, classes]`, row-major.
    targets: &'a [f32],
    /// The classes' factors.
    weights: Option<&'a [f32]>,
}

impl Objective<'_> {
    /// What came of a step, from the logits of all classifiers, the network's own first, and the factors of
    /// their losses; `gradient` is shown the gradient of each.
    fn evaluate(
        &self,
        heads: impl Iterator<Item = Result<(f64, Vec<f32>), Error>>,
        batch: usize,
        mut gradient: impl FnMut(Vec<f32>),
    ) -> Result<Step, Error> {
        let (mut loss, mut own) = (0.0, None);
        for head in heads {
            let (weight, logits) = head?;
            let mut slopes = vec![0.0; logits.len()];
            let classes = logits.len() / batch.max(1);
            loss += weight * self.loss.compute(&logits, self.targets, classes, self.weights, &mut slopes);
            slopes.iter_mut().for_each(|value| *value *= weight as f32);
            gradient(slopes);
            own = own.or(Some(logits));
        }
        Ok(Step { loss, logits: own.unwrap_or_default() })
    }
}

/// A step of the CPU's.
fn compiled_step(
    compiled: &mut Compiled,
    optimizer: &mut Optimizer,
    images: TensorData,
    objective: Objective<'_>,
    lr: f64,
    mut observe: impl FnMut(&str, &[f32]),
) -> Result<Step, Error> {
    let batch = images.shape()[0];
    let images = images.try_into_vec::<f32>().map_err(|error| inception::Error::Device {
        device: inception::DeviceKind::Engine,
        reason: error.to_string(),
    })?;
    let all = compiled.training.forward(&images, batch, compiled.seed);
    // Of each image the logits of all classifiers side by side.
    let heads = compiled.heads.len();
    let outputs = all.len() / (batch * heads).max(1);
    let logits = |(head, &weight): (usize, &f64)| {
        let rows = all.chunks_exact(outputs).skip(head).step_by(heads);
        Ok((weight, rows.flatten().copied().collect()))
    };
    let (mut gradients, mut head) = (vec![0.0; all.len()], 0);
    let step = objective.evaluate(compiled.heads.iter().enumerate().map(logits), batch, |gradient| {
        let rows = gradients.chunks_exact_mut(outputs).skip(head).step_by(heads);
        rows.zip(gradient.chunks_exact(outputs)).for_each(|(row, own)| row.copy_from_slice(own));
        head += 1;
    })?;
    compiled.training.backward(&gradients);
    let trained = compiled.trained();
    let indices: Vec<usize> = trained.iter().map(|(_, index)| *index).collect();
    let pairs = compiled.training.values_and_gradients(&indices);
    for ((name, _), (_, gradient)) in trained.iter().zip(&pairs) {
        observe(name, gradient);
    }
    optimizer.begin_step();
    optimizer.update_all(lr, pairs.into_iter().enumerate().collect());
    Ok(step)
}

/// Changes the network by the gradients that Burn has.
fn update(
    network: &mut Network,
    optimizer: &mut Optimizer,
    mut gradients: Gradients,
    lr: f64,
    mut observe: impl FnMut(&str, &[f32]),
) {
    optimizer.begin_step();
    let mut index = 0;
    *network = update_tensors(network.clone(), &mut gradients, |info, values, gradient| {
        // An auxiliary classifier without a part in the loss has no gradient.
        if let Some(gradient) = gradient {
            observe(&info.name, gradient);
            optimizer.update(index, lr, values, gradient);
        }
        index += 1;
    });
}

/// Loss, logits and gradients of Burn's for images `[batch, 3, height, width]`, row-major.
fn backward(
    network: &Network,
    device: &Device,
    auxiliary: &mut bool,
    images: TensorData,
    objective: Objective<'_>,
) -> Result<(Step, Gradients), Error> {
    let batch = images.shape()[0];
    let images = Tensor::<4>::from_data(images, device);
    let heads = match *auxiliary {
        true => match network.forward_training(images.clone()) {
            Err(nn::Error::AuxiliarySize { .. }) => {
                *auxiliary = false;
                vec![nn::TrainingHead { logits: network.forward(images), weight: 1.0 }]
            }
            heads => heads?,
        },
        false => vec![nn::TrainingHead { logits: network.forward(images), weight: 1.0 }],
    };
    let logits = |head: &nn::TrainingHead| {
        let logits = head.logits.clone().into_data().convert::<f32>();
        let logits = logits.try_into_vec::<f32>().map_err(|e| inception::Error::Device {
            device: inception::DeviceKind::Flex,
            reason: e.to_string(),
        })?;
        Ok((head.weight, logits))
    };
    let mut gradients = Vec::with_capacity(heads.len());
    let step = objective.evaluate(heads.iter().map(logits), batch, |gradient| gradients.push(gradient))?;
    // A sum whose gradient by the logits is the loss's.
    let part = |(head, gradient): (nn::TrainingHead, Vec<f32>)| {
        let shape = head.logits.dims();
        (head.logits * Tensor::<2>::from_data(TensorData::new(gradient, shape), device)).sum()
    };
    let surrogate = heads.into_iter().zip(gradients).map(part).reduce(|sum, part| sum + part);
    Ok((step, surrogate.expect("a network has a classifier").backward()))
}
