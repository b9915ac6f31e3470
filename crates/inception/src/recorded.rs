//! Runs of a GPU that are recorded once and replayed.
//!
//! At small batches a GPU computes most layers faster than the next one is launched. A recording keeps what
//! a launch looks up: CUDA launches all of it as one graph, wgpu and Vulkan as dispatches that are bound
//! already.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, ThreadId};

use burn::tensor::{Device, Graph, Tensor, capture};

/// The largest difference of a replay's values from a plain run's, over the largest of them. Both run the
/// same kernels; what is left is sums that a kernel makes in no fixed order, in half precision.
const TOLERANCE: f32 = 1e-2;

/// At most so many recordings of a network, of all threads: each keeps the memory of its run.
const MAX_RECORDINGS: usize = 8;

type Forward = Arc<dyn Fn(Tensor<4>) -> Tensor<2> + Send + Sync>;
type Closure = Box<dyn FnMut() -> Tensor<2> + Send>;

/// A recorded run, and the buffer of images that it reads.
struct Recording {
    images: Arc<Mutex<Tensor<4>>>,
    graph: Graph<Tensor<2>, Closure>,
}

impl Recording {
    /// Records a run on `images`; `None` where the device cannot, or where a replay on other images does not
    /// answer as a plain run does.
    fn new(forward: &Forward, device: &Device, images: Tensor<4>) -> Option<Self> {
        // A buffer of its own: what was uploaded may share one.
        let buffer = Arc::new(Mutex::new(images.clone().add_scalar(0.0)));
        let closure: Closure = {
            let (forward, buffer) = (forward.clone(), buffer.clone());
            Box::new(move || {
                let images = buffer.lock().unwrap_or_else(PoisonError::into_inner).clone();
                forward(images)
            })
        };
        let graph = capture(device, closure);
        let mut recording = graph.is_hardware().then_some(Self { images: buffer, graph })?;
        let other = images.flip([3]).mul_scalar(0.5);
        let plain = values(forward(other.clone()))?;
        let replayed = values(recording.replay(other))?;
        let largest = plain.iter().fold(0.0, |max: f32, value| max.max(value.abs()));
        let equal = plain.iter().zip(&replayed).all(|(a, b)| (a - b).abs() <= TOLERANCE * largest);
        equal.then_some(recording)
    }

    /// Logits of `images`.
    fn replay(&mut self, images: Tensor<4>) -> Tensor<2> {
        let dims = images.dims();
        self.images
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .inplace(|buffer| buffer.slice_assign(dims.map(|dim| 0..dim), images));
        self.again()
    }

    /// Logits of the images that are in the buffer.
    fn again(&mut self) -> Tensor<2> {
        // SAFETY: the recording reads its images and the network and writes its logits, all of which `self`
        // owns, and memory that the graph guards. Images and logits are used by no other thread than the one
        // that recorded (`Recordings` looks it up by its thread), so on the same stream; the network's weights
        // are never written.
        #[allow(unsafe_code)]
        let logits = unsafe { self.graph.replay() };
        // The next replay overwrites them.
        logits.clone().add_scalar(0.0)
    }
}

fn values(logits: Tensor<2>) -> Option<Vec<f32>> {
    logits.try_into_data().ok()?.try_into_vec().ok()
}

/// What is known of a batch size on a thread.
enum Run {
    /// It ran once, not recorded.
    Once,
    Recorded(Box<Recording>),
    /// It cannot be recorded.
    Plain,
}

/// The recordings of a network on a GPU.
pub(crate) struct Recordings {
    runs: Mutex<HashMap<(ThreadId, usize), Run>>,
    forward: Forward,
    device: Device,
    enabled: bool,
}

impl std::fmt::Debug for Recordings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recordings").field("enabled", &self.enabled).finish_non_exhaustive()
    }
}

impl Recordings {
    /// Of `forward`, from images to logits. The environment variable `INCEPTION_GPU_GRAPH=0` switches
    /// recording off.
    pub(crate) fn new(forward: Forward, device: &Device, gpu: bool) -> Self {
        let enabled = gpu && std::env::var_os("INCEPTION_GPU_GRAPH").is_none_or(|value| value != "0");
        Self { runs: Mutex::default(), forward, device: device.clone(), enabled }
    }

    /// Logits of `images`, replayed from the second run of a batch size on.
    pub(crate) fn run(&self, images: Tensor<4>) -> Tensor<2> {
        if !self.enabled {
            return (self.forward)(images);
        }
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let recordings = runs.values().filter(|run| matches!(run, Run::Recorded(_))).count();
        match runs.entry((thread::current().id(), images.dims()[0])) {
            Entry::Vacant(entry) => {
                entry.insert(Run::Once);
            }
            Entry::Occupied(entry) => {
                let run = entry.into_mut();
                if matches!(run, Run::Once) && recordings < MAX_RECORDINGS {
                    let recording = Recording::new(&self.forward, &self.device, images.clone());
                    *run = recording.map_or(Run::Plain, |recording| Run::Recorded(Box::new(recording)));
                }
                if let Run::Recorded(recording) = run {
                    return recording.replay(images);
                }
            }
        }
        drop(runs);
        (self.forward)(images)
    }

    /// Whether this thread's next run of `batch` images is a replay.
    pub(crate) fn replays(&self, batch: usize) -> bool {
        let runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(runs.get(&(thread::current().id(), batch)), Some(Run::Recorded(_)))
    }

    /// A run on images that stay on the device, for the time that the device takes.
    pub(crate) fn resident(&self, images: Tensor<4>) -> impl FnMut() -> Tensor<2> + '_ {
        let mut recording =
            self.enabled.then(|| Recording::new(&self.forward, &self.device, images.clone())).flatten();
        move || match &mut recording {
            Some(recording) => recording.again(),
            None => (self.forward)(images.clone()),
        }
    }
}
