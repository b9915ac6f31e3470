//! Direct convolution by the indirect algorithm, with an optional prologue that makes the input while it is
//! in cache.

use std::ops::Range;

use super::depthwise::{DepthwiseWeights, Pixels};
use super::panels::Panels;
use super::step::{
    Context, Epilogue, EvenTiles, RunConfig, Step, TASKS_PER_THREAD, chunk, chunks, lower_bound,
};
use super::strassen::Strassen;
use crate::Precision;
use crate::dtype::DType;
use crate::graph::Window;
use crate::kernel_name::{Fused, KernelName, PrologueName};
use crate::kernels::Kernels;
use crate::kernels::conv::Tile;
use crate::kernels::elementwise::Elementwise;
use crate::memory::{Aligned, View, pixel_stride};

/// Packed weights, by the algorithm that multiplies them.
pub(crate) enum Weights {
    /// Term by term.
    Direct(Panels),
    /// By seven products of halves, for the only output of a pointwise convolution. A pass of its own, while
    /// the rows are in cache, adds the residual and applies the ReLU after it; the epilogue is then the bias
    /// alone.
    Strassen(Box<Strassen>),
}

/// One of the horizontally fused outputs of a step: convolutions that read the same input, each with its own
/// weights.
pub(crate) struct FusedOutput {
    /// Packed weights.
    pub weights: Weights,
    /// Bias and ReLU.
    pub epilogue: Epilogue,
    /// Whether the output is clamped at zero.
    pub relu: bool,
    /// Where the output goes.
    pub out: View,
    /// A tensor that is added to the output.
    pub residual: Option<View>,
    /// Its factor where it is quantised.
    pub residual_scale: f32,
}

impl FusedOutput {
    /// Columns of the matrix product.
    fn columns(&self) -> usize {
        match &self.weights {
            Weights::Direct(panels) => panels.columns(),
            Weights::Strassen(strassen) => strassen.out_channels(),
        }
    }
}

/// The source of the pixels that a task multiplies.
pub(crate) enum Prologue {
    /// The arena.
    None,
    /// A copy in scratch memory, clamped at zero.
    Relu,
    /// A depthwise convolution, computed into scratch memory.
    Depthwise {
        /// Weights of the depthwise convolution.
        weights: Box<DepthwiseWeights>,
        /// Where its output goes too, if other steps read it.
        stored: Option<View>,
        /// Whether the matrix product reads it through a ReLU.
        relu: bool,
    },
}

/// A direct convolution.
pub(crate) struct ConvStep {
    /// Where the input lies (the depthwise convolution's input, with that prologue).
    pub input: View,
    /// Height and width of the matrix product's input.
    pub input_size: [usize; 2],
    /// Height and width of the output.
    pub output_size: [usize; 2],
    /// Channels of the matrix product's input.
    pub channels: usize,
    /// Kernel, stride, padding, dilation.
    pub window: Window,
    /// The convolutions that read this input.
    pub outputs: Vec<FusedOutput>,
    /// The source of the matrix product's input.
    pub prologue: Prologue,
    /// What is read outside of the input where zeros are not zero: as many elements as a run has, each the
    /// zero point.
    pub padding: Option<Aligned>,
}

/// The share of a task for which threads wait at the end of a step, since one of them is late.
const LATE: f64 = 0.1;

/// How a run is split into tasks: groups of panels by chunks of row tiles. The tasks of a group follow each
/// other, so that a thread goes on with the weights that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Split {
    tiles: usize,
    chunks: usize,
    groups: usize,
}

impl ConvStep {
    /// Whether a row of the kernel is one contiguous run of elements in the input.
    fn rows_are_contiguous(&self) -> bool {
        self.input.ld == self.channels
            && self.window.pad == [0; 2]
            && self.window.pad_end == [0; 2]
            && self.window.dilation[1] == 1
            && matches!(self.prologue, Prologue::None)
    }

    /// Kernel taps as the micro-kernel sees them, each a run of elements of the input, and elements of a run.
    pub fn runs(&self) -> [usize; 2] {
        let [height, width] = self.window.kernel;
        if self.rows_are_contiguous() {
            [height, width * self.channels]
        } else {
            [height * width, self.channels]
        }
    }

