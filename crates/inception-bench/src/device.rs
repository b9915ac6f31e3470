//! Devices by the names of the command line.

use std::fmt;
use std::str::FromStr;

use burn::tensor::Device;

use crate::{Adapter, Error, gpu};

/// Where a network runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeviceKind {
    /// `inception-engine`: the network compiled for this CPU.
    Engine,
    /// `burn-flex`: Burn's CPU backend, one operation after the other.
    Flex,
    /// `burn-ndarray`: its deprecated predecessor.
    Ndarray,
    /// The GPU through wgpu.
    Wgpu,
    /// The GPU through wgpu, with SPIR-V kernels.
    Vulkan,
    /// An NVIDIA GPU.
    Cuda,
}

impl DeviceKind {
    /// Every device, compiled in or not.
    pub const ALL: [Self; 6] =
        [Self::Engine, Self::Flex, Self::Ndarray, Self::Wgpu, Self::Vulkan, Self::Cuda];

    /// The command line's name.
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

    /// Whether this build has it: the GPUs are features of their names.
    pub const fn is_compiled_in(self) -> bool {
        match self {
            Self::Engine | Self::Flex | Self::Ndarray => true,
            Self::Wgpu => cfg!(feature = "wgpu"),
            Self::Vulkan => cfg!(feature = "vulkan"),
            Self::Cuda => cfg!(feature = "cuda"),
        }
    }

    pub(crate) fn compiled_in() -> Vec<&'static str> {
        Self::ALL.into_iter().filter(|kind| kind.is_compiled_in()).map(Self::name).collect()
    }

    /// The Burn device on which the network is built; the engine takes it from flex.
    ///
    /// # Errors
    ///
    /// [`Error::NoDevice`] if it was not compiled in, [`Error::NoAdapter`] and [`Error::Device`] for a GPU that is not there
    /// or does not start.
    pub fn open(self) -> Result<Device, Error> {
        self.open_adapter(None)
    }

    /// The GPU that computes when `adapter` is asked for; `None` for a CPU's device.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn adapter(self, adapter: Option<usize>) -> Result<Option<Adapter>, Error> {
        self.is_gpu().then(|| gpu::choose(self, adapter)).transpose()
    }

    /// As [`open`](Self::open), the GPU that [`adapters`](crate::adapters) has at the index `adapter`.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), and [`Error::NoAdapter`] for a CPU's device, which has none.
    pub fn open_adapter(self, adapter: Option<usize>) -> Result<Device, Error> {
        if adapter.is_some() && !self.is_gpu() {
            return Err(Error::NoAdapter { device: self, adapter, found: 0 });
        }
        match self {
            Self::Engine | Self::Flex => Ok(Device::flex()),
            // Deprecated upstream in favour of flex, and kept because the project's owner names it.
            #[allow(deprecated)]
            Self::Ndarray => Ok(Device::ndarray()),
            Self::Wgpu | Self::Vulkan | Self::Cuda => gpu::open(self, adapter),
        }
    }
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that no device has.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("no device is named `{name}`; there are {}", DeviceKind::ALL.map(DeviceKind::name).join(", "))]
pub struct UnknownDevice {
    name: String,
}

impl FromStr for DeviceKind {
    type Err = UnknownDevice;

    fn from_str(name: &str) -> Result<Self, UnknownDevice> {
        let mut kinds = Self::ALL.into_iter();
        kinds
            .find(|kind| kind.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| UnknownDevice { name: name.to_owned() })
    }
}
