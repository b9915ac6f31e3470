//! The convolution micro-kernel: a few rows of pixels by one panel of output channels.
//!
//! This is the indirect convolution algorithm (Dukhan 2019, XNNPACK's): a convolution in NHWC is, for each
//! output pixel, a sum over kernel taps of a `k`-long dot product between a pixel of the input and a `k x
//! panel` slab of weights. The kernel finds each tap's pixels through an *indirection buffer* of pointers.
//! Padding is then a pointer to zeros, and stride, dilation and concatenation are pointer arithmetic, so one
//! kernel serves every shape without im2col.
//!
//! It reads `f32`, `bf16` (pairs of channels at a time, see [`Operand`]) or `u8` (four at a time) and writes
//! any of them; accumulators are `f32`, of `u8` `i32`. A `u8` is stored as `sum * scale + bias`, rounded:
//! what scales and zero points make of the layer is in these two.

use super::simd::{Operand, Simd, Stored};
use crate::dtype::LINE;

/// Bytes of a cache line.
const LINE_BYTES: usize = LINE * size_of::<f32>();

/// Columns of the widest panel of any instruction set.
pub(crate) const MAX_PANEL: usize = 32;
/// Rows of the tallest tile of any instruction set.
pub(crate) const MAX_TILE_ROWS: usize = 32;

/// The cache lines that a tile prefetches, at addresses of any kind: some after every
/// [`Simd::PREFETCH_STEPS`] channels.
#[derive(Clone, Copy)]
pub(crate) struct Prefetch {
    /// The first one.
    pub start: *const f32,
    /// Lines at a time, one after the other; no more than there are channels. A tile that has nothing to
    /// prefetch has none, and prefetches its first line again and again.
    pub lines: usize,
}

/// One call of the micro-kernel: a tile of the output, rows (pixels) by columns (channels).
#[derive(Clone, Copy)]
pub(crate) struct Tile {
    /// Indirection buffer: pointers to the first channel of each input pixel, `[taps][rows]`.
    pub indirection: *const *const u8,
    /// Output pixels, 1 to the instruction set's `tile_rows`.
    pub rows: usize,
    /// Kernel taps.
    pub taps: usize,
    /// Elements read at each pointer.
    pub k: usize,
    /// Panel of packed weights, `[taps * k][width]`; of `bf16`, with two channels in the place of a float,
    /// `[taps * ceil(k / 2)][width]`, and of `u8`, with four `i8`, `[taps * ceil(k / 4)][width]`.
    pub weights: *const f32,
    /// Weights that later tiles will read.
    pub prefetch: Prefetch,
    /// Columns of the panel.
    pub width: usize,
    /// Columns to store; the rest of the panel is padding.
    pub valid: usize,
    /// Factor of each column's sum of integers, `width` floats; null where sums are floats.
    pub scale: *const f32,
    /// Added to each column, `width` floats.
    pub bias: *const f32,
    /// Lower bound of each column, `width` floats: 0 is ReLU, -inf is none.
    pub min: *const f32,
    /// Added to each output before the lower bound, or null; row stride `ld_residual`.
    pub residual: *const u8,
    /// Elements from one pixel of the residual to the next.
    pub ld_residual: usize,
    /// Factor of the residual where it is quantised.
    pub residual_scale: f32,
    /// First output pixel, row stride `ld_out`.
    pub out: *mut u8,
    /// Elements from one output pixel to the next.
    pub ld_out: usize,
}

/// Prefetches `NZ` vectors of `MR` rows of `matrix`, `ld` elements apart, from column `col` on.
///
/// # Safety
/// See [`Simd`].
#[inline(always)]
unsafe fn prefetch_rows<S: Simd, E, const MR: usize, const NZ: usize>(
    matrix: *const u8,
    ld: usize,
    col: usize,
) {
    for r in 0..MR {
        for z in (0..NZ).step_by((LINE_BYTES / size_of::<E>()).div_ceil(S::LANES)) {
            // SAFETY: the caller's promise; a hint, which faults on no address.
            unsafe { S::prefetch(matrix.cast::<E>().wrapping_add(r * ld + col + z * S::LANES).cast()) };
        }
    }
}

