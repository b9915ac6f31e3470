//! Direct convolution by pointer rows, with an optional prologue that makes the input while it is in cache.

use half::bf16;

use super::strassen::Strassen;
use super::{CACHE, Context, DepthwiseWeights, Epilogue, Setting, Step, part, parts};
use crate::Precision;
use crate::graph::Window;
use crate::kernel_name::{Fused, KernelName, PrologueName};
use crate::kernels::Kernels;
use crate::kernels::conv::{NARROW, PANEL, Tile};
use crate::kernels::element::Element;
use crate::kernels::pointwise::Elementwise;
use crate::memory::{Aligned, LINE, View, pixel_stride};
use crate::threads::spread;

/// Weights that are worth starting threads to pack.
const MANY: usize = 1 << 16;

/// Weights packed for the micro-kernel: panels of 32 columns, the last one of 16 where that suffices. A float of a panel
/// is one weight, or two of `bf16`.
pub(crate) struct Panels {
    data: Aligned,
    /// Rows of a panel: taps times channels, or times pairs of channels.
    depth: usize,
    /// Columns that hold weights.
    pub columns: usize,
}

/// One panel.
pub(crate) struct Panel {
    pub weights: *const f32,
    pub width: usize,
    /// First column.
    pub first: usize,
    /// Columns that hold weights.
    pub valid: usize,
}

impl Panels {
    /// Floats of a packed matrix of `depth` by `columns`.
    pub fn packed_len(depth: usize, columns: usize) -> usize {
        depth * columns.next_multiple_of(NARROW)
    }

    /// Packs `columns` columns of `depth` weights; `column(o)` yields them in the order in which the kernel reads its rows.
    pub fn pack<I: Iterator<Item = f32>>(
        depth: usize,
        columns: usize,
        column: impl Fn(usize) -> I + Sync,
    ) -> Self {
        let mut data = Aligned::weights(Panels::packed_len(depth, columns));
        let pack = |(panel, packed): (usize, &mut [f32])| {
            let first = panel * PANEL;
            let width = (columns - first).next_multiple_of(NARROW).min(PANEL);
            for (to, o) in (first..columns.min(first + PANEL)).enumerate() {
                for (kk, w) in column(o).take(depth).enumerate() {
                    packed[to + kk * width] = w;
                }
            }
        };
        let panels =
            data.as_mut().chunks_mut((PANEL * depth).max(1)).take(columns.div_ceil(PANEL)).enumerate();
        if depth * columns < MANY {
            panels.for_each(pack);
        } else {
            spread(panels, pack);
        }
        Panels { data, depth, columns }
    }

    /// As [`Panels::pack`], for columns of `taps` times `k` weights, as `element`. The last of an odd number of channels is
    /// paired with zero.
    pub fn pack_as(
        element: Element,
        [taps, k]: [usize; 2],
        columns: usize,
        weight: impl Fn(usize, usize) -> f32 + Sync,
    ) -> Self {
        let pairs = k.div_ceil(element.group());
        let weight = &weight;
        match element {
            Element::F32 => Panels::pack(taps * k, columns, |o| (0..taps * k).map(move |kk| weight(o, kk))),
            Element::Bf16 => Panels::pack(taps * pairs, columns, |o| {
                (0..taps * pairs).map(move |row| {
                    let (tap, channel) = (row / pairs, row % pairs * 2);
                    let bits = |channel: usize| {
                        let w = if channel < k { weight(o, tap * k + channel) } else { 0.0 };
                        u32::from(bf16::from_f32(w).to_bits())
                    };
                    f32::from_bits(bits(channel) | bits(channel + 1) << 16)
                })
            }),
        }
    }

    /// What tile number `tile` of a panel fetches ahead of the panel `index` that comes next: the first tiles share it out.
    /// Without that, the first tile over each panel would wait for memory, and the others leave it idle.
    pub fn ahead(&self, index: usize, tile: usize) -> *const f32 {
        let next = self.get(index.min(self.count() - 1));
        let start = if tile * LINE < next.width { tile * LINE * self.depth } else { 0 };
        next.weights.wrapping_add(start)
    }

