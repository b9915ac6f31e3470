//! A network on a device, eager or compiled: floats in, logits out.

use std::sync::Arc;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, FloatDType, Tensor, TensorData};
use inception_engine::Compiled;
use inception_engine::graph::{Graph, Parameter};
use inception_nn::{Network, Output};

use crate::device::DeviceKind;
use crate::error::Error;
use crate::gpu;
use crate::options::RunOptions;
use crate::precision::Precision;
use crate::recorded::Recordings;
use crate::tuning::tuned;

/// A network on a Burn device, in its form for inference.
#[derive(Debug)]
struct Eager {
    recordings: Recordings,
    device: Device,
}

impl Eager {
    fn new(network: EagerNetwork, device: Device, kind: DeviceKind) -> Self {
        let forward = Arc::new(move |images| network.forward(images));
        Self { recordings: Recordings::new(forward, &device, kind.is_gpu()), device }
    }
}

/// What [`Eager`] computes.
struct EagerNetwork {
    network: Network,
    output: Output,
    precision: Precision,
}

impl EagerNetwork {
    fn cast(&self, images: Tensor<4>, to: FloatDType) -> Tensor<2> {
        self.network.forward_output(images.cast(to), &self.output).cast(FloatDType::F32)
    }

    /// `f32` images to `f32` logits, both on the device; nothing waits for it in between.
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        match self.precision {
            Precision::F32 => self.network.forward_output(images, &self.output),
            Precision::F16 => self.cast(images, FloatDType::F16),
            Precision::Bf16 => self.cast(images, FloatDType::BF16),
            Precision::Int8 => self.network.forward_output(images, &self.output),
        }
    }
}

/// Casts each weight to another element type.
struct Cast(FloatDType);

impl ModuleMapper for Cast {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| tensor.cast(self.0))
    }
}

#[derive(Debug)]
enum Backend {
    Eager(Box<Eager>),
    Compiled(Box<Compiled>),
}

/// Logits that [`Runner::start`] has begun to compute.
#[derive(Debug)]
pub struct Pending(Logits);

impl Pending {
    /// Whether the logits are there already, as they are on every device but a GPU.
    pub fn is_done(&self) -> bool {
        matches!(self.0, Logits::Done(_))
    }
}

#[derive(Debug)]
enum Logits {
    Done(Vec<f32>),
    OnDevice(Box<Tensor<2>>),
}

/// Channels, rows and columns of an image.
fn image([height, width]: [usize; 2]) -> [usize; 3] {
    [3, height, width]
}

/// A network for images of one size, on a device.
#[derive(Debug)]
pub struct Runner {
    backend: Backend,
    kind: DeviceKind,
    input: [usize; 2],
    output: usize,
    macs: u64,
    /// Floats of one image's maps; see
    /// [`Graph::peak_activations`](inception_engine::graph::Graph::peak_activations).
    peak_activations: u64,
}

impl Runner {
    /// Prepares `network` for images of `[height, width]`; the engine compiles it and keeps its own copy of
    /// the weights.
    ///
    /// # Errors
    ///
    /// [`Error::Network`] for an input too small, [`Error::Engine`] where the engine cannot run here,
    /// [`Error::Tuning`] where its tuning cannot be kept.
    pub fn new(network: Network, input: [usize; 2], options: &RunOptions) -> Result<Self, Error> {
        Self::build(|device| Ok(network.valid().to_device(device)), input, options)
    }

    /// As [`new`](Self::new), of a network that `init` builds on the device that it is given: for the engine
    /// one that only holds values.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new) and [`RunOptions::open`], and those of `init`.
    pub fn build(
        init: impl FnOnce(&Device) -> Result<Network, Error>,
        input: [usize; 2],
        options: &RunOptions,
    ) -> Result<Self, Error> {
        Self::build_output(init, input, Output::Logits, options)
    }

