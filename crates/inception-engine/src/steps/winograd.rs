//! Winograd convolution: transform a block of tiles, one matrix product for each position of a tile,
//! transform back. A block is small enough that all three stay in the second-level cache. Threads share out
//! the blocks.

use std::ops::Range;

use super::panels::Panels;
use super::step::{Context, Epilogue, EvenTiles, RunConfig, Step, chunk};
use crate::KernelName;
use crate::dtype::{DType, LINE};
use crate::graph::Conv;
use crate::kernels::conv::{MAX_TILE_ROWS, Tile};
use crate::kernels::winograd::{InputTile, OutputTile};
use crate::kernels::{CostModel, IntegerWinograd, Kernels, TransformSpec};
use crate::memory::View;
use crate::quantization::Requantization;

/// Output channels that go through the products and the transform back together, in whole panels.
const PASS: usize = 64;

/// The most tiles of a block: enough for each reading of the weights.
const MOST_TILES: usize = 112;

/// The only block of a layer may be larger by a share of one in this many.
const SLACK: usize = 4;

/// Whether the block that Winograd's algorithm needs at least stays in cache. With fewer tiles in a block,
/// every few tiles would read all weights.
pub(crate) fn fits(kernels: &Kernels, spec: &TransformSpec, channels: usize) -> bool {
    let &CostModel { winograd_tiles, winograd_block, .. } = &kernels.costs;
    let floats = winograd_tiles * spec.points[0] * spec.points[1] * (channels + PASS);
    floats <= winograd_block + winograd_block / SLACK
}

/// A Winograd convolution.
pub(crate) struct WinogradStep {
    spec: TransformSpec,
    input: View,
    out: View,
    input_size: [usize; 2],
    output_size: [usize; 2],
    pad: [usize; 2],
    channels: usize,
    out_channels: usize,
    /// One packed matrix for each position of a tile.
    weights: Vec<Panels>,
    epilogue: Epilogue,
    /// Neither bias nor lower bound, for the matrix products.
    identity: Epilogue,
    /// The kernels of bytes, whose transforms are words and whose sums are integers.
    integers: Option<IntegerWinograd>,
}

/// What a convolution of bytes has in the place of weights and biases.
pub(crate) struct IntegerLayer<'a> {
    /// The kernels.
    pub kernels: IntegerWinograd,
    /// `[out][in][taps]`
    pub values: &'a [f32],
    /// What sums become.
    pub requantization: &'a Requantization,
}

impl WinogradStep {
    /// Transforms and packs the weights of `conv`, or what it has in their place.
    pub fn new(
        kernels: &Kernels,
        conv: &Conv,
        integers: Option<IntegerLayer<'_>>,
        spec: TransformSpec,
        [input_size, output_size]: [[usize; 2]; 2],
        input: View,
        out: View,
    ) -> Self {
        let (channels, out_channels) = (conv.in_channels(), conv.out_channels);
        let [kh, kw] = spec.kernel;
        let taps = kh * kw;
        let g = [0, 1].map(|axis| match &integers {
            None => spec.weight_transform(axis),
            Some(layer) => layer.kernels.weights.iter().map(|row| row.to_vec()).collect(),
        });
        let values = integers.as_ref().map_or(&conv.weight[..], |layer| layer.values);
        let position = |py: usize, px: usize| {
            // The weight of position (py, px) is sum G[py][ky] g[ky][kx] G[px][kx]: one factor for each tap.
            let factor: Vec<f64> = (0..taps).map(|t| g[0][py][t / kw] * g[1][px][t % kw]).collect();
            let factor = &factor;
            let column = |o: usize| {
                let channels = values[o * channels * taps..(o + 1) * channels * taps].chunks_exact(taps);
                channels.map(move |g| g.iter().zip(factor).map(|(g, f)| f64::from(*g) * f).sum::<f64>())
            };
            match integers {
                None => Panels::pack(kernels, channels, out_channels, |o| column(o).map(|w| w as f32)),
                Some(_) => {
                    Panels::pack_words(kernels, channels, out_channels, |o| column(o).map(|w| w as i16))
                }
            }
        };
        let [points_y, points_x] = spec.points;
        let weights = (0..points_y * points_x).map(|p| position(p / points_x, p % points_x)).collect();
        WinogradStep {
            spec,
            input,
            out,
            input_size,
            output_size,
            pad: conv.window.pad,
            channels,
            out_channels,
            weights,
            epilogue: match &integers {
                None => Epilogue::new(conv.bias.as_deref().unwrap_or_default(), out_channels, conv.relu),
                Some(IntegerLayer { requantization: Requantization { scales, bias, .. }, .. }) => {
                    Epilogue::quantized(bias, Some(scales), conv.relu, &out)
                }
            },
            identity: Epilogue::new(&[], out_channels, false),
            integers: integers.map(|layer| layer.kernels),
        }
    }