/// Multiplies channel `kk` (or that many packed ones) of each row by the `NZ` vectors of weights at `b`.
///
/// # Safety
/// The channel exists in all rows, and the weights; see [`Simd`].
#[inline(always)]
unsafe fn multiply_channel<S: Simd, I: Operand<S>, const MR: usize, const NZ: usize>(
    rows: &[*const I; MR],
    kk: usize,
    b: *const f32,
    acc: &mut [[I::Acc; NZ]; MR],
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut bv = [I::weights(b); NZ];
        for (z, v) in bv.iter_mut().enumerate() {
            *v = I::weights(b.add(z * S::LANES));
        }
        for (row, acc) in rows.iter().zip(acc.iter_mut()) {
            let a = I::splat(row.add(kk * I::PACK));
            for (acc, b) in acc.iter_mut().zip(bv) {
                *acc = I::dot(a, b, *acc);
            }
        }
    }
}

/// `MR` rows by `NZ` vectors of accumulators, starting at column `col` of the panel.
///
/// # Safety
/// The pointers of `t` are valid for what their fields describe, `t.rows == MR`, and see [`Simd`].
#[inline(always)]
unsafe fn block<S: Simd, I: Operand<S>, O: Stored<S>, const MR: usize, const NZ: usize>(
    t: &Tile,
    col: usize,
) {
    // SAFETY: all offsets stay within the extents that the fields of `Tile` promise:
    // indirection[tap][r][0..k], weights[(tap * k + kk)][col..col + NZ * LANES], scale/bias/min[col..], and
    // `valid` columns of out and residual.
    unsafe {
        // Output and residual are prefetched now and in cache when the epilogue needs them: a store that
        // misses holds up all stores behind it.
        prefetch_rows::<S, O, MR, NZ>(t.out, t.ld_out, col);
        // A prefetch near address zero would look for its page in vain each time.
        if !t.residual.is_null() {
            prefetch_rows::<S, O, MR, NZ>(t.residual, t.ld_residual, col);
        }
        let mut acc = [[I::zero(); NZ]; MR];
        let mut b = t.weights.add(col);
        let mut prefetch = t.prefetch.start;
        for tap in 0..t.taps {
            let rows: [*const I; MR] = t.indirection.add(tap * MR).cast::<[*const I; MR]>().read();
            let done = I::multiply_channels(&rows, t.k, b, t.width, &mut acc);
            b = b.add(done / I::PACK * t.width);
            let (mut kk, end) = (done / I::PACK, t.k / I::PACK);
            while S::PREFETCH_STEPS > 0 && kk + S::PREFETCH_STEPS <= end {
                S::prefetch(prefetch);
                if S::PREFETCH_STEPS > 1 && t.prefetch.lines > 1 {
                    for line in 1..t.prefetch.lines {
                        S::prefetch(prefetch.wrapping_add(line * LINE));
                    }
                }
                prefetch = prefetch.wrapping_add(t.prefetch.lines * LINE);
                for _ in 0..S::PREFETCH_STEPS {
                    multiply_channel::<S, I, MR, NZ>(&rows, kk, b, &mut acc);
                    (kk, b) = (kk + 1, b.add(t.width));
                }
            }
            while kk < end {
                multiply_channel::<S, I, MR, NZ>(&rows, kk, b, &mut acc);
                (kk, b) = (kk + 1, b.add(t.width));
            }
            if !t.k.is_multiple_of(I::PACK) {
                // The tail: what lies beside the last channels belongs to others, and could be NaN.
                for (row, acc) in rows.iter().zip(acc.iter_mut()) {
                    let a = I::splat_some(row.add(t.k / I::PACK * I::PACK), t.k % I::PACK);
                    for (z, acc) in acc.iter_mut().enumerate() {
                        *acc = I::dot(a, I::weights(b.add(z * S::LANES)), *acc);
                    }
                }
                b = b.add(t.width);
            }
        }
        // The loops below are small on purpose: the compiler must unroll them, or the accumulators would have
        // to live in memory, where an index can reach them, all through the loop above.
        let mut sums = [[S::splat(0.0); NZ]; MR];
        for z in 0..NZ {
            for (sums, acc) in sums.iter_mut().zip(&acc) {
                sums[z] = I::floats(acc[z]);
            }
        }
        for z in 0..NZ {
            if I::QUANTIZED {
                let scale = S::load(t.scale.add(col + z * S::LANES));
                for sums in &mut sums {
                    sums[z] = S::mul(sums[z], scale);
                }
            }
            let bias = S::load(t.bias.add(col + z * S::LANES));
            for sums in &mut sums {
                sums[z] = S::add(sums[z], bias);
            }
        }
        let valid = t.valid.saturating_sub(col);
        if valid >= NZ * S::LANES {
            epilogue::<S, O, MR, NZ, true>(t, col, valid, sums);
        } else {
            epilogue::<S, O, MR, NZ, false>(t, col, valid, sums);
        }
    }
}

