//! What could not be fused: ReLU, sums, batch norm on its own, and copies into a concatenation.

use super::{Context, Setting, Step, part, parts};
use crate::KernelName;
use crate::kernels::pointwise::Elementwise;
use crate::memory::{Aligned, View};

/// `out = max(a * scale + shift [+ b], floor)`, pixel by pixel.
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
    /// Clamp at zero.
    pub relu: bool,
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

    fn tasks(&self, setting: &Setting) -> usize {
        parts(self.pixels(setting.n).div_ceil(16), 1, setting.threads)
    }

    unsafe fn run(&self, task: usize, context: &Context) {
        let pixels = part(self.pixels(context.setting.n), task, self.tasks(&context.setting));
        let at = |view: &View| context.pixel(view, pixels.start);
        let e = Elementwise {
            channels: self.channels,
            a: at(&self.a),
            b: self.b.as_ref().map_or(std::ptr::null(), |view| at(view).cast_const()),
            out: at(&self.out),
            ld: [self.a.ld, self.b.map_or(0, |view| view.ld), self.out.ld],
            scale: self.affine.as_ref().map_or(std::ptr::null(), |[scale, _]| scale.as_ptr()),
            shift: self.affine.as_ref().map_or(std::ptr::null(), |[_, shift]| shift.as_ptr()),
            floor: if self.relu { 0.0 } else { f32::NEG_INFINITY },
        };
        // SAFETY: the operands are complete; these pixels of the result belong to this task alone.
        unsafe { (context.setting.kernels.elementwise)(&e, pixels.len()) };
    }
}
