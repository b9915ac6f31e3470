//! Maximum and average pools.

use super::{Context, Epilogue, Setting, Step, part, parts};
use crate::graph::{Pool, PoolKind};
use crate::kernels::pointwise::{Reduce, Window};
use crate::memory::{LINE, View};

/// Channels that one task takes at least: a cache line of `bf16`.
const RANGE: usize = 2 * LINE;

/// A pool.
pub(crate) struct PoolStep {
    geometry: Window,
    output_size: [usize; 2],
    epilogue: Epilogue,
    input: View,
    out: View,
}

impl PoolStep {
    /// Prepares `pool` over `channels` channels.
    pub fn new(
        pool: &Pool,
        channels: usize,
        [input_size, output_size]: [[usize; 2]; 2],
        input: View,
        out: View,
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
            ld: [input.ld, out.ld],
        };
        PoolStep {
            geometry,
            output_size,
            epilogue: Epilogue::new(&pool.bias, channels, pool.relu),
            input,
            out,
        }
    }

    fn rows(&self, n: usize) -> usize {
        n * self.output_size[0]
    }

    /// Into how many ranges of channels the rows are cut: more than one where there are fewer rows than threads, as in a global
    /// pool.
    fn ranges(&self, setting: &Setting) -> usize {
        setting.threads.div_ceil(self.rows(setting.n)).min(self.geometry.channels.div_ceil(RANGE))
    }
}

impl Step for PoolStep {
    fn kernel(&self) -> String {
        "pool".into()
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
}
