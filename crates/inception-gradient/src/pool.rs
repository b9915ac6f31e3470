//! Pools and depthwise convolutions: each channel by itself, over windows.

#![allow(clippy::needless_range_loop)] // By numbers, loops over channels are plain to the compiler.

use inception_graph::{PoolKind, Shape, Window};

use crate::memory::{Raw, Shared, parallel};
use crate::multiversion::multiversion;
use crate::real::Real;
use crate::window::{NONE, Phase, forward};

/// Channels of a depthwise convolution whose weights' gradients are summed together.
const BLOCK: usize = 64;

/// A pool of windows.
#[derive(Debug)]
pub(crate) struct Pooling {
    pub kind: PoolKind,
    pub window: Phase,
    /// For each pixel of the output what the sum over its window is multiplied by.
    shares: Vec<f64>,
}

impl Pooling {
    /// That of `window`, from maps of `input` to maps of `output`.
    pub fn new(kind: PoolKind, window: &Window, input: Shape, output: Shape) -> Self {
        let phase = forward(window, input, output);
        let pixels = output.pixels();
        let share = |target: usize| {
            let read = (0..phase.taps.len()).filter(|tap| phase.sources[tap * pixels + target] != NONE);
            let count = match kind {
                PoolKind::AverageWithPadding => {
                    window.counted(0, target / output.width, input.height)
                        * window.counted(1, target % output.width, input.width)
                }
                PoolKind::Average | PoolKind::Max => read.count(),
            };
            1.0 / count.max(1) as f64
        };
        let shares = (0..pixels).map(share).collect();
        Self { kind, window: phase, shares }
    }

    /// Pools `batch` images; of maxima the taps that they are of go to `chosen`, one for each float.
    ///
    /// # Safety
    ///
    /// Both tensors have `batch` images; nobody else has access to `to`, and nobody writes `from`.
    pub unsafe fn output<T: Real>(&self, batch: usize, from: Raw<T>, to: Raw<T>, chosen: &mut [u8]) {
        let len = to.pixels * to.channels;
        assert!(self.kind != PoolKind::Max || chosen.len() >= batch * len);
        let chosen = Shared(chosen.as_mut_ptr());
        parallel(batch, |image| match self.kind {
            PoolKind::Max => {
                // SAFETY: each image has its own part.
                let chosen = unsafe { std::slice::from_raw_parts_mut(chosen.get().add(image * len), len) };
                // SAFETY: the caller's promise.
                unsafe { maxima(&self.window, image, from, to, chosen) }
            }
            // SAFETY: as above.
            _ => unsafe { means(&self.window, &self.shares, image, from, to) },
        });
    }

    /// Adds to the gradient of the input, `to`, what follows from that of the output, `from`.
    ///
    /// # Safety
    ///
    /// As [`output`](Self::output).
    pub unsafe fn gradient<T: Real>(&self, batch: usize, from: Raw<T>, to: Raw<T>, chosen: &[u8]) {
        let len = from.pixels * from.channels;
        // SAFETY: the caller's promise.
        parallel(batch, |image| unsafe {
            match self.kind {
                PoolKind::Max => {
                    maxima_gradient(&self.window, image, from, to, &chosen[image * len..][..len]);
                }
                _ => means_gradient(&self.window, &self.shares, image, from, to),
            }
        });
    }
}

// What follows is for the image number `image`, and unsafe: the tensors are those that the windows were made
// for, they have such an image, and nobody else has access to what is written of it.

multiversion! {
    fn maxima(window: &Phase, image: usize, from: Raw<T>, to: Raw<T>, chosen: &mut [u8]) {
        let pixels = window.targets.len();
        let channels = to.channels;
        for target in 0..pixels {
            // SAFETY: a pixel of the image.
            let out = unsafe { &mut to.row_mut(image * to.pixels + target)[..channels] };
            let chosen = &mut chosen[target * channels..][..channels];
            let mut first = true;
            for (tap, &source) in window.sources[target..].iter().step_by(pixels).enumerate() {
                if source == NONE {
                    continue;
                }
                // SAFETY: as above.
                let x = unsafe { &from.row(image * from.pixels + source as usize)[..channels] };
                if first {
                    out.copy_from_slice(x);
                    chosen.fill(tap as u8);
                    first = false;
                    continue;
                }
                for c in 0..channels {
                    // What is no number is chosen, too.
                    #[allow(clippy::neg_cmp_op_on_partial_ord)]
                    let more = !(x[c] <= out[c]);
                    out[c] = if more { x[c] } else { out[c] };
                    chosen[c] = if more { tap as u8 } else { chosen[c] };
                }
            }
        }
    }
}

multiversion! {
    fn maxima_gradient(window: &Phase, image: usize, from: Raw<T>, to: Raw<T>, chosen: &[u8]) {
        let pixels = window.targets.len();
        let channels = from.channels;
        for target in 0..pixels {
            // SAFETY: a pixel of the image.
            let dy = unsafe { &from.row(image * from.pixels + target)[..channels] };
            let chosen = &chosen[target * channels..][..channels];
            for (tap, &source) in window.sources[target..].iter().step_by(pixels).enumerate() {
                if source == NONE {
                    continue;
                }
                // SAFETY: as above.
                let dx = unsafe { &mut to.row_mut(image * to.pixels + source as usize)[..channels] };
                for c in 0..channels {
                    dx[c] += if chosen[c] == tap as u8 { dy[c] } else { T::default() };
                }
            }
        }
    }
}

