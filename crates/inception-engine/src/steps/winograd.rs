//! Winograd convolution: transform a block of tiles, one matrix product for each position of a tile, transform back. A
//! block is small enough that all three stay in the second-level cache, and blocks are what threads share out.

use super::conv::Panels;
use super::{Context, Epilogue, Setting, Step, part};
use crate::graph::Conv;
use crate::kernels::conv::Tile;
use crate::kernels::winograd::{TileIn, TileOut, weight_transform};
use crate::kernels::{Kernels, TransformSpec};
use crate::memory::{LINE, View};

/// Floats of transformed input and output that a block may hold: most of a 1 MiB second level.
const BLOCK: usize = 160 * 1024;

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
        let g = [weight_transform(spec.pairs[0], kh), weight_transform(spec.pairs[1], kw)];
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

    /// Floats of one tile, transformed: of the input and of the output.
    fn tile_floats(&self) -> [usize; 2] {
        [self.channels, self.out_channels].map(|c| c.next_multiple_of(LINE) * self.weights.len())
    }

    /// Tiles of a block that stays in cache, in whole row tiles of the micro-kernel.
    fn block(&self, rows: usize) -> usize {
        let [v, m] = self.tile_floats();
        (BLOCK / (v + m) / rows).clamp(1, 8) * rows
    }

    fn total(&self, n: usize) -> usize {
        let [down, across] = self.grid();
        n * down * across
    }
}

impl Step for WinogradStep {
    fn kernel(&self) -> String {
        self.spec.name.into()
    }

    fn tasks(&self, setting: &Setting) -> usize {
        let total = self.total(setting.n);
        let block = self.block(setting.kernels.rows);
        let least = total.div_ceil(block);
        // As many blocks for each thread, and no more of them than the cache asks for: each reads all the weights.
        least.next_multiple_of(setting.threads).min(total)
    }

    unsafe fn run(&self, task: usize, context: &Context) {
        let setting = &context.setting;
        let kernels = setting.kernels;
        let tiles = part(self.total(setting.n), task, self.tasks(setting));
        let count = tiles.len();
        let [down, across] = self.grid();
        let [lv, lm] = [self.channels, self.out_channels].map(|c| c.next_multiple_of(LINE));
        let positions = self.weights.len();
        let v = context.scratch;
        let m = v.wrapping_add(positions * count * lv);
        let place = |t: usize| (t / (down * across), t / across % down, t % across);
        let [ih, iw] = self.input_size;
        let [oh, ow] = self.output_size;

        for (i, t) in tiles.clone().enumerate() {
            let (image, ty, tx) = place(t);
            let corner =
                |t: usize, axis: usize| (t * self.spec.outputs[axis]) as isize - self.pad[axis] as isize;
            let tile = TileIn {
                image: context.at(&self.input).wrapping_add(image * ih * iw * self.input.ld),
                input: self.input_size,
                ld: self.input.ld,
                origin: [corner(ty, 0), corner(tx, 1)],
                channels: self.channels,
                v: v.wrapping_add(i * lv),
                position: count * lv,
            };
            // SAFETY: the input is complete, and scratch has room for the block (see `scratch`).
            unsafe { (kernels.winograd_input)(self.spec.transform, &tile) };
        }

        let row_tiles = count.div_ceil(kernels.rows);
        let mut rows = [std::ptr::null::<f32>(); 32];
        for (p, weights) in self.weights.iter().enumerate() {
            for index in 0..weights.count() {
                let panel = weights.get(index);
                for r in 0..row_tiles {
                    let range = part(count, r, row_tiles);
                    for (pointer, i) in rows.iter_mut().zip(range.clone()) {
                        *pointer = v.wrapping_add((p * count + i) * lv);
                    }
                    let tile = Tile {
                        rows: rows.as_ptr(),
                        n: range.len(),
                        taps: 1,
                        k: self.channels,
                        weights: panel.weights,
                        width: panel.width,
                        valid: panel.valid,
                        bias: self.plain.bias.as_ptr(),
                        floor: self.plain.floor.as_ptr(),
                        residual: std::ptr::null(),
                        ld_residual: 0,
                        out: m.wrapping_add((p * count + range.start) * lm + panel.first),
                        ld_out: lm,
                    };
                    // SAFETY: both sides lie in this thread's scratch memory; the panel has `channels` rows.
                    unsafe { (kernels.conv)(&tile) };
                }
            }
        }

        for (i, t) in tiles.enumerate() {
            let (image, ty, tx) = place(t);
            let [y, x] = [ty * self.spec.outputs[0], tx * self.spec.outputs[1]];
            let pixel = (image * oh + y) * ow + x;
            let tile = TileOut {
                m: m.wrapping_add(i * lm),
                position: count * lm,
                channels: self.out_channels,
                bias: self.epilogue.bias.as_ptr(),
                floor: self.epilogue.floor.as_ptr(),
                out: context.at(&self.out).wrapping_add(pixel * self.out.ld),
                ld: [self.out.ld, self.out.ld * ow],
                valid: [oh - y, ow - x],
            };
            // SAFETY: output tiles do not overlap, and each belongs to one task.
            unsafe { (kernels.winograd_output)(self.spec.transform, &tile) };
        }
    }

    fn scratch(&self, kernels: &Kernels) -> usize {
        // `part` rounds, which can add one tile to an even share.
        self.tile_floats().iter().sum::<usize>() * (self.block(kernels.rows) + 1)
    }
}
