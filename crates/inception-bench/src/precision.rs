//! The numbers that a network computes in, by the names of the command line.

use std::fmt;
use std::str::FromStr;

use inception_engine::{Isa, Precision as EnginePrecision};

use crate::{DeviceKind, Error};

/// What weights and activations are kept as. The softmax over the classes is `f64` either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// `f32`, on every device.
    #[default]
    F32,
    /// IEEE half precision, eleven significant bits: on GPUs that have it, and on flex. Sums are as the backend forms them.
    F16,
    /// Eight significant bits, sums in `f32`: on the engine, where the CPU has AVX512-BF16, and on flex, which computes each
    /// layer in `f32`.
    Bf16,
}

impl Precision {
    /// Each of them.
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Bf16];

    /// The command line's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }

    /// What stands against it on `device`, or `None` where it can be used; a GPU's adapter is asked when it is opened.
    pub fn missing(self, device: DeviceKind) -> Option<&'static str> {
        match (self, device) {
            (Self::F32, _) | (_, DeviceKind::Flex) => None,
            (Self::F16, device) if device.is_gpu() => None,
            (Self::Bf16, DeviceKind::Engine) => EnginePrecision::Bf16.missing(Isa::best()),
            (Self::F16, DeviceKind::Engine) => Some("is not among the engine's: it has f32 and bf16"),
            (Self::Bf16, device) if device.is_gpu() => Some("is not among a GPU's: there are f32 and f16"),
            _ => Some("is not among this device's: it has f32 only"),
        }
    }

    /// The engine's name for it.
    pub(crate) fn on_engine(self) -> Result<EnginePrecision, Error> {
        match self {
            Self::F32 => Ok(EnginePrecision::F32),
            Self::Bf16 => Ok(EnginePrecision::Bf16),
            Self::F16 => {
                let device = DeviceKind::Engine;
                let reason = self.missing(device).unwrap_or_default();
                Err(Error::Precision { device, precision: self, reason })
            }
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that no precision has.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("no precision is named `{name}`; there are {}", Precision::ALL.map(Precision::name).join(", "))]
pub struct UnknownPrecision {
    name: String,
}

impl FromStr for Precision {
    type Err = UnknownPrecision;

    fn from_str(name: &str) -> Result<Self, UnknownPrecision> {
        let found = Self::ALL.into_iter().find(|precision| precision.name() == name);
        found.ok_or_else(|| UnknownPrecision { name: name.to_owned() })
    }
}
