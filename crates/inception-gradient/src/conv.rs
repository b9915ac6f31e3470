//! Convolutions of one group: each of the three products reads activations where they lie.

#![allow(clippy::too_many_arguments)] // Two tensors, their batch, weights, and what is done with them.

use inception_graph::{Shape, Window};

use crate::kernels::{Kernels, RowsArgs, WeightGradientArgs};
use crate::memory::{Raw, Shared, parallel};
use crate::real::Real;
use crate::window::{NONE, Phase, backward, forward};

/// Tiles of a task: weights that were read are used for as many.
const TILES: usize = 8;
/// Pixels that a tile of a gradient takes at once: what they hold stays in the second cache.
const PIXELS: usize = 256;
/// Tiles of a gradient in a task.
const GROUP: usize = 4;

/// The weights of a convolution as a matrix: a row for each tap and channel of the input, a column for each
/// channel of the output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix {
    pub taps: usize,
    pub inputs: usize,
    pub outputs: usize,
    /// Whether the values are `[output][input][tap]` in memory; otherwise `[input][output]`, of one tap.
    pub outputs_first: bool,
}

impl Matrix {
    /// Channels that a product reads and makes: the output's or, `back`, the gradient's of the input.
    fn ends(&self, back: bool) -> (usize, usize) {
        if back { (self.outputs, self.inputs) } else { (self.inputs, self.outputs) }
    }

    /// The place of a value in memory.
    fn at(&self, tap: usize, input: usize, output: usize) -> usize {
        match self.outputs_first {
            true => (output * self.inputs + input) * self.taps + tap,
            false => input * self.outputs + output,
        }
    }
}

/// Where the three products of a convolution read.
#[derive(Debug)]
pub(crate) struct Convolution {
    pub matrix: Matrix,
    /// Runs of floats that lie side by side in the input: taps, or rows of taps.
    runs: usize,
    /// Floats of a run.
    len: usize,
    forward: Vec<Phase>,
    backward: Vec<Phase>,
    /// For each run the pixels of input and output that it joins, in floats.
    pairs: Vec<Vec<(u32, u32)>>,
}

impl Convolution {
    /// That of `window`, from maps of `input` to maps of `output` whose pixels lie so many floats apart.
    pub fn new(matrix: Matrix, window: &Window, input: (Shape, usize), output: (Shape, usize)) -> Self {
        let ((input, in_stride), (output, out_stride)) = (input, output);
        // Few channels: the taps of a row are one run, if they lie side by side everywhere.
        let [kernel_height, kernel_width] = window.kernel;
        let side_by_side = kernel_width > 1
            && input.channels < 16
            && in_stride == input.channels
            && window.dilation[1] == 1
            && window.pad[1] == 0
            && window.pad_end[1] == 0;
        let joined = match side_by_side {
            true => Window { kernel: [kernel_height, 1], ..*window },
            false => *window,
        };
        let there = forward(&joined, input, output);
        let runs = there.taps.len();
        let pixels = output.pixels();
        let pairs = (0..runs).map(|run| {
            let sources = there.sources[run * pixels..][..pixels].iter().enumerate();
            let pairs = sources.filter(|&(_, &source)| source != NONE);
            let floats =
                |(target, &source): (usize, &u32)| (source * in_stride as u32, (target * out_stride) as u32);
            pairs.map(floats).collect()
        });
        let pairs = pairs.collect();
        Self {
            matrix,
            runs,
            len: matrix.taps / runs * matrix.inputs,
            forward: vec![there],
            backward: backward(window, input, output),
            pairs,
        }
    }

    /// Floats of a run of the input.
    pub fn run_len(&self) -> usize {
        self.len
    }

    /// Panels of packed weights, and floats of each, for the output or, `back`, the gradient of the input.
    pub fn panels(&self, columns: usize, back: bool) -> (usize, usize) {
        let (from, to) = self.matrix.ends(back);
        (to.div_ceil(columns), self.matrix.taps * from * columns)
    }

    /// Packs a panel: rows of `columns` floats, zeros after the last channel.
    pub fn pack<T: Real>(&self, weights: &[f32], columns: usize, back: bool, panel: usize, packed: &mut [T]) {
        let matrix = self.matrix;
        let (from, to) = matrix.ends(back);
        let first = panel * columns;
        let count = columns.min(to - first);
        let mut row = |tap: usize, source: usize| {
            let out = &mut packed[(tap * from + source) * columns..][..columns];
            let step = match back {
                true => matrix.at(tap, 1.min(to - 1), source) - matrix.at(tap, 0, source),
                false => matrix.at(tap, source, 1.min(to - 1)) - matrix.at(tap, source, 0),
            };
            let start = if back { matrix.at(tap, first, source) } else { matrix.at(tap, source, first) };
            for (column, out) in out[..count].iter_mut().enumerate() {
                *out = T::of(weights[start + column * step]);
            }
            out[count..].fill(T::default());
        };
        // In the order of memory, as far as there is one.
        for source in 0..from {
            for tap in 0..matrix.taps {
                row(tap, source);
            }
        }
    }

