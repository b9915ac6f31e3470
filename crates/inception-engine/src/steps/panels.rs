//! Weights packed for the micro-kernel.

use std::ops::Range;

use half::bf16;

use crate::dtype::{DType, LINE};
use crate::kernels::Kernels;
use crate::kernels::conv::Prefetch;
use crate::memory::Aligned;
use inception_graph::integers::pairs_fit;
use inception_graph::parallel;

/// Weights from which packing is worth starting threads.
const PARALLEL_PACKING: usize = 1 << 16;

/// A matrix of weights in panels of as many columns as the instruction set's micro-kernel takes; the last
/// panel is narrow where that suffices. A float of a panel is one weight, two of `bf16`, or four of `i8`.
pub(crate) struct Panels {
    data: Aligned,
    /// Rows of a panel: taps times channels, or times pairs of channels.
    depth: usize,
    /// Columns that hold weights.
    columns: usize,
    /// Columns of a full panel.
    pub width: usize,
    /// Columns of a narrow panel.
    narrow: usize,
    /// For each panel of bytes, whether [`pairs_fit`] holds for all its lanes; empty for other types.
    pairs_fit: Vec<bool>,
}

/// Panels that row tiles go over together, at most.
const MOST_AT_ONCE: usize = 16;

/// What the row tiles over a panel prefetch.
struct PanelPrefetch {
    start: *const f32,
    /// Lines at a time.
    lines: usize,
    /// Floats from what a tile prefetches to what the next one does.
    distance: usize,
    /// Tiles that have something to prefetch.
    tiles: usize,
}

impl PanelPrefetch {
    const NOTHING: Self = PanelPrefetch { start: std::ptr::null(), lines: 0, distance: 0, tiles: 0 };

    fn of_tile(&self, tile: usize) -> Prefetch {
        match tile < self.tiles {
            true => Prefetch { start: self.start.wrapping_add(tile * self.distance), lines: self.lines },
            false => Prefetch { start: self.start, lines: 0 },
        }
    }
}

/// One panel.
pub(crate) struct Panel {
    /// `[depth][width]`
    pub weights: *const f32,
    /// Columns, those of padding included.
    pub width: usize,
    /// First column.
    pub first: usize,
    /// Columns that hold weights.
    pub valid: usize,
    /// Whether [`pairs_fit`] holds for its bytes.
    pub pairs_fit: bool,
}

/// A panel and a row tile that are to be multiplied.
pub(crate) struct Visit {
    /// The panel.
    pub panel: Panel,
    /// Its number.
    pub index: usize,
    /// Number of the row tile.
    pub tile: usize,
    /// What to prefetch meanwhile.
    pub prefetch: Prefetch,
}

impl Panels {
    /// Packs `columns` columns of `depth` weights; `column(o)` yields them in the order in which the kernel
    /// reads its rows.
    pub fn pack<I: Iterator<Item = f32>>(
        kernels: &Kernels,
        depth: usize,
        columns: usize,
        column: impl Fn(usize) -> I + Sync,
    ) -> Self {
        let &Kernels { panel: width, narrow_panel: narrow, .. } = kernels;
        let mut data = Aligned::weights(depth * columns.next_multiple_of(narrow));
        let pack = |(panel, packed): (usize, &mut [f32])| {
            let first = panel * width;
            let width = (columns - first).next_multiple_of(narrow).min(width);
            for (to, o) in (first..columns.min(first + width)).enumerate() {
                for (kk, w) in column(o).take(depth).enumerate() {
                    packed[to + kk * width] = w;
                }
            }
        };
        let panels =
            data.as_mut().chunks_mut((width * depth).max(1)).take(columns.div_ceil(width)).enumerate();
        if depth * columns < PARALLEL_PACKING {
            panels.for_each(pack);
        } else {
            parallel::for_each(panels, pack);
        }
        Panels { data, depth, columns, width, narrow, pairs_fit: Vec::new() }
    }

    /// As [`Panels::pack`], for columns of `taps` times `k` weights, to be multiplied by `dtype`; by bytes
    /// they are integers. Channels that are missing from the last pair or four have weights of zero.
    pub fn pack_as(
        kernels: &Kernels,
        dtype: DType,
        [taps, k]: [usize; 2],
        columns: usize,
        weight: impl Fn(usize, usize) -> f32 + Sync,
    ) -> Self {
        let packed = k.div_ceil(dtype.pack());
        let weight = &weight;
        match dtype {
            DType::F32 => {
                Panels::pack(kernels, taps * k, columns, |o| (0..taps * k).map(move |kk| weight(o, kk)))
            }
            DType::Bf16 => Panels::pack(kernels, taps * packed, columns, |o| {
                (0..taps * packed).map(move |row| {
                    let (tap, channel) = (row / packed, row % packed * 2);
                    let bits = |channel: usize| {
                        let w = if channel < k { weight(o, tap * k + channel) } else { 0.0 };
                        u32::from(bf16::from_f32(w).to_bits())
                    };
                    f32::from_bits(bits(channel) | bits(channel + 1) << 16)
                })
            }),
            DType::U8 => Panels::pack(kernels, taps * packed, columns, |o| {
                (0..taps * packed).map(move |row| {
                    let (tap, channel) = (row / packed, row % packed * 4);
                    let byte = |i: usize| match channel + i < k {
                        true => (weight(o, tap * k + channel + i) as i8).cast_unsigned(),
                        false => 0,
                    };
                    f32::from_bits(u32::from_le_bytes([byte(0), byte(1), byte(2), byte(3)]))
                })
            })
            .with_pairs(),
        }
    }

