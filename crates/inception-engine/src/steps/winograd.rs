//! Winograd convolution: transform a block of tiles, one matrix product for each position of a tile, transform back. A
//! block is small enough that all three stay in the second-level cache, and blocks are what threads share out.

use super::conv::Panels;
use super::{Context, Epilogue, Setting, Step, part};
use crate::KernelName;
use crate::graph::Conv;
use crate::kernels::conv::{PANEL, Tile};
use crate::kernels::element::Element;
use crate::kernels::winograd::{TileIn, TileOut, weight_transform};
use crate::kernels::{Kernels, TransformSpec};
use crate::memory::{LINE, View};

/// Floats of transformed input and output that a block may hold: most of a 1 MiB second level.
const BLOCK: usize = 160 * 1024;

/// Panels of output channels that go through the products and the transform back together.
const PASS: usize = 2;

/// A block may be larger by one part in this many if it is the only one.
const SLACK: usize = 4;

/// What it costs to move a float through a transform, in multiply-adds: a few vector operations and, mostly, the way to
/// the second-level cache and back.
pub(crate) const TOUCH: f64 = 10.0;

/// What it costs to read a weight from the third-level cache, in multiply-adds.
pub(crate) const WEIGHT: f64 = 13.0;

/// Whether the transforms of a row tile of the micro-kernel, the largest there is, stay in cache: or else every few tiles would
/// read all weights.
pub(crate) fn fits(spec: &TransformSpec, channels: usize) -> bool {
    const ROWS: usize = 14;
    ROWS * spec.points[0] * spec.points[1] * (channels + PASS * PANEL) <= BLOCK + BLOCK / SLACK
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
    /// What the matrix products use: neither bias nor floor.
    plain: Epilogue,
}

impl WinogradStep {
    /// Transforms and packs the weights of `conv`.
    pub fn new(
        conv: &Conv,
        spec: TransformSpec,
        [input_size, output_size]: [[usize; 2]; 2],
        input: View,
        out: View,
    ) -> Self {
        let (channels, out_channels) = (conv.in_channels(), conv.out_channels);
        let [kh, kw] = spec.kernel;
        let taps = kh * kw;
        let kernels = &conv.weight;
        let g = [0, 1].map(|axis| {
            weight_transform(spec.pairs[axis], spec.kernel[axis], [spec.stride[axis], spec.outputs[axis]])
        });
        let position = |py: usize, px: usize| {
            // The weight of position (py, px) is sum G[py][ky] g[ky][kx] G[px][kx]: one factor for each tap.
            let factor: Vec<f64> = (0..taps).map(|t| g[0][py][t / kw] * g[1][px][t % kw]).collect();
            Panels::pack(channels, out_channels, move |o| {
                let factor = factor.clone();
                kernels[o * channels * taps..(o + 1) * channels * taps]
                    .chunks_exact(taps)
                    .map(move |g| g.iter().zip(&factor).map(|(g, f)| f64::from(*g) * f).sum::<f64>() as f32)
            })
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
            epilogue: Epilogue::new(&conv.bias, out_channels, conv.relu),
            plain: Epilogue::new(&[], out_channels, false),
        }
    }

    /// Tiles down and across one image.
    fn grid(&self) -> [usize; 2] {
        [0, 1].map(|axis| self.output_size[axis].div_ceil(self.spec.outputs[axis]))
    }

    /// Floats of one position of a tile: of the input, and of the output channels of one pass.
    fn position_floats(&self) -> [usize; 2] {
        let pass = self.out_channels.min(PASS * PANEL);
        [self.channels, pass].map(|c| c.next_multiple_of(LINE))
    }

    /// Floats of one tile, transformed, of both.
    fn tile_floats(&self) -> usize {
        self.position_floats().iter().sum::<usize>() * self.weights.len()
    }

    /// Tiles of a block that stays in cache: all of `total` if they just fit, so that weights are read once, or else whole
    /// row tiles of the micro-kernel.
    fn block(&self, rows: usize, total: usize) -> usize {
        let fit = BLOCK / self.tile_floats();
        if total <= (fit + fit / SLACK).min(8 * rows) { total } else { (fit / rows).clamp(1, 8) * rows }
    }

    /// How a run is cut: blocks of tiles by groups of output panels. Groups repeat the input transform, blocks repeat the
    /// reading of weights; which is dearer depends on the layer.
    fn split(&self, setting: &Setting) -> [usize; 2] {
        let total = self.total(setting.n);
        let panels = self.weights[0].count();
        let candidate = |groups: usize| {
            let least = total.div_ceil(self.block(setting.kernels.rows, total));
            let blocks = if groups == 1 { least.next_multiple_of(setting.threads).min(total) } else { least };
            let positions = self.weights.len() as f64;
            let (depth, width) = (self.channels as f64, self.out_channels as f64 / groups as f64);
            let tiles = (total as f64 / blocks as f64).ceil();
            let task =
                positions * (tiles * (depth * width + TOUCH * (depth + width)) + WEIGHT * depth * width);
            ((blocks * groups).div_ceil(setting.threads) as f64 * task, [blocks, groups])
        };
        let (whole, parts) = (candidate(1), candidate(setting.threads.min(panels)));
        if parts.0 < whole.0 { parts.1 } else { whole.1 }
    }