    /// As [`build`](Self::build), for another output than the logits: what is said of logits below then is of
    /// that one.
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build); [`Error::Network`] for a stage that the network does not have.
    pub fn build_output(
        init: impl FnOnce(&Device) -> Result<Network, Error>,
        input: [usize; 2],
        output: Output,
        options: &RunOptions,
    ) -> Result<Self, Error> {
        if options.device != DeviceKind::Engine {
            let network = init(&options.open()?)?;
            network.check_output(&output)?;
            let structure = network.graph(input)?;
            return Self::eager(network, &structure, input, output, options);
        }
        options.check()?;
        let mut structure = None;
        let init = |device: &Device| {
            let network = init(device)?;
            network.check_output(&output)?;
            structure = Some(network.graph(input)?);
            Ok::<_, Error>(network)
        };
        let graph =
            inception_engine::capture_init(init, |net, x| net.forward_output(x, &output), image(input))?;
        Self::compile(graph, &structure.expect("nothing is recorded before it"), input, options)
    }

    fn compile(
        graph: Graph,
        structure: &Graph<Parameter>,
        input: [usize; 2],
        options: &RunOptions,
    ) -> Result<Self, Error> {
        let mut engine = options.engine()?;
        // There is one kernel for each layer of integers.
        if let Some(folder) = options.tune.as_ref().filter(|_| options.precision != Precision::Int8) {
            engine.picks = tuned(&graph, &engine, folder)?;
        }
        let compiled = Compiled::from_graph(graph, &engine)?;
        let output = compiled.output_shape().len();
        Ok(Self::of(Backend::Compiled(Box::new(compiled)), structure, input, output, options))
    }

    fn eager(
        network: Network,
        structure: &Graph<Parameter>,
        input: [usize; 2],
        output: Output,
        options: &RunOptions,
    ) -> Result<Self, Error> {
        let (kind, precision, device) = (options.device, options.precision, options.open()?);
        let floats = network.output_len(input, &output)?;
        let ready = || {
            let network = network.folded();
            let network = match precision {
                Precision::F32 => network,
                Precision::F16 => network.map(&mut Cast(FloatDType::F16)),
                Precision::Bf16 => network.map(&mut Cast(FloatDType::BF16)),
                // No eager device has it, as opening it said.
                Precision::Int8 => network,
            };
            Ok(if kind.is_gpu() { network.for_gpu() } else { network })
        };
        let network = gpu::catch_panic(kind, ready)?;
        let network = EagerNetwork { network, output, precision };
        let backend = Backend::Eager(Box::new(Eager::new(network, device, kind)));
        Ok(Self::of(backend, structure, input, floats, options))
    }

    fn of(
        backend: Backend,
        structure: &Graph<Parameter>,
        input: [usize; 2],
        output: usize,
        options: &RunOptions,
    ) -> Self {
        let (macs, peak_activations) = (structure.macs(), structure.peak_activations());
        Self { backend, kind: options.device, input, output, macs, peak_activations }
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

    /// Floats of one image's output: classes, or features.
    pub fn output_len(&self) -> usize {
        self.output
    }

    /// Multiply-adds of one image, as the network is written.
    pub fn macs(&self) -> u64 {
        self.macs
    }

    /// The device.
    pub fn device(&self) -> DeviceKind {
        self.kind
    }

    /// Bytes of the machine's memory that a run of `batch` images takes at least, weights apart; `None` if
    /// that is not known.
    pub fn memory(&self, batch: usize) -> Option<u64> {
        let images = (batch * self.image_len() * size_of::<f32>()) as u64;
        match &self.backend {
            Backend::Compiled(compiled) => {
                let together = compiled.at_once(batch);
                Some(images + (together * compiled.arena_bytes()) as u64)
            }
            Backend::Eager(_) if self.kind.is_gpu() => None,
            Backend::Eager(_) => {
                Some(images + batch as u64 * self.peak_activations * size_of::<f32>() as u64)
            }
        }
    }

    /// On a GPU, a run from images on the device to logits on the device; complete when it returns. `None` on
    /// a CPU, where nothing is copied.
    pub fn on_device(&self, images: &[f32], batch: usize) -> Option<impl FnMut() -> Result<(), Error> + '_> {
        let mut run = self.kind.is_gpu().then(|| self.resident(images, batch))??;
        Some(move || self.caught(&mut run))
    }

    /// Whether the next run of `batch` images by this thread repeats recorded launches: on a GPU, from the
    /// third on.
    pub fn replays(&self, batch: usize) -> bool {
        matches!(&self.backend, Backend::Eager(eager) if eager.recordings.replays(batch))
    }

    fn failed(&self, reason: impl ToString) -> Error {
        Error::Device { device: self.kind, reason: gpu::cause(&reason.to_string()) }
    }

    /// Images as a tensor of the device.
    fn upload(&self, images: &[f32], batch: usize, device: &Device) -> Tensor<4> {
        let [height, width] = self.input;
        Tensor::from_data(TensorData::new(images.to_vec(), [batch, 3, height, width]), device)
    }

    /// A run from images on the device to logits on the device; complete when it returns.
    /// `None` on the engine.
    fn resident(&self, images: &[f32], batch: usize) -> Option<impl FnMut() -> Result<(), Error> + '_> {
        let Backend::Eager(eager) = &self.backend else { return None };
        let mut run = eager.recordings.resident(self.upload(images, batch, &eager.device));
        Some(move || {
            // A lazy device could leave out what is not used.
            let logits = run();
            eager.device.sync().map_err(|e| self.failed(e))?;
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
        self.finish(self.start(images, batch)?)
    }

    /// As [`run`](Self::run) of one image. The engine computes it by the calling thread alone, beside other
    /// threads that do the same.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub fn run_here(&self, image: &[f32]) -> Result<Vec<f32>, Error> {
        match &self.backend {
            Backend::Compiled(compiled) => Ok(compiled.run_here(image)?),
            Backend::Eager(_) => self.run(image, 1),
        }
    }

    /// The first half of [`run`](Self::run): uploads the images and starts the computation. A GPU computes
    /// while the caller goes on, with the next images for example; other devices are done when it returns.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub fn start(&self, images: &[f32], batch: usize) -> Result<Pending, Error> {
        match &self.backend {
            Backend::Compiled(compiled) => Ok(Pending(Logits::Done(compiled.run(images, batch)?))),
            Backend::Eager(eager) => self.caught(|| {
                if images.len() != batch * self.image_len() {
                    return Err(self.failed(format!("{} floats are not {batch} images", images.len())));
                }
                let logits = eager.recordings.run(self.upload(images, batch, &eager.device));
                // Starts operations that wait for others to be fused with.
                eager.device.flush().map_err(|e| self.failed(e))?;
                let pending = Pending(Logits::OnDevice(Box::new(logits)));
                match self.kind.is_gpu() {
                    true => Ok(pending),
                    false => Ok(Pending(Logits::Done(self.finish(pending)?))),
                }
            }),
        }
    }

    /// The second half of [`run`](Self::run): waits for the logits.
    ///
    /// # Errors
    ///
    /// [`Error::Device`] where the device fails.
    pub fn finish(&self, pending: Pending) -> Result<Vec<f32>, Error> {
        match pending.0 {
            Logits::Done(logits) => Ok(logits),
            Logits::OnDevice(logits) => self.caught(|| {
                let data = logits.try_into_data().map_err(|e| self.failed(e))?;
                data.try_into_vec::<f32>().map_err(|e| self.failed(e))
            }),
        }
    }

    /// Runs something of the device. Burn's operations panic where a GPU is lost or out of memory; on a CPU,
    /// a panic is a bug.
    fn caught<T>(&self, run: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        if self.kind.is_gpu() { gpu::catch_panic(self.kind, run) } else { run() }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;

    /// What a GPU would be timed with does run, and is not offered where the device is the CPU.
    #[test]
    fn images_on_the_device() -> Result<(), Error> {
        let device = DeviceKind::Flex;
        let network = inception_nn::model("GoogLeNet")?.config().with_num_classes(2).init(&device.open()?)?;
        let options = RunOptions::on(device);
        let runner = Runner::new(network, [64, 64], &options)?;
        let images = vec![0.5; runner.image_len()];
        runner.resident(&images, 1).expect("an eager device")()?;
        assert!(runner.on_device(&images, 1).is_none());
        assert_eq!(runner.output_len(), 2);
        assert!(runner.memory(3) > runner.memory(1));
        Ok(())
    }
}