    /// As [`Panels::pack`], for words, which are multiplied in pairs; a channel that is missing from the last
    /// pair has weights of zero.
    pub fn pack_words<I: Iterator<Item = i16>>(
        kernels: &Kernels,
        depth: usize,
        columns: usize,
        column: impl Fn(usize) -> I + Sync,
    ) -> Self {
        Panels::pack(kernels, depth.div_ceil(2), columns, |o| {
            let mut words = column(o);
            std::iter::from_fn(move || {
                let first = words.next()?.cast_unsigned();
                let second = words.next().unwrap_or(0).cast_unsigned();
                Some(f32::from_bits(u32::from(first) | u32::from(second) << 16))
            })
        })
    }

    /// Notes for which panels of bytes [`pairs_fit`] holds.
    fn with_pairs(mut self) -> Self {
        let fit = |lane: &f32| {
            let [a, b, c, d] = lane.to_bits().to_le_bytes().map(u8::cast_signed);
            pairs_fit([a, b]) && pairs_fit([c, d])
        };
        let (count, len) = (self.count(), (self.width * self.depth).max(1));
        let panels = self.data.as_mut().chunks(len).take(count);
        self.pairs_fit = panels.map(|panel| panel.iter().all(fit)).collect();
        self
    }

    /// Calls `visit` for each of the panels `wanted` and each of `tiles` row tiles, in an order that keeps
    /// panels in the first-level cache: several at a time where they are short, so that each row tile is read
    /// once for all of them. `then` is the panel that will be read after these, with the matrix that it
    /// belongs to.
    pub fn for_each_tile(
        &self,
        kernels: &Kernels,
        wanted: Range<usize>,
        tiles: usize,
        then: (&Panels, usize),
        mut visit: impl FnMut(Visit),
    ) {
        let at_once = (kernels.costs.l1d_floats() / (self.depth * self.width).max(1)).clamp(1, MOST_AT_ONCE);
        let mut prefetches = [const { PanelPrefetch::NOTHING }; MOST_AT_ONCE];
        for start in wanted.clone().step_by(at_once) {
            let group = start..(start + at_once).min(wanted.end);
            for (prefetch, index) in prefetches.iter_mut().zip(group.clone()) {
                let next = index + group.len();
                let (matrix, next) = match next < wanted.end {
                    true => (self, next),
                    false => (then.0, then.1 + (next - wanted.end)),
                };
                *prefetch = matrix.prefetch(kernels.prefetch_steps, next, tiles);
            }
            for tile in 0..tiles {
                for (prefetch, index) in prefetches.iter().zip(group.clone()) {
                    visit(Visit { panel: self.get(index), index, tile, prefetch: prefetch.of_tile(tile) });
                }
            }
        }
    }

    /// What the row tiles, so many, prefetch from panel `next`, which comes later: the first tiles share it
    /// out, and the others have nothing to do. Otherwise the first tile over each panel would wait for
    /// memory, and the others leave it idle.
    fn prefetch(&self, steps: usize, next: usize, tiles: usize) -> PanelPrefetch {
        let next = self.get(next.min(self.count() - 1));
        if steps == 0 {
            return PanelPrefetch { start: next.weights, ..PanelPrefetch::NOTHING };
        }
        // Of the lines that so many channels have.
        let all = (next.width * steps / LINE).max(1);
        let lines = all.div_ceil(tiles).min(steps);
        let distance = lines * LINE * (self.depth / steps);
        PanelPrefetch { start: next.weights, lines, distance, tiles: all.div_ceil(lines) }
    }

    /// Columns that hold weights.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Number of panels.
    pub fn count(&self) -> usize {
        self.columns.div_ceil(self.width)
    }

    /// Panel number `index`.
    pub fn get(&self, index: usize) -> Panel {
        let first = index * self.width;
        let valid = (self.columns - first).min(self.width);
        // (A division would take as long as a row of a tile.)
        let width = if valid == self.width { valid } else { valid.next_multiple_of(self.narrow) };
        let pairs_fit = self.pairs_fit.get(index).is_some_and(|fit| *fit);
        let weights = self.data.as_ptr().wrapping_add(first * self.depth);
        Panel { weights, width, first, valid, pairs_fit }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    /// One pair that does not fit, in any lane, marks its panel and no other; a narrow panel has its own
    /// mark, and channels of different fours are no pair.
    #[test]
    fn panels_know_whether_their_pairs_fit() {
        let Some(kernels) = Isa::best().table() else { return };
        let (width, narrow) = (kernels.panel, kernels.narrow_panel);
        let columns = 2 * width + narrow;
        let fit = |columns: usize, weight: &(dyn Fn(usize, usize) -> f32 + Sync)| {
            let panels = Panels::pack_as(kernels, DType::U8, [2, 7], columns, weight);
            (0..panels.count()).map(|index| panels.get(index).pairs_fit).collect::<Vec<bool>>()
        };
        assert_eq!(fit(columns, &|_, _| 64.0), [true; 3]);
        for at in [0, width - 1, width, 2 * width, columns - 1] {
            for kk in 0..14 {
                let weight = |o: usize, i: usize| if (o, i) == (at, kk) { 65.0 } else { 64.0 };
                let negative = |o: usize, i: usize| -weight(o, i);
                // The last channel of a tap is alone.
                let wanted: Vec<bool> = (0..3).map(|panel| panel != at / width || kk % 7 == 6).collect();
                assert_eq!(fit(columns, &weight), wanted, "{at} {kk}");
                assert_eq!(fit(columns, &negative), wanted, "{at} {kk}");
            }
        }
        assert_eq!(fit(columns, &|_, i| if i % 7 % 2 == 1 { 127.0 } else { 1.0 }), [true; 3]);
        let floats = Panels::pack_as(kernels, DType::F32, [1, 4], 3, |_, _| 1.0);
        assert!(!floats.get(0).pairs_fit);
    }
}
