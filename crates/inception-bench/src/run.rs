//! A network on a device, eager or compiled: floats in, logits out.

use burn::tensor::{Device, Tensor, TensorData};
use inception_engine::{Compiled, Options, Precision};
use inception_nn::Network;

use crate::{DeviceKind, Error};

/// Where and how a network runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunOptions {
    /// The device.
    pub device: DeviceKind,
    /// The engine's threads; 0 is one for each core. The eager CPU devices use rayon's global pool.
    pub threads: usize,
    /// Keep the engine to algorithms that add and multiply as the network is written: no Winograd.
    pub exact: bool,
    /// What the engine computes in; the eager devices compute in `f32`.
    pub precision: Precision,
}

impl Default for RunOptions {
    /// The engine on all cores.
    fn default() -> Self {
        Self { device: DeviceKind::Engine, threads: 0, exact: false, precision: Precision::F32 }
    }
}

#[derive(Debug)]
enum Backend {
    Eager(Box<(Network, Device)>),
    Compiled(Box<Compiled>),
}

/// A network for images of one size, on a device.
#[derive(Debug)]
pub struct Runner {
    backend: Backend,
    kind: DeviceKind,
    input: [usize; 2],
    macs: u64,
}

impl Runner {
    /// Readies `network` for images of `[height, width]`; the engine compiles it and keeps its own copy of the weights.
    ///
    /// # Errors
    ///
    /// [`Error::Network`] for an input too small, [`Error::Engine`] where the engine cannot run here.
    pub fn new(network: Network, input: [usize; 2], options: &RunOptions) -> Result<Self, Error> {
        let macs = network.cost(input)?.macs;
        let kind = options.device;
        let backend = match kind {
            DeviceKind::Engine => {
                let RunOptions { threads, exact, precision, .. } = *options;
                let compile = Options { threads, exact, precision, ..Options::default() };
                let [height, width] = input;
                let compiled =
                    Compiled::new(&network, |net, x| net.forward(x), [3, height, width], &compile)?;
                Backend::Compiled(Box::new(compiled))
            }
            _ => Backend::Eager(Box::new((network, kind.open()?))),
        };
        Ok(Self { backend, kind, input, macs })
    }

    /// Floats of one image, `3 * height * width`.
    pub fn image_len(&self) -> usize {
        3 * self.input[0] * self.input[1]
    }

    /// Multiply-adds of one image, as the network is written.
    pub fn macs(&self) -> u64 {
        self.macs
    }

    /// The compiled network, on the engine.
    pub fn compiled(&self) -> Option<&Compiled> {
        match &self.backend {
            Backend::Compiled(compiled) => Some(compiled),
            Backend::Eager(_) => None,
        }
    }

    /// Normalised images `[batch, 3, height, width]` to logits `[batch, classes]`, both row-major.
    ///
    /// # Errors
    ///
    /// [`Error::Device`] where the device fails, [`Error::Engine`] where `images` is not `batch` images.
    pub fn run(&self, images: &[f32], batch: usize) -> Result<Vec<f32>, Error> {
        match &self.backend {
            Backend::Compiled(compiled) => Ok(compiled.run(images, batch)?),
            Backend::Eager(eager) => {
                let (network, device) = &**eager;
                let failed = |reason: String| Error::Device { device: self.kind, reason };
                if images.len() != batch * self.image_len() {
                    return Err(failed(format!("{} floats are not {batch} images", images.len())));
                }
                let [height, width] = self.input;
                let data = TensorData::new(images.to_vec(), [batch, 3, height, width]);
                let logits = network.forward(Tensor::<4>::from_data(data, device));
                let data = logits.try_into_data().map_err(|e| failed(e.to_string()))?;
                data.try_into_vec::<f32>().map_err(|e| failed(e.to_string()))
            }
        }
    }
}
