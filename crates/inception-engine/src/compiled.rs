//! A compiled network.

use std::sync::Arc;
use std::time::Duration;

use crate::executor::Executor;
use crate::graph::reference::Tensor;
use crate::graph::{Graph, NodeId, Op, Shape};
use crate::kernels::Kernels;
use crate::mixed::mix;
use crate::plan::{Picks, Plan, PlanOptions, PlannedNode, Rule};
use crate::threads::Threads;
use crate::{Error, Isa, KernelName, Precision, Quantization, graph};

/// Bytes of activations of the images of a slice, which go through the layers together, on all threads. More
/// images share the reading of weights, but their activations must stay in the third-level cache. Slices are
/// for fewer images than threads; of more, each goes through on one thread. (At batch 8 on two Zen 4 cores 1,
/// 2 and 4 images a thread took GoogLeNet 61, 64 and 69 ms and Inception V3 250, 262 and 259; all threads on
/// one slice of 4 images 72 and 263.)
const SLICE_BYTES: usize = 16 << 20;

/// How to compile a network.
#[derive(Clone, Debug)]
pub struct Options {
    /// Threads, the caller's included; 0 is one for each core. Ignored if `pool` is given. (Compiling packs
    /// weights on all cores.)
    pub threads: usize,
    /// Threads to share with other compiled networks.
    pub pool: Option<Arc<Threads>>,
    /// Keep to algorithms that add and multiply as the network is written: no Winograd, no Strassen.
    pub exact: bool,
    /// Kernels to use in place of those that the cost model picks, as [`picks`](crate::picks) finds them;
    /// ignored with `exact`.
    pub picks: Picks,
    /// Largest batch that `run` accepts.
    pub max_batch: usize,
    /// Instruction set; `None` is [`Isa::chosen`].
    pub isa: Option<Isa>,
    /// The type of activations and weights.
    pub precision: Precision,
    /// What [`Precision::Int8`] needs; other precisions take no notice of it.
    pub quantization: Option<Arc<Quantization>>,
    /// Images that go through the layers together, each layer on all threads, where there are fewer images
    /// than threads; 0 is as many as suit the cache.
    pub slice: usize,
    /// The result of an image is to the bit that of a batch of it alone, whatever is computed beside it.
    /// Strassen's algorithm then cuts each image in the same way, and images that are left over go through
    /// one by one (`slice` is 1).
    pub batch_invariant: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            threads: 0,
            pool: None,
            exact: false,
            picks: Picks::new(),
            max_batch: 256,
            isa: None,
            precision: Precision::F32,
            quantization: None,
            slice: 0,
            batch_invariant: false,
        }
    }
}

impl Options {
    /// The pool to run on, a new one if none is given.
    pub(crate) fn pool(&self) -> Arc<Threads> {
        self.pool.clone().unwrap_or_else(|| Threads::new(self.threads))
    }

    /// By what convolutions get their algorithms.
    pub(crate) fn rule(&self) -> Rule {
        match self {
            Options { exact: true, .. } => Rule::Direct,
            Options { picks, .. } if picks.is_empty() => Rule::Cheapest,
            Options { picks, .. } => Rule::Picked(picks.clone()),
        }
    }
}

/// Images of a batch that are computed in one way.
struct Chunk {
    images: usize,
    /// Each thread computes images of its own; else all threads share each layer.
    image_parallel: bool,
    /// Images in memory at the same time, of all threads.
    at_once: usize,
}

/// Time of one step of a run.
#[derive(Clone, Debug)]
pub struct LayerTime {
    /// The nodes that the step computes; empty for copies and the output.
    pub nodes: Vec<String>,
    /// The kernel.
    pub kernel: KernelName,
    /// Multiply-adds for the batch, by the direct method.
    pub macs: u64,
    /// Median time.
    pub time: Duration,
}

/// A network, compiled for this CPU. It can run from several threads at once; runs that share a pool take
/// turns.
pub struct Compiled {
    executor: Executor,
    precision: Precision,
    input: Shape,
    output: Shape,
    slice: usize,
    max_batch: usize,
}