    /// Elements that the micro-kernel reads of a run: of the image's bytes whole packs. The weights of what
    /// lies behind the run are zero, and [`Operand::splat_some`](crate::kernels::simd::Operand) is slow.
    fn read_elements(&self) -> usize {
        let [_, k] = self.runs();
        match self.input.dtype {
            DType::U8 if self.rows_are_contiguous() => k.next_multiple_of(DType::U8.pack()),
            _ => k,
        }
    }

    /// Whether the prologue makes the matrix product's input in scratch memory.
    fn copies_input(&self) -> bool {
        !matches!(self.prologue, Prologue::None)
    }

    /// Elements from one row that the prologue makes to the next.
    fn copied_stride(&self) -> usize {
        pixel_stride(self.channels, self.input.dtype)
    }

    /// Floats of scratch memory for the rows that the prologue makes.
    fn copied_floats(&self, kernels: &Kernels) -> usize {
        let rows = self.largest_chunk(kernels) * kernels.tile_rows;
        if self.copies_input() { rows * self.copied_stride() } else { 0 }
    }

    /// Panels of all outputs; with Strassen's algorithm, of each product.
    fn panels(&self) -> usize {
        let count = |output: &FusedOutput| match &output.weights {
            Weights::Direct(panels) => panels.count(),
            Weights::Strassen(strassen) => strassen.panels(),
        };
        self.outputs.iter().map(count).sum()
    }

    fn strassen(&self) -> Option<(&FusedOutput, &Strassen)> {
        self.outputs.iter().find_map(|output| match &output.weights {
            Weights::Strassen(strassen) => Some((output, &**strassen)),
            Weights::Direct(_) => None,
        })
    }

    /// Row tiles whose input fits the cache: each panel goes over them once. Strassen's algorithm goes over a
    /// quarter of them at a time.
    fn tiles_in_cache(&self, kernels: &Kernels) -> usize {
        let [sy, sx] = self.window.stride;
        let costs = &kernels.costs;
        let larger = match self.strassen() {
            Some(_) if costs.strassen_spares_weights => 4,
            Some(_) => 2,
            None => 1,
        };
        let cache = costs.l2_floats() * larger;
        let read = [sy, sx, kernels.tile_rows].into_iter().fold(self.channels, usize::saturating_mul);
        (cache * self.input.dtype.pack() / read).clamp(1, 64)
    }

    /// The way to share out a run that takes a thread the least time by [`ConvStep::time`].
    fn split(&self, config: &RunConfig) -> Split {
        // Strassen's algorithm pairs rows of a chunk, so that its chunks show in results.
        let threads = if self.strassen().is_some() { config.cut } else { config.threads };
        let config = &RunConfig { threads, ..*config };
        let &RunConfig { kernels, batch, .. } = config;
        let rows = batch * self.output_size[0] * self.output_size[1];
        let tiles = rows.div_ceil(kernels.tile_rows);
        let least = tiles.div_ceil(self.tiles_in_cache(kernels));
        let wanted = threads * TASKS_PER_THREAD;
        let panels = self.panels();
        // The chunks that go with so many groups.
        let chunks_of = |groups: usize| match (self.strassen(), &self.prologue) {
            // Large and even: each chunk reads all weights, and its halves should fill row tiles.
            (Some(_), _) => {
                let chunks = (tiles / kernels.costs.strassen_tiles).max(least);
                if groups == 1 { chunks.next_multiple_of(threads).min(tiles).max(least) } else { least }
            }
            _ if groups > 1 => wanted.div_ceil(groups).min(tiles).max(least),
            (None, Prologue::Depthwise { .. } | Prologue::Relu) => chunks(tiles, least, threads).max(least),
            // A few tiles for each load of a panel into the first-level cache.
            (None, Prologue::None) => chunks(tiles.div_ceil(4), least, threads).max(least),
        };
        let split = |groups: usize| Split { tiles, chunks: chunks_of(groups), groups };
        let mut best = split(1);
        let rows_only = self.strassen().is_some() && !kernels.costs.strassen_spares_weights;
        if threads == 1 || rows_only {
            return best;
        }
        let mut time = self.time(config, &best);
        let mut groups = threads;
        while groups <= wanted.min(panels) {
            let other = split(groups);
            let other_time = self.time(config, &other);
            if other_time < time {
                (best, time) = (other, other_time);
            }
            groups *= 2;
        }
        best
    }