    /// The output, `to`, from the input, `from`.
    ///
    /// # Safety
    ///
    /// The CPU has the kernels' instruction set. Both have `batch` images; nobody else has access to `to`,
    /// and nobody writes `from`. `zeros` has as many floats as a pixel of the input, and as
    /// [`run_len`](Self::run_len).
    pub unsafe fn output<T: Real>(
        &self,
        kernels: &Kernels<T>,
        batch: usize,
        from: Raw<T>,
        to: Raw<T>,
        weights: &[T],
        bias: Option<&[T]>,
        zeros: &[T],
    ) {
        let product =
            Product { kernels, batch, from, to, weights, bias, zeros, len: self.len, accumulate: false };
        // SAFETY: the caller's promise.
        unsafe { product.run(&self.forward, self.runs) }
    }

    /// The gradient of the input, `to`, from that of the output, `from`; added to what is there with
    /// `accumulate`.
    ///
    /// # Safety
    ///
    /// As [`output`](Self::output).
    pub unsafe fn input_gradient<T: Real>(
        &self,
        kernels: &Kernels<T>,
        batch: usize,
        from: Raw<T>,
        to: Raw<T>,
        weights: &[T],
        zeros: &[T],
        accumulate: bool,
    ) {
        let len = self.matrix.outputs;
        let product = Product { kernels, batch, from, to, weights, bias: None, zeros, len, accumulate };
        // SAFETY: the caller's promise.
        unsafe { product.run(&self.backward, self.matrix.taps) }
    }

    /// The gradient of the weights, a row for each tap and channel of the input, to `sums`.
    ///
    /// Each value is summed by one thread, in the order of the pixels.
    ///
    /// # Safety
    ///
    /// The CPU has the kernels' instruction set. `x`, the input, and `y`, the gradient of the output, have
    /// `batch` images, and two vectors of floats after the last one are readable.
    pub unsafe fn weight_gradient<T: Real>(
        &self,
        kernels: &Kernels<T>,
        batch: usize,
        x: Raw<T>,
        y: Raw<T>,
        sums: &mut [T],
    ) {
        let (outputs, columns) = (self.matrix.outputs, kernels.columns());
        assert!(sums.len() >= self.runs * self.len * outputs);
        let tiles = self.len.div_ceil(kernels.tile);
        let rows = self.len.div_ceil(tiles);
        let (groups, panels) = (tiles.div_ceil(GROUP), outputs.div_ceil(columns));
        let sums = Shared(sums.as_mut_ptr());
        parallel(self.runs * groups * panels, |task| {
            let (run, panel, group) = (task / groups / panels, task / groups % panels, task % groups);
            let pairs = &self.pairs[run];
            let first = panel * columns;
            let tile = |tile: usize, pairs: &[(u32, u32)], image: usize, images: usize, accumulate: bool| {
                let row = tile * rows;
                let Some(count) = self.len.checked_sub(row).filter(|&left| left > 0) else { return };
                // SAFETY: the pixels are those of the tensors, whose floats the caller has promised; each
                // task has its own part of the sums.
                unsafe {
                    let args = WeightGradientArgs {
                        x: x.at(image * x.pixels).add(row),
                        y: y.at(image * y.pixels).add(first),
                        pairs: pairs.as_ptr(),
                        count: pairs.len(),
                        images,
                        x_image: x.image(),
                        y_image: y.image(),
                        target: sums.get().add((run * self.len + row) * outputs + first),
                        stride: outputs,
                        accumulate,
                        columns: columns.min(outputs - first),
                    };
                    kernels.weight_gradient(count.min(rows), &args);
                }
            };
            let group = group * GROUP..tiles.min((group + 1) * GROUP);
            // Some images at a time, or a part of one.
            let images = (PIXELS / pairs.len().max(1)).clamp(1, batch);
            let mut accumulate = false;
            for image in (0..batch).step_by(images) {
                let part =
                    if pairs.is_empty() { 1 } else { pairs.len().div_ceil(pairs.len().div_ceil(PIXELS)) };
                let mut rest = &pairs[..];
                loop {
                    let (now, later) = rest.split_at(part.min(rest.len()));
                    group.clone().for_each(|at| tile(at, now, image, images.min(batch - image), accumulate));
                    accumulate = true;
                    rest = later;
                    if rest.is_empty() {
                        break;
                    }
                }
            }
        });
    }

