//! The precision of a compiled model: the data type of its activations and weights.

use std::fmt;

use crate::Isa;
use crate::dtype::DType;

/// The type of activations and weights. Sums are `f32`, those of integers `i32`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// `f32` throughout.
    #[default]
    F32,
    /// Activations and weights rounded to `bf16`, with eight significant bits: half the memory, twice the
    /// multiply-adds a second. The classifier stays in `f32`.
    Bf16,
    /// Activations as bytes with a scale and a zero point for each tensor, weights as signed bytes with a
    /// scale for each output channel: a quarter of the memory, up to four times the multiply-adds a second.
    /// The result is `f32`. It needs [`crate::Options::quantization`].
    Int8,
}

impl Precision {
    /// All of them.
    pub const ALL: [Precision; 3] = [Precision::F32, Precision::Bf16, Precision::Int8];

    /// Its name, and the type in which it stores activations.
    const fn row(self) -> (&'static str, DType) {
        match self {
            Precision::F32 => ("f32", DType::F32),
            Precision::Bf16 => ("bf16", DType::Bf16),
            Precision::Int8 => ("int8", DType::U8),
        }
    }

    /// Why the precision cannot be used on this CPU with `isa`, or `None` where it can.
    pub fn missing(self, isa: Isa) -> Option<&'static str> {
        match self {
            Precision::F32 => return None,
            Precision::Int8 => return isa.kernel_set(DType::U8).and_then(|kernels| kernels.missing()),
            Precision::Bf16 => {}
        }
        if isa != Isa::Avx512 && Isa::Avx512.available() {
            return Some("is for AVX-512 only, and another instruction set was asked for");
        }
        match Isa::Avx512.kernel_set(self.dtype()) {
            Some(kernels) => kernels.missing(),
            None => Some("needs AVX-512's bf16 dot products, which are x86-64's"),
        }
    }

    /// The name.
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// The type in which it stores activations.
    pub(crate) fn dtype(self) -> DType {
        self.row().1
    }

    /// The precision that stores activations as `dtype`.
    pub(crate) fn of(dtype: DType) -> Precision {
        Precision::ALL.into_iter().find(|precision| precision.dtype() == dtype).unwrap_or_default()
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