    /// The cost model's estimate of the time that the busiest thread takes, in multiply-adds. Chunks of rows
    /// repeat the reading of weights, unless those stay in the cache, and groups of panels repeat the
    /// prologue and the reading of the input; which costs more depends on the layer.
    fn time(&self, config: &RunConfig, split: &Split) -> f64 {
        let &RunConfig { kernels, threads, batch, .. } = config;
        let costs = &kernels.costs;
        let pack = self.input.dtype.pack() as f64;
        let rows = (batch * self.output_size[0] * self.output_size[1]) as f64;
        let rows = rows * split.tiles.div_ceil(split.chunks) as f64 / split.tiles as f64;
        let share = self.panels().div_ceil(split.groups) as f64 / self.panels() as f64;
        let channels = self.channels as f64;
        let [taps, k] = self.runs().map(|n| n as f64);
        let columns: usize = self.outputs.iter().map(FusedOutput::columns).sum();
        let columns = columns as f64 * share;
        let products = taps * k * columns / pack;
        let (multiplied, weights, added) = match self.strassen() {
            Some(_) => (0.875 * products, 1.75 * products, costs.strassen_sums(channels, columns)),
            None => (products, products, 0.0),
        };
        let prologue = match &self.prologue {
            Prologue::None => 0.0,
            Prologue::Relu => 2.0 * costs.strassen_add_cost * channels / pack,
            Prologue::Depthwise { weights, .. } => costs.depthwise_cost * weights.taps() as f64 * channels,
        };
        let tasks = (split.chunks * split.groups).div_ceil(threads);
        // A thread's tasks go on with the weights of one group after the other.
        let readings = if weights <= costs.l2_floats() as f64 { tasks.div_ceil(split.chunks) } else { tasks };
        let [sy, sx] = self.window.stride.map(|stride| stride as f64);
        let tasks = tasks as f64;
        let loaded = readings as f64 * weights + tasks * rows * channels * sy * sx / pack;
        (tasks + LATE) * rows * (multiplied + prologue + added) + costs.weight_load_cost * loaded
    }

    /// Largest number of row tiles in a chunk.
    fn largest_chunk(&self, kernels: &Kernels) -> usize {
        // `chunk` rounds, which can add one tile to an even share.
        self.tiles_in_cache(kernels) + 1
    }

    /// Fills the indirection buffer of output rows `rows`, `[taps][rows]`.
    ///
    /// # Safety
    /// `buffer` holds `taps * rows.len()` pointers.
    unsafe fn fill_indirection(&self, context: &Context, rows: Range<usize>, buffer: *mut *const u8) {
        let n = rows.len();
        let [oh, ow] = self.output_size;
        let [ih, iw] = self.input_size;
        let [taps, _] = self.runs();
        let by_pixel = taps == self.window.kernel[0] * self.window.kernel[1];
        let columns = if by_pixel { self.window.kernel[1] } else { 1 };
        let outside = self.padding.as_ref().map_or(context.zeros, Aligned::as_ptr).cast();
        // Row, column and image are counted up: two divisions for each row would take longer than the rest.
        let (mut image, pixel) = (rows.start / (oh * ow), rows.start % (oh * ow));
        let (mut oy, mut ox) = (pixel / ow, pixel % ow);
        for r in 0..n {
            let (y, x) = (oy * self.window.stride[0], ox * self.window.stride[1]);
            for ky in 0..self.window.kernel[0] {
                let iy = (y + ky * self.window.dilation[0]).wrapping_sub(self.window.pad[0]);
                for kx in 0..columns {
                    let ix = (x + kx * self.window.dilation[1]).wrapping_sub(self.window.pad[1]);
                    let inside = iy < ih && ix < iw;
                    let pointer = if inside {
                        context.pixel(&self.input, image * ih * iw + iy * iw + ix).cast_const()
                    } else {
                        outside
                    };
                    // SAFETY: tap ky * columns + kx < taps and r < n.
                    unsafe { *buffer.add((ky * columns + kx) * n + r) = pointer };
                }
            }
            ox += 1;
            if ox == ow {
                (ox, oy) = (0, oy + 1);
            }
            if oy == oh {
                (oy, image) = (0, image + 1);
            }
        }
    }

