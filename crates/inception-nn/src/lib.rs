//! GoogLeNet, the Xceptions, Inception V3 and V4 and Inception-ResNet-v2 as [Burn](burn) modules that compute
//! what [PaddleClas](https://github.com/PaddlePaddle/PaddleClas) 2.6, timm, torchvision and Keras compute.
//!
//! [`MODELS`] is the table of what there is; a row builds a [`Network`] on any Burn device:
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//!
//! # #[cfg(feature = "flex")] {
//! let device = Device::flex();
//! let spec = inception_nn::model("GoogLeNet")?;
//! let network = spec.config().with_num_classes(10).with_seed(42).init(&device)?;
//!
//! network.check_input([64, 64])?;
//! let images = Tensor::<4>::zeros([2, 3, 64, 64], &device);
//! assert_eq!(network.forward(images.clone()).dims(), [2, 10]);
//! assert_eq!(network.forward_features(images).dims(), [2, 1024, 1, 1]);
//! # }
//! # Ok::<(), inception_nn::Error>(())
//! ```
//!
//! Batch norm and dropout train on an autodiff device and infer on any other, as everywhere in Burn.
//!
//! Images are `[batch, channels, height, width]`, in RGB order, normalised as the weights ask for it
//! (`inception-data` does it). Tensors have names of our own, see [`tensors`]; `inception-weights` knows
//! what others call them.

mod error;
mod googlenet;
mod inception;
mod inception_resnet;
mod layers;
mod models;
mod network;
mod stage;
mod tensors;
mod torch;
mod xception;

pub use error::Error;
pub use googlenet::{AuxiliaryHead, GoogLeNet};
pub use inception::{AuxiliaryV3, Inception};
pub use inception_graph::with_storage_device;
pub use layers::{Classifier, ConvNorm, Hidden, HiddenLayer, Observer, Pool, ScaledDropout};
pub use models::{
    Arithmetic, LATENCY_BATCHES, Latency, MODELS, ModelSpec, Normalisation, Origin, Reference, Resampler,
    StateDict, Training, VARIANTS, model, nearest,
};
pub use network::{Architecture, Network, NetworkConfig, Output, TrainingGraph, TrainingHead};
pub use stage::{Branch, Residual, Stage};
pub use tensors::{
    TensorInfo, TensorRole, fnv1a, load_tensors, read_tensors, tensors, trainable_parameters, update_tensors,
};
pub use xception::{Block, OutputStride, SeparableConv, Xception};
