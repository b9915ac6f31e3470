//! Maximum and average pools.

use super::{Context, Epilogue, Setting, Step, part, parts};
use crate::graph::{Pool, PoolKind};
use crate::kernels::pointwise::{Reduce, Window};
use crate::memory::View;

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
}

impl Step for PoolStep {
    fn kernel(&self) -> String {
        "pool".into()
    }

    fn tasks(&self, setting: &Setting) -> usize {
        parts(self.rows(setting.n), 1, setting.threads)
    }

    unsafe fn run(&self, task: usize, context: &Context) {
        let [oh, ow] = self.output_size;
        let [ih, iw] = self.geometry.input;
        for row in part(self.rows(context.setting.n), task, self.tasks(&context.setting)) {
            let image = context.pixel(&self.input, row / oh * ih * iw);
            let out = context.pixel(&self.out, row * ow);
            let Epilogue { bias, floor } = &self.epilogue;
            // SAFETY: the input is complete; this output row belongs to this task alone.
            unsafe {
                (context.setting.kernels.pool(self.out.element))(
                    &self.geometry,
                    image,
                    row % oh,
                    [0, ow],
                    bias.as_ptr(),
                    floor.as_ptr(),
                    out,
                );
            }
        }
    }
}