    fn total(&self, n: usize) -> usize {
        let [down, across] = self.grid();
        n * down * across
    }
}

impl Step for WinogradStep {
    fn kernel(&self) -> KernelName {
        KernelName::Winograd(self.spec.transform)
    }

    fn tasks(&self, setting: &Setting) -> usize {
        let [blocks, groups] = self.split(setting);
        blocks * groups
    }

    unsafe fn run(&self, task: usize, context: &Context) {
        let setting = &context.setting;
        let kernels = setting.kernels;
        let [blocks, groups] = self.split(setting);
        let tiles = part(self.total(setting.n), task / groups, blocks);
        let panels = part(self.weights[0].count(), task % groups, groups);
        let count = tiles.len();
        let [down, across] = self.grid();
        let [lv, lm] = self.position_floats();
        let positions = self.weights.len();
        let v = context.scratch;
        // A line between positions: tiles of a power-of-two size would otherwise fall into the same cache sets.
        let [pv, pm] = [count * lv + LINE, count * lm + LINE];
        let m = v.wrapping_add(positions * pv);
        let place = |t: usize| (t / (down * across), t / across % down, t % across);
        let [ih, iw] = self.input_size;
        let [oh, ow] = self.output_size;

        for (i, t) in tiles.clone().enumerate() {
            let (image, ty, tx) = place(t);
            let corner = |t: usize, axis: usize| {
                (t * self.spec.outputs[axis] * self.spec.stride[axis]) as isize - self.pad[axis] as isize
            };
            let tile = TileIn {
                image: context.pixel(&self.input, image * ih * iw),
                input: self.input_size,
                ld: self.input.ld,
                origin: [corner(ty, 0), corner(tx, 1)],
                channels: self.channels,
                v: v.wrapping_add(i * lv),
                position: pv,
            };
            // SAFETY: the input is complete, and scratch has room for the block (see `scratch`).
            unsafe { (kernels.winograd_input)(self.spec.transform, &tile) };
        }

        let row_tiles = count.div_ceil(kernels.rows);
        let multiply = kernels.conv(Element::F32, Element::F32);
        let mut rows = [std::ptr::null::<u8>(); 32];
        for start in panels.clone().step_by(PASS) {
            let pass = start..(start + PASS).min(panels.end);
            let first = start * PANEL;
            for (p, weights) in self.weights.iter().enumerate() {
                for index in pass.clone() {
                    let panel = weights.get(index);
                    let (next, next_panel) = match self.weights.get(p + 1) {
                        _ if index + 1 < pass.end => (weights, index + 1),
                        Some(next) => (next, start),
                        None => (&self.weights[0], pass.end),
                    };
                    for r in 0..row_tiles {
                        let range = part(count, r, row_tiles);
                        for (pointer, i) in rows.iter_mut().zip(range.clone()) {
                            *pointer = v.wrapping_add(p * pv + i * lv).cast();
                        }
                        let tile = Tile {
                            rows: rows.as_ptr(),
                            n: range.len(),
                            taps: 1,
                            k: self.channels,
                            weights: panel.weights,
                            ahead: next.ahead(next_panel, r),
                            width: panel.width,
                            valid: panel.valid,
                            bias: self.plain.bias.as_ptr(),
                            floor: self.plain.floor.as_ptr(),
                            residual: std::ptr::null(),
                            ld_residual: 0,
                            out: m.wrapping_add(p * pm + range.start * lm + panel.first - first).cast(),
                            ld_out: lm,
                        };
                        // SAFETY: both sides lie in this thread's scratch memory; the panel has `channels` rows.
                        unsafe { multiply(&tile) };
                    }
                }
            }
            for (i, t) in tiles.clone().enumerate() {
                let (image, ty, tx) = place(t);
                let [y, x] = [ty * self.spec.outputs[0], tx * self.spec.outputs[1]];
                let pixel = (image * oh + y) * ow + x;
                let tile = TileOut {
                    m: m.wrapping_add(i * lm),
                    position: pm,
                    channels: (pass.end * PANEL).min(self.out_channels) - first,
                    bias: self.epilogue.bias.as_ptr().wrapping_add(first),
                    floor: self.epilogue.floor.as_ptr().wrapping_add(first),
                    out: context.pixel(&self.out.skip_channels(first), pixel),
                    ld: [self.out.ld, self.out.ld * ow],
                    valid: [oh - y, ow - x],
                };
                // SAFETY: output tiles do not overlap, and each belongs to one task.
                unsafe { (kernels.winograd_output)(self.spec.transform, &tile) };
            }
        }
    }

    fn scratch(&self, kernels: &Kernels) -> usize {
        // A block of at most BLOCK floats and the slack, or one row tile; rounding can add a tile to a block.
        let tile = self.tile_floats();
        (BLOCK + BLOCK / SLACK).max(tile * kernels.rows) + tile + 2 * LINE * self.weights.len()
    }
}