    /// Number of panels.
    pub fn count(&self) -> usize {
        self.columns.div_ceil(PANEL)
    }

    /// Panel number `index`.
    pub fn get(&self, index: usize) -> Panel {
        let first = index * PANEL;
        let valid = (self.columns - first).min(PANEL);
        let width = valid.next_multiple_of(NARROW);
        Panel { weights: self.data.as_ptr().wrapping_add(first * self.depth), width, first, valid }
    }
}

/// How a head multiplies.
pub(crate) enum Weights {
    /// Term by term.
    Direct(Panels),
    /// By seven products of halves; pointwise convolutions without siblings only. A residual is added, and the ReLU
    /// after it applied, in a pass of its own while the rows are in cache; the epilogue is then the bias alone.
    Strassen(Box<Strassen>),
}

/// One convolution of a step; siblings that read the same input share the step, each with a head of its own.
pub(crate) struct Head {
    /// Packed weights.
    pub weights: Weights,
    /// Bias and ReLU.
    pub epilogue: Epilogue,
    /// Whether the output is clamped at zero.
    pub relu: bool,
    /// Where the output goes.
    pub out: View,
    /// What is added to it.
    pub residual: Option<View>,
}

/// How a task gets the pixels that it multiplies.
pub(crate) enum Prologue {
    /// They lie in the arena.
    None,
    /// They are copied to scratch memory and clamped at zero on the way.
    Relu,
    /// They are the output of a depthwise convolution, computed into scratch memory; `stored` if others read it too.
    /// `clamp` if the matrix product reads it through a ReLU.
    Depthwise { weights: Box<DepthwiseWeights>, stored: Option<View>, clamp: bool },
}

/// Row tiles of a chunk that Strassen's algorithm halves. (Half of a 19x19 map: on two threads, Xception65 took 126 ms with
/// 7, and 120 with 13.)
const STRASSEN_TILES: usize = 13;

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
    /// Convolutions that read this input.
    pub heads: Vec<Head>,
    /// What happens before.
    pub prologue: Prologue,
}

