//! Maximum and average pools, vectorised over channels.

use std::ops::Range;

use super::depthwise::PIXELS;
use super::simd::{Simd, Stored};
use crate::graph::{PoolKind, Window};

/// Parameters of a pool, the same for all its pixels.
#[derive(Clone, Copy)]
pub(crate) struct PoolParams {
    /// How pixels are combined.
    pub kind: PoolKind,
    /// Kernel, stride, padding; a window may reach beyond that, over pixels that do not count.
    pub window: Window,
    /// Input height and width.
    pub input: [usize; 2],
    /// Channels.
    pub channels: usize,
    /// Elements from one input pixel to the next, and from one output pixel to the next.
    pub ld: [usize; 2],
    /// Factor of what is pooled: one, or the input's scale over the output's.
    pub factor: f32,
    /// The zero point of a quantised input; means are of differences from it.
    pub zero: u8,
    /// A maximum of bytes that are stored as they are, without bias or another scale.
    pub copies: bool,
}

impl PoolParams {
    /// The range of output `o`'s window along `axis` inside the input, and its extent within the padded
    /// input.
    #[inline(always)]
    fn span(&self, o: usize, axis: usize) -> (usize, usize, usize) {
        let &Window { kernel, stride, pad, .. } = &self.window;
        let start = o * stride[axis];
        let end = start + kernel[axis];
        let from = start.max(pad[axis]) - pad[axis];
        let to = (end.max(pad[axis]) - pad[axis]).min(self.input[axis]);
        (from.min(to), to, self.window.counted(axis, o, self.input[axis]))
    }

    /// Those of the output columns `x[0]..x[1]` whose windows lie inside the input.
    #[inline(always)]
    fn interior(&self, x: [usize; 2]) -> [usize; 2] {
        let &Window { kernel, stride, pad, .. } = &self.window;
        let from = pad[1].div_ceil(stride[1]).clamp(x[0], x[1]);
        let last = (self.input[1] + pad[1]).checked_sub(kernel[1]);
        let to = last.map_or(0, |last| last / stride[1] + 1).clamp(from, x[1]);
        [from, to]
    }
}

/// Pools output pixels `x[0]..x[1]` of row `y`, then adds `bias` and applies `min` (each padded to a whole
/// vector).
///
/// # Safety
/// `image` is the first pixel of an input and `out` the row's pixel `x[0]`, both valid for the geometry
/// `params`; see [`Simd`].
#[inline(always)]
pub(super) unsafe fn pool<S: Simd, I: Stored<S>, O: Stored<S>>(
    params: &PoolParams,
    image: *const u8,
    y: usize,
    x: [usize; 2],
    bias: *const f32,
    min: *const f32,
    out: *mut u8,
) {
    let (y0, y1, height) = params.span(y, 0);
    // The factor of a window with so many columns inside the input, and inside the padded input.
    let scale = |columns: usize, padded: usize| {
        let area = match params.kind {
            PoolKind::Max => 1,
            PoolKind::Average => ((y1 - y0) * columns).max(1),
            PoolKind::AverageWithPadding => height * padded,
        };
        params.factor / area as f32
    };
    if I::QUANTIZED && O::QUANTIZED && params.copies {
        // SAFETY: the caller's promise.
        return unsafe { pool_bytes(params, image, [y0, y1], x, *min as u8, out) };
    }
    let [from, to] = params.interior(x);
    let mut done = [from, from];
    if params.window.kernel == [3, 3] && to - from >= PIXELS && y0 < y1 {
        let block = Block { params, rows: [y0, y1], scale: scale(3, 3), image, bias, min };
        let out_at = |x_out: usize| out.cast::<O>().wrapping_add((x_out - x[0]) * params.ld[1]);
        // SAFETY: the caller's promise, and the columns are interior.
        done = unsafe {
            match (params.kind == PoolKind::Max, params.window.stride[1]) {
                (true, 1) => blocks(from, to, |x| pool_block::<S, I, O, true, 1>(&block, x, out_at(x))),
                (true, 2) => blocks(from, to, |x| pool_block::<S, I, O, true, 2>(&block, x, out_at(x))),
                (false, 1) => blocks(from, to, |x| pool_block::<S, I, O, false, 1>(&block, x, out_at(x))),
                _ => done,
            }
        };
    }
    // A loop, since a closure would not carry the instruction set.
    for x_out in (x[0]..done[0]).chain(done[1]..x[1]) {
        let (x0, x1, width) = params.span(x_out, 1);
        let scale = scale(x1 - x0, width);
        let mut c = 0;
        while c < params.channels {
            let n = (params.channels - c).min(S::LANES);
            // SAFETY: the window is clipped to the input; channels c..c + n exist.
            unsafe {
                let max = params.kind == PoolKind::Max;
                let mut acc = S::splat(if max { f32::NEG_INFINITY } else { 0.0 });
                for iy in y0..y1 {
                    let row = image.cast::<I>().add(iy * params.input[1] * params.ld[0] + c);
                    for ix in x0..x1 {
                        let v = read::<S, I>(params, row.add(ix * params.ld[0]), n, max);
                        acc = if max { S::max(acc, v) } else { S::add(acc, v) };
                    }
                }
                let v = finish::<S, I>(acc, S::splat(scale), S::load(bias.add(c)));
                let v = S::max(v, S::load(min.add(c)));
                O::store_n(out.cast::<O>().add((x_out - x[0]) * params.ld[1] + c), v, n);
            }
            c += S::LANES;
        }
    }
}

