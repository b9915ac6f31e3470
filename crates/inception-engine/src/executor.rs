//! The executor: runs the steps of a plan on threads.
#![allow(unsafe_code)] // Hands raw pointers to steps, under the plan's promise that they do not collide.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::dtype::{DType, LINE};
use crate::graph::NodeId;
use crate::graph::reference::Tensor;
use crate::kernels::Kernels;
use crate::memory::{Aligned, sanitizer};
use crate::plan::{Plan, PlannedStep};
use crate::steps::{Context, RunConfig, chunk};
use crate::threads::{Threads, Worker};

/// A plan with all that it takes to run it. Runs from several threads at once share the pool in turns.
pub(crate) struct Executor {
    /// What to run.
    pub plan: Plan,
    /// The kernels of the instruction set.
    pub kernels: &'static Kernels,
    /// The pool.
    pub threads: Arc<Threads>,
    /// Threads for whose number an image is cut that one thread computes.
    alone: usize,
    /// Floats of an image, and of its result.
    floats: [usize; 2],
    /// What steps read outside their input.
    zeros: Aligned,
    /// Floats of scratch memory for each thread.
    scratch: usize,
    /// Memory that earlier runs left.
    memories: Mutex<Vec<Memory>>,
}

/// Memory of one run; kept for the next one.
struct Memory {
    arena: Aligned,
    /// That of all threads, one after the other.
    scratch: Aligned,
    /// For each thread and step, how many tasks of the thread's share were claimed.
    claimed: Vec<Vec<AtomicUsize>>,
}

impl Executor {
    /// An executor for images and results of so many `floats`. With `batch_invariant` a thread cuts the image
    /// that it computes alone as all threads cut one that they share.
    pub fn new(
        plan: Plan,
        kernels: &'static Kernels,
        threads: Arc<Threads>,
        floats: [usize; 2],
        batch_invariant: bool,
    ) -> Executor {
        let scratch = plan.steps.iter().map(|s| s.step.scratch(kernels)).max().unwrap_or(0);
        let zeros = plan.steps.iter().map(|s| s.step.zeros()).max().unwrap_or(0);
        Executor {
            plan,
            kernels,
            alone: if batch_invariant { threads.count() } else { 1 },
            threads,
            floats,
            zeros: Aligned::zeros(zeros),
            // Whole lines, so that each thread's begins on one.
            scratch: scratch.max(1).next_multiple_of(LINE),
            memories: Mutex::new(Vec::new()),
        }
    }

    /// How many images `input` holds. Panics unless `output` has room for the results of just as many: the
    /// steps rely on it.
    fn images(&self, input: &[f32], output: &[f32]) -> usize {
        let n = input.len() / self.floats[0];
        assert_eq!([input.len(), output.len()], self.floats.map(|floats| n * floats), "the lengths fit");
        n
    }

    /// Memory for `n` images: what an earlier run left, if it is large enough.
    fn take_memory(&self, n: usize) -> Memory {
        let mut memories = self.memories.lock().unwrap_or_else(PoisonError::into_inner);
        // Too many for a `usize` are too many for the allocator, which says so.
        let arena = self.plan.arena.floats.saturating_mul(n);
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

    /// Runs the images of `input`, all of them through each level together, on all threads.
    pub fn run_levels(&self, input: &[f32], output: &mut [f32]) {
        let mut memory = self.take_memory(self.images(input, output));
        self.run_some(&mut memory, input, output, &self.plan.levels);
        self.give_memory(memory);
    }

    /// How a thread computes an image that no other one shares.
    fn alone(&self) -> RunConfig {
        RunConfig { kernels: self.kernels, threads: 1, cut: self.alone, batch: 1 }
    }

    /// Runs the images of `input`, each through all levels on a thread of its own.
    pub fn run_images(&self, input: &[f32], output: &mut [f32]) {
        let images = self.images(input, output);
        let config = self.alone();
        let mut memory = self.take_memory(self.threads.count());
        let base = Shared::new(&mut memory, input, output);
        let next = AtomicUsize::new(0);
        self.threads.run(&|worker: &Worker<'_>| {
            let mut context = base.context(config, &self.zeros, worker.index);
            context.arena = context.arena.wrapping_add(worker.index * self.plan.arena.floats);
            loop {
                let image = next.fetch_add(1, Ordering::Relaxed);
                if image >= images {
                    break;
                }
                context.input = base.input.wrapping_add(image * self.floats[0]);
                context.output = base.output.wrapping_add(image * self.floats[1]);
                // SAFETY: this thread's share of the arena, which holds an image for each thread, and of the
                // scratch memory; each image is taken once.
                unsafe { self.run_through(&context) };
            }
        });
        self.give_memory(memory);
    }

    /// Runs one image on the calling thread. Any number of threads may do that at the same time.
    pub fn run_here(&self, image: &[f32], output: &mut [f32]) {
        assert_eq!(self.images(image, output), 1, "one image");
        let mut memory = self.take_memory(1);
        let context = Shared::new(&mut memory, image, output).context(self.alone(), &self.zeros, 0);
        // SAFETY: memory of this run's own, for one image.
        unsafe { self.run_through(&context) };
        self.give_memory(memory);
    }

