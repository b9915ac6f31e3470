//! Depthwise convolution, alone or as the prologue of the pointwise one that reads it.

use std::borrow::Cow;
use std::ops::Range;

use super::step::{Context, Epilogue, RunConfig, Step, chunk, chunks};
use crate::dtype::{DType, LINE};
use crate::graph::Conv;
use crate::kernels::depthwise::{Depthwise, Segment};
use crate::kernels::{DepthwiseLayer, Kernels};
use crate::memory::{Aligned, View};
use crate::quantization::{IntegerWeights, Requantization};
use crate::{KernelName, QuantParams};

/// Channels that are computed for all rows before the next ones, so that their weights and the columns that
/// neighbours share stay in the first-level cache.
const BLOCK: usize = 256;

/// Channels that are not divided: a register of `bf16`, or of bytes.
fn channel_unit(dtype: DType) -> usize {
    LINE * dtype.pack().max(2)
}

/// A depthwise convolution's weights and geometry.
pub(crate) struct DepthwiseWeights {
    geometry: Depthwise,
    output_size: [usize; 2],
    channels: usize,
    /// `[taps][ld]`; then what the kernel reads in an order of its own, if it has one.
    weights: Aligned,
    /// Channels, padded to whole registers.
    ld: usize,
    epilogue: Epilogue,
    residual: Option<View>,
    residual_scale: f32,
    /// What stands for zero in the output.
    relu_floor: f32,
}

/// A destination of pixels, one after the other.
#[derive(Clone, Copy)]
pub(crate) struct Pixels {
    /// The first pixel.
    pub start: *mut u8,
    /// Elements from one pixel to the next.
    pub ld: usize,
    /// Whether to clamp at zero.
    pub relu: bool,
}

impl DepthwiseWeights {
    /// Packs `conv`, whose input is `input_size` pixels at `input`, and whose output stands for what `out`
    /// says where it is bytes.
    pub fn new(
        kernels: &Kernels,
        conv: &Conv,
        input_size: [usize; 2],
        output_size: [usize; 2],
        input: &View,
        residual: Option<View>,
        out: QuantParams,
    ) -> Self {
        let (channels, taps) = (conv.out_channels, conv.taps());
        let ld = channels.next_multiple_of(LINE * input.dtype.pack());
        let bias = conv.bias.as_deref().unwrap_or_default();
        let zero = input.quant.zero_point;
        let (mut values, mut scales, mut biases) =
            (Cow::Borrowed(&conv.weight), Vec::new(), Cow::Borrowed(bias));
        let mut epilogue = Epilogue::new(bias, channels, conv.relu);
        let mut residual_scale = 1.0;
        if input.dtype == DType::U8 {
            let integers = IntegerWeights::new(conv);
            let unit = |w: &f32| f64::from(input.quant.scale) * f64::from(*w);
            let units: Vec<f64> = integers.scales.iter().map(unit).collect();
            // The kernels multiply differences from the input's zero point.
            let to =
                Requantization::new(&units, &vec![0; channels], Some(bias), out, residual.map(|r| r.quant));
            (scales, biases, residual_scale) = (to.scales, to.bias.into(), to.residual_scale);
            values = Cow::Owned(integers.values);
            epilogue = Epilogue::quantized(&biases, Some(&scales), conv.relu, &View { quant: out, ..*input });
        }
        let mut first = vec![0.0; taps * ld];
        for (c, kernel) in values.chunks_exact(taps).enumerate() {
            for (t, w) in kernel.iter().enumerate() {
                first[t * ld + c] = *w;
            }
        }
        let layer = DepthwiseLayer { weights: &first, ld, scale: &scales, bias: &biases, zero };
        let second_copy = kernels.depthwise(input.dtype, input.dtype).second_copy;
        let second = second_copy.map_or(Vec::new(), |copy| copy(&layer));
        let mut weights = Aligned::weights(first.len() + second.len());
        weights.as_mut()[..first.len()].copy_from_slice(&first);
        weights.as_mut()[first.len()..first.len() + second.len()].copy_from_slice(&second);
        let geometry = Depthwise {
            input: input_size,
            window: conv.window,
            ld_in: input.ld,
            input_relu: conv.input_relu,
            zero,
        };
        let relu_floor = if input.dtype == DType::U8 { f32::from(out.zero_point) } else { 0.0 };
        DepthwiseWeights {
            geometry,
            output_size,
            channels,
            weights,
            ld,
            epilogue,
            residual,
            residual_scale,
            relu_floor,
        }
    }