impl std::fmt::Debug for Compiled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compiled")
            .field("input", &self.input)
            .field("output", &self.output)
            .field("isa", &self.isa())
            .field("precision", &self.precision())
            .field("threads", &self.threads().count())
            .finish_non_exhaustive()
    }
}

/// Rewrites a graph into the one that is planned. Where nodes keep their order `as_written`, average pools
/// stay before the convolutions that read them. Returns, for each node, the number that its place had before.
pub(crate) fn fuse(graph: &mut Graph, as_written: bool) -> Result<Vec<NodeId>, Error> {
    graph.verify()?;
    // The floats of a flattened result are in the order in which results leave the engine anyway.
    while matches!(graph.nodes[graph.output].op, Op::Flatten) {
        graph.output = graph.nodes[graph.output].inputs[0];
    }
    let moves = |name: &str| as_written && name == graph::passes::SWAP_AVERAGE;
    let passes: Vec<_> = graph::passes::PASSES.iter().copied().filter(|(name, _)| !moves(name)).collect();
    Ok(graph::passes::run(&passes, graph)?)
}

/// The error of an instruction set that cannot be used.
fn unusable(name: String, reason: &'static str) -> Error {
    let available = Isa::ALL.iter().filter(|isa| isa.available()).map(|isa| isa.name()).collect::<Vec<_>>();
    Error::Isa { name, reason, available: available.join(", ") }
}

impl Isa {
    /// The instruction set of networks that are compiled without [`Options::isa`]: the one that the
    /// environment variable `INCEPTION_ISA` names, or else the best of this CPU.
    ///
    /// # Errors
    /// [`Error::Isa`] if the variable names none, or one that this CPU lacks.
    pub fn chosen() -> Result<Isa, Error> {
        let isa = match std::env::var("INCEPTION_ISA") {
            Ok(name) if !name.is_empty() => {
                Isa::from_name(&name).ok_or_else(|| unusable(name, "is unknown"))?
            }
            _ => Isa::best(),
        };
        if isa.available() { Ok(isa) } else { Err(unusable(isa.name().into(), LACKING)) }
    }
}

/// What is wrong with an instruction set that exists.
const LACKING: &str = "is not available on this CPU";

/// The kernels of the instruction set that the options or the environment ask for, or else of the best.
fn choose_kernels(options: &Options) -> Result<&'static Kernels, Error> {
    let precision = options.precision;
    let mut isa = options.isa.map_or_else(Isa::chosen, Ok)?;
    if precision == Precision::Int8 && options.isa.is_none() {
        // An AVX-512 without dot products of integers is left for what the CPU has besides.
        let runs = |isa: &Isa| isa.available() && precision.missing(*isa).is_none();
        isa = Isa::ALL.into_iter().rev().filter(|other| *other <= isa).find(runs).unwrap_or(isa);
    }
    if let Some(reason) = precision.missing(isa) {
        return Err(Error::Precision { precision, isa, reason });
    }
    Kernels::of(isa, precision.dtype()).ok_or_else(|| unusable(isa.name().into(), LACKING))
}

#[cfg(feature = "capture")]
impl Compiled {
    /// Captures `forward(module, images)` for images of `input`, `[channels, height, width]`, and compiles
    /// it. The module is not needed afterwards: the weights are kept in packed form.
    ///
    /// # Errors
    /// [`Error::Graph`] if the module cannot be captured or holds an operation
    /// that the engine does not have; otherwise as [`Compiled::from_graph`].
    pub fn new<M: burn::module::Module, const D: usize>(
        module: &M,
        forward: impl FnOnce(&M, burn::tensor::Tensor<4>) -> burn::tensor::Tensor<D>,
        input: [usize; 3],
        options: &Options,
    ) -> Result<Compiled, Error> {
        Compiled::from_graph(crate::capture(module.clone(), forward, input)?, options)
    }

