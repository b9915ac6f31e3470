//! GPUs: their list, and a way to open and use one without a panic.
//!
//! wgpu's own interface lists adapters and opens devices with errors; CUDA's, and every operation of a
//! tensor, panics where a driver is missing, memory runs out or the device is lost. [`catch_panic`]
//! makes errors of these panics.

use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, Once, PoisonError};

use burn::tensor::Device;
use serde::Serialize;

use crate::device::DeviceKind;
use crate::error::Error;

/// A GPU, or a software driver, behind one programming interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Adapter {
    /// Its place among the adapters of a device, for [`RunOptions::adapter`](crate::RunOptions::adapter).
    pub index: usize,
    /// The driver's name for it.
    pub name: String,
    /// The interface: Vulkan, Metal, Dx12, Gl or CUDA.
    pub api: String,
    /// The driver and its version, where they are known.
    pub driver: String,
    /// What kind of processor it is, `Cpu` being software.
    pub kind: String,
    /// The largest buffer, in units of 10^6 bytes, if it says.
    pub largest_buffer_mb: Option<u64>,
    /// The precisions that it computes in.
    pub precisions: Vec<&'static str>,
}

impl fmt::Display for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, api, driver, kind, .. } = self;
        write!(f, "{name} ({kind}, {api}, {driver})")
    }
}

/// Guarded calls under way.
static GUARDED: AtomicUsize = AtomicUsize::new(0);

/// The message of the first panic during a guarded call, on any thread.
static SAID: Mutex<Option<String>> = Mutex::new(None);

/// Runs something of a device. A panic in it, or on a thread of the backend meanwhile, prints nothing and is
/// [`Error::Device`]: Burn's operations panic where a GPU is lost or out of memory.
///
/// # Errors
///
/// Those of `run`, and [`Error::Device`].
pub fn catch_panic<T>(device: DeviceKind, run: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if GUARDED.load(Ordering::Relaxed) == 0 {
                return usual(info);
            }
            // The first one is the cause, those of the threads that waited for it follow.
            let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
            said.get_or_insert_with(|| info.payload_as_str().unwrap_or("it panicked").to_owned());
        }));
    });
    GUARDED.fetch_add(1, Ordering::Relaxed);
    let result = panic::catch_unwind(AssertUnwindSafe(run));
    GUARDED.fetch_sub(1, Ordering::Relaxed);
    let said = SAID.lock().unwrap_or_else(PoisonError::into_inner).take();
    result.unwrap_or_else(|_| {
        let reason = said.unwrap_or_else(|| "it panicked".to_owned());
        Err(Error::Device { device, reason: cause(&reason) })
    })
}

/// What Burn says of a failure, on one line: without backtraces, and without the operations that failed
/// because one before them had.
pub(crate) fn cause(text: &str) -> String {
    let noise = ["Caused by:", "Asked at:", "No backtrace", "skipped `", "("];
    let lines = text.lines().map(str::trim);
    let said = lines.filter(|line| !line.is_empty() && !noise.iter().any(|noise| line.starts_with(noise)));
    said.collect::<Vec<_>>().join("; ")
}

/// The adapters that `kind` can use, in the order of their indices; none where the machine has none, or no
/// driver.
///
/// # Errors
///
/// [`Error::NoDevice`] if the device was not compiled in, and is none of a GPU's.
pub fn adapters(kind: DeviceKind) -> Result<Vec<Adapter>, Error> {
    match kind {
        #[cfg(any(feature = "wgpu", feature = "vulkan"))]
        DeviceKind::Wgpu | DeviceKind::Vulkan if kind.is_compiled_in() => {
            Ok(wgpu::list(kind).into_iter().map(|(adapter, _)| adapter).collect())
        }
        #[cfg(feature = "cuda")]
        DeviceKind::Cuda => Ok(cuda::list()),
        _ => Err(Error::NoDevice { device: kind }),
    }
}