    /// Taps of the kernel.
    pub fn taps(&self) -> usize {
        self.geometry.window.kernel.iter().product()
    }

    /// Computes output pixels `rows` (numbered through the batch) into `stored`, and into `copy`.
    ///
    /// # Safety
    /// As [`Step::execute_task`]; no other task writes these pixels of `stored`, and `copy` has room for
    /// them.
    pub unsafe fn compute(
        &self,
        context: &Context,
        input: &View,
        rows: Range<usize>,
        stored: Option<&View>,
        copy: Option<Pixels>,
    ) {
        let ow = self.output_size[1];
        let size = input.dtype.size();
        let unit = channel_unit(input.dtype);
        let units = self.channels.div_ceil(unit);
        let blocks = self.channels.div_ceil(BLOCK);
        for block in 0..blocks {
            let range = chunk(units, block, blocks);
            let channels = [range.start * unit, (range.end * unit).min(self.channels)];
            let mut row = rows.start;
            while row < rows.end {
                let end = (row + ow - row % ow).min(rows.end);
                let copy = copy.map(|copy| Pixels {
                    start: copy.start.wrapping_add((row - rows.start) * copy.ld * size),
                    ..copy
                });
                // SAFETY: pixels of one output row; the caller's promise for the rest.
                unsafe { self.compute_row(context, input, row..end, channels, stored, copy) };
                row = end;
            }
        }
    }

    /// As [`DepthwiseWeights::compute`], for pixels of one output row and channels from the first to before
    /// the second.
    ///
    /// # Safety
    /// As that function.
    unsafe fn compute_row(
        &self,
        context: &Context,
        input: &View,
        row: Range<usize>,
        channels: [usize; 2],
        stored: Option<&View>,
        copy: Option<Pixels>,
    ) {
        let [oh, ow] = self.output_size;
        let [ih, iw] = self.geometry.input;
        let size = input.dtype.size();
        let (image, pixel) = (row.start / (oh * ow), row.start % (oh * ow));
        let (y, x) = (pixel / ow, pixel % ow);
        let null = std::ptr::null_mut();
        let stored = stored.map(|view| (context.pixel(view, row.start), view.ld));
        // The kernel stores the output, and a copy of it that is clamped at zero. A copy that is not clamped
        // is the output itself; where the tensor is stored as well, it is copied below.
        let (out, relu_out) = match (stored, copy) {
            (Some(out), Some(Pixels { start, ld, relu: true })) => (out, (start, ld)),
            (Some(out), _) => (out, (null, 0)),
            (None, Some(Pixels { start, ld, relu: true })) => ((null, 0), (start, ld)),
            (None, Some(Pixels { start, ld, relu: false })) => ((start, ld), (null, 0)),
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
            scale: self.epilogue.scale(0),
            bias: self.epilogue.bias.as_ptr(),
            min: self.epilogue.min.as_ptr(),
            residual: residual.map_or(std::ptr::null(), |(p, _)| p.cast_const()),
            ld_residual: residual.map_or(0, |(_, ld)| ld),
            residual_scale: self.residual_scale,
            out: out.0,
            ld_out: out.1,
            relu_out: relu_out.0,
            ld_relu: relu_out.1,
            relu_floor: self.relu_floor,
        };
        let kernel = context.config.kernels.depthwise(input.dtype, input.dtype);
        // SAFETY: the segment lies within one output row, the input and residual are complete.
        unsafe { (kernel.segment)(&self.geometry, &segment) };
        if let (Some((from, from_ld)), Some(Pixels { start: to, ld: to_ld, relu: false })) = (stored, copy) {
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

    fn tasks(&self, config: &RunConfig) -> usize {
        chunks(self.rows(config.batch), 1, config.threads)
    }

    unsafe fn execute_task(&self, task: usize, context: &Context) {
        let rows = chunk(self.rows(context.config.batch), task, self.tasks(&context.config));
        let width = self.weights.output_size[1];
        // SAFETY: whole output rows, each in one task; the caller's promise for the rest.
        unsafe {
            self.weights.compute(
                context,
                &self.input,
                rows.start * width..rows.end * width,
                Some(&self.out),
                None,
            )
        };
    }
}
