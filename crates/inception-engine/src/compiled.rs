//! A compiled network and the machine that runs it.
#![allow(unsafe_code)] // Hands raw pointers to steps, under the plan's promise that they do not collide.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::dtype::DType;
use crate::graph::reference::Tensor;
use crate::graph::{Graph, NodeId, Shape};
use crate::kernels::Kernels;
use crate::memory::{Aligned, LINE, sanitizer};
use crate::plan::{Picks, Plan, Planned, Row, Rule, plan};
use crate::steps::{Context, RunConfig, chunk};
use crate::threads::{Threads, Worker};
use crate::{Error, Isa, Precision, graph};

/// Bytes of activations that images which go through the layers together, on all threads, may have, unless asked otherwise: more
/// images share the reading of weights, but their activations must stay in the third-level cache. That is for fewer images than
/// threads; others go through alone, on one thread each. (At batch 8 on two Zen 4 cores 1, 2 and 4 images a thread took GoogLeNet
/// 61, 64 and 69 ms and Inception V3 250, 262 and 259; all threads on one slice of 4 images 72 and 263.)
const SLICE_BYTES: usize = 16 << 20;

/// How to compile a network.
#[derive(Clone, Debug)]
pub struct Options {
    /// Threads, the caller's included; 0 is one for each core. Ignored if `pool` is given. (Compiling packs weights on all cores.)
    pub threads: usize,
    /// Threads to share with other compiled networks.
    pub pool: Option<Arc<Threads>>,
    /// Keep to algorithms that add and multiply as the network is written: no Winograd, no Strassen.
    pub exact: bool,
    /// Kernels to use in place of those that the cost model picks, as [`picks`](crate::picks) finds them; ignored with `exact`.
    pub picks: Picks,
    /// Largest batch that `run` accepts.
    pub max_batch: usize,
    /// Instruction set; `None` takes the one that the environment variable `INCEPTION_ISA` names (`avx512`, `avx2`,
    /// `portable`), or else the best of this CPU.
    pub isa: Option<Isa>,
    /// What to compute in.
    pub precision: Precision,
    /// Images that go through the layers together, each layer on all threads, where there are fewer images than threads; 0 takes
    /// as many as suit the cache.
    pub slice: usize,
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
            slice: 0,
        }
    }
}

impl Options {
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
struct Part {
    images: usize,
    /// Each thread computes images of its own; else all threads share each layer.
    apart: bool,
    /// Images in memory at the same time, of all threads.
    at_once: usize,
}

/// Memory of one run; kept for the next one.
struct Memory {
    arena: Aligned,
    /// That of all threads, one after the other.
    scratch: Aligned,
    /// For each thread and step, how many tasks of the thread's share were claimed.
    claimed: Vec<Vec<AtomicUsize>>,
}

/// Time of one step of a run.
#[derive(Clone, Debug)]
pub struct LayerTime {
    /// The nodes that the step computes; empty for copies and the output.
    pub nodes: Vec<String>,
    /// The kernel.
    pub kernel: String,
    /// Multiply-adds for the batch, by the direct method.
    pub macs: u64,
    /// Median time.
    pub time: Duration,
}

/// A network, compiled for this CPU. It can run from several threads at once (runs that share a pool take turns).
pub struct Compiled {
    plan: Plan,
    kernels: &'static Kernels,
    precision: Precision,
    threads: Arc<Threads>,
    input: Shape,
    output: Shape,
    zeros: Aligned,
    scratch: usize,
    slice: usize,
    max_batch: usize,
    memories: Mutex<Vec<Memory>>,
}

impl std::fmt::Debug for Compiled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compiled")
            .field("input", &self.input)
            .field("output", &self.output)
            .field("isa", &self.kernels.isa)
            .field("precision", &self.precision())
            .field("threads", &self.threads.count())
            .finish_non_exhaustive()
    }
}