    /// The gradient of the weights in the weights' own order, from
    /// [`weight_gradient`](Self::weight_gradient).
    pub fn in_order<T: Real>(&self, sums: &[T], gradient: &mut [f32]) {
        let Matrix { taps, inputs, outputs, outputs_first } = self.matrix;
        if !outputs_first {
            gradient.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum.to_f32());
            return;
        }
        const OUTPUTS: usize = 16;
        let filter = inputs * taps;
        let gradient = Shared(gradient.as_mut_ptr());
        parallel(outputs.div_ceil(OUTPUTS), |block| {
            let first = block * OUTPUTS;
            let count = OUTPUTS.min(outputs - first);
            for input in 0..inputs {
                for tap in 0..taps {
                    let row = &sums[(tap * inputs + input) * outputs + first..][..count];
                    for (output, sum) in row.iter().enumerate() {
                        // SAFETY: the place of a weight; each block has its own outputs.
                        unsafe {
                            let place = (first + output) * filter + input * taps + tap;
                            *gradient.get().add(place) = sum.to_f32();
                        }
                    }
                }
            }
        });
    }
}

/// A product of pixels and weights.
struct Product<'a, T: Real> {
    kernels: &'a Kernels<T>,
    batch: usize,
    from: Raw<T>,
    to: Raw<T>,
    /// Panels of packed weights.
    weights: &'a [T],
    bias: Option<&'a [T]>,
    zeros: &'a [T],
    /// Floats of a run.
    len: usize,
    accumulate: bool,
}

impl<T: Real> Product<'_, T> {
    /// # Safety
    ///
    /// That of [`Convolution::output`]; `runs` are those of all weights.
    unsafe fn run(&self, phases: &[Phase], runs: usize) {
        let columns = self.kernels.columns();
        let panel = runs * self.len * columns;
        let panels = self.to.channels.div_ceil(columns);
        assert!(self.weights.len() >= panels * panel && self.zeros.len() >= self.len);
        let tasks: Vec<usize> = phases
            .iter()
            .map(|phase| (self.batch * phase.targets.len()).div_ceil(self.kernels.tile * TILES))
            .collect();
        // What is larger is gone through once: the weights, or the pixels.
        let pixels_first = self.weights.len() <= self.batch * self.from.image();
        for (phase, &blocks) in phases.iter().zip(&tasks) {
            parallel(blocks * panels, |task| {
                let (block, panel_at) = match pixels_first {
                    true => (task / panels, task % panels),
                    false => (task % blocks, task / blocks),
                };
                // SAFETY: the caller's promise; each task has its own part of the output.
                unsafe { self.block(phase, block, panel_at, &self.weights[panel_at * panel..][..panel]) }
            });
        }
    }

    /// Some tiles of a panel.
    ///
    /// # Safety
    ///
    /// That of [`run`](Self::run).
    unsafe fn block(&self, phase: &Phase, block: usize, panel: usize, weights: &[T]) {
        let (tile, columns) = (self.kernels.tile, self.kernels.columns());
        let first = panel * columns;
        let count = columns.min(self.to.channels - first);
        let runs = phase.taps.len();
        let per_image = phase.targets.len();
        let total = self.batch * per_image;
        let row = self.len * columns;
        let weights: Vec<*const T> =
            phase.taps.iter().map(|&tap| weights[tap as usize * row..].as_ptr()).collect();
        let mut sources = vec![std::ptr::null(); runs * tile];
        let mut targets = vec![std::ptr::null_mut(); tile];
        let start = block * TILES * tile;
        for at in (start..total.min(start + TILES * tile)).step_by(tile) {
            let rows = tile.min(total - at);
            for r in 0..tile {
                // Rows after the last one are that again, and not stored.
                let at = at + r.min(rows - 1);
                let (image, target) = (at / per_image, at % per_image);
                // SAFETY: pixels of the tensors.
                unsafe {
                    for run in 0..runs {
                        let source = phase.sources[run * per_image + target];
                        sources[run * tile + r] = match source {
                            NONE => self.zeros.as_ptr(),
                            source => self.from.at(image * self.from.pixels + source as usize),
                        };
                    }
                    let pixel = image * self.to.pixels + phase.targets[target] as usize;
                    targets[r] = self.to.at(pixel).add(first);
                }
            }
            let args = RowsArgs {
                sources: sources.as_ptr(),
                weights: weights.as_ptr(),
                runs,
                len: self.len,
                bias: self.bias.map_or(std::ptr::null(), |bias| bias[first..first + count].as_ptr()),
                accumulate: self.accumulate,
                targets: targets.as_ptr(),
                rows,
                columns: count,
            };
            // SAFETY: what the arguments point to is as large as they say.
            unsafe { self.kernels.rows(&args) }
        }
    }
}