/// The adapter that `kind` uses when asked for `index`; without one, the first of the most powerful sort.
///
/// # Errors
///
/// [`Error::NoDevice`] and [`Error::NoAdapter`].
pub(crate) fn choose(kind: DeviceKind, index: Option<usize>) -> Result<Adapter, Error> {
    let mut all = adapters(kind)?;
    let found = all.len();
    let sorts = ["DiscreteGpu", "IntegratedGpu", "VirtualGpu"];
    let rank = |adapter: &Adapter| sorts.iter().position(|sort| *sort == adapter.kind).unwrap_or(sorts.len());
    let best = || all.iter().min_by_key(|adapter| rank(adapter)).map_or(0, |adapter| adapter.index);
    match index.unwrap_or_else(best) {
        index if index < found => Ok(all.swap_remove(index)),
        _ => Err(Error::NoAdapter { device: kind, adapter: index, found }),
    }
}

/// Devices that are open. Burn keeps each for the life of the process and refuses to set one up twice.
static OPEN: Mutex<Vec<(DeviceKind, usize, Device)>> = Mutex::new(Vec::new());

/// Opens a GPU, once.
pub(crate) fn open(kind: DeviceKind, adapter: Option<usize>) -> Result<Device, Error> {
    // Held while opening: Vulkan's loader fails when instances come and go on several threads.
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    let index = choose(kind, adapter)?.index;
    if let Some((.., device)) = open.iter().find(|(k, i, _)| (*k, *i) == (kind, index)) {
        return Ok(device.clone());
    }
    let device: Device = catch_panic(kind, || match kind {
        #[cfg(any(feature = "wgpu", feature = "vulkan"))]
        DeviceKind::Wgpu | DeviceKind::Vulkan => wgpu::open(kind, index),
        #[cfg(feature = "cuda")]
        DeviceKind::Cuda => cuda::open(index),
        _ => Err(Error::NoDevice { device: kind }),
    })?;
    open.push((kind, index, device.clone()));
    Ok(device)
}

#[cfg(any(feature = "wgpu", feature = "vulkan"))]
mod wgpu {
    use burn::tensor::wgpu::{WgpuBackend, wgpu};
    use burn::tensor::{Device, DeviceKind as Selector};

    use super::Adapter;
    use crate::device::DeviceKind;
    use crate::error::Error;

    /// How Burn is told of an adapter: its interface, and its place among its kind there.
    pub(super) type Place = (WgpuBackend, Selector);

    /// The interfaces that a device may use, best first.
    fn interfaces(kind: DeviceKind) -> &'static [(WgpuBackend, wgpu::Backend)] {
        const ALL: &[(WgpuBackend, wgpu::Backend)] = &[
            (WgpuBackend::Vulkan, wgpu::Backend::Vulkan),
            (WgpuBackend::Metal, wgpu::Backend::Metal),
            (WgpuBackend::Dx12, wgpu::Backend::Dx12),
            (WgpuBackend::Gl, wgpu::Backend::Gl),
        ];
        if kind == DeviceKind::Vulkan { &ALL[..1] } else { ALL }
    }

    pub(super) fn list(kind: DeviceKind) -> Vec<(Adapter, Place)> {
        let mut found = Vec::new();
        for &(api, backend) in interfaces(kind) {
            let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
            descriptor.backends = backend.into();
            let instance = wgpu::Instance::new(descriptor);
            // How many of each kind came before.
            let mut earlier = [0; 4];
            for adapter in pollster::block_on(instance.enumerate_adapters(backend.into())) {
                let info = adapter.get_info();
                let (count, selector): (_, fn(usize) -> Selector) = match info.device_type {
                    wgpu::DeviceType::DiscreteGpu => (&mut earlier[0], Selector::DiscreteGpu),
                    wgpu::DeviceType::IntegratedGpu => (&mut earlier[1], Selector::IntegratedGpu),
                    wgpu::DeviceType::VirtualGpu => (&mut earlier[2], Selector::VirtualGpu),
                    wgpu::DeviceType::Cpu if earlier[3] == 0 => (&mut earlier[3], |_| Selector::Cpu),
                    // Burn has no name for it.
                    wgpu::DeviceType::Cpu | wgpu::DeviceType::Other => continue,
                };
                let selector = selector(*count);
                *count += 1;
                let half = adapter.features().contains(wgpu::Features::SHADER_F16);
                let described = Adapter {
                    index: found.len(),
                    name: info.name,
                    api: info.backend.to_string(),
                    driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
                    kind: format!("{:?}", info.device_type),
                    largest_buffer_mb: Some(adapter.limits().max_buffer_size / 1_000_000),
                    precisions: if half { vec!["f32", "f16"] } else { vec!["f32"] },
                };
                found.push((described, (api, selector)));
            }
        }
        found
    }

    pub(super) fn open(kind: DeviceKind, index: usize) -> Result<Device, Error> {
        let mut list = list(kind);
        if index >= list.len() {
            return Err(Error::NoAdapter { device: kind, adapter: Some(index), found: list.len() });
        }
        let (_, (api, selector)) = list.swap_remove(index);
        let options = Device::wgpu_options().device_kind(selector).graphics_api(api);
        options.init().map_err(|e| Error::Device { device: kind, reason: e.to_string() })
    }
}

