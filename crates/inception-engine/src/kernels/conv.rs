//! The convolution micro-kernel: a few rows of pixels by one panel of output channels.
//!
//! A convolution in NHWC is, for each output pixel, a sum over kernel taps of a `k`-long dot product between a pixel of
//! the input and a `k x 32` slab of weights. The kernel takes each tap's pixels as *pointers*. Padding is then a pointer
//! to zeros, and stride, dilation and concatenation are pointer arithmetic, so one kernel serves every shape without
//! gathering patches into a matrix.
//!
//! It reads `f32` or `bf16` (pairs of channels at a time, see [`Operand`]) and writes either; sums are `f32`.

use super::element::{Operand, Stored};
use super::isa::Simd;
use crate::memory::LINE;

/// Output channels in a full panel of packed weights; the last panel of a convolution may be half as wide.
pub(crate) const PANEL: usize = 32;
/// Output channels in a narrow panel.
pub(crate) const NARROW: usize = 16;

/// One call of the micro-kernel.
#[derive(Clone, Copy)]
pub(crate) struct Tile {
    /// Pointers to the first channel of each input pixel, `[taps][n]`.
    pub rows: *const *const u8,
    /// Output pixels, 1 to the instruction set's row count.
    pub n: usize,
    /// Kernel taps.
    pub taps: usize,
    /// Elements read at each pointer.
    pub k: usize,
    /// Packed weights `[taps * k][width]`; of `bf16`, with two channels in the place of a float, `[taps * ceil(k / 2)][width]`.
    pub weights: *const f32,
    /// Weights that later tiles will read, or anything else: the cache line at `ahead[i * 16]` is fetched in step i of
    /// the `taps * k`.
    pub ahead: *const f32,
    /// Columns of the panel: `PANEL` or `NARROW`.
    pub width: usize,
    /// Columns to store; the rest of the panel is padding.
    pub valid: usize,
    /// Added to each column, `width` floats.
    pub bias: *const f32,
    /// Lower bound of each column, `width` floats: 0 is ReLU, -inf is none.
    pub floor: *const f32,
    /// Added to each output before the floor, or null; row stride `ld_residual`.
    pub residual: *const u8,
    /// Elements from one pixel of the residual to the next.
    pub ld_residual: usize,
    /// First output pixel, row stride `ld_out`.
    pub out: *mut u8,
    /// Elements from one output pixel to the next.
    pub ld_out: usize,
}

/// `MR` rows by `NZ` vectors, starting at column `col` of the panel.
///
/// # Safety
/// The pointers of `t` are valid for what their fields describe, `t.n == MR`, and see [`Simd`].
#[inline(always)]
unsafe fn block<S: Simd, I: Operand<S>, O: Stored<S>, const MR: usize, const NZ: usize>(
    t: &Tile,
    col: usize,
) {
    // SAFETY: all offsets stay within the extents that the fields of `Tile` promise: rows[tap][r][0..k],
    // weights[(tap * k + kk)][col..col + NZ * LANES], bias/floor[col..], and `valid` columns of out and residual.
    unsafe {
        // Asked for now, what the tile ends with is there by then: a store that misses holds up all stores behind it.
        for r in 0..MR {
            for z in 0..NZ {
                let column = col + z * S::LANES;
                S::prefetch(t.out.cast::<O>().wrapping_add(r * t.ld_out + column).cast());
                S::prefetch(t.residual.cast::<O>().wrapping_add(r * t.ld_residual + column).cast());
            }
        }
        let mut acc = [[S::splat(0.0); NZ]; MR];
        let mut b = t.weights.add(col);
        let mut ahead = t.ahead;
        for tap in 0..t.taps {
            let rows: [*const I; MR] = t.rows.add(tap * MR).cast::<[*const I; MR]>().read();
            for kk in 0..t.k / I::GROUP {
                let mut bv = [I::weights(b); NZ];
                for (z, v) in bv.iter_mut().enumerate() {
                    *v = I::weights(b.add(z * S::LANES));
                }
                b = b.add(t.width);
                S::prefetch(ahead);
                ahead = ahead.wrapping_add(LINE);
                for (row, acc) in rows.iter().zip(acc.iter_mut()) {
                    let a = I::splat(row.add(kk * I::GROUP));
                    for (acc, b) in acc.iter_mut().zip(bv) {
                        *acc = I::dot(a, b, *acc);
                    }
                }
            }
            if !t.k.is_multiple_of(I::GROUP) {
                // What lies beside the last channel is not ours, and could be NaN.
                for (row, acc) in rows.iter().zip(acc.iter_mut()) {
                    let a = I::splat_first(row.add(t.k - 1));
                    for (z, acc) in acc.iter_mut().enumerate() {
                        *acc = I::dot(a, I::weights(b.add(z * S::LANES)), *acc);
                    }
                }
                b = b.add(t.width);
            }
        }
        // The loops below are small on purpose: the compiler must unroll them, or the accumulators would have to live
        // in memory, where an index can reach them, all through the loop above.
        for z in 0..NZ {
            let bias = S::load(t.bias.add(col + z * S::LANES));
            for acc in &mut acc {
                acc[z] = S::add(acc[z], bias);
            }
        }
        let valid = t.valid.saturating_sub(col);
        if valid >= NZ * S::LANES {
            store::<S, O, MR, NZ, true>(t, col, valid, acc);
        } else {
            store::<S, O, MR, NZ, false>(t, col, valid, acc);
        }
    }
}

/// Adds the residual, applies the floor and stores the first `valid` columns; all of them if `FULL`.
///
/// # Safety
/// As [`block`].
#[inline(always)]
unsafe fn store<S: Simd, O: Stored<S>, const MR: usize, const NZ: usize, const FULL: bool>(
    t: &Tile,
    col: usize,
    valid: usize,
    mut acc: [[S::V; NZ]; MR],
) {
    // SAFETY: `valid` columns of each row exist in out and residual; the floor is padded to the panel's width.
    unsafe {
        let lanes = |z: usize| if FULL { S::LANES } else { valid.saturating_sub(z * S::LANES) };
        if !t.residual.is_null() {
            for (r, acc) in acc.iter_mut().enumerate() {
                for (z, acc) in acc.iter_mut().enumerate() {
                    let residual = t.residual.cast::<O>().add(r * t.ld_residual + col + z * S::LANES);
                    *acc = S::add(*acc, O::load_n(residual, lanes(z)));
                }
            }
        }
        for z in 0..NZ {
            let floor = S::load(t.floor.add(col + z * S::LANES));
            for (r, acc) in acc.iter().enumerate() {
                let out = t.out.cast::<O>().add(r * t.ld_out + col + z * S::LANES);
                O::store_n(out, S::max(acc[z], floor), lanes(z));
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
    // Two vectors a row while the panel has them: each broadcast then feeds two multiply-adds.
    let mut col = 0;
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

/// Expands to the body of a kernel entry: picks the instance whose row count is `t.n`.
macro_rules! by_rows {
    ($simd:ty, $input:ty, $output:ty, $tile:expr, $($rows:literal)*) => {
        match $tile.n {
            // SAFETY: the caller of the entry vouches for the tile, and this arm for its row count.
            $($rows => unsafe { $crate::kernels::conv::panel::<$simd, $input, $output, $rows>($tile) },)*
            n => unreachable!("a tile of {n} rows"),
        }
    };
}
pub(super) use by_rows;
