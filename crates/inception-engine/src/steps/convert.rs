//! From bytes to floats and back, between layers of different types.

use super::step::{Context, RunConfig, Step, chunk, chunks};
use crate::KernelName;
use crate::dtype::DType;
use crate::memory::View;

/// Stores a tensor as another type.
pub(crate) struct ConvertStep {
    /// Channels.
    pub channels: usize,
    /// The tensor.
    pub input: View,
    /// The same in the other type.
    pub out: View,
}

impl Step for ConvertStep {
    fn kernel(&self) -> KernelName {
        KernelName::Convert
    }

    fn tasks(&self, config: &RunConfig) -> usize {
        chunks((config.batch * self.out.pixels).div_ceil(16), 1, config.threads)
    }

    unsafe fn execute_task(&self, task: usize, context: &Context) {
        let config = &context.config;
        for pixel in chunk(config.batch * self.out.pixels, task, self.tasks(config)) {
            let (from, to) = (context.pixel(&self.input, pixel), context.pixel(&self.out, pixel));
            // SAFETY: both hold these channels of the pixel; the input is complete, and the pixel of the
            // result belongs to this task alone.
            unsafe {
                match (self.input.dtype, self.out.dtype) {
                    (DType::U8, DType::F32) => {
                        let bytes = std::slice::from_raw_parts(from.cast_const(), self.channels);
                        let floats = std::slice::from_raw_parts_mut(to.cast::<f32>(), self.channels);
                        let quant = self.input.quant;
                        floats.iter_mut().zip(bytes).for_each(|(to, byte)| *to = quant.dequantize(*byte));
                    }
                    (DType::F32, DType::U8) => {
                        let floats = std::slice::from_raw_parts(from.cast::<f32>(), self.channels);
                        let bytes = std::slice::from_raw_parts_mut(to, self.channels);
                        let quant = self.out.quant;
                        bytes.iter_mut().zip(floats).for_each(|(to, x)| *to = quant.quantize(*x));
                    }
                    (from, to) => unreachable!("plans convert between f32 and bytes, not {from:?} to {to:?}"),
                }
            }
        }
    }
}