/// Rewrites a graph into the one that is planned.
pub(crate) fn fuse(graph: &mut Graph) -> Result<(), Error> {
    graph.verify()?;
    // A flattened result has the very order of floats in which results leave the engine.
    while matches!(graph.nodes[graph.output].op, graph::Op::Flatten) {
        graph.output = graph.nodes[graph.output].inputs[0];
    }
    Ok(graph::passes::run(graph::passes::PASSES, graph)?)
}

/// The kernels to use, of the instruction set that is asked for, forced by the environment, or the best.
fn choose_kernels(options: &Options) -> Result<&'static Kernels, Error> {
    let unusable = |name: String, reason| {
        let available =
            Isa::ALL.iter().filter(|isa| isa.available()).map(|isa| isa.name()).collect::<Vec<_>>();
        Error::Isa { name, reason, available: available.join(", ") }
    };
    let isa = match (options.isa, std::env::var("INCEPTION_ISA")) {
        (Some(isa), _) => isa,
        (None, Ok(name)) if !name.is_empty() => {
            Isa::from_name(&name).ok_or_else(|| unusable(name, "is unknown"))?
        }
        _ => Isa::best(),
    };
    let precision = options.precision;
    if let Some(reason) = precision.missing(isa) {
        return Err(Error::Precision { precision, isa, reason });
    }
    Kernels::of(isa, precision.dtype())
        .ok_or_else(|| unusable(isa.name().into(), "is not available on this CPU"))
}

#[cfg(feature = "capture")]
impl Compiled {
    /// Captures `forward(module, images)` for images of `input`, `[channels, height, width]`, and compiles it. The module
    /// is not needed afterwards: the weights are kept in packed form.
    ///
    /// # Errors
    /// [`Error::Capture`] or [`Error::Unsupported`] if the module cannot be captured or holds an operation that the
    /// engine does not have; otherwise as [`Compiled::from_graph`].
    pub fn new<M: burn::module::Module, const D: usize>(
        module: &M,
        forward: impl FnOnce(&M, burn::tensor::Tensor<4>) -> burn::tensor::Tensor<D>,
        input: [usize; 3],
        options: &Options,
    ) -> Result<Compiled, Error> {
        Compiled::from_graph(crate::capture(module.clone(), forward, input)?, options)
    }

    /// Runs a batch of images on whatever device, and puts the results there: `[batch, channels]` for `D` = 2,
    /// `[batch, channels, height, width]` for `D` = 4.
    ///
    /// # Errors
    /// As [`Compiled::run`]; [`Error::Capture`] if the device does not hand out its data as `f32`.
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
    /// [`Error::Precision`] if the instruction set or the precision that was asked for cannot be used.
    pub fn from_graph(graph: Graph, options: &Options) -> Result<Compiled, Error> {
        Compiled::by_rule(graph, options, &options.rule())
    }

