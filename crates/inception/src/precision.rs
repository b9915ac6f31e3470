//! Element types to compute in, by name.

use std::fmt;
use std::str::FromStr;

use inception_engine::{Isa, Precision as EnginePrecision};

use crate::device::DeviceKind;
use crate::name::{UnknownName, parse};

/// The element type of weights and activations. The softmax over the classes is `f64` either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Precision {
    /// `f32`, on every device.
    #[default]
    F32,
    /// IEEE half precision, eleven significant bits: on GPUs that have it, and on flex. Sums are as the
    /// backend forms them.
    F16,
    /// Eight significant bits, sums in `f32`: on the engine, where the CPU has AVX512-BF16, and on flex,
    /// which computes each layer in `f32`.
    Bf16,
    /// 8-bit integers with scales, which calibration finds: on the engine, on every CPU.
    Int8,
}

impl Precision {
    /// Each of them.
    pub const ALL: [Self; 4] = [Self::F32, Self::F16, Self::Bf16, Self::Int8];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        }
    }

    /// Why `device` does not compute in it; `None` where it does. A GPU's adapter is asked when it is opened.
    pub fn missing(self, device: DeviceKind) -> Option<&'static str> {
        match (self, device) {
            (Self::Int8, DeviceKind::Engine) => None,
            (Self::Int8, _) => Some("is the engine's alone"),
            (Self::F32, _) | (_, DeviceKind::Flex) => None,
            (Self::F16, device) if device.is_gpu() => None,
            (Self::Bf16, DeviceKind::Engine) => {
                // Where the instruction set is unknown, compiling says so.
                EnginePrecision::Bf16.missing(Isa::chosen().unwrap_or_else(|_| Isa::best()))
            }
            (Self::F16, DeviceKind::Engine) => Some("is not among the engine's: it has f32, bf16 and int8"),
            (Self::Bf16, device) if device.is_gpu() => Some("is not among a GPU's: there are f32 and f16"),
            _ => Some("is not among this device's: it has f32 only"),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Precision {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        parse("precision", name, Self::ALL.map(|precision| (precision.name(), precision)))
    }
}