/// [`pool`] of bytes that are stored as they are.
///
/// # Safety
/// As that function; `rows` are those of the window inside the input.
#[inline(always)]
unsafe fn pool_bytes(
    params: &PoolParams,
    image: *const u8,
    rows: [usize; 2],
    x: [usize; 2],
    least: u8,
    out: *mut u8,
) {
    for x_out in x[0]..x[1] {
        let (x0, x1, _) = params.span(x_out, 1);
        // SAFETY: the caller's promise; the window is clipped to the input.
        unsafe {
            max_bytes(params, image, rows, [x0, x1], least, out.add((x_out - x[0]) * params.ld[1]));
        }
    }
}

/// The bytes of a window's maximum, or `least` where that is greater.
///
/// # Safety
/// The rows and columns lie in the image, and `out` has room for the channels.
#[inline(always)]
unsafe fn max_bytes(
    params: &PoolParams,
    image: *const u8,
    rows: [usize; 2],
    columns: [usize; 2],
    least: u8,
    out: *mut u8,
) {
    /// Channels at a time.
    const BLOCK: usize = 64;
    let mut c = 0;
    while c < params.channels {
        let n = (params.channels - c).min(BLOCK);
        let mut acc = [least; BLOCK];
        for y in rows[0]..rows[1] {
            for x in columns[0]..columns[1] {
                // SAFETY: the pixel lies in the image and channels c..c + n exist.
                unsafe {
                    let pixel = image.add((y * params.input[1] + x) * params.ld[0] + c);
                    if n == BLOCK {
                        // A whole array, so that it is a few vectors.
                        let pixel = pixel.cast::<[u8; BLOCK]>().read_unaligned();
                        acc = std::array::from_fn(|i| acc[i].max(pixel[i]));
                    } else {
                        for (i, acc) in acc.iter_mut().enumerate().take(n) {
                            *acc = (*acc).max(*pixel.add(i));
                        }
                    }
                }
            }
        }
        // SAFETY: channels c..c + n exist.
        unsafe { std::ptr::copy_nonoverlapping(acc.as_ptr(), out.add(c), n) };
        c += BLOCK;
    }
}

/// `n` channels of the input at `p`; for a mean, as differences from the zero point where they are quantised.
///
/// # Safety
/// They exist; see [`Simd`].
#[inline(always)]
unsafe fn read<S: Simd, I: Stored<S>>(params: &PoolParams, p: *const I, n: usize, max: bool) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        let v = I::load_n(p, n);
        if I::QUANTIZED && !max { S::sub(v, S::splat(f32::from(params.zero))) } else { v }
    }
}

/// `acc * scale + bias`; of integers with two roundings, as every instruction set has them.
///
/// # Safety
/// See [`Simd`].
#[inline(always)]
unsafe fn finish<S: Simd, I: Stored<S>>(acc: S::V, scale: S::V, bias: S::V) -> S::V {
    // SAFETY: as the caller's.
    unsafe { if I::QUANTIZED { S::add(S::mul(acc, scale), bias) } else { S::fma(acc, scale, bias) } }
}

