//! Maximum and average pools.

use std::ops::Range;

use super::depthwise::{DepthwiseWeights, Pixels};
use super::step::{Context, Epilogue, RunConfig, Step, chunk, chunks};
use crate::dtype::{DType, LINE};
use crate::graph::{Pool, PoolKind, Window};
use crate::kernels::Kernels;
use crate::kernels::pool::PoolParams;
use crate::memory::View;
use crate::{KernelName, QuantParams};

/// Channels that one task takes at least: a cache line of `bf16`.
const CHANNEL_UNIT: usize = 2 * LINE;

/// A pool.
pub(crate) struct PoolStep {
    params: PoolParams,
    output_size: [usize; 2],
    epilogue: Epilogue,
    /// The depthwise convolution's, with a prologue.
    input: View,
    out: View,
    /// A depthwise convolution that only this pool reads. Scratch memory holds as many of its rows as a
    /// window covers; they are never stored.
    prologue: Option<DepthwiseWeights>,
}

impl PoolStep {
    /// Prepares `pool` over `channels` channels, which stand for what `pooled` says where they are bytes.
    /// With a prologue, `input` is that of the depthwise convolution, and the pool must be one of maxima.
    pub fn new(
        pool: &Pool,
        channels: usize,
        [input_size, output_size]: [[usize; 2]; 2],
        input: View,
        out: View,
        prologue: Option<DepthwiseWeights>,
        pooled: QuantParams,
    ) -> Self {
        let quantized = input.dtype == DType::U8;
        let factor = pooled.scale / out.quant.scale;
        let params = PoolParams {
            kind: pool.kind,
            window: pool.window,
            input: input_size,
            channels,
            ld: [
                match prologue {
                    Some(_) => channels.next_multiple_of(LINE * input.dtype.pack()),
                    None => input.ld,
                },
                out.ld,
            ],
            factor,
            zero: pooled.zero_point,
            copies: pool.kind == PoolKind::Max && pool.bias.is_none() && pooled == out.quant,
        };
        let bias = pool.bias.as_deref().unwrap_or_default();
        let epilogue = match quantized {
            true => {
                // Means are of differences from the zero point.
                let own =
                    if pool.kind == PoolKind::Max { f32::from(pooled.zero_point) * factor } else { 0.0 };
                let shift = f32::from(out.quant.zero_point) - own;
                let bias = |c: usize| bias.get(c).map_or(0.0, |bias| bias / out.quant.scale) + shift;
                Epilogue::quantized(&(0..channels).map(bias).collect::<Vec<_>>(), None, pool.relu, &out)
            }
            false => Epilogue::new(bias, channels, pool.relu),
        };
        PoolStep { params, output_size, epilogue, input, out, prologue }
    }

    fn rows(&self, n: usize) -> usize {
        n * self.output_size[0]
    }

    /// The number of chunks of channels into which rows are cut: more than one where there are fewer rows
    /// than threads, as in a global pool.
    fn channel_chunks(&self, config: &RunConfig) -> usize {
        match self.prologue {
            Some(_) => 1,
            None => config
                .threads
                .div_ceil(self.rows(config.batch))
                .min(self.params.channels.div_ceil(CHANNEL_UNIT)),
        }
    }

    /// Computes `depthwise` into scratch memory and pools the output rows `rows`, numbered through the batch.
    /// Rows that the next window covers too are moved, not computed again.
    ///
    /// # Safety
    /// As [`Step::execute_task`], and no other task pools these rows.
    unsafe fn pool_depthwise(&self, depthwise: &DepthwiseWeights, rows: Range<usize>, context: &Context) {
        let [oh, ow] = self.output_size;
        let [ih, iw] = self.params.input;
        let window = self.params.window;
        let row_bytes = iw * self.params.ld[0] * self.input.dtype.size();
        let scratch = context.scratch.cast::<u8>();
        // Rows of the depthwise result in scratch memory, numbered through the batch.
        let mut held = 0..0;
        for row in rows {
            let (image, y) = (row / oh, row % oh);
            let top = y * window.stride[0];
            let above = window.pad[0].saturating_sub(top);
            let first = image * ih + (top + above - window.pad[0]).min(ih);
            let last = image * ih + (top + window.kernel[0]).saturating_sub(window.pad[0]).min(ih);
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
                let copy = Pixels { start: target, ld: self.params.ld[0], relu: false };
                depthwise.compute(context, &self.input, from, None, Some(copy));
            }
            held = first..last;
            // The window lies in an image that is cut to the rows it covers.
            let window = Window { pad: [above, window.pad[1]], ..window };
            let params = PoolParams { input: [last - first, iw], window, ..self.params };
            let out = context.pixel(&self.out, row * ow);
            let Epilogue { bias, min, .. } = &self.epilogue;
            let pool = context.config.kernels.pool(self.input.dtype, self.out.dtype);
            // SAFETY: the rows are complete; this output row belongs to this task alone.
            unsafe { pool(&params, scratch, 0, [0, ow], bias.as_ptr(), min.as_ptr(), out) };
        }
    }
}

impl Step for PoolStep {
    fn kernel(&self) -> KernelName {
        if self.prologue.is_some() { KernelName::DepthwisePool } else { KernelName::Pool }
    }

    fn tasks(&self, config: &RunConfig) -> usize {
        match self.channel_chunks(config) {
            1 => chunks(self.rows(config.batch), 1, config.threads),
            channel_chunks => self.rows(config.batch) * channel_chunks,
        }
    }

    unsafe fn execute_task(&self, task: usize, context: &Context) {
        let [oh, ow] = self.output_size;
        let [ih, iw] = self.params.input;
        let config = &context.config;
        let channel_chunks = self.channel_chunks(config);
        if let Some(depthwise) = &self.prologue {
            let rows = chunk(self.rows(config.batch), task, self.tasks(config));
            // SAFETY: the caller's promise; these rows are this task's.
            return unsafe { self.pool_depthwise(depthwise, rows, context) };
        }
        let units = self.params.channels.div_ceil(CHANNEL_UNIT);
        let range = chunk(units, task % channel_chunks, channel_chunks);
        let channels = range.start * CHANNEL_UNIT..(range.end * CHANNEL_UNIT).min(self.params.channels);
        let params = PoolParams { channels: channels.len(), ..self.params };
        for row in chunk(self.rows(config.batch), task / channel_chunks, self.tasks(config) / channel_chunks)
        {
            let image = context.pixel(&self.input.skip_channels(channels.start), row / oh * ih * iw);
            let out = context.pixel(&self.out.skip_channels(channels.start), row * ow);
            let Epilogue { bias, min, .. } = &self.epilogue;
            // SAFETY: the input is complete; these channels of this output row belong to this task alone.
            unsafe {
                config.kernels.pool(self.input.dtype, self.out.dtype)(
                    &params,
                    image,
                    row % oh,
                    [0, ow],
                    bias.as_ptr().add(channels.start),
                    min.as_ptr().add(channels.start),
                    out,
                );
            }
        }
    }

    fn scratch(&self, _kernels: &Kernels) -> usize {
        let row = self.params.input[1] * self.params.ld[0] * self.input.dtype.size();
        if self.prologue.is_some() {
            (self.params.window.kernel[0] * row).div_ceil(size_of::<f32>())
        } else {
            0
        }
    }
}
