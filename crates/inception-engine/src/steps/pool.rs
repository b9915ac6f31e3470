//! Maximum and average pools.

use super::{Context, DepthwiseWeights, Epilogue, Setting, Step, part, parts};
use crate::KernelName;
use crate::graph::{Pool, PoolKind};
use crate::kernels::Kernels;
use crate::kernels::pointwise::{Reduce, Window};
use crate::memory::{LINE, View};

/// Channels that one task takes at least: a cache line of `bf16`.
const RANGE: usize = 2 * LINE;

/// A pool.
pub(crate) struct PoolStep {
    geometry: Window,
    output_size: [usize; 2],
    epilogue: Epilogue,
    /// The depthwise convolution's, with a prologue.
    input: View,
    out: View,
    /// A depthwise convolution that only this pool reads: its rows are made in scratch memory, as many as a window covers,
    /// and never stored.
    prologue: Option<DepthwiseWeights>,
}

impl PoolStep {
    /// Prepares `pool` over `channels` channels. With a prologue `input` is that of the depthwise convolution, whose kind of
    /// pool must be the maximum.
    pub fn new(
        pool: &Pool,
        channels: usize,
        [input_size, output_size]: [[usize; 2]; 2],
        input: View,
        out: View,
        prologue: Option<DepthwiseWeights>,
    ) -> Self {
        let geometry = Window {
            reduce: match pool.kind {
                PoolKind::Max => Reduce::Max,
                PoolKind::Average => Reduce::Mean,
                PoolKind::AverageWithPadding => Reduce::MeanWithPadding,
            },
            input: input_size,
            kernel: pool.window.kernel,
            stride: pool.window.stride,
            pad: pool.window.pad,
            pad_end: pool.window.pad_end,
            channels,
            ld: [
                match prologue {
                    Some(_) => channels.next_multiple_of(LINE * input.element.group()),
                    None => input.ld,
                },
                out.ld,
            ],
        };
        PoolStep {
            geometry,
            output_size,
            epilogue: Epilogue::new(&pool.bias, channels, pool.relu),
            input,
            out,
            prologue,
        }
    }

    fn rows(&self, n: usize) -> usize {
        n * self.output_size[0]
    }

    /// Into how many ranges of channels the rows are cut: more than one where there are fewer rows than threads, as in a global
    /// pool.
    fn ranges(&self, setting: &Setting) -> usize {
        match self.prologue {
            Some(_) => 1,
            None => {
                setting.threads.div_ceil(self.rows(setting.n)).min(self.geometry.channels.div_ceil(RANGE))
            }
        }
    }

    /// Pools the output rows `rows`, numbered through the batch, of what `depthwise` computes into scratch memory. Rows that
    /// the next window covers too are moved, not computed again.
    ///
    /// # Safety
    /// As [`Step::run`], and no other task pools these rows.
    unsafe fn pool_depthwise(
        &self,
        depthwise: &DepthwiseWeights,
        rows: std::ops::Range<usize>,
        context: &Context,
    ) {
        let [oh, ow] = self.output_size;
        let [ih, iw] = self.geometry.input;
        let row_bytes = iw * self.geometry.ld[0] * self.input.element.size();
        let scratch = context.scratch.cast::<u8>();
        // Rows of the depthwise result in scratch memory, numbered through the batch.
        let mut held = 0..0;
        for row in rows {
            let (image, y) = (row / oh, row % oh);
            let top = y * self.geometry.stride[0];
            let above = self.geometry.pad[0].saturating_sub(top);
            let first = image * ih + (top + above - self.geometry.pad[0]).min(ih);
            let last =
                image * ih + (top + self.geometry.kernel[0]).saturating_sub(self.geometry.pad[0]).min(ih);
            let kept = if held.contains(&first) { held.end - first } else { 0 };
            let from = (first + kept) * iw..last * iw;
            let target = scratch.wrapping_add(kept * row_bytes);
            // SAFETY: scratch memory has room for the rows of a window; the convolution's input is complete.
            unsafe {
                std::ptr::copy(
                    scratch.wrapping_add((held.end - kept - held.start) * row_bytes),
                    scratch,
                    kept * row_bytes,
                );
                depthwise.run(context, &self.input, from, None, Some((target, self.geometry.ld[0], false)));
            }
            held = first..last;
            // The window lies in an image that is cut to the rows it covers.
            let window =
                Window { input: [last - first, iw], pad: [above, self.geometry.pad[1]], ..self.geometry };
            let out = context.pixel(&self.out, row * ow);
            let Epilogue { bias, floor } = &self.epilogue;
            let pool = context.setting.kernels.pool(self.out.element);
            // SAFETY: the rows are complete; this output row belongs to this task alone.
            unsafe { pool(&window, scratch, 0, [0, ow], bias.as_ptr(), floor.as_ptr(), out) };
        }
    }
}

impl Step for PoolStep {
    fn kernel(&self) -> KernelName {
        if self.prologue.is_some() { KernelName::DepthwisePool } else { KernelName::Pool }
    }

    fn tasks(&self, setting: &Setting) -> usize {
        match self.ranges(setting) {
            1 => parts(self.rows(setting.n), 1, setting.threads),
            ranges => self.rows(setting.n) * ranges,
        }
    }

    unsafe fn run(&self, task: usize, context: &Context) {
        let [oh, ow] = self.output_size;
        let [ih, iw] = self.geometry.input;
        let (setting, ranges) = (&context.setting, self.ranges(&context.setting));
        if let Some(depthwise) = &self.prologue {
            let rows = part(self.rows(setting.n), task, self.tasks(setting));
            // SAFETY: the caller's promise; these rows are this task's.
            return unsafe { self.pool_depthwise(depthwise, rows, context) };
        }
        let units = self.geometry.channels.div_ceil(RANGE);
        let range = part(units, task % ranges, ranges);
        let channels = range.start * RANGE..(range.end * RANGE).min(self.geometry.channels);
        let geometry = Window { channels: channels.len(), ..self.geometry };
        for row in part(self.rows(setting.n), task / ranges, self.tasks(setting) / ranges) {
            let image = context.pixel(&self.input.skip_channels(channels.start), row / oh * ih * iw);
            let out = context.pixel(&self.out.skip_channels(channels.start), row * ow);
            let Epilogue { bias, floor } = &self.epilogue;
            // SAFETY: the input is complete; these channels of this output row belong to this task alone.
            unsafe {
                (setting.kernels.pool(self.out.element))(
                    &geometry,
                    image,
                    row % oh,
                    [0, ow],
                    bias.as_ptr().add(channels.start),
                    floor.as_ptr().add(channels.start),
                    out,
                );
            }
        }
    }

    fn scratch(&self, _kernels: &Kernels) -> usize {
        let row = self.geometry.input[1] * self.geometry.ld[0] * self.input.element.size();
        if self.prologue.is_some() { (self.geometry.kernel[0] * row).div_ceil(size_of::<f32>()) } else { 0 }
    }
}