    /// As [`ConvStep::fill_indirection`], for rows that the prologue has made in scratch memory from row
    /// `first` on.
    ///
    /// # Safety
    /// `buffer` holds `rows.len()` pointers; a copied input has one tap.
    unsafe fn fill_indirection_to_copy(
        &self,
        context: &Context,
        rows: Range<usize>,
        first: usize,
        buffer: *mut *const u8,
    ) {
        let row_bytes = self.copied_stride() * self.input.dtype.size();
        for (r, row) in rows.enumerate() {
            let pointer = context.scratch.cast::<u8>().wrapping_add((row - first) * row_bytes);
            // SAFETY: the caller's promise.
            unsafe { *buffer.add(r) = pointer };
        }
    }

    /// Makes the input rows `rows` at the start of scratch memory, if there is a prologue, and stores them if
    /// other steps read them and `store` says so.
    ///
    /// # Safety
    /// As [`Step::execute_task`]; scratch memory has room for the rows, and no other task stores them.
    unsafe fn run_prologue(&self, context: &Context, rows: Range<usize>, store: bool) {
        let (scratch, stride) = (context.scratch.cast::<u8>(), self.copied_stride());
        match &self.prologue {
            Prologue::None => {}
            Prologue::Relu => {
                let e = Elementwise {
                    channels: self.channels,
                    a: context.pixel(&self.input, rows.start),
                    b: std::ptr::null(),
                    out: scratch,
                    ld: [self.input.ld, 0, stride],
                    scale: std::ptr::null(),
                    shift: std::ptr::null(),
                    b_scale: 1.0,
                    // Bytes are copied as they are.
                    min: f32::from(self.input.quant.zero_point),
                };
                // SAFETY: the rows lie in the input, which is complete, and in scratch memory.
                unsafe { context.config.kernels.elementwise(self.input.dtype)(&e, rows.len()) };
            }
            Prologue::Depthwise { weights, stored, relu } => {
                let copy = Pixels { start: scratch, ld: stride, relu: *relu };
                let stored = stored.as_ref().filter(|_| store);
                // SAFETY: the caller's promise.
                unsafe { weights.compute(context, &self.input, rows, stored, Some(copy)) };
            }
        }
    }

    /// Multiplies the input rows `rows` by the panels `panels` of Strassen's algorithm, with scratch memory
    /// from `scratch` on, and adds the residual.
    ///
    /// # Safety
    /// As [`Step::execute_task`]; these rows and columns of the output are this task's, the prologue has made
    /// the rows of the input, and `scratch` has room for [`Strassen::scratch`].
    unsafe fn multiply_by_strassen(
        &self,
        context: &Context,
        (output, strassen): (&FusedOutput, &Strassen),
        rows: Range<usize>,
        panels: Range<usize>,
        scratch: *mut f32,
    ) {
        let kernels = context.config.kernels;
        let input = if self.copies_input() {
            (context.scratch.cast_const(), self.copied_stride())
        } else {
            (context.pixel(&self.input, rows.start).cast_const().cast(), self.input.ld)
        };
        let out = context.pixel(&output.out, rows.start);
        let to = (out.cast(), output.out.ld);
        // SAFETY: the caller's promise.
        unsafe {
            strassen.multiply(kernels, input, rows.len(), panels.clone(), &output.epilogue, to, scratch)
        };
        let Some(view) = &output.residual else { return };
        for columns in strassen.columns(&panels) {
            let out = context.pixel(&output.out.skip_channels(columns.start), rows.start);
            let e = Elementwise {
                channels: columns.len(),
                a: out,
                b: context.pixel(&view.skip_channels(columns.start), rows.start),
                out,
                ld: [output.out.ld, view.ld, output.out.ld],
                scale: std::ptr::null(),
                shift: std::ptr::null(),
                b_scale: 1.0,
                min: lower_bound(output.relu),
            };
            // SAFETY: the residual is complete, and these rows and columns of the output are this task's.
            unsafe { kernels.elementwise(DType::F32)(&e, rows.len()) };
        }
    }

