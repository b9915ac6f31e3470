//! The two ends of a network: from NCHW (channel planes) to NHWC (pixels) and back.

use half::bf16;

use super::step::{Context, RunConfig, Step, chunk, chunks};
use crate::KernelName;
use crate::dtype::DType;
use crate::graph::Shape;
use crate::memory::View;

/// Copies the images into the arena, from channel planes to pixels, with zeros around, space-to-depth on the
/// way.
pub(crate) struct InputStep {
    /// One image as it arrives.
    pub image: Shape,
    /// Rows above and columns to the left that are zero.
    pub pad: [usize; 2],
    /// Block size of space-to-depth: the channels of so many rows by so many columns of pixels lie side by
    /// side in one pixel; 1 leaves the image as it is.
    pub space_to_depth: usize,
    /// The image with its padding, after space-to-depth.
    pub stored: Shape,
    /// Where it goes.
    pub out: View,
}

impl InputStep {
    /// Writes one channel of a stored row: every `step`-th float of `plane` from column `first` on, which can
    /// lie left of it, and zeros outside.
    ///
    /// # Safety
    /// `out` has room for the row.
    unsafe fn write<E>(&self, plane: &[f32], first: isize, out: *mut E, zero: E, convert: impl Fn(f32) -> E)
    where
        E: Copy,
    {
        let (step, ld) = (self.space_to_depth, self.out.ld);
        // Stored columns that lie in the image.
        let from = (-first).max(0).cast_unsigned().div_ceil(step).min(self.stored.width);
        let past = (plane.len().cast_signed() - first).max(0).cast_unsigned().div_ceil(step);
        let to = past.clamp(from, self.stored.width);
        // SAFETY: columns of the stored row.
        unsafe {
            for x in (0..from).chain(to..self.stored.width) {
                *out.add(x * ld) = zero;
            }
            let start = (first + (from * step).cast_signed()).max(0).cast_unsigned();
            for (i, x) in (from..to).enumerate() {
                *out.add(x * ld) = convert(*plane.get_unchecked(start + i * step));
            }
        }
    }
}

impl Step for InputStep {
    fn kernel(&self) -> KernelName {
        KernelName::ToNhwc
    }

    fn tasks(&self, config: &RunConfig) -> usize {
        chunks(config.batch * self.stored.height, 1, config.threads)
    }

    unsafe fn execute_task(&self, task: usize, context: &Context) {
        let Shape { height, width, channels } = self.image;
        let block = self.space_to_depth;
        for row in chunk(context.config.batch * self.stored.height, task, self.tasks(&context.config)) {
            let (n, stored_y) = (row / self.stored.height, row % self.stored.height);
            let out = context.pixel(&self.out, row * self.stored.width);
            let image = context.input.wrapping_add(n * self.image.len());
            for channel in 0..self.stored.channels {
                let (offset, c) = (channel / channels, channel % channels);
                let y = (stored_y * block + offset / block).wrapping_sub(self.pad[0]);
                let first = (offset % block).cast_signed() - self.pad[1].cast_signed();
                // SAFETY: row y is checked against the image before it is read; the row of the arena exists
                // and belongs to this task alone.
                unsafe {
                    let plane = match y < height {
                        true => std::slice::from_raw_parts(image.add((c * height + y) * width), width),
                        false => &[],
                    };
                    match self.out.dtype {
                        DType::F32 => self.write(plane, first, out.cast::<f32>().add(channel), 0.0, |x| x),
                        DType::Bf16 => {
                            let out = out.cast::<bf16>().add(channel);
                            self.write(plane, first, out, bf16::ZERO, bf16::from_f32)
                        }
                        DType::U8 => {
                            let (out, quant) = (out.add(channel), self.out.quant);
                            self.write(plane, first, out, quant.zero_point, |x| quant.quantize(x))
                        }
                    }
                }
            }
        }
    }
}

/// Copies the result out of the arena, from pixels to channel planes.
pub(crate) struct OutputStep {
    /// One image's result.
    pub shape: Shape,
    /// Where it lies.
    pub input: View,
}

impl Step for OutputStep {
    fn kernel(&self) -> KernelName {
        KernelName::ToNchw
    }

    fn tasks(&self, config: &RunConfig) -> usize {
        config.batch
    }

    unsafe fn execute_task(&self, task: usize, context: &Context) {
        let (pixels, channels) = (self.shape.pixels(), self.shape.channels);
        let image = context.pixel(&self.input, task * pixels).cast_const();
        let out = context.output.wrapping_add(task * self.shape.len());
        for p in 0..pixels {
            for c in 0..channels {
                // SAFETY: the result is complete, and each image of the output belongs to one task.
                unsafe {
                    let index = p * self.input.ld + c;
                    *out.add(c * pixels + p) = match self.input.dtype {
                        DType::F32 => *image.cast::<f32>().add(index),
                        DType::Bf16 => (*image.cast::<bf16>().add(index)).to_f32(),
                        DType::U8 => self.input.quant.dequantize(*image.add(index)),
                    };
                }
            }
        }
    }
}