    /// Tiles down and across one image.
    fn grid(&self) -> [usize; 2] {
        [0, 1].map(|axis| self.output_size[axis].div_ceil(self.spec.outputs[axis]))
    }

    /// Panels that go through the products and the transform back together.
    fn pass_panels(&self) -> usize {
        (PASS / self.weights[0].width).max(1)
    }

    /// Columns of the output that go through the products and the transform back together.
    fn pass_columns(&self) -> usize {
        self.pass_panels() * self.weights[0].width
    }

    /// Floats of one position of a tile: of the input, and of the output channels of one pass.
    fn position_floats(&self) -> [usize; 2] {
        let pass = self.out_channels.min(self.pass_columns());
        // A float has two words.
        let channels = if self.integers.is_some() { self.channels.div_ceil(2) } else { self.channels };
        [channels, pass].map(|c| c.next_multiple_of(LINE))
    }

    /// Floats of one tile, transformed, of both.
    fn tile_floats(&self) -> usize {
        self.position_floats().iter().sum::<usize>() * self.weights.len()
    }

    /// Tiles of a block that stays in cache: all of `total` if they just fit, so that weights are read once,
    /// or else whole row tiles of the micro-kernel.
    fn block_tiles(&self, kernels: &Kernels, total: usize) -> usize {
        let (fit, rows) = (kernels.costs.winograd_block / self.tile_floats(), kernels.tile_rows);
        let most = MOST_TILES / rows;
        if total <= (fit + fit / SLACK).min(most * rows) { total } else { (fit / rows).clamp(1, most) * rows }
    }

    /// How a run is split into tasks: blocks of tiles by groups of output panels. Groups repeat the input
    /// transform, blocks repeat the reading of weights; which costs more depends on the layer.
    fn split(&self, config: &RunConfig) -> [usize; 2] {
        let total = self.total(config.batch);
        let panels = self.weights[0].count();
        let candidate = |groups: usize| {
            let least = total.div_ceil(self.block_tiles(config.kernels, total));
            let blocks = if groups == 1 { least.next_multiple_of(config.threads).min(total) } else { least };
            let positions = self.weights.len() as f64;
            let (depth, width) = (self.channels as f64, self.out_channels as f64 / groups as f64);
            let tiles = (total as f64 / blocks as f64).ceil();
            let task = positions * config.kernels.costs.winograd(tiles, depth, width);
            ((blocks * groups).div_ceil(config.threads) as f64 * task, [blocks, groups])
        };
        let (whole, grouped) = (candidate(1), candidate(config.threads.min(panels)));
        if grouped.0 < whole.0 { grouped.1 } else { whole.1 }
    }

    /// Tiles of `n` images.
    fn total(&self, n: usize) -> usize {
        let [down, across] = self.grid();
        n * down * across
    }

    /// Image, row and column of tile number `tile` of the batch.
    fn place(&self, tile: usize) -> [usize; 3] {
        let [down, across] = self.grid();
        [tile / (down * across), tile / across % down, tile % across]
    }

