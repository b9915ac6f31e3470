//! The precision of a compiled model: the data type of its activations and weights.

use std::fmt;

use crate::Isa;
use crate::kernels::element::Element;

/// The type of activations and weights. Sums are `f32` either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// `f32` throughout.
    #[default]
    F32,
    /// Activations and weights rounded to `bf16`, with eight significant bits: half the memory, twice the
    /// multiply-adds a second. The classifier stays in `f32`.
    Bf16,
}

impl Precision {
    /// All of them.
    pub const ALL: [Precision; 2] = [Precision::F32, Precision::Bf16];

    /// Its name, and the type in which it stores activations.
    const fn row(self) -> (&'static str, Element) {
        match self {
            Precision::F32 => ("f32", Element::F32),
            Precision::Bf16 => ("bf16", Element::Bf16),
        }
    }

    /// Why the precision cannot be used on this CPU with `isa`, or `None` where it can.
    pub fn missing(self, isa: Isa) -> Option<&'static str> {
        if self == Precision::F32 {
            return None;
        }
        if isa != Isa::Avx512 && Isa::Avx512.available() {
            return Some("is for AVX-512 only, and another instruction set was asked for");
        }
        #[cfg(target_arch = "x86_64")]
        // The byte and word instructions and the short vectors came long before; only a hypervisor could take
        // them away.
        for (there, reason) in [
            (is_x86_feature_detected!("avx512f"), "needs a CPU with AVX-512 (avx512f)"),
            (is_x86_feature_detected!("avx512bw"), "needs AVX-512's byte and word instructions (avx512bw)"),
            (is_x86_feature_detected!("avx512vl"), "needs AVX-512 for short vectors (avx512vl)"),
            (is_x86_feature_detected!("avx512bf16"), "needs AVX-512's bf16 dot products (avx512bf16)"),
        ] {
            if !there {
                return Some(reason);
            }
        }
        (!cfg!(target_arch = "x86_64")).then_some("needs AVX-512's bf16 dot products, which are x86-64's")
    }

    /// The name.
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// The precision that stores activations as `element`.
    pub(crate) fn of(element: Element) -> Precision {
        Precision::ALL.into_iter().find(|precision| precision.row().1 == element).unwrap_or_default()
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
