//! Depthwise convolution, alone or as the prologue of the pointwise one that reads it.

use super::{Context, Epilogue, Setting, Step, part, parts};
use crate::KernelName;
use crate::graph::Conv;
use crate::kernels::depthwise::{Depthwise, Segment};
#[cfg(target_arch = "x86_64")]
use crate::kernels::depthwise_bf16::position;
use crate::kernels::element::Element;
use crate::memory::{Aligned, LINE, View};

/// Channels that go over all rows before the next ones do, so that their weights and the columns that neighbours share stay in
/// the first-level cache.
const BLOCK: usize = 256;

/// Channels that are not divided: a register of `bf16`.
const UNIT: usize = 2 * LINE;

/// A depthwise convolution's weights and geometry.
pub(crate) struct DepthwiseWeights {
    geometry: Depthwise,
    output_size: [usize; 2],
    channels: usize,
    /// `[taps][channels, padded to whole registers]`; for `bf16` once more, in the order of its kernel.
    weights: Aligned,
    /// Padded channels.
    ld: usize,
    epilogue: Epilogue,
    residual: Option<View>,
}

impl DepthwiseWeights {
    /// Packs `conv`, whose input is `input_size` pixels at `input`.
    pub fn new(
        conv: &Conv,
        input_size: [usize; 2],
        output_size: [usize; 2],
        input: &View,
        residual: Option<View>,
    ) -> Self {
        let (channels, taps) = (conv.out_channels, conv.taps());
        let group = input.element.group();
        let ld = channels.next_multiple_of(LINE * group);
        let mut weights = Aligned::weights(group * taps * ld);
        for (c, kernel) in conv.weight.chunks_exact(taps).enumerate() {
            for (t, w) in kernel.iter().enumerate() {
                weights.as_mut()[t * ld + c] = *w;
                #[cfg(target_arch = "x86_64")]
                if input.element == Element::Bf16 {
                    weights.as_mut()[(taps + t) * ld + position(c)] = *w;
                }
            }
        }
        let geometry = Depthwise {
            input: input_size,
            kernel: conv.window.kernel,
            stride: conv.window.stride,
            pad: conv.window.pad,
            dilation: conv.window.dilation,
            ld_in: input.ld,
            input_relu: conv.input_relu,
        };
        let epilogue = Epilogue::new(&conv.bias, channels, conv.relu);
        DepthwiseWeights { geometry, output_size, channels, weights, ld, epilogue, residual }
    }

    /// Computes output pixels `rows` (numbered through the batch) into `stored`, and into `copy`: an address for the first
    /// of them, elements from one to the next, and whether to clamp at zero there.
    ///
    /// # Safety
    /// As [`Step::run`]; no other task writes these pixels of `stored`, and `copy` has room for them.
    pub unsafe fn run(
        &self,
        context: &Context,
        input: &View,
        rows: std::ops::Range<usize>,
        stored: Option<&View>,
        copy: Option<(*mut u8, usize, bool)>,
    ) {
        let ow = self.output_size[1];
        let size = input.element.size();
        let units = self.channels.div_ceil(UNIT);
        let blocks = self.channels.div_ceil(BLOCK);
        for block in 0..blocks {
            let range = part(units, block, blocks);
            let channels = [range.start * UNIT, (range.end * UNIT).min(self.channels)];
            let mut row = rows.start;
            while row < rows.end {
                let end = (row + ow - row % ow).min(rows.end);
                let copy =
                    copy.map(|(p, ld, clamp)| (p.wrapping_add((row - rows.start) * ld * size), ld, clamp));
                // SAFETY: pixels of one output row; the caller's promise for the rest.
                unsafe { self.run_row(context, input, row..end, channels, stored, copy) };
                row = end;
            }
        }
    }

    /// As [`DepthwiseWeights::run`], for pixels of one output row and channels from the first to before the second.
    ///
    /// # Safety
    /// As that function.
    unsafe fn run_row(
        &self,
        context: &Context,
        input: &View,
        row: std::ops::Range<usize>,
        channels: [usize; 2],
        stored: Option<&View>,
        copy: Option<(*mut u8, usize, bool)>,
    ) {
        let [oh, ow] = self.output_size;
        let [ih, iw] = self.geometry.input;
        let size = input.element.size();
        let (image, pixel) = (row.start / (oh * ow), row.start % (oh * ow));
        let (y, x) = (pixel / ow, pixel % ow);
        let null = std::ptr::null_mut();
        let stored = stored.map(|view| (context.pixel(view, row.start), view.ld));
        // An unclamped copy is the plain output; it needs the second slot only if the tensor is stored as well.
        let (out, relu_out) = match (stored, copy) {
            (Some(out), Some((p, ld, true))) => (out, (p, ld)),
            (Some(out), _) => (out, (null, 0)),
            (None, Some((p, ld, true))) => ((null, 0), (p, ld)),
            (None, Some((p, ld, false))) => ((p, ld), (null, 0)),
            (None, None) => ((null, 0), (null, 0)),
        };
        let residual = self.residual.as_ref().map(|view| (context.pixel(view, row.start), view.ld));
        let segment = Segment {
            image: context.pixel(input, image * ih * iw),
            y,
            x: [x, x + row.len()],
            c: channels,
            weights: self.weights.as_ptr(),
            ld_weights: self.ld,
            bias: self.epilogue.bias.as_ptr(),
            floor: self.epilogue.floor.as_ptr(),
            residual: residual.map_or(std::ptr::null(), |(p, _)| p.cast_const()),
            ld_residual: residual.map_or(0, |(_, ld)| ld),
            out: out.0,
            ld_out: out.1,
            relu_out: relu_out.0,
            ld_relu: relu_out.1,
        };
        // SAFETY: the segment lies within one output row, the input and residual are complete.
        unsafe { (context.setting.kernels.depthwise)(&self.geometry, &segment) };
        if let (Some((from, from_ld)), Some((to, to_ld, false))) = (stored, copy) {
            for i in 0..row.len() {
                // SAFETY: both hold these channels of this pixel, which were just written to `from`.
                unsafe {
                    std::ptr::copy_nonoverlapping(
                        from.wrapping_add((i * from_ld + channels[0]) * size),
                        to.wrapping_add((i * to_ld + channels[0]) * size),
                        (channels[1] - channels[0]) * size,
                    );
                }
            }
        }
    }
}

/// A depthwise convolution on its own.
pub(crate) struct DepthwiseStep {
    /// Weights and geometry.
    pub weights: DepthwiseWeights,
    /// Where the input lies.
    pub input: View,
    /// Where the output goes.
    pub out: View,
}

impl DepthwiseStep {
    fn rows(&self, n: usize) -> usize {
        n * self.weights.output_size[0]
    }
}

impl Step for DepthwiseStep {
    fn kernel(&self) -> KernelName {
        KernelName::Depthwise
    }

    fn tasks(&self, setting: &Setting) -> usize {
        parts(self.rows(setting.n), 1, setting.threads)
    }

    unsafe fn run(&self, task: usize, context: &Context) {
        let rows = part(self.rows(context.setting.n), task, self.tasks(&context.setting));
        let width = self.weights.output_size[1];
        // SAFETY: whole output rows, each in one task; the caller's promise for the rest.
        unsafe {
            self.weights.run(
                context,
                &self.input,
                rows.start * width..rows.end * width,
                Some(&self.out),
                None,
            )
        };
    }
}