#[cfg(feature = "cuda")]
mod cuda {
    use burn::tensor::{DType, Device, DeviceType};

    use super::{Adapter, catch_panic};
    use crate::device::DeviceKind;
    use crate::error::Error;

    pub(super) fn list() -> Vec<Adapter> {
        // Without a driver, asking panics.
        let found = catch_panic(DeviceKind::Cuda, || {
            let described =
                Device::enumerate(DeviceType::Cuda).into_iter().enumerate().map(|(index, device)| {
                    let half = device.supports_dtype(DType::F16);
                    Adapter {
                        index,
                        name: device
                            .identity()
                            .map_or_else(|| format!("{device:?}"), |identity| identity.name),
                        api: "CUDA".to_owned(),
                        driver: String::new(),
                        kind: "DiscreteGpu".to_owned(),
                        largest_buffer_mb: None,
                        precisions: if half { vec!["f32", "f16"] } else { vec!["f32"] },
                    }
                });
            Ok(described.collect())
        });
        found.unwrap_or_default()
    }

    pub(super) fn open(index: usize) -> Result<Device, Error> {
        let device = Device::cuda(index);
        device.sync().map_err(|e| Error::Device { device: DeviceKind::Cuda, reason: e.to_string() })?;
        Ok(device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_with_its_cause() {
        let fail = || -> Result<(), Error> {
            panic!(
                "An IO error happened\nCaused by:\n  can't allocate\nNo backtrace available\n  skipped `Fuse`: it needed"
            )
        };
        let error = catch_panic(DeviceKind::Wgpu, fail).expect_err("it panics").to_string();
        assert_eq!(error, "the wgpu device failed: An IO error happened; can't allocate");
        // Another thread's panic, which the caller learns of by a second one, is the cause.
        let join = || -> Result<(), Error> {
            std::thread::spawn(|| panic!("lost")).join().expect("the thread ended");
            Ok(())
        };
        let error = catch_panic(DeviceKind::Wgpu, join).expect_err("it panics").to_string();
        assert_eq!(error, "the wgpu device failed: lost");
        assert!(catch_panic(DeviceKind::Wgpu, || Ok(1)).is_ok_and(|one| one == 1));
    }

    #[test]
    fn a_gpu_that_is_not_compiled_in_is_an_error() {
        for kind in DeviceKind::ALL.into_iter().filter(|kind| !kind.is_compiled_in()) {
            assert!(matches!(kind.open(), Err(Error::NoDevice { device }) if device == kind));
        }
    }
}
