//! Devices by name.

use std::fmt;
use std::str::FromStr;

use crate::name::{UnknownName, parse};

/// Where a network runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeviceKind {
    /// `inception-engine`: the network compiled for this CPU.
    Engine,
    /// `burn-flex`: Burn's CPU backend, one operation after the other.
    Flex,
    /// `burn-ndarray`: the deprecated predecessor of `burn-flex`.
    Ndarray,
    /// A GPU through wgpu.
    Wgpu,
    /// A GPU through wgpu, with SPIR-V kernels.
    Vulkan,
    /// An NVIDIA GPU.
    Cuda,
}

impl DeviceKind {
    /// Every device, compiled in or not.
    pub const ALL: [Self; 6] =
        [Self::Engine, Self::Flex, Self::Ndarray, Self::Wgpu, Self::Vulkan, Self::Cuda];

    /// The name on the command line; that of the crate's feature, too, where the device is one.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Flex => "flex",
            Self::Ndarray => "ndarray",
            Self::Wgpu => "wgpu",
            Self::Vulkan => "vulkan",
            Self::Cuda => "cuda",
        }
    }

    /// Whether it is another processor with a memory of its own.
    pub const fn is_gpu(self) -> bool {
        matches!(self, Self::Wgpu | Self::Vulkan | Self::Cuda)
    }

    /// Whether a build has it only with the feature of its name.
    pub const fn is_optional(self) -> bool {
        !matches!(self, Self::Engine)
    }

    /// Whether this build has it.
    pub const fn is_compiled_in(self) -> bool {
        match self {
            Self::Engine => true,
            Self::Flex => cfg!(feature = "flex"),
            Self::Ndarray => cfg!(feature = "ndarray"),
            Self::Wgpu => cfg!(feature = "wgpu"),
            Self::Vulkan => cfg!(feature = "vulkan"),
            Self::Cuda => cfg!(feature = "cuda"),
        }
    }

    /// The names of those that this build has.
    pub fn compiled_in() -> Vec<&'static str> {
        Self::ALL.into_iter().filter(|kind| kind.is_compiled_in()).map(Self::name).collect()
    }
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for DeviceKind {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        parse("device", name, Self::ALL.map(|kind| (kind.name(), kind)))
    }
}