/// How a run's work is cut: chunks of row tiles by groups of panels.
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

    /// Elements from one row that the prologue makes to the next.
    fn copied_stride(&self) -> usize {
        pixel_stride(self.channels, self.input.element)
    }

    fn panels(&self) -> usize {
        let count = |head: &Head| match &head.weights {
            Weights::Direct(panels) => panels.count(),
            Weights::Strassen(_) => 1,
        };
        self.heads.iter().map(count).sum()
    }

    fn strassen(&self) -> Option<(&Head, &Strassen)> {
        self.heads.iter().find_map(|head| match &head.weights {
            Weights::Strassen(strassen) => Some((head, &**strassen)),
            Weights::Direct(_) => None,
        })
    }

    /// Row tiles whose input fits the cache: they are gone over once for each panel. Strassen's algorithm goes over a
    /// quarter of them at a time, and over all weights for each chunk, so that larger chunks serve it better.
    fn tiles_in_cache(&self, rows: usize) -> usize {
        let [sy, sx] = self.window.stride;
        let cache = if self.strassen().is_some() { 2 * CACHE } else { CACHE };
        (cache * self.input.element.group() / (self.channels * sy * sx * rows)).clamp(1, 64)
    }

    fn split(&self, setting: &Setting) -> Split {
        let rows = setting.n * self.output_size[0] * self.output_size[1];
        let tiles = rows.div_ceil(setting.kernels.rows);
        let least = tiles.div_ceil(self.tiles_in_cache(setting.kernels.rows));
        if self.strassen().is_some() {
            // Large and even: each chunk reads all weights, and its halves should fill row tiles.
            let chunks = (tiles / STRASSEN_TILES).max(least).next_multiple_of(setting.threads).min(tiles);
            return Split { tiles, chunks: chunks.max(least), groups: 1 };
        }
        let (units, panels) = match self.prologue {
            // Panels of one chunk share the prologue's output, so chunks are all there is to split by.
            Prologue::Depthwise { .. } | Prologue::Relu => (tiles, 1),
            // A few tiles for each load of a panel into the first-level cache.
            Prologue::None => (tiles.div_ceil(4), self.panels()),
        };
        let chunks = parts(units, least, setting.threads).max(least);
        let wanted = setting.threads * super::TASKS_PER_THREAD;
        let groups =
            if setting.threads == 1 || chunks >= wanted { 1 } else { wanted.div_ceil(chunks).min(panels) };
        Split { tiles, chunks, groups }
    }

    /// Largest number of row tiles in a chunk.
    fn largest_chunk(&self, kernels: &Kernels) -> usize {
        // `part` rounds, which can add one tile to an even share.
        self.tiles_in_cache(kernels.rows) + 1
    }

    /// Fills the pointer table for output rows `rows`: `[taps][n]`.
    ///
    /// # Safety
    /// `table` holds `taps * n` pointers.
    unsafe fn point(&self, context: &Context, rows: std::ops::Range<usize>, table: *mut *const u8) {
        let n = rows.len();
        let [oh, ow] = self.output_size;
        let [ih, iw] = self.input_size;
        let [taps, _] = self.runs();
        let wide = taps == self.window.kernel[0] * self.window.kernel[1];
        let columns = if wide { self.window.kernel[1] } else { 1 };
        // Counted up, since two divisions for each row would take longer than the rest.
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
                        context.zeros.cast()
                    };
                    // SAFETY: tap ky * columns + kx < taps and r < n.
                    unsafe { *table.add((ky * columns + kx) * n + r) = pointer };
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

    /// Makes the input rows `rows` in scratch memory, `stride` elements apart.
    ///
    /// # Safety
    /// As [`Step::run`]; `scratch` holds `rows.len() * stride` elements and no other task makes these rows.
    unsafe fn prepare(
        &self,
        context: &Context,
        rows: std::ops::Range<usize>,
        scratch: *mut u8,
        stride: usize,
    ) {
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
                    floor: 0.0,
                };
                // SAFETY: the rows lie in the input, which is complete, and in scratch.
                unsafe { (context.setting.kernels.elementwise)(&e, rows.len()) };
            }
            Prologue::Depthwise { weights, stored, clamp } => {
                // SAFETY: the caller's promise.
                unsafe {
                    weights.run(context, &self.input, rows, stored.as_ref(), Some((scratch, stride, *clamp)))
                };
            }
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
        let dtype = Precision::of(self.input.element);
        let fused = Fused { prologue, outputs: self.heads.len(), dtype };
        match self.strassen() {
            Some(_) => KernelName::Strassen(fused),
            None if self.window.is_pointwise() => KernelName::Pointwise(fused),
            None => KernelName::Direct(fused),
        }
    }

    fn tasks(&self, setting: &Setting) -> usize {
        let split = self.split(setting);
        split.chunks * split.groups
    }

    unsafe fn run(&self, task: usize, context: &Context) {
        let setting = &context.setting;
        let split = self.split(setting);
        let [taps, k] = self.runs();
        let total = setting.n * self.output_size[0] * self.output_size[1];
        let tiles = part(split.tiles, task / split.groups, split.chunks);
        let tile_rows = |t: usize| part(total, t, split.tiles);
        let first_row = tile_rows(tiles.start).start;

        // Scratch: the prologue's rows, then one pointer table for each tile.
        let stride = self.copied_stride();
        let copied = !matches!(self.prologue, Prologue::None);
        let rows_end = tile_rows(tiles.end - 1).end;
        let table_size = taps * setting.kernels.rows;
        let copied_rows = self.largest_chunk(setting.kernels) * setting.kernels.rows;
        let tables =
            context.scratch.wrapping_add(if copied { copied_rows * stride } else { 0 }).cast::<*const u8>();
        if copied {
            // SAFETY: the chunk has at most `copied_rows` rows, and only this task makes them (panels are not split).
            unsafe { self.prepare(context, first_row..rows_end, context.scratch.cast(), stride) };
        }
        if let Some((head, strassen)) = self.strassen() {
            let input = match self.prologue {
                Prologue::None => (context.pixel(&self.input, first_row).cast_const().cast(), self.input.ld),
                _ => (context.scratch.cast_const(), stride),
            };
            let out = context.pixel(&head.out, first_row);
            let scratch = context.scratch.wrapping_add(if copied { copied_rows * stride } else { 0 });
            // SAFETY: the chunk's input is complete, its rows of the output are this task's, and scratch memory behind
            // the copied rows is what `scratch` asks for.
            unsafe { strassen.run(setting.kernels, input, rows_end - first_row, head, out.cast(), scratch) };
            if let Some(view) = &head.residual {
                let e = Elementwise {
                    channels: strassen.out_channels(),
                    a: out,
                    b: context.pixel(view, first_row),
                    out,
                    ld: [head.out.ld, view.ld, head.out.ld],
                    scale: std::ptr::null(),
                    shift: std::ptr::null(),
                    floor: if head.relu { 0.0 } else { f32::NEG_INFINITY },
                };
                // SAFETY: the residual is complete, and these rows of the output are this task's.
                unsafe { (setting.kernels.elementwise)(&e, rows_end - first_row) };
            }
            return;
        }
        let (scratch, size) = (context.scratch.cast::<u8>(), self.input.element.size());
        for (i, t) in tiles.clone().enumerate() {
            let rows = tile_rows(t);
            let table = tables.wrapping_add(i * table_size);
            if copied {
                for (r, row) in rows.enumerate() {
                    // SAFETY: a table holds `taps * rows` pointers; a copied input has one tap.
                    unsafe { *table.add(r) = scratch.wrapping_add((row - first_row) * stride * size) };
                }
            } else {
                // SAFETY: as above.
                unsafe { self.point(context, rows, table) };
            }
        }

        let wanted = part(self.panels(), task % split.groups, split.groups);
        let mut number = 0;
        for head in &self.heads {
            let Weights::Direct(panels) = &head.weights else { continue };
            let multiply = setting.kernels.conv(self.input.element, head.out.element);
            for p in 0..panels.count() {
                number += 1;
                if !wanted.contains(&(number - 1)) {
                    continue;
                }
                let panel = panels.get(p);
                let out = head.out.skip_channels(panel.first);
                let residual = head.residual.map(|view| view.skip_channels(panel.first));
                for (i, t) in tiles.clone().enumerate() {
                    let rows = tile_rows(t);
                    let tile = Tile {
                        rows: tables.wrapping_add(i * table_size),
                        n: rows.len(),
                        taps,
                        k,
                        weights: panel.weights,
                        ahead: panels.ahead(p + 1, i),
                        width: panel.width,
                        valid: panel.valid,
                        bias: head.epilogue.bias.as_ptr().wrapping_add(panel.first),
                        floor: head.epilogue.floor.as_ptr().wrapping_add(panel.first),
                        residual: residual
                            .map_or(std::ptr::null(), |view| context.pixel(&view, rows.start).cast_const()),
                        ld_residual: residual.map_or(0, |view| view.ld),
                        out: context.pixel(&out, rows.start),
                        ld_out: out.ld,
                    };
                    // SAFETY: the table points into the complete input (or zeros, or scratch), the panel holds taps * k
                    // rows, and these rows and columns of the output belong to this task alone.
                    unsafe { multiply(&tile) };
                }
            }
        }
    }

    fn scratch(&self, kernels: &Kernels) -> usize {
        let [taps, _] = self.runs();
        let tiles = self.largest_chunk(kernels);
        let copied = if matches!(self.prologue, Prologue::None) {
            0
        } else {
            tiles * kernels.rows * self.copied_stride()
        };
        let strassen = self.strassen().map_or(0, |(_, strassen)| strassen.scratch(tiles * kernels.rows));
        // A pointer is as large as two floats.
        copied + (2 * tiles * kernels.rows * taps).max(strassen)
    }

    fn zeros(&self) -> usize {
        self.runs()[1]
    }
}
