//! Steps: what the plan consists of. A step owns its packed weights, knows where its tensors lie, and can split its work
//! into tasks that different threads do in any order.
//!
//! A task writes elements that no other task of its wave reads or writes, and computes each by the same sequence of
//! operations whoever does it. Results therefore do not depend on which thread does which task.
#![allow(unsafe_code)] // Tasks of one step write disjoint parts of one arena, which only raw pointers can express.

mod conv;
mod depthwise;
mod edge;
mod elementwise;
mod pool;
mod strassen;
mod winograd;

pub(crate) use conv::{ConvStep, Head, Panels, Prologue, Weights};
pub(crate) use depthwise::{DepthwiseStep, DepthwiseWeights};
pub(crate) use edge::{InputStep, OutputStep};
pub(crate) use elementwise::ElementwiseStep;
pub(crate) use pool::PoolStep;
pub(crate) use strassen::{CHANNELS as STRASSEN_CHANNELS, PIXELS as STRASSEN_PIXELS, Strassen};
pub(crate) use winograd::{TOUCH, WEIGHT, WinogradStep, fits as winograd_fits};

use crate::KernelName;
use crate::kernels::Kernels;
use crate::memory::{Aligned, View};

/// Cache that a task may count on for the data that it goes over again and again, in floats: half of a 1 MiB second level.
pub(crate) const CACHE: usize = 128 * 1024;

/// Tasks that a step tries to offer each thread, so that a late thread costs a fraction of a step.
pub(crate) const TASKS_PER_THREAD: usize = 4;

/// What a run is like: all that a step needs to split its work.
#[derive(Clone, Copy)]
pub(crate) struct Setting {
    /// Kernels of the instruction set.
    pub kernels: &'static Kernels,
    /// Threads that share the work.
    pub threads: usize,
    /// Images.
    pub n: usize,
}

/// A run as one thread sees it.
#[derive(Clone, Copy)]
pub(crate) struct Context {
    /// What the run is like.
    pub setting: Setting,
    /// The arena, of the plan's size times `n`.
    pub arena: *mut f32,
    /// Zeros, as many as the plan asks for: what convolutions read outside their input.
    pub zeros: *const f32,
    /// This thread's scratch memory, of the plan's size.
    pub scratch: *mut f32,
    /// The images, `[n][channels][height][width]`.
    pub input: *const f32,
    /// The results, `[n][channels][height][width]`.
    pub output: *mut f32,
}

impl Context {
    /// The first channel of a view's pixel, counted through the batch.
    pub fn pixel(&self, view: &View, pixel: usize) -> *mut u8 {
        self.arena.cast::<u8>().wrapping_add(view.at(self.setting.n, pixel))
    }
}

/// One step of a plan.
pub(crate) trait Step: Send + Sync {
    /// The kernel.
    fn kernel(&self) -> KernelName;

    /// Into how many tasks the step splits.
    fn tasks(&self, setting: &Setting) -> usize;

    /// Does one task.
    ///
    /// # Safety
    /// `context` describes a run of the plan that the step belongs to, `task` is below `tasks`, every step that this one
    /// reads from is complete, and no other thread does the same task.
    unsafe fn run(&self, task: usize, context: &Context);

    /// Floats of scratch memory that a task uses.
    fn scratch(&self, _kernels: &Kernels) -> usize {
        0
    }

    /// Zeros that a task reads through [`Context::zeros`].
    fn zeros(&self) -> usize {
        0
    }
}

/// Bias and floor of a layer's channels, padded so that kernels may load whole vectors.
pub(crate) struct Epilogue {
    /// Added to each channel.
    pub bias: Aligned,
    /// Lower bound of each channel: 0 for ReLU, -inf for none.
    pub floor: Aligned,
}

impl Epilogue {
    /// The epilogue of a layer of `channels`; an empty bias is zero.
    pub fn new(bias: &[f32], channels: usize, relu: bool) -> Self {
        let len = channels + 2 * crate::kernels::conv::PANEL;
        Epilogue {
            bias: Aligned::padded(bias, len, 0.0),
            floor: Aligned::padded(&[], len, if relu { 0.0 } else { f32::NEG_INFINITY }),
        }
    }
}

/// The part `index` of `count` nearly equal parts of `0..total`.
pub(crate) fn part(total: usize, index: usize, count: usize) -> std::ops::Range<usize> {
    total * index / count..total * (index + 1) / count
}

/// How many parts to cut `units` of work into so that `threads` stay evenly busy: all of them for one thread would be
/// overhead, so a lone thread gets no more than `least`.
pub(crate) fn parts(units: usize, least: usize, threads: usize) -> usize {
    if threads == 1 {
        return least.clamp(1, units.max(1));
    }
    let wanted = least.max(threads * TASKS_PER_THREAD);
    wanted.next_multiple_of(threads).min(units.max(1))
}
