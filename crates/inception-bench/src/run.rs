//! A network on a device, eager or compiled: floats in, logits out.

use burn::tensor::{Device, Tensor, TensorData};
use inception_engine::{Accuracy, Choice, Compiled, Options, Precision, Threads};
use inception_nn::Network;

use crate::{Cores, DeviceKind, Error, Subject};

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
    /// Pin the engine's threads to these, one each; the thread that runs the network pins itself.
    pub cores: Option<Cores>,
}

impl Default for RunOptions {
    /// The engine on all cores.
    fn default() -> Self {
        Self { device: DeviceKind::Engine, threads: 0, exact: false, precision: Precision::F32, cores: None }
    }
}

impl RunOptions {
    /// The engine's share of them.
    fn engine(&self) -> Options {
        let Self { threads, exact, precision, .. } = *self;
        let pin = self.cores.clone().map(|cores| move |thread| _ = cores.pin(thread));
        let pool = pin.map(|pin| Threads::starting(threads, pin));
        Options { threads, pool, exact, precision, ..Options::default() }
    }
}

/// Times each layer of `network`, for images of `[height, width]`, by every algorithm that the engine has for it, `repeats`
/// times in alternation.
///
/// # Errors
///
/// [`Error::Engine`] where the engine cannot run here.
pub fn choices(
    network: &Network,
    [height, width]: [usize; 2],
    options: &RunOptions,
    repeats: usize,
) -> Result<Vec<Choice>, Error> {
    let graph = inception_engine::capture(network, |net, x| net.forward(x), [3, height, width])?;
    Ok(inception_engine::choices(&graph, &options.engine(), repeats)?)
}

/// Holds every layer of `network` on one image, `[3][height][width]`, against an evaluation in `f64`.
///
/// # Errors
///
/// [`Error::Engine`] where the engine cannot run here, or `image` has another size.
pub fn accuracy(
    network: &Network,
    [height, width]: [usize; 2],
    options: &RunOptions,
    image: &[f32],
) -> Result<Accuracy, Error> {
    let graph = inception_engine::capture(network, |net, x| net.forward(x), [3, height, width])?;
    Ok(inception_engine::accuracy(&graph, &options.engine(), image)?)
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
    /// Floats of one image's maps; see [`Network::peak_activations`].
    peak_activations: u64,
}

impl Runner {
    /// Readies `network` for images of `[height, width]`; the engine compiles it and keeps its own copy of the weights.
    ///
    /// # Errors
    ///
    /// [`Error::Network`] for an input too small, [`Error::Engine`] where the engine cannot run here.
    pub fn new(network: Network, input: [usize; 2], options: &RunOptions) -> Result<Self, Error> {
        let (macs, peak_activations) = (network.cost(input)?.macs, network.peak_activations(input)?);
        let kind = options.device;
        let backend = match kind {
            DeviceKind::Engine => {
                let [height, width] = input;
                let image = [3, height, width];
                let graph = inception_engine::capture(&network, |net, x| net.forward(x), image)?;
                // Before the weights are packed, so that there are never more than two copies of them.
                drop(network);
                let compiled = Compiled::from_graph(graph, &options.engine())?;
                Backend::Compiled(Box::new(compiled))
            }
            _ => Backend::Eager(Box::new((network, kind.open()?))),
        };
        Ok(Self { backend, kind, input, macs, peak_activations })
    }

    /// The compiled network, on the engine.
    pub fn compiled(&self) -> Option<&Compiled> {
        match &self.backend {
            Backend::Compiled(compiled) => Some(compiled),
            Backend::Eager(_) => None,
        }
    }

    /// Floats of one image, `3 * height * width`.
    pub fn image_len(&self) -> usize {
        3 * self.input[0] * self.input[1]
    }

    /// Multiply-adds of one image, as the network is written.
    pub fn macs(&self) -> u64 {
        self.macs
    }

    fn failed(&self, reason: impl ToString) -> Error {
        Error::Device { device: self.kind, reason: reason.to_string() }
    }

    /// Images as a tensor of the device.
    fn upload(&self, images: &[f32], batch: usize, device: &Device) -> Tensor<4> {
        let [height, width] = self.input;
        Tensor::from_data(TensorData::new(images.to_vec(), [batch, 3, height, width]), device)
    }

    /// A run of images that are on the device already, to logits that stay there; complete when it returns. `None` on
    /// the engine.
    fn resident(&self, images: &[f32], batch: usize) -> Option<impl FnMut() -> Result<(), Error> + '_> {
        let Backend::Eager(eager) = &self.backend else { return None };
        let (network, device) = &**eager;
        let images = self.upload(images, batch, device);
        Some(move || {
            // The device may be lazy; what is not kept could be left out.
            let logits = network.forward(images.clone());
            device.sync().map_err(|e| self.failed(e))?;
            drop(std::hint::black_box(logits));
            Ok(())
        })
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
                if images.len() != batch * self.image_len() {
                    return Err(self.failed(format!("{} floats are not {batch} images", images.len())));
                }
                let logits = network.forward(self.upload(images, batch, device));
                let data = logits.try_into_data().map_err(|e| self.failed(e))?;
                data.try_into_vec::<f32>().map_err(|e| self.failed(e))
            }
        }
    }
}

impl Subject for Runner {
    fn device(&self) -> DeviceKind {
        self.kind
    }

    fn image_len(&self) -> usize {
        self.image_len()
    }

    fn macs(&self) -> u64 {
        self.macs
    }

    fn memory(&self, batch: usize) -> Option<u64> {
        let images = (batch * self.image_len() * size_of::<f32>()) as u64;
        match &self.backend {
            Backend::Compiled(compiled) => {
                let together = compiled.slice().min(batch);
                Some(images + (together * compiled.arena_bytes()) as u64)
            }
            Backend::Eager(_) if self.kind.is_gpu() => None,
            Backend::Eager(_) => {
                Some(images + batch as u64 * self.peak_activations * size_of::<f32>() as u64)
            }
        }
    }

    fn run(&self, images: &[f32], batch: usize) -> Result<Vec<f32>, Error> {
        self.run(images, batch)
    }

    fn on_device<'a>(
        &'a self,
        images: &[f32],
        batch: usize,
    ) -> Option<Box<dyn FnMut() -> Result<(), Error> + 'a>> {
        let run = self.kind.is_gpu().then(|| self.resident(images, batch))??;
        Some(Box::new(run))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a GPU would be timed with does run, and is not offered where the device is the CPU.
    #[test]
    fn images_on_the_device() -> Result<(), Error> {
        let device = DeviceKind::Flex;
        let network = inception_nn::model("GoogLeNet")?.config().with_num_classes(2).init(&device.open()?)?;
        let options = RunOptions { device, ..RunOptions::default() };
        let runner = Runner::new(network, [64, 64], &options)?;
        let images = vec![0.5; runner.image_len()];
        runner.resident(&images, 1).expect("an eager device")()?;
        assert!(runner.on_device(&images, 1).is_none());
        assert!(runner.memory(3) > runner.memory(1));
        Ok(())
    }
}
