//! Training of a whole network on a device of Burn's.

use std::collections::BTreeMap;
use std::convert::Infallible;

use inception::burn::module::Module;
use inception::burn::tensor::{Device, Gradients, Tensor, TensorData};
use inception::nn::{self, Network, load_tensors, read_tensors, tensors, update_tensors};

use crate::error::Error;
use crate::loss::cross_entropy;
use crate::optimizer::Optimizer;
use crate::recipe::Recipe;
use crate::state::Value;

/// A network in training, and its optimiser: one step at a time, from tensors.
///
/// Burn computes logits and gradients. The loss and its gradient by the logits are computed here, in double
/// precision, and the optimiser works on the host.
#[derive(Debug)]
pub struct TrainingNetwork {
    network: Network,
    device: Device,
    optimizer: Optimizer,
    auxiliary: bool,
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
    /// `network`, which is on `device`, a device for training (`Device::autodiff`).
    pub fn new(network: Network, device: Device, recipe: &Recipe) -> Self {
        let infos = tensors(&network).into_iter().filter(|info| info.role.is_trainable());
        let infos: Vec<(String, usize)> =
            infos.map(|info| (info.name, info.shape.iter().product())).collect();
        let optimizer = Optimizer::new(recipe, infos.iter().map(|(name, len)| (name.as_str(), *len)));
        Self { network, device, optimizer, auxiliary: true }
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
    pub fn seed(&self, seed: u64) {
        self.device.seed(seed);
    }

    /// The network as it is now, for inference.
    pub fn network(&self) -> Network {
        // Brings the running statistics up to date, too.
        self.network.valid()
    }

    /// Loss, logits and gradients for images `[batch, 3, height, width]` and targets `[batch, classes]`, both
    /// row-major. `weights` are the classes' factors.
    fn backward(
        &mut self,
        images: TensorData,
        targets: &[f32],
        weights: Option<&[f32]>,
    ) -> Result<(Step, Gradients), Error> {
        let batch = images.shape()[0];
        let images = Tensor::<4>::from_data(images, &self.device);
        let heads = match self.auxiliary {
            true => match self.network.forward_training(images.clone()) {
                Err(nn::Error::AuxiliarySize { .. }) => {
                    self.auxiliary = false;
                    vec![nn::TrainingHead { logits: self.network.forward(images), weight: 1.0 }]
                }
                heads => heads?,
            },
            false => vec![nn::TrainingHead { logits: self.network.forward(images), weight: 1.0 }],
        };
        let classes = targets.len() / batch.max(1);
        let (mut loss, mut own, mut surrogate) = (0.0, Vec::new(), None);
        for nn::TrainingHead { logits: tensor, weight } in heads {
            let logits = tensor.clone().into_data().convert::<f32>();
            let logits = logits.try_into_vec::<f32>().map_err(|e| inception::Error::Device {
                device: inception::DeviceKind::Flex,
                reason: e.to_string(),
            })?;
            let mut gradient = vec![0.0; logits.len()];
            loss += weight * cross_entropy(&logits, targets, classes, weights, &mut gradient);
            gradient.iter_mut().for_each(|value| *value *= weight as f32);
            // A sum whose gradient by the logits is the loss's.
            let gradient = Tensor::<2>::from_data(TensorData::new(gradient, [batch, classes]), &self.device);
            let part = (tensor * gradient).sum();
            surrogate = Some(match surrogate {
                None => part,
                Some(sum) => sum + part,
            });
            if own.is_empty() {
                own = logits;
            }
        }
        let surrogate = surrogate.expect("a network has a classifier");
        Ok((Step { loss, logits: own }, surrogate.backward()))
    }

    /// Makes one step on images `[batch, 3, height, width]` and targets `[batch, classes]`, both row-major.
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
        mut observe: impl FnMut(&str, &[f32]),
    ) -> Result<Step, Error> {
        let (step, mut gradients) = self.backward(images, targets, weights)?;
        self.optimizer.begin_step();
        let Self { network, optimizer, .. } = self;
        let mut index = 0;
        *network = update_tensors(network.clone(), &mut gradients, |info, values, gradient| {
            // An auxiliary classifier without a part in the loss has no gradient.
            if let Some(gradient) = gradient {
                observe(&info.name, gradient);
                optimizer.update(index, lr, values, gradient);
            }
            index += 1;
        });
        Ok(step)
    }

    /// All tensors, running statistics included.
    pub fn values(&self) -> Vec<Value> {
        let mut all = Vec::new();
        let Ok(()) = read_tensors(&self.network(), |info, data| {
            let values = data.convert::<f32>().try_into_vec::<f32>().expect("just converted");
            all.push(Value { name: info.name.clone(), shape: info.shape.clone(), values });
            Ok::<_, Infallible>(())
        });
        all
    }

    /// Takes back what [`values`](Self::values) gave.
    pub fn set_values(&mut self, values: Vec<Value>) {
        // What is pending of running statistics would otherwise come over them.
        drop(self.network());
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