    /// The block of `tiles`, in this thread's scratch memory.
    fn block(&self, tiles: Range<usize>, scratch: *mut f32) -> Block {
        let [v_tile, m_tile] = self.position_floats();
        // A line between positions: tiles of a power-of-two size would otherwise fall into the same cache
        // sets.
        let [v_position, m_position] = [v_tile, m_tile].map(|tile| tiles.len() * tile + LINE);
        let m = scratch.wrapping_add(self.weights.len() * v_position);
        Block { tiles, v: scratch, v_tile, v_position, m, m_tile, m_position }
    }

    /// Transforms the tiles of the input into `V`.
    ///
    /// # Safety
    /// The input is complete, and the block lies in this thread's scratch memory.
    unsafe fn transform_input(&self, context: &Context, block: &Block) {
        let [ih, iw] = self.input_size;
        let tile_of = |i: usize, t: usize| {
            let [image, ty, tx] = self.place(t);
            let corner = |t: usize, axis: usize| {
                (t * self.spec.outputs[axis] * self.spec.stride[axis]) as isize - self.pad[axis] as isize
            };
            InputTile {
                image: context.pixel(&self.input, image * ih * iw),
                input: self.input_size,
                ld: self.input.ld,
                origin: [corner(ty, 0), corner(tx, 1)],
                channels: self.channels,
                zero: self.input.quant.zero_point,
                v: block.v.wrapping_add(i * block.v_tile),
                ld_position: block.v_position,
            }
        };
        let tiles = block.tiles.clone().enumerate().map(|(i, t)| tile_of(i, t));
        // SAFETY: the caller's promise.
        unsafe {
            match &self.integers {
                Some(kernels) => tiles.for_each(|tile| (kernels.input)(&tile)),
                None => {
                    let transform = context.config.kernels.winograd_input(self.input.dtype);
                    tiles.for_each(|tile| transform(self.spec.transform, &tile));
                }
            }
        }
    }

    /// Multiplies `V` by the panels of `pass` of the weights of each position into `M`.
    ///
    /// # Safety
    /// The block lies in this thread's scratch memory, and `V` is complete.
    unsafe fn multiply(&self, kernels: &Kernels, block: &Block, pass: &Range<usize>) {
        let count = block.tiles.len();
        let row_tiles = count.div_ceil(kernels.tile_rows);
        let even = EvenTiles::new(count, row_tiles);
        let micro_kernel = match &self.integers {
            Some(integers) => integers.multiply,
            None => kernels.conv(DType::F32, DType::F32).any,
        };
        let mut indirection = [std::ptr::null::<u8>(); MAX_TILE_ROWS];
        for (p, weights) in self.weights.iter().enumerate() {
            let then = match self.weights.get(p + 1) {
                Some(next) => (next, pass.start),
                None => (&self.weights[0], pass.end),
            };
            weights.for_each_tile(kernels, pass.clone(), row_tiles, then, |visit| {
                let (panel, rows) = (visit.panel, even.rows_of(visit.tile));
                for (pointer, i) in indirection.iter_mut().zip(rows.clone()) {
                    *pointer = block.v.wrapping_add(p * block.v_position + i * block.v_tile).cast();
                }
                let column = (visit.index - pass.start) * weights.width;
                let to = p * block.m_position + rows.start * block.m_tile + column;
                let tile = Tile {
                    indirection: indirection.as_ptr(),
                    rows: rows.len(),
                    taps: 1,
                    k: self.channels,
                    weights: panel.weights,
                    prefetch: visit.prefetch,
                    width: panel.width,
                    valid: panel.valid,
                    scale: std::ptr::null(),
                    bias: self.identity.bias.as_ptr(),
                    min: self.identity.min.as_ptr(),
                    residual: std::ptr::null(),
                    ld_residual: 0,
                    residual_scale: 1.0,
                    out: block.m.wrapping_add(to).cast(),
                    ld_out: block.m_tile,
                };
                // SAFETY: both sides lie in this thread's scratch memory; the panel has `channels` rows.
                unsafe { micro_kernel(&tile) };
            });
        }
    }