    /// Multiplies the rows of `tiles`, some of the even ones, by the panels `wanted`, numbered through all
    /// outputs. The indirection buffers of the tiles lie at `buffers`, `buffer_len` pointers apart.
    ///
    /// # Safety
    /// As [`Step::execute_task`]; these rows and columns of the outputs are this task's, and the buffers are
    /// filled.
    unsafe fn multiply_panels(
        &self,
        context: &Context,
        (tiles, even): (Range<usize>, EvenTiles),
        wanted: Range<usize>,
        (buffers, buffer_len): (*const *const u8, usize),
    ) {
        let ([taps, _], k) = (self.runs(), self.read_elements());
        let kernels = context.config.kernels;
        // The panels of all outputs before this one.
        let mut before = 0;
        for output in &self.outputs {
            let Weights::Direct(panels) = &output.weights else { continue };
            let micro_kernels = kernels.conv(self.input.dtype, output.out.dtype);
            let [start, end] =
                [wanted.start, wanted.end].map(|n| n.saturating_sub(before).min(panels.count()));
            before += panels.count();
            panels.for_each_tile(kernels, start..end, tiles.len(), (panels, end), |visit| {
                let panel = visit.panel;
                let rows = even.rows_of(tiles.start + visit.tile);
                let out = output.out.skip_channels(panel.first);
                let residual = output.residual.map(|view| view.skip_channels(panel.first));
                let tile = Tile {
                    indirection: buffers.wrapping_add(visit.tile * buffer_len),
                    rows: rows.len(),
                    taps,
                    k,
                    weights: panel.weights,
                    prefetch: visit.prefetch,
                    width: panel.width,
                    valid: panel.valid,
                    scale: output.epilogue.scale(panel.first),
                    bias: output.epilogue.bias.as_ptr().wrapping_add(panel.first),
                    min: output.epilogue.min.as_ptr().wrapping_add(panel.first),
                    residual: residual
                        .map_or(std::ptr::null(), |view| context.pixel(&view, rows.start).cast_const()),
                    ld_residual: residual.map_or(0, |view| view.ld),
                    residual_scale: output.residual_scale,
                    out: context.pixel(&out, rows.start),
                    ld_out: out.ld,
                };
                let micro_kernel = if panel.pairs_fit { micro_kernels.paired } else { micro_kernels.any };
                // SAFETY: the buffer points into the complete input (or zeros, or scratch memory), the panel
                // holds taps * k rows, and these rows and columns of the output belong to this task alone.
                unsafe { micro_kernel(&tile) };
            });
        }
    }
}

impl Step for ConvStep {
    fn kernel(&self) -> KernelName {
        let prologue = match &self.prologue {
            Prologue::None => PrologueName::None,
            Prologue::Relu => PrologueName::Relu,
            Prologue::Depthwise { .. } => PrologueName::Depthwise,
        };
        let dtype = Precision::of(self.input.dtype);
        let fused = Fused { prologue, outputs: self.outputs.len(), dtype };
        match self.strassen() {
            Some(_) => KernelName::Strassen(fused),
            None if self.window.is_pointwise() => KernelName::Pointwise(fused),
            None => KernelName::Direct(fused),
        }
    }

    fn tasks(&self, config: &RunConfig) -> usize {
        let split = self.split(config);
        split.chunks * split.groups
    }

    unsafe fn execute_task(&self, task: usize, context: &Context) {
        let config = &context.config;
        let split = self.split(config);
        let tiles = chunk(split.tiles, task % split.chunks, split.chunks);
        let even = EvenTiles::new(config.batch * self.output_size[0] * self.output_size[1], split.tiles);
        let rows = even.rows_of(tiles.start).start..even.rows_of(tiles.end - 1).end;
        let group = task / split.chunks;
        let panels = chunk(self.panels(), group, split.groups);
        // SAFETY: `scratch` asks for the rows of the largest chunk, and then for an indirection buffer for
        // each of its tiles or for what Strassen's algorithm needs. Each group makes the rows for itself and
        // only the first one stores them, and tasks do not share rows and columns of the output.
        unsafe {
            self.run_prologue(context, rows.clone(), group == 0);
            let scratch = context.scratch.wrapping_add(self.copied_floats(config.kernels));
            if let Some(strassen) = self.strassen() {
                return self.multiply_by_strassen(context, strassen, rows, panels, scratch);
            }
            let (buffers, buffer_len) =
                (scratch.cast::<*const u8>(), self.runs()[0] * config.kernels.tile_rows);
            for (i, t) in tiles.clone().enumerate() {
                let buffer = buffers.wrapping_add(i * buffer_len);
                if self.copies_input() {
                    self.fill_indirection_to_copy(context, even.rows_of(t), rows.start, buffer);
                } else {
                    self.fill_indirection(context, even.rows_of(t), buffer);
                }
            }
            self.multiply_panels(context, (tiles, even), panels, (buffers.cast_const(), buffer_len));
        }
    }

