//! The numbers that a compiled model computes in.

use std::fmt;

use crate::Isa;
use crate::dtype::DType;

/// What activations and weights are kept as. Sums are `f32` either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// `f32` throughout.
    #[default]
    F32,
    /// Activations and weights rounded to `bf16`, with eight significant bits: half the memory, twice the multiply-adds a
    /// second. The classifier stays in `f32`.
    Bf16,
}

impl Precision {
    /// Both.
    pub const ALL: [Precision; 2] = [Precision::F32, Precision::Bf16];

    /// What of the CPU or of `isa` stands against it, or `None` where it can be used.
    pub fn missing(self, isa: Isa) -> Option<&'static str> {
        if self == Precision::F32 {
            return None;
        }
        if isa != Isa::Avx512 && Isa::Avx512.available() {
            return Some("is for AVX-512 only, and another instruction set was asked for");
        }
        match Isa::Avx512.kernel_set(self.dtype()) {
            Some(kernels) => kernels.missing(),
            None => Some("needs AVX-512's bf16 dot products, which are x86-64's"),
        }
    }

    /// The type in which activations are stored.
    pub(crate) fn dtype(self) -> DType {
        match self {
            Precision::F32 => DType::F32,
            Precision::Bf16 => DType::Bf16,
        }
    }

    /// The name that `--precision` takes.
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
