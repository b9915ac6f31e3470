//! What all steps have in common.

use crate::KernelName;
use crate::dtype::DType;
use crate::kernels::Kernels;
use crate::kernels::conv::MAX_PANEL;
use crate::memory::{Aligned, View};

/// Tasks that a step tries to offer each thread, so that a late thread costs a fraction of a step.
pub(crate) const TASKS_PER_THREAD: usize = 4;

/// The parameters of a run by which steps split their work.
#[derive(Clone, Copy)]
pub(crate) struct RunConfig {
    /// Kernels of the instruction set.
    pub kernels: &'static Kernels,
    /// Threads that share the work.
    pub threads: usize,
    /// Threads for whose number work is cut where the cut shows in results: Strassen's algorithm pairs rows
    /// of a cut.
    pub cut: usize,
    /// Images.
    pub batch: usize,
}

/// A run as one thread sees it.
#[derive(Clone, Copy)]
pub(crate) struct Context {
    /// Kernels, threads and images.
    pub config: RunConfig,
    /// The arena: the plan's size times the batch.
    pub arena: *mut f32,
    /// Zeros, as many as the plan asks for, which convolutions read outside their input.
    pub zeros: *const f32,
    /// This thread's scratch memory, of the plan's size.
    pub scratch: *mut f32,
    /// The images, `[batch][channels][height][width]`.
    pub input: *const f32,
    /// The results, `[batch][channels][height][width]`.
    pub output: *mut f32,
}

impl Context {
    /// The first channel of a view's pixel, counted through the batch.
    pub fn pixel(&self, view: &View, pixel: usize) -> *mut u8 {
        self.arena.cast::<u8>().wrapping_add(view.at(self.config.batch, pixel))
    }
}

/// One step of a plan.
pub(crate) trait Step: Send + Sync {
    /// The kernel.
    fn kernel(&self) -> KernelName;

    /// The number of tasks into which the step splits.
    fn tasks(&self, config: &RunConfig) -> usize;

    /// Does one task.
    ///
    /// # Safety
    /// `context` describes a run of the plan that the step belongs to, `task` is below `tasks`, every step
    /// that this one reads from is complete, and no other thread does the same task.
    unsafe fn execute_task(&self, task: usize, context: &Context);

    /// Floats of scratch memory that a task uses.
    fn scratch(&self, _kernels: &Kernels) -> usize {
        0
    }

    /// Zeros that a task reads through [`Context::zeros`].
    fn zeros(&self) -> usize {
        0
    }
}

/// Bias and lower bound of a layer's channels, padded so that kernels may load whole vectors.
pub(crate) struct Epilogue {
    /// Added to each channel.
    pub bias: Aligned,
    /// Lower bound of each channel: 0 for ReLU, -inf for none; of bytes, what stands for zero, and 0.
    pub min: Aligned,
    /// Factor of each channel's sum, where it is of integers.
    scale: Option<Aligned>,
    relu: bool,
}

impl Epilogue {
    /// The epilogue of a layer of `channels`; an empty bias is zero.
    pub fn new(bias: &[f32], channels: usize, relu: bool) -> Self {
        let len = channels + 2 * MAX_PANEL;
        Epilogue {
            bias: Aligned::padded(bias, len, 0.0),
            min: Aligned::padded(&[], len, lower_bound(relu)),
            scale: None,
            relu,
        }
    }

    /// The epilogue of a layer whose sums are of integers, or whose results are bytes: `out` says what those
    /// stand for, and the bias is in their unit.
    pub fn quantized(bias: &[f32], scale: Option<&[f32]>, relu: bool, out: &View) -> Self {
        let len = bias.len() + 2 * MAX_PANEL;
        let min = match (out.dtype, relu) {
            (DType::U8, true) => f32::from(out.quant.zero_point),
            (DType::U8, false) => 0.0,
            _ => lower_bound(relu),
        };
        Epilogue {
            bias: Aligned::padded(bias, len, 0.0),
            min: Aligned::padded(&[], len, min),
            scale: scale.map(|scale| Aligned::padded(scale, len, 0.0)),
            relu,
        }
    }

    /// The factor of the sums of channels from `first` on; null where there is none.
    pub fn scale(&self, first: usize) -> *const f32 {
        self.scale.as_ref().map_or(std::ptr::null(), |scale| scale.as_ptr().wrapping_add(first))
    }

    /// The lower bound of all channels.
    pub fn lower_bound(&self) -> f32 {
        lower_bound(self.relu)
    }
}

/// The least output with or without a ReLU.
pub(crate) fn lower_bound(relu: bool) -> f32 {
    if relu { 0.0 } else { f32::NEG_INFINITY }
}

/// Chunk number `index` of `count` nearly equal chunks of `0..total`.
pub(crate) fn chunk(total: usize, index: usize, count: usize) -> std::ops::Range<usize> {
    total * index / count..total * (index + 1) / count
}

/// Rows in nearly equal tiles, for a loop over many of them: [`chunk`] divides for each, which takes as long
/// as a micro-kernel's epilogue.
#[derive(Clone, Copy)]
pub(crate) struct EvenTiles {
    rows: usize,
    /// Tiles at the beginning that have a row more.
    larger: usize,
}

impl EvenTiles {
    /// `rows` rows in `count` tiles, at least one.
    pub fn new(rows: usize, count: usize) -> Self {
        EvenTiles { rows: rows / count, larger: rows % count }
    }

    /// The rows of tile `tile`.
    pub fn rows_of(self, tile: usize) -> std::ops::Range<usize> {
        let start = tile * self.rows + tile.min(self.larger);
        start..start + self.rows + usize::from(tile < self.larger)
    }
}

/// The number of chunks of `units` of work that keeps `threads` evenly busy. A lone thread gets no more than
/// `least`, since more would only be overhead.
pub(crate) fn chunks(units: usize, least: usize, threads: usize) -> usize {
    if threads == 1 {
        return least.clamp(1, units.max(1));
    }
    let wanted = least.max(threads * TASKS_PER_THREAD);
    wanted.next_multiple_of(threads).min(units.max(1))
}