    /// Transforms `M`, the output channels of the panels of `pass`, back into the tiles of the output.
    ///
    /// # Safety
    /// As [`Step::execute_task`]; `M` is complete.
    unsafe fn transform_output(&self, context: &Context, block: &Block, pass: &Range<usize>) {
        let [oh, ow] = self.output_size;
        let [first, end] = [pass.start, pass.end].map(|panel| panel * self.weights[0].width);
        let tile_of = |i: usize, t: usize| {
            let [image, ty, tx] = self.place(t);
            let [y, x] = [ty * self.spec.outputs[0], tx * self.spec.outputs[1]];
            let pixel = (image * oh + y) * ow + x;
            OutputTile {
                m: block.m.wrapping_add(i * block.m_tile),
                ld_position: block.m_position,
                channels: end.min(self.out_channels) - first,
                scale: self.epilogue.scale(first),
                bias: self.epilogue.bias.as_ptr().wrapping_add(first),
                min: self.epilogue.min.as_ptr().wrapping_add(first),
                out: context.pixel(&self.out.skip_channels(first), pixel),
                ld: [self.out.ld, self.out.ld * ow],
                valid: [oh - y, ow - x],
            }
        };
        let tiles = block.tiles.clone().enumerate().map(|(i, t)| tile_of(i, t));
        // SAFETY: output tiles do not overlap, and each belongs to one task.
        unsafe {
            match &self.integers {
                Some(kernels) => tiles.for_each(|tile| (kernels.output)(&tile)),
                None => {
                    let transform = context.config.kernels.winograd_output(self.out.dtype);
                    tiles.for_each(|tile| transform(self.spec.transform, &tile));
                }
            }
        }
    }
}

/// A block of tiles between the transforms: `V`, the transformed input, `[positions][tiles][channels]`, and
/// `M`, the products, `[positions][tiles][output channels of a pass]`.
struct Block {
    /// Tiles, numbered through the batch.
    tiles: Range<usize>,
    v: *mut f32,
    /// Floats from one tile of `V` to the next.
    v_tile: usize,
    /// Floats from one position of `V` to the next.
    v_position: usize,
    m: *mut f32,
    /// Floats from one tile of `M` to the next.
    m_tile: usize,
    /// Floats from one position of `M` to the next.
    m_position: usize,
}

impl Step for WinogradStep {
    fn kernel(&self) -> KernelName {
        KernelName::Winograd(self.spec.transform)
    }

    fn tasks(&self, config: &RunConfig) -> usize {
        let [blocks, groups] = self.split(config);
        blocks * groups
    }

    unsafe fn execute_task(&self, task: usize, context: &Context) {
        let config = &context.config;
        let [blocks, groups] = self.split(config);
        let tiles = chunk(self.total(config.batch), task / groups, blocks);
        let panels = chunk(self.weights[0].count(), task % groups, groups);
        let block = self.block(tiles, context.scratch);
        // SAFETY: the input is complete, scratch memory has room for the block (see `scratch`), and no other
        // task has both these tiles and these panels.
        unsafe {
            self.transform_input(context, &block);
            for start in panels.clone().step_by(self.pass_panels()) {
                let pass = start..(start + self.pass_panels()).min(panels.end);
                self.multiply(config.kernels, &block, &pass);
                self.transform_output(context, &block, &pass);
            }
        }
    }

    fn scratch(&self, kernels: &Kernels) -> usize {
        // A block of at most `winograd_block` floats and the slack, or one row tile; rounding can add a tile
        // to a block.
        let (block, tile) = (kernels.costs.winograd_block, self.tile_floats());
        (block + block / SLACK).max(tile * kernels.tile_rows) + tile + 2 * LINE * self.weights.len()
    }
}
