//! Elementwise operations that could not be fused: ReLU, sums, batch norm on its own, and copies into a
//! concatenation.

use super::step::{Context, RunConfig, Step, chunk, chunks};
use crate::KernelName;
use crate::kernels::elementwise::Elementwise;
use crate::memory::{Aligned, View};

/// `out = max(a * scale + shift [+ b * b_scale], least)`, pixel by pixel.
pub(crate) struct ElementwiseStep {
    /// What it computes.
    pub name: KernelName,
    /// Channels.
    pub channels: usize,
    /// First operand.
    pub a: View,
    /// Second operand.
    pub b: Option<View>,
    /// Result.
    pub out: View,
    /// Scale and shift of each channel, padded to whole vectors.
    pub affine: Option<[Aligned; 2]>,
    /// Factor of the second operand where it is quantised.
    pub b_scale: f32,
    /// The least result: zero, or what stands for it, for ReLU.
    pub least: f32,
}

impl ElementwiseStep {
    fn pixels(&self, n: usize) -> usize {
        n * self.out.pixels
    }
}

impl Step for ElementwiseStep {
    fn kernel(&self) -> KernelName {
        self.name
    }

    fn tasks(&self, config: &RunConfig) -> usize {
        chunks(self.pixels(config.batch).div_ceil(16), 1, config.threads)
    }

    unsafe fn execute_task(&self, task: usize, context: &Context) {
        let pixels = chunk(self.pixels(context.config.batch), task, self.tasks(&context.config));
        let at = |view: &View| context.pixel(view, pixels.start);
        let e = Elementwise {
            channels: self.channels,
            a: at(&self.a),
            b: self.b.as_ref().map_or(std::ptr::null(), |view| at(view).cast_const()),
            out: at(&self.out),
            ld: [self.a.ld, self.b.map_or(0, |view| view.ld), self.out.ld],
            scale: self.affine.as_ref().map_or(std::ptr::null(), |[scale, _]| scale.as_ptr()),
            shift: self.affine.as_ref().map_or(std::ptr::null(), |[_, shift]| shift.as_ptr()),
            b_scale: self.b_scale,
            min: self.least,
        };
        // SAFETY: the operands are complete; these pixels of the result belong to this task alone.
        unsafe { context.config.kernels.elementwise(self.out.dtype)(&e, pixels.len()) };
    }
}