    /// As [`Compiled::from_graph`], with algorithms chosen by `rule`.
    pub(crate) fn by_rule(mut graph: Graph, options: &Options, rule: &Rule) -> Result<Compiled, Error> {
        let kernels = choose_kernels(options)?;
        let image = graph.nodes.first().map_or(Shape::new(0, 0, 0), |node| node.shape);
        fuse(&mut graph)?;
        let plan = plan(&mut graph, image, rule, kernels, options.precision.dtype())?;
        let scratch = plan.steps.iter().map(|s| s.step.scratch(kernels)).max().unwrap_or(0);
        let zeros = plan.steps.iter().map(|s| s.step.zeros()).max().unwrap_or(0);
        Ok(Compiled {
            kernels,
            precision: options.precision,
            threads: options.pool.clone().unwrap_or_else(|| Threads::new(options.threads)),
            input: image,
            output: graph.nodes[graph.output].shape,
            zeros: Aligned::zeros(zeros),
            // Whole lines, so that each thread's begins on one.
            scratch: scratch.max(1).next_multiple_of(LINE),
            slice: match options.slice {
                0 => (SLICE_BYTES / (plan.arena * size_of::<f32>()).max(1)).clamp(1, 8),
                slice => slice,
            },
            max_batch: options.max_batch.max(1),
            memories: Mutex::new(Vec::new()),
            plan,
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
        self.kernels.isa
    }

    /// What the network computes in.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The thread pool, to share with other networks through [`Options::pool`].
    pub fn threads(&self) -> &Arc<Threads> {
        &self.threads
    }

    /// Bytes of activations for one image: the arena, without weights.
    pub fn arena_bytes(&self) -> usize {
        self.plan.arena * size_of::<f32>()
    }

    /// Images of a batch whose activations are in memory at the same time.
    pub fn at_once(&self, batch: usize) -> usize {
        self.parts(batch).map(|part| part.at_once).max().unwrap_or(0)
    }

    /// How `batch` images are computed, one part after the other. Threads with images of their own never wait for each other, and
    /// each finds its data in its own cache; what is left over they compute together.
    fn parts(&self, batch: usize) -> impl Iterator<Item = Part> {
        let threads = self.threads.count();
        let apart = batch / threads * threads;
        let alone = (apart > 0).then_some(Part { images: apart, apart: true, at_once: threads });
        let mut left = batch - apart;
        let together = std::iter::from_fn(move || {
            let images = self.slice.min(left);
            left -= images;
            (images > 0).then_some(Part { images, apart: false, at_once: images })
        });
        alone.into_iter().chain(together)
    }

    /// Per node, what became of it and which kernel computes it.
    pub fn explain(&self) -> &[Row] {
        &self.plan.rows
    }

    /// Waves of the plan: the number of times that all threads meet in a run.
    pub fn waves(&self) -> usize {
        self.plan.waves.len()
    }

    /// Runs `batch` images, `[batch][channels][height][width]`, and returns the results in the same layout.
    ///
    /// # Errors
    /// [`Error::Batch`] or [`Error::Length`] if the batch is empty or too large, or `input` is not that many images.
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
        for part in self.parts(batch) {
            let end = done + part.images;
            let images = &input[done * self.input.len()..end * self.input.len()];
            let results = &mut output[done * self.output.len()..end * self.output.len()];
            let mut memory = self.take_memory(part.at_once);
            if part.apart {
                self.run_apart(&mut memory, images, results);
            } else {
                self.run_waves(&mut memory, images, part.images, results, &self.plan.waves);
            }
            self.give_memory(memory);
            done = end;
        }
        Ok(())
    }

    /// Median time of each step over `repeats` runs of `batch` images, the steps run one after the other.
    ///
    /// # Errors
    /// As [`Compiled::run`].
    pub fn profile(&self, input: &[f32], batch: usize, repeats: usize) -> Result<Vec<LayerTime>, Error> {
        let mut times = self.sample_steps(input, batch, repeats)?;
        let layer = |&step: &usize| {
            let planned = &self.plan.steps[step];
            let times = &mut times[step];
            times.sort_unstable();
            LayerTime {
                nodes: self.nodes_of(step),
                kernel: planned.step.kernel(),
                macs: batch as u64 * planned.nodes.iter().map(|&node| self.plan.rows[node].macs).sum::<u64>(),
                time: times[times.len() / 2],
            }
        };
        Ok(self.plan.waves.iter().flatten().map(layer).collect())
    }

    /// Times of each step of the plan in `repeats` runs, at least one.
    pub(crate) fn sample_steps(
        &self,
        input: &[f32],
        batch: usize,
        repeats: usize,
    ) -> Result<Vec<Vec<Duration>>, Error> {
        let mut times = vec![Vec::with_capacity(repeats); self.plan.steps.len()];
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
        let mut memory = self.take_memory(batch);
        let mut times = vec![Duration::ZERO; self.plan.steps.len()];
        for &step in self.plan.waves.iter().flatten() {
            let start = Instant::now();
            self.run_waves(&mut memory, input, batch, &mut output, &[vec![step]]);
            times[step] = start.elapsed();
        }
        self.give_memory(memory);
        Ok(times)
    }

    /// Runs one image wave by wave; `look` gets the level of each wave when it is done, and can ask for what its nodes and those
    /// that they read hold then, if they are stored.
    pub(crate) fn watch(
        &self,
        image: &[f32],
        mut look: impl FnMut(usize, &dyn Fn(NodeId) -> Option<Tensor>),
    ) -> Result<(), Error> {
        let mut output = vec![0.0; self.output.len()];
        self.check_lengths(image, 1, &output)?;
        let mut memory = self.take_memory(1);
        for wave in &self.plan.waves {
            self.run_waves(&mut memory, image, 1, &mut output, std::slice::from_ref(wave));
            let floats = memory.arena.as_mut();
            let stored = |node: NodeId| {
                let (view, channels) = (self.plan.views[node]?, self.plan.rows[node].shape[2]);
                let at = |i: usize| view.at(1, i / channels) + i % channels * view.dtype.size();
                let half = |byte: usize| floats[byte / 4].to_bits() >> (byte % 4 * 8) << 16;
                let value = |i: usize| match view.dtype {
                    DType::F32 => floats[at(i) / 4],
                    DType::Bf16 => f32::from_bits(half(at(i))),
                };
                Some((0..view.pixels * channels).map(|i| f64::from(value(i))).collect())
            };
            if let Some(&step) = wave.first() {
                look(self.plan.steps[step].level, &stored);
            }
        }
        self.give_memory(memory);
        Ok(())
    }

    /// The names of the nodes that a step of the plan computes.
    pub(crate) fn nodes_of(&self, step: usize) -> Vec<String> {
        self.plan.steps[step].nodes.iter().map(|&node| self.plan.rows[node].node.clone()).collect()
    }

    /// The plan.
    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The kernels in use.
    pub(crate) fn kernels(&self) -> &'static Kernels {
        self.kernels
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

    /// Memory for `n` images: what an earlier run left, if it is large enough.
    fn take_memory(&self, n: usize) -> Memory {
        let mut memories = self.memories.lock().unwrap_or_else(PoisonError::into_inner);
        let arena = self.plan.arena * n;
        let kept = memories.pop().filter(|memory| memory.arena.len() >= arena);
        drop(memories);
        kept.unwrap_or_else(|| Memory {
            arena: Aligned::zeros(arena),
            scratch: Aligned::zeros(self.scratch * self.threads.count()),
            claimed: (0..self.threads.count())
                .map(|_| self.plan.steps.iter().map(|_| AtomicUsize::new(0)).collect())
                .collect(),
        })
    }

    fn give_memory(&self, memory: Memory) {
        self.memories.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
    }

    /// Runs all of `input`, an image at a time on each thread. The caller has checked the lengths of `input` and `output`.
    fn run_apart(&self, memory: &mut Memory, input: &[f32], output: &mut [f32]) {
        let config = RunConfig { kernels: self.kernels, threads: 1, batch: 1 };
        let base = Shared::new(memory, input, output);
        let images = input.len() / self.input.len();
        let next = AtomicUsize::new(0);
        self.threads.run(&|worker: &Worker<'_>| {
            let mut context = base.context(config, &self.zeros, worker.index);
            let Plan { arena: floats, buffers, .. } = &self.plan;
            context.arena = context.arena.wrapping_add(worker.index * floats);
            loop {
                let image = next.fetch_add(1, Ordering::Relaxed);
                if image >= images {
                    break;
                }
                context.input = base.input.wrapping_add(image * self.input.len());
                context.output = base.output.wrapping_add(image * self.output.len());
                for &index in self.plan.waves.iter().flatten() {
                    let Planned { step, level, .. } = &self.plan.steps[index];
                    // SAFETY: this thread's part of the arena.
                    unsafe { sanitizer::forbid(context.arena, [*floats, 1], buffers, Some(*level)) };
                    for task in 0..step.tasks(&config) {
                        // SAFETY: this thread has done all earlier steps; the arena holds `plan.arena` floats for each thread, the
                        // scratch memory what the hungriest step asks for, and each image is taken once.
                        unsafe { step.execute_task(task, &context) };
                    }
                }
                // SAFETY: as above.
                unsafe { sanitizer::forbid(context.arena, [*floats, 1], buffers, None) };
            }
        });
    }