    /// Runs a batch of images on whatever device, and puts the results there: `[batch, channels]` for `D` =
    /// 2, `[batch, channels, height, width]` for `D` = 4.
    ///
    /// # Errors
    /// As [`Compiled::run`]; [`Error::Graph`] if the device does not hand out its data as `f32`.
    pub fn run_tensor<const D: usize>(
        &self,
        images: burn::tensor::Tensor<4>,
    ) -> Result<burn::tensor::Tensor<D>, Error> {
        use burn::tensor::{Tensor, TensorData};
        let (device, batch) = (images.device(), images.dims()[0]);
        let data =
            images.try_into_data_as::<f32>().map_err(|error| graph::Error::Capture(error.to_string()))?;
        let data = data.as_slice::<f32>().map_err(|error| graph::Error::Capture(error.to_string()))?;
        let output = self.run(data, batch)?;
        let Shape { height, width, channels } = self.output;
        let full = [batch, channels, height, width];
        let mut dims = [1; D];
        for (axis, dim) in full.iter().enumerate() {
            // What does not fit the rank asked for goes into the last axis.
            dims[axis.min(D - 1)] *= dim;
        }
        Ok(Tensor::from_data(TensorData::new(output, dims), &device))
    }
}

impl Compiled {
    /// Compiles a graph: runs the passes, plans, and packs the weights.
    ///
    /// # Errors
    /// [`Error::Graph`] if the graph is invalid or holds a node that no kernel computes; [`Error::Isa`] or
    /// [`Error::Precision`] if the instruction set or the precision that was asked for cannot be used;
    /// [`Error::Uncalibrated`] or [`Error::Quantization`] if `int8` lacks something.
    pub fn from_graph(graph: Graph, options: &Options) -> Result<Compiled, Error> {
        Compiled::compile(graph, options, &options.rule(), false)
    }

    /// As [`Compiled::from_graph`], with algorithms chosen by `rule`. With `stores_all` each node's tensor
    /// has memory of its own while it runs, so that [`Compiled::watch`] sees all of them, and nodes keep
    /// their order where the quantisation says so, whatever the precision.
    pub(crate) fn compile(
        mut graph: Graph,
        options: &Options,
        rule: &Rule,
        stores_all: bool,
    ) -> Result<Compiled, Error> {
        let kernels = choose_kernels(options)?;
        let image = graph.nodes.first().map_or(Shape::new(0, 0, 0), |node| node.shape);
        let is_int8 = options.precision == Precision::Int8;
        let quantization = options.quantization.as_ref().filter(|_| is_int8 || stores_all);
        fuse(&mut graph, quantization.is_some_and(|quantization| quantization.as_written))?;
        let output = graph.nodes[graph.output].shape;
        let stored = match quantization.filter(|_| is_int8) {
            Some(quantization) => Some(mix(&mut graph, quantization)?),
            None if is_int8 => return Err(Error::Uncalibrated),
            None => None,
        };
        let activations = options.precision.dtype();
        let plan_options = PlanOptions { rule, kernels, activations, stored, stores_all };
        let plan = Plan::new(&mut graph, image, plan_options)?;
        Ok(Compiled {
            precision: options.precision,
            input: image,
            output,
            slice: match options.slice {
                _ if options.batch_invariant => 1,
                0 => (SLICE_BYTES / (plan.arena.floats * size_of::<f32>()).max(1)).clamp(1, 8),
                slice => slice,
            },
            max_batch: options.max_batch.max(1),
            executor: Executor::new(
                plan,
                kernels,
                options.pool(),
                [image.len(), output.len()],
                options.batch_invariant,
            ),
        })
    }

    /// One image as `run` takes it.
    pub fn input_shape(&self) -> Shape {
        self.input
    }

    /// One image's result.
    pub fn output_shape(&self) -> Shape {
        self.output
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.kernels().isa
    }

    /// The type of activations and weights.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The thread pool, to share with other networks through [`Options::pool`](field@Options::pool).
    pub fn threads(&self) -> &Arc<Threads> {
        &self.executor.threads
    }

    /// Bytes of activations for one image: the arena, without weights.
    pub fn arena_bytes(&self) -> usize {
        self.plan().arena.floats * size_of::<f32>()
    }

    /// Images of a batch whose activations are in memory at the same time.
    pub fn at_once(&self, batch: usize) -> usize {
        self.chunks(batch).map(|chunk| chunk.at_once).max().unwrap_or(0)
    }