    fn scratch(&self, kernels: &Kernels) -> usize {
        let rows = self.largest_chunk(kernels) * kernels.tile_rows;
        let strassen = self.strassen().map_or(0, |(_, strassen)| strassen.scratch(rows));
        // A pointer is as large as two floats.
        self.copied_floats(kernels) + (2 * rows * self.runs()[0]).max(strassen)
    }

    fn zeros(&self) -> usize {
        self.runs()[1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Conv;
    use crate::kernels::CostModel;
    use crate::{Isa, QuantParams};

    /// AVX2's kernels beside the caches of Zen 3, of which nothing is run; none where this CPU's caches are
    /// smaller.
    fn zen3() -> Option<&'static Kernels> {
        let kernels = Isa::Avx2.table()?;
        let caches = [32 << 10, 512 << 10];
        let [l1d_bytes, l2_bytes] = caches.map(|size| [size; 2]);
        let costs = CostModel { l1d_bytes, l2_bytes, ..kernels.costs };
        if costs.assumed_caches() != caches {
            eprintln!("SKIPPED: the caches of this CPU are smaller than Zen 3's");
            return None;
        }
        Some(Box::leak(Box::new(Kernels { costs, ..*kernels })))
    }

    /// A pointwise convolution of a square map, after a depthwise one or by the direct algorithm alone.
    fn step(kernels: &Kernels, side: usize, [channels, columns]: [usize; 2], strassen: bool) -> ConvStep {
        let dtype = DType::F32;
        let quant = QuantParams::NONE;
        let view = |channels| View { offset: 0, channel: 0, ld: channels, pixels: side * side, dtype, quant };
        let window = Window::square(3, 1, 1);
        let depthwise =
            Conv { out_channels: channels, groups: channels, ..Conv::new(vec![0.0; 9 * channels], window) };
        let weight = vec![0.0; channels * columns];
        let size = [side; 2];
        let (weights, prologue) = match strassen {
            true => {
                let weights =
                    DepthwiseWeights::new(kernels, &depthwise, size, size, &view(channels), None, quant);
                let prologue = Prologue::Depthwise { weights: Box::new(weights), stored: None, relu: false };
                (Weights::Strassen(Box::new(Strassen::new(kernels, &weight, channels, columns))), prologue)
            }
            false => {
                let panels = Panels::pack_as(kernels, dtype, [1, channels], columns, |_, _| 0.0);
                (Weights::Direct(panels), Prologue::None)
            }
        };
        let output = FusedOutput {
            weights,
            epilogue: Epilogue::new(&[], columns, false),
            relu: false,
            out: view(columns),
            residual: None,
            residual_scale: 1.0,
        };
        ConvStep {
            input: view(channels),
            input_size: size,
            output_size: size,
            channels,
            window: Window::square(1, 1, 0),
            outputs: vec![output],
            prologue,
            padding: None,
        }
    }

    /// A second-level cache of 512 KiB holds a quarter of Xception's middle maps, so each of two threads goes
    /// over all weights once; on the small maps at the end, where weights weigh more, over half of them.
    #[test]
    fn two_threads_share_weights_where_they_weigh_more_than_the_input() {
        let Some(kernels) = zen3() else { return };
        let config = RunConfig { kernels, threads: 2, cut: 2, batch: 1 };
        let split = |side, channels, strassen| {
            let Split { chunks, groups, .. } = step(kernels, side, channels, strassen).split(&config);
            [chunks, groups]
        };
        assert_eq!(split(19, [728, 728], true), [2, 1]);
        for (side, channels, strassen) in [(10, [1536, 2048], true), (7, [832, 384], false)] {
            let [chunks, groups] = split(side, channels, strassen);
            assert!(chunks == 1 && groups >= 2, "{channels:?}: {chunks} chunks, {groups} groups");
        }
        // Few weights: rows are shared out.
        assert_eq!(split(75, [64, 64], false)[1], 1);
        let alone = RunConfig { threads: 1, cut: 1, ..config };
        assert_eq!(step(kernels, 10, [1536, 2048], true).split(&alone).groups, 1);
    }
}
