//! Element types of tensors, and the cache line, in which memory is laid out.

use half::bf16;

/// Floats in a cache line; pixel strides and buffer sizes are multiples of it.
pub(crate) const LINE: usize = 16;

/// The type of a tensor's elements in memory. Kernels compute in vectors of `f32` whatever they read and
/// write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DType {
    /// Four bytes.
    F32,
    /// The upper half of an `f32`, two bytes: its range with 8 of its 24 significant bits.
    Bf16,
    /// A byte that stands for a number by a scale and a zero point; see [`crate::QuantParams`].
    U8,
}

impl DType {
    /// Bytes of an element.
    pub fn size(self) -> usize {
        match self {
            DType::F32 => size_of::<f32>(),
            DType::Bf16 => size_of::<bf16>(),
            DType::U8 => size_of::<u8>(),
        }
    }

    /// Channels packed in the four bytes that the micro-kernel broadcasts, which it multiplies in one step.
    pub fn pack(self) -> usize {
        size_of::<f32>() / self.size()
    }
}
