//! Where and how a network runs.

use std::path::PathBuf;
use std::sync::Arc;

use burn::tensor::{DType, Device};
use inception_engine::{Options, Precision as EnginePrecision, Threads};
use inception_nn::NetworkConfig;

use crate::calibration::Calibration;
use crate::cpu::Cores;
use crate::device::DeviceKind;
use crate::error::Error;
use crate::gpu::{self, Adapter};
use crate::precision::Precision;

/// Threads of the engine that several runners share. Two are equal if they are the same threads.
#[derive(Clone, Debug)]
pub struct Pool(Arc<Threads>);

impl Pool {
    /// `threads` threads, the one that calls a runner counted as one; 0 is one for each core.
    pub fn new(threads: usize) -> Self {
        Self(Threads::new(threads))
    }

    /// How many they are.
    pub fn threads(&self) -> usize {
        self.0.count()
    }
}

impl PartialEq for Pool {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Pool {}

/// Where and how a network runs. The default is the engine in `f32` on all cores.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunOptions {
    /// The device.
    pub device: DeviceKind,
    /// Which of a machine's GPUs, an index of [`adapters`](crate::adapters); `None` is its most powerful one.
    pub adapter: Option<usize>,
    /// The engine's threads; 0 is one for each core. The eager CPU devices use rayon's global pool.
    pub threads: usize,
    /// Restrict the engine to algorithms that add and multiply as the network is written: no Winograd, no
    /// Strassen.
    pub exact: bool,
    /// The engine uses the kernels that are fastest here, measured once for each network and kept in this
    /// folder.
    pub tune: Option<PathBuf>,
    /// The element type of weights and activations.
    pub precision: Precision,
    /// Pin the engine's threads to these, one each; the thread that runs the network pins itself.
    pub cores: Option<Cores>,
    /// The engine's threads, where they are shared with other runners; `threads` and `cores` do not count
    /// then.
    pub pool: Option<Pool>,
    /// The scales and zero points that [`Precision::Int8`] needs; a file of weights that has been calibrated brings
    /// its own.
    pub calibration: Option<Calibration>,
    /// The engine's logits of an image are to the bit those that it gives for it alone, whatever the batch.
    pub batch_invariant: bool,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self::on(DeviceKind::Engine)
    }
}

impl RunOptions {
    /// `device` in `f32` on all cores.
    pub fn on(device: DeviceKind) -> Self {
        let precision = Precision::F32;
        Self {
            device,
            adapter: None,
            threads: 0,
            exact: false,
            tune: None,
            precision,
            cores: None,
            pool: None,
            calibration: None,
            batch_invariant: false,
        }
    }

    /// With what `int8` needs for a network of random weights, as [`Calibration::on_noise`] finds it; other
    /// element types need nothing.
    ///
    /// # Errors
    ///
    /// As [`Calibration::on_noise`].
    pub fn calibrated_on_noise(&self, config: &NetworkConfig, input: [usize; 2]) -> Result<Self, Error> {
        let mut options = self.clone();
        if options.precision == Precision::Int8 && options.calibration.is_none() {
            options.calibration = Some(Calibration::on_noise(config, input)?);
        }
        Ok(options)
    }

    /// With another element type.
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// The Burn device, which computes in [`precision`](Self::precision).
    ///
    /// # Errors
    ///
    /// As [`DeviceKind::open_adapter`]; [`Error::Precision`].
    pub fn open(&self) -> Result<Device, Error> {
        self.check_precision()?;
        let Self { device: kind, precision, .. } = *self;
        let device = kind.open_adapter(self.adapter)?;
        if precision == Precision::F16 && !gpu::catch_panic(kind, || Ok(device.supports_dtype(DType::F16)))? {
            let reason = "is missing: the adapter has no half-precision arithmetic (shader-f16)";
            return Err(Error::Precision { device: kind, precision, reason });
        }
        Ok(device)
    }

    /// Whether a network can run as asked for, before its weights are read.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open); the engine is no device of Burn, and needs only the element type.
    pub fn check(&self) -> Result<(), Error> {
        match self.device {
            DeviceKind::Engine if self.adapter.is_none() => self.check_precision(),
            _ => self.open().map(drop),
        }
    }

    fn check_precision(&self) -> Result<(), Error> {
        let Self { device, precision, .. } = *self;
        precision.missing(device).map_or(Ok(()), |reason| Err(Error::Precision { device, precision, reason }))
    }

    /// The options of the engine among these.
    ///
    /// # Errors
    ///
    /// [`Error::Precision`] for an element type that the engine does not have.
    pub fn engine(&self) -> Result<Options, Error> {
        let Self { threads, exact, precision, batch_invariant, .. } = *self;
        let on_engine = match precision {
            Precision::F32 => EnginePrecision::F32,
            Precision::Bf16 => EnginePrecision::Bf16,
            Precision::Int8 => EnginePrecision::Int8,
            Precision::F16 => {
                let device = DeviceKind::Engine;
                let reason = precision.missing(device).unwrap_or_default();
                return Err(Error::Precision { device, precision, reason });
            }
        };
        let pin = self.cores.clone().map(|cores| move |thread| _ = cores.pin(thread));
        let shared = self.pool.clone().map(|Pool(threads)| threads);
        let pool = shared.or_else(|| pin.map(|pin| Threads::starting(threads, pin)));
        let quantization = self.calibration.as_ref().map(Calibration::quantization);
        let options = Options { threads, pool, exact, batch_invariant, quantization, ..Options::default() };
        Ok(Options { precision: on_engine, ..options })
    }

    /// What the logits depend on, in words.
    pub fn description(&self) -> String {
        let mut text = self.device.to_string();
        text += if self.exact { ", exact" } else { "" };
        text += if self.tune.is_some() { ", tuned" } else { "" };
        text += if self.batch_invariant { ", batch-invariant" } else { "" };
        match self.precision {
            Precision::F32 => text,
            other => format!("{text}, {other}"),
        }
    }
}

impl DeviceKind {
    /// The device of Burn.
    ///
    /// # Errors
    ///
    /// [`Error::NoDevice`] if it was not compiled in, and for the engine, which is none of Burn's;
    /// [`Error::NoAdapter`] and [`Error::Device`] for a GPU that is not there or does not start.
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
            #[cfg(feature = "flex")]
            Self::Flex => Ok(Device::flex()),
            #[cfg(feature = "ndarray")]
            #[allow(deprecated)] // The owner of the project names it.
            Self::Ndarray => Ok(Device::ndarray()),
            Self::Wgpu | Self::Vulkan | Self::Cuda => gpu::open(self, adapter),
            #[allow(unreachable_patterns)] // Reached by the devices above that are not compiled in.
            Self::Engine | Self::Flex | Self::Ndarray => Err(Error::NoDevice { device: self }),
        }
    }
}