/// The epilogue: adds the residual, applies the lower bound and stores the first `valid` columns; all of them
/// if `FULL`.
///
/// # Safety
/// As [`block`].
#[inline(always)]
unsafe fn epilogue<S: Simd, O: Stored<S>, const MR: usize, const NZ: usize, const FULL: bool>(
    t: &Tile,
    col: usize,
    valid: usize,
    mut acc: [[S::V; NZ]; MR],
) {
    // SAFETY: `valid` columns of each row exist in out and residual; `min` is padded to the panel's width.
    unsafe {
        let lanes = |z: usize| if FULL { S::LANES } else { valid.saturating_sub(z * S::LANES) };
        if !t.residual.is_null() {
            for (r, acc) in acc.iter_mut().enumerate() {
                for (z, acc) in acc.iter_mut().enumerate() {
                    let residual = t.residual.cast::<O>().add(r * t.ld_residual + col + z * S::LANES);
                    let mut residual = O::load_n(residual, lanes(z));
                    if O::QUANTIZED {
                        residual = S::mul(residual, S::splat(t.residual_scale));
                    }
                    *acc = S::add(*acc, residual);
                }
            }
        }
        for z in 0..NZ {
            let min = S::load(t.min.add(col + z * S::LANES));
            for (r, acc) in acc.iter().enumerate() {
                let out = t.out.cast::<O>().add(r * t.ld_out + col + z * S::LANES);
                O::store_n(out, S::max(acc[z], min), lanes(z));
            }
        }
    }
}

/// All columns of a panel for `MR` rows.
///
/// # Safety
/// As [`block`].
#[inline(always)]
pub(super) unsafe fn panel<S: Simd, I: Operand<S>, O: Stored<S>, const MR: usize>(t: &Tile) {
    // Several vectors a row while the panel has them: each broadcast then feeds as many multiply-adds.
    let mut col = 0;
    while S::VECTORS == 4 && col + 4 * S::LANES <= t.width {
        // SAFETY: as the caller's.
        unsafe { block::<S, I, O, MR, 4>(t, col) };
        col += 4 * S::LANES;
    }
    while col + 2 * S::LANES <= t.width {
        // SAFETY: as the caller's.
        unsafe { block::<S, I, O, MR, 2>(t, col) };
        col += 2 * S::LANES;
    }
    if col < t.width {
        // SAFETY: as the caller's.
        unsafe { block::<S, I, O, MR, 1>(t, col) };
    }
}

/// Expands to the body of an entry, in an unsafe block: the instance of [`panel`] for the tile's row count.
macro_rules! by_rows {
    ($simd:ty, $input:ty, $output:ty, $tile:expr, [$($rows:literal)*]) => {
        match $tile.rows {
            $($rows => $crate::kernels::conv::panel::<$simd, $input, $output, $rows>($tile),)*
            rows => unreachable!("a tile of {rows} rows"),
        }
    };
}
pub(super) use by_rows;