multiversion! {
    fn means(window: &Phase, shares: &[f64], image: usize, from: Raw<T>, to: Raw<T>) {
        let pixels = window.targets.len();
        let channels = to.channels;
        for target in 0..pixels {
            // SAFETY: a pixel of the image.
            let out = unsafe { &mut to.row_mut(image * to.pixels + target)[..channels] };
            out.fill(T::default());
            for &source in window.sources[target..].iter().step_by(pixels) {
                if source == NONE {
                    continue;
                }
                // SAFETY: as above.
                let x = unsafe { &from.row(image * from.pixels + source as usize)[..channels] };
                for c in 0..channels {
                    out[c] += x[c];
                }
            }
            let share = T::of_f64(shares[target]);
            out.iter_mut().for_each(|out| *out = *out * share);
        }
    }
}

multiversion! {
    fn means_gradient(window: &Phase, shares: &[f64], image: usize, from: Raw<T>, to: Raw<T>) {
        let pixels = window.targets.len();
        let channels = from.channels;
        for target in 0..pixels {
            // SAFETY: a pixel of the image.
            let dy = unsafe { &from.row(image * from.pixels + target)[..channels] };
            let share = T::of_f64(shares[target]);
            for &source in window.sources[target..].iter().step_by(pixels) {
                if source == NONE {
                    continue;
                }
                // SAFETY: as above.
                let dx = unsafe { &mut to.row_mut(image * to.pixels + source as usize)[..channels] };
                for c in 0..channels {
                    dx[c] += dy[c] * share;
                }
            }
        }
    }
}

multiversion! {
    /// A depthwise convolution, or the gradient of its input: `weights` are a row of channels for each tap.
    /// Sums are added to what is there with `accumulate`.
    fn depthwise(phase: &Phase, image: usize, from: Raw<T>, to: Raw<T>, weights: &[T], accumulate: bool) {
        let pixels = phase.targets.len();
        let channels = to.channels;
        for (at, &target) in phase.targets.iter().enumerate() {
            // SAFETY: a pixel of the image.
            let out = unsafe { &mut to.row_mut(image * to.pixels + target as usize)[..channels] };
            if !accumulate {
                out.fill(T::default());
            }
            for (&tap, &source) in phase.taps.iter().zip(phase.sources[at..].iter().step_by(pixels)) {
                if source == NONE {
                    continue;
                }
                // SAFETY: as above.
                let x = unsafe { &from.row(image * from.pixels + source as usize)[..channels] };
                let weights = &weights[tap as usize * channels..][..channels];
                for c in 0..channels {
                    out[c] += x[c] * weights[c];
                }
            }
        }
    }
}

multiversion! {
    /// Adds the products of input and gradient of one tap to `sums`, for the channels from `first` on.
    fn depthwise_sums(phase: &Phase, tap: usize, batch: usize, x: Raw<T>, dy: Raw<T>, first: usize, sums: &mut [T]) {
        let pixels = phase.targets.len();
        let count = sums.len();
        let mut block = [T::default(); BLOCK];
        for image in 0..batch {
            for (target, &source) in phase.sources[tap * pixels..][..pixels].iter().enumerate() {
                if source == NONE {
                    continue;
                }
                // SAFETY: pixels of the image.
                let (x, dy) = unsafe {
                    (
                        &x.row(image * x.pixels + source as usize)[first..][..count],
                        &dy.row(image * dy.pixels + target)[first..][..count],
                    )
                };
                for ((sum, &x), &dy) in block.iter_mut().zip(x).zip(dy) {
                    *sum += x * dy;
                }
            }
        }
        sums.copy_from_slice(&block[..count]);
    }
}

/// The gradient of a depthwise convolution's weights, a row of channels for each tap.
///
/// # Safety
///
/// Both tensors have `batch` images, and nobody writes them.
pub(crate) unsafe fn depthwise_weights<T: Real>(
    phase: &Phase,
    batch: usize,
    x: Raw<T>,
    dy: Raw<T>,
    sums: &mut [T],
) {
    let channels = x.channels;
    assert!(sums.len() >= phase.taps.len() * channels);
    let blocks = channels.div_ceil(BLOCK);
    let sums = Shared(sums.as_mut_ptr());
    parallel(phase.taps.len() * blocks, |task| {
        let (tap, first) = (task / blocks, task % blocks * BLOCK);
        let count = BLOCK.min(channels - first);
        // SAFETY: each task has its own part.
        let sums = unsafe { std::slice::from_raw_parts_mut(sums.get().add(tap * channels + first), count) };
        // SAFETY: the caller's promise.
        unsafe { depthwise_sums(phase, tap, batch, x, dy, first, sums) }
    });
}