/// Covers columns `from..to` with blocks. The last one may overlap its neighbour and compute a few pixels
/// twice.
#[inline(always)]
fn blocks(from: usize, to: usize, mut block: impl FnMut(usize)) -> [usize; 2] {
    let mut x = from;
    while x < to {
        block(x.min(to - PIXELS));
        x += PIXELS;
    }
    [from, to]
}

/// The greater of each pair, or the sum.
///
/// # Safety
/// See [`Simd`].
#[inline(always)]
unsafe fn join<S: Simd, const MAX: bool>(a: S::V, b: S::V) -> S::V {
    // SAFETY: as the caller's.
    unsafe { if MAX { S::max(a, b) } else { S::add(a, b) } }
}

/// Parameters of the register blocks of an output row.
struct Block<'a> {
    params: &'a PoolParams,
    /// The input rows under the window.
    rows: [usize; 2],
    scale: f32,
    image: *const u8,
    bias: *const f32,
    min: *const f32,
}

/// `PIXELS` pixels from column `x` of a pool of 3x3: each input column is reduced once for all windows that
/// cover it.
///
/// # Safety
/// As [`pool`], `out` is the first of the pixels, and their windows lie inside the input horizontally.
#[inline(always)]
unsafe fn pool_block<S: Simd, I: Stored<S>, O: Stored<S>, const MAX: bool, const STRIDE: usize>(
    b: &Block<'_>,
    x: usize,
    out: *mut O,
) {
    let whole = b.params.channels / S::LANES * S::LANES;
    // SAFETY: the caller's promise.
    unsafe {
        pool_channels::<S, I, O, MAX, STRIDE, true>(b, x, 0..whole, out);
        pool_channels::<S, I, O, MAX, STRIDE, false>(b, x, whole..b.params.channels, out);
    }
}

/// Channels `channels` of [`pool_block`]; whole vectors if `FULL`.
///
/// # Safety
/// As that function.
#[inline(always)]
unsafe fn pool_channels<
    S: Simd,
    I: Stored<S>,
    O: Stored<S>,
    const MAX: bool,
    const STRIDE: usize,
    const FULL: bool,
>(
    b: &Block<'_>,
    x: usize,
    channels: Range<usize>,
    out: *mut O,
) {
    let params = b.params;
    let corner = (b.rows[0] * params.input[1] + x * STRIDE - params.window.pad[1]) * params.ld[0];
    let (ld, row_step) = (params.ld[0], params.input[1] * params.ld[0]);
    let mut c = channels.start;
    while c < channels.end {
        let n = if FULL { S::LANES } else { (channels.end - c).min(S::LANES) };
        // SAFETY: the rows are clipped to the input, the columns interior by the caller's promise, channels
        // c..c + n exist; bias and min are padded to whole vectors.
        unsafe {
            // At most 9 columns: (PIXELS - 1) * STRIDE + 3.
            let mut columns = [S::splat(0.0); (PIXELS - 1) * 2 + 3];
            let mut row = b.image.cast::<I>().add(corner + c);
            for (j, column) in columns.iter_mut().enumerate().take((PIXELS - 1) * STRIDE + 3) {
                *column = read::<S, I>(params, row.add(j * ld), n, MAX);
            }
            for _ in b.rows[0] + 1..b.rows[1] {
                row = row.add(row_step);
                for (j, column) in columns.iter_mut().enumerate().take((PIXELS - 1) * STRIDE + 3) {
                    *column = join::<S, MAX>(*column, read::<S, I>(params, row.add(j * ld), n, MAX));
                }
            }
            let (scale, bias, min) = (S::splat(b.scale), S::load(b.bias.add(c)), S::load(b.min.add(c)));
            for i in 0..PIXELS {
                let left = join::<S, MAX>(columns[i * STRIDE], columns[i * STRIDE + 1]);
                let all = join::<S, MAX>(left, columns[i * STRIDE + 2]);
                let v = S::max(finish::<S, I>(all, scale, bias), min);
                O::store_n(out.add(i * params.ld[1] + c), v, n);
            }
        }
        c += S::LANES;
    }
}