    /// How `batch` images are computed, one chunk after the other. Threads with images of their own never
    /// wait for each other, and each finds its data in its own cache; the images that are left over they
    /// compute together.
    fn chunks(&self, batch: usize) -> impl Iterator<Item = Chunk> {
        let threads = self.threads().count();
        let images = batch / threads * threads;
        let apart = (images > 0).then_some(Chunk { images, image_parallel: true, at_once: threads });
        let mut left = batch - images;
        let together = std::iter::from_fn(move || {
            let images = self.slice.min(left);
            left -= images;
            (images > 0).then_some(Chunk { images, image_parallel: false, at_once: images })
        });
        apart.into_iter().chain(together)
    }

    /// For each node, what became of it and which kernel computes it.
    pub fn explain(&self) -> &[PlannedNode] {
        &self.plan().rows
    }

    /// Barriers of all threads in a run of fewer images than threads: one after each level of the plan.
    pub fn barriers(&self) -> usize {
        self.plan().levels.len()
    }

    /// Runs `batch` images, `[batch][channels][height][width]`, and returns the results in the same layout.
    ///
    /// # Errors
    /// [`Error::Batch`] or [`Error::Length`] if the batch is empty or too large, or `input` is not that many
    /// images.
    pub fn run(&self, input: &[f32], batch: usize) -> Result<Vec<f32>, Error> {
        self.check_batch(batch)?;
        let mut output = vec![0.0; batch * self.output.len()];
        self.run_into(input, batch, &mut output)?;
        Ok(output)
    }

    /// As [`Compiled::run`], into a slice of `batch * output_shape().len()` floats.
    ///
    /// # Errors
    /// As [`Compiled::run`].
    pub fn run_into(&self, input: &[f32], batch: usize, output: &mut [f32]) -> Result<(), Error> {
        self.check_lengths(input, batch, output)?;
        let mut done = 0;
        for chunk in self.chunks(batch) {
            let end = done + chunk.images;
            let images = &input[done * self.input.len()..end * self.input.len()];
            let results = &mut output[done * self.output.len()..end * self.output.len()];
            match chunk.image_parallel {
                true => self.executor.run_images(images, results),
                false => self.executor.run_levels(images, results),
            }
            done = end;
        }
        Ok(())
    }

    /// Runs one image on the calling thread, without the pool, which other threads may use meanwhile: for
    /// programs whose own threads each compute images, as a server's do. The result is that of an image of a
    /// batch of at least as many as the pool has threads.
    ///
    /// # Errors
    /// [`Error::Length`] if `image` is not one image.
    pub fn run_here(&self, image: &[f32]) -> Result<Vec<f32>, Error> {
        let mut output = vec![0.0; self.output.len()];
        self.check_lengths(image, 1, &output)?;
        self.executor.run_here(image, &mut output);
        Ok(output)
    }

    /// Median time of each step over `repeats` runs of `batch` images, the steps run one after the other.
    ///
    /// # Errors
    /// As [`Compiled::run`].
    pub fn profile(&self, input: &[f32], batch: usize, repeats: usize) -> Result<Vec<LayerTime>, Error> {
        let mut times = self.sample_steps(input, batch, repeats)?;
        let layer = |&step: &usize| {
            let planned = &self.plan().steps[step];
            let times = &mut times[step];
            times.sort_unstable();
            LayerTime {
                nodes: self.nodes_of(step),
                kernel: planned.step.kernel(),
                macs: batch as u64
                    * planned.nodes.iter().map(|&node| self.plan().rows[node].macs).sum::<u64>(),
                time: times[times.len() / 2],
            }
        };
        Ok(self.plan().levels.iter().flatten().map(layer).collect())
    }

    /// Times of each step of the plan in `repeats` runs, at least one.
    pub(crate) fn sample_steps(
        &self,
        input: &[f32],
        batch: usize,
        repeats: usize,
    ) -> Result<Vec<Vec<Duration>>, Error> {
        let mut times = vec![Vec::with_capacity(repeats); self.plan().steps.len()];
        for _ in 0..repeats.max(1) {
            for (times, time) in times.iter_mut().zip(self.time_steps(input, batch)?) {
                times.push(time);
            }
        }
        Ok(times)
    }