    /// Runs one image through all levels on this thread.
    ///
    /// # Safety
    /// The pointers of `context`, as [`alone`](Self::alone) configures it, are to an arena, an image and a
    /// result of this plan and to scratch memory for the hungriest step, and no other thread uses them.
    unsafe fn run_through(&self, context: &Context) {
        let arena = &self.plan.arena;
        for &index in self.plan.levels.iter().flatten() {
            let PlannedStep { step, level, .. } = &self.plan.steps[index];
            // SAFETY: the caller's promise.
            unsafe { sanitizer::forbid(context.arena, 1, arena, Some(*level)) };
            for task in 0..step.tasks(&context.config) {
                // SAFETY: this thread has done all earlier steps; the rest is the caller's promise.
                unsafe { step.execute_task(task, context) };
            }
        }
        // SAFETY: as above.
        unsafe { sanitizer::forbid(context.arena, 1, arena, None) };
    }

    /// Runs `levels` in order.
    fn run_some(&self, memory: &mut Memory, input: &[f32], output: &mut [f32], levels: &[Vec<usize>]) {
        let n = self.images(input, output);
        let count = self.threads.count();
        let config = RunConfig { kernels: self.kernels, threads: count, cut: count, batch: n };
        let base = Shared::new(memory, input, output);
        for counter in memory.claimed.iter_mut().flatten() {
            *counter.get_mut() = 0;
        }
        let claimed = &memory.claimed;
        let threads = config.threads;
        let arena = &self.plan.arena;
        self.threads.run(&|worker: &Worker<'_>| {
            let context = base.context(config, &self.zeros, worker.index);
            for steps in levels {
                if cfg!(sanitized) {
                    if let (0, Some(&step)) = (worker.index, steps.first()) {
                        let level = Some(self.plan.steps[step].level);
                        // SAFETY: the arena of this run.
                        unsafe { sanitizer::forbid(base.arena, n, arena, level) };
                    }
                    worker.barrier();
                }
                // A thread's share of a step lies next to its shares of the steps before, whose results are
                // in this core's cache. Only then does it look what others have left.
                for owner in (0..threads).map(|turn| (worker.index + turn) % threads) {
                    for &index in steps {
                        let step = &self.plan.steps[index].step;
                        let share = chunk(step.tasks(&config), owner, threads);
                        let claimed = &claimed[owner][index];
                        while claimed.load(Ordering::Relaxed) < share.len() {
                            let task = share.start + claimed.fetch_add(1, Ordering::Relaxed);
                            if task >= share.end {
                                break;
                            }
                            // SAFETY: earlier levels are complete (the barrier below), the shares are
                            // disjoint and the counter hands out each task of one once. The pointers are
                            // those of a run of this plan: the arena, input and output hold `n` images, the
                            // scratch memory what the hungriest step asks for.
                            unsafe { step.execute_task(task, &context) };
                        }
                    }
                }
                worker.barrier();
            }
        });
        // SAFETY: the arena of this run.
        unsafe { sanitizer::forbid(base.arena, n, arena, None) };
    }

    /// The time of each step of the plan in one run, the steps run one after the other.
    pub fn time_steps(&self, input: &[f32], output: &mut [f32]) -> Vec<Duration> {
        let mut memory = self.take_memory(self.images(input, output));
        let mut times = vec![Duration::ZERO; self.plan.steps.len()];
        for &step in self.plan.levels.iter().flatten() {
            let start = Instant::now();
            self.run_some(&mut memory, input, output, &[vec![step]]);
            times[step] = start.elapsed();
        }
        self.give_memory(memory);
        times
    }

    /// Runs one image level by level. After each, `look` gets the numbers of its steps, and can ask for the
    /// tensors that their nodes wrote and read, if they are stored.
    pub fn watch(
        &self,
        image: &[f32],
        output: &mut [f32],
        mut look: impl FnMut(&[usize], &dyn Fn(NodeId) -> Option<Tensor>),
    ) {
        let mut memory = self.take_memory(1);
        for steps in &self.plan.levels {
            self.run_some(&mut memory, image, output, std::slice::from_ref(steps));
            let floats = memory.arena.as_mut();
            let stored = |node: NodeId| {
                let (view, channels) = (self.plan.views[node]?, self.plan.rows[node].shape[2]);
                let at = |i: usize| view.at(1, i / channels) + i % channels * view.dtype.size();
                let half = |byte: usize| floats[byte / 4].to_bits() >> (byte % 4 * 8) << 16;
                let value = |i: usize| match view.dtype {
                    DType::F32 => floats[at(i) / 4],
                    DType::Bf16 => f32::from_bits(half(at(i))),
                    DType::U8 => {
                        view.quant.dequantize((floats[at(i) / 4].to_bits() >> (at(i) % 4 * 8)) as u8)
                    }
                };
                Some((0..view.pixels * channels).map(|i| f64::from(value(i))).collect())
            };
            look(steps, &stored);
        }
        self.give_memory(memory);
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

// SAFETY: the pointers outlive the run, and steps write disjoint ranges of what they point to; see `Step`.
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