    /// Runs `waves` in order. The caller has checked the lengths of `input` and `output`.
    fn run_waves(
        &self,
        memory: &mut Memory,
        input: &[f32],
        n: usize,
        output: &mut [f32],
        waves: &[Vec<usize>],
    ) {
        let config = RunConfig { kernels: self.kernels, threads: self.threads.count(), batch: n };
        let base = Shared::new(memory, input, output);
        for counter in memory.claimed.iter_mut().flatten() {
            *counter.get_mut() = 0;
        }
        let claimed = &memory.claimed;
        let threads = config.threads;
        self.threads.run(&|worker: &Worker<'_>| {
            let context = base.context(config, &self.zeros, worker.index);
            let Plan { arena: floats, buffers, .. } = &self.plan;
            for wave in waves {
                if cfg!(sanitized) {
                    if let (0, Some(&step)) = (worker.index, wave.first()) {
                        let level = Some(self.plan.steps[step].level);
                        // SAFETY: the arena of this run.
                        unsafe { sanitizer::forbid(base.arena, [*floats, n], buffers, level) };
                    }
                    worker.barrier();
                }
                // A thread's share of a step lies next to its shares of the steps before, whose results are in this
                // core's cache. Only then does it look what others have left.
                for owner in (0..threads).map(|turn| (worker.index + turn) % threads) {
                    for &index in wave {
                        let step = &self.plan.steps[index].step;
                        let share = chunk(step.tasks(&config), owner, threads);
                        let claimed = &claimed[owner][index];
                        while claimed.load(Ordering::Relaxed) < share.len() {
                            let task = share.start + claimed.fetch_add(1, Ordering::Relaxed);
                            if task >= share.end {
                                break;
                            }
                            // SAFETY: earlier waves are complete (the barrier below), the shares are disjoint and the counter
                            // hands out each task of one once, and the pointers are those of a run of this plan: the arena
                            // holds `plan.arena * n` floats, the scratch memory what the hungriest step asks for, input
                            // and output `n` images.
                            unsafe { step.execute_task(task, &context) };
                        }
                    }
                }
                worker.barrier();
            }
        });
        // SAFETY: the arena of this run.
        unsafe { sanitizer::forbid(base.arena, [self.plan.arena, n], &self.plan.buffers, None) };
    }
}