    /// Time of each step of the plan in one run, the steps run one after the other.
    pub(crate) fn time_steps(&self, input: &[f32], batch: usize) -> Result<Vec<Duration>, Error> {
        let mut output = vec![0.0; batch * self.output.len()];
        self.check_lengths(input, batch, &output)?;
        Ok(self.executor.time_steps(input, &mut output))
    }

    /// As [`Executor::watch`], for an image of any length.
    pub(crate) fn watch(
        &self,
        image: &[f32],
        look: impl FnMut(&[usize], &dyn Fn(NodeId) -> Option<Tensor>),
    ) -> Result<(), Error> {
        let mut output = vec![0.0; self.output.len()];
        self.check_lengths(image, 1, &output)?;
        self.executor.watch(image, &mut output, look);
        Ok(())
    }

    /// The names of the nodes that a step of the plan computes.
    pub(crate) fn nodes_of(&self, step: usize) -> Vec<String> {
        let plan = self.plan();
        plan.steps[step].nodes.iter().map(|&node| plan.rows[node].node.clone()).collect()
    }

    /// The plan.
    pub(crate) fn plan(&self) -> &Plan {
        &self.executor.plan
    }

    /// The kernels in use.
    pub(crate) fn kernels(&self) -> &'static Kernels {
        self.executor.kernels
    }

    fn check_batch(&self, batch: usize) -> Result<(), Error> {
        if (1..=self.max_batch).contains(&batch) {
            Ok(())
        } else {
            Err(Error::Batch { batch, max: self.max_batch })
        }
    }

    fn check_lengths(&self, input: &[f32], batch: usize, output: &[f32]) -> Result<(), Error> {
        self.check_batch(batch)?;
        for (what, found, one) in
            [("input", input.len(), self.input.len()), ("output", output.len(), self.output.len())]
        {
            if found != batch * one {
                return Err(Error::Length { what, found, wanted: batch * one, batch });
            }
        }
        Ok(())
    }
}

#[cfg(all(test, sanitized))]
#[allow(clippy::unwrap_used)] // A test fails by panicking.
mod tests {
    use super::*;
    use crate::graph::{Conv, Window};

    /// A process that runs the kernels of a plan whose record of one tensor has been falsified must die of
    /// it, or the sanitizer sees nothing of what the kernels do.
    #[test]
    fn the_sanitizer_sees_what_kernels_touch() {
        const CHILD: &str = "INCEPTION_FALSIFIED";
        if let Some(isa) = std::env::var_os(CHILD) {
            let conv = Conv {
                weight: vec![0.1; 16 * 16 * 9],
                bias: Some(vec![0.0; 16]),
                out_channels: 16,
                groups: 1,
                window: Window::square(3, 2, 1),
                input_relu: false,
                relu: false,
            };
            let mut graph = Graph::new(Shape::new(6, 6, 16));
            for name in ["a", "b"] {
                graph.add(name, Op::Conv(Box::new(conv.clone())), &[graph.output]).unwrap();
            }
            let isa = Isa::from_name(isa.to_str().unwrap());
            let options = Options { threads: 1, isa, ..Options::default() };
            let mut model = Compiled::from_graph(graph, &options).unwrap();
            let images = vec![1.0; 6 * 6 * 16];
            model.run(&images, 1).unwrap();
            eprintln!("the plan as it is ran");
            // The tensor between the two convolutions ends a pixel early.
            let plan = &mut model.executor.plan;
            let between = plan.steps[1].level;
            let mut buffers = plan.arena.buffers.iter_mut();
            buffers.find(|buffer| buffer.lifetime.first == between).unwrap().lifetime.size -= 16;
            model.run(&images, 1).unwrap();
            return;
        }
        for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
            let mut child = std::process::Command::new(std::env::current_exe().unwrap());
            let name = "compiled::tests::the_sanitizer_sees_what_kernels_touch";
            let output =
                child.args([name, "--exact", "--nocapture"]).env(CHILD, isa.name()).output().unwrap();
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(
                !output.status.success() && text.contains("ran") && text.contains("use-after-poison"),
                "{isa}: {text}"
            );
        }
    }
}