/// The pointers of a run, shared by its threads.
struct Shared {
    arena: *mut f32,
    scratch: *mut f32,
    /// Of each thread.
    scratch_floats: usize,
    input: *const f32,
    output: *mut f32,
}

// SAFETY: the pointers outlive the run, and steps write disjoint parts of what they point to; see `Step::execute_task`.
unsafe impl Sync for Shared {}

impl Shared {
    fn new(memory: &mut Memory, input: &[f32], output: &mut [f32]) -> Self {
        Shared {
            arena: memory.arena.as_mut_ptr(),
            scratch: memory.scratch.as_mut_ptr(),
            scratch_floats: memory.scratch.len() / memory.claimed.len(),
            input: input.as_ptr(),
            output: output.as_mut_ptr(),
        }
    }

    fn context(&self, config: RunConfig, zeros: &Aligned, thread: usize) -> Context {
        Context {
            config,
            arena: self.arena,
            zeros: zeros.as_ptr(),
            scratch: self.scratch.wrapping_add(thread * self.scratch_floats),
            input: self.input,
            output: self.output,
        }
    }
}

#[cfg(all(test, sanitized))]
#[allow(clippy::unwrap_used)] // A test fails by panicking.
mod tests {
    use super::*;
    use crate::graph::{Conv, Op, Window};

    /// A process that runs the kernels of a plan whose record of one tensor has been falsified must die of it, or the sanitizer
    /// sees nothing of what the kernels do.
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
            let between = model.plan.steps[1].level;
            let tensor = model.plan.buffers.iter_mut().find(|(_, buffer)| buffer.first == between).unwrap();
            tensor.1.size -= 16;
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
