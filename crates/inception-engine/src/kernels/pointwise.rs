//! Pooling and elementwise kernels, vectorised over channels.

use super::depthwise::GROUP;
use super::element::Stored;
use super::isa::Simd;

/// What a pooling window does with the pixels that it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reduce {
    /// The greatest; padding does not take part.
    Max,
    /// The mean over the pixels inside the input.
    Mean,
    /// The sum over the pixels inside the input divided by the window's area within the padded input.
    MeanWithPadding,
}

/// What stays the same for every pixel of one pooling.
#[derive(Clone, Copy)]
pub(crate) struct Window {
    /// How pixels are combined.
    pub reduce: Reduce,
    /// Input height and width.
    pub input: [usize; 2],
    /// Window height and width.
    pub kernel: [usize; 2],
    /// Vertical and horizontal stride.
    pub stride: [usize; 2],
    /// Top and left padding.
    pub pad: [usize; 2],
    /// Bottom and right padding: what a window beyond them covers counts for nothing.
    pub pad_end: [usize; 2],
    /// Channels.
    pub channels: usize,
    /// Elements from one input pixel to the next, and from one output pixel to the next.
    pub ld: [usize; 2],
}

/// Pools output pixels `x[0]..x[1]` of row `y`, then adds `bias` and applies `floor` (each padded to a whole vector).
///
/// # Safety
/// `image` is the first pixel of an input and `out` the row's pixel `x[0]`, both valid for the geometry `w`; see [`Simd`].
#[inline(always)]
pub(super) unsafe fn pool<S: Simd, I: Stored<S>, O: Stored<S>>(
    w: &Window,
    image: *const u8,
    y: usize,
    x: [usize; 2],
    bias: *const f32,
    floor: *const f32,
    out: *mut u8,
) {
    // The part of a window along one axis that lies inside the input, and its extent within the padded input.
    let span = |o: usize, axis: usize| {
        let start = o * w.stride[axis];
        let end = start + w.kernel[axis];
        let padded = end.min(w.pad[axis] + w.input[axis] + w.pad_end[axis]) - start;
        let from = start.max(w.pad[axis]) - w.pad[axis];
        let to = (end.max(w.pad[axis]) - w.pad[axis]).min(w.input[axis]);
        (from.min(to), to, padded)
    };
    let (y0, y1, height) = span(y, 0);
    // Of a window that covers so many columns of the input, and of the padded input.
    let scale = |columns: usize, padded: usize| {
        let area = match w.reduce {
            Reduce::Max => 1,
            Reduce::Mean => ((y1 - y0) * columns).max(1),
            Reduce::MeanWithPadding => height * padded,
        };
        1.0 / area as f32
    };
    // Output columns whose windows lie inside the input.
    let from = w.pad[1].div_ceil(w.stride[1]).clamp(x[0], x[1]);
    let last = (w.input[1] + w.pad[1]).checked_sub(w.kernel[1]).map_or(0, |x| x / w.stride[1] + 1);
    let to = last.clamp(from, x[1]);
    let mut done = [from, from];
    if w.kernel == [3, 3] && to - from >= GROUP && y0 < y1 {
        let group = Group { w, rows: [y0, y1], scale: scale(3, 3), image, bias, floor };
        let out_at = |x_out: usize| out.cast::<O>().wrapping_add((x_out - x[0]) * w.ld[1]);
        // SAFETY: the caller's promise, and the columns are interior.
        done = unsafe {
            match (w.reduce == Reduce::Max, w.stride[1]) {
                (true, 1) => groups(from, to, |x| pool_group::<S, I, O, true, 1>(&group, x, out_at(x))),
                (true, 2) => groups(from, to, |x| pool_group::<S, I, O, true, 2>(&group, x, out_at(x))),
                (false, 1) => groups(from, to, |x| pool_group::<S, I, O, false, 1>(&group, x, out_at(x))),
                _ => done,
            }
        };
    }
    // A loop, since a closure would not carry the instruction set.
    for x_out in (x[0]..done[0]).chain(done[1]..x[1]) {
        let (x0, x1, width) = span(x_out, 1);
        let scale = scale(x1 - x0, width);
        let mut c = 0;
        while c < w.channels {
            let n = (w.channels - c).min(S::LANES);
            // SAFETY: the window is clipped to the input; channels c..c + n exist.
            unsafe {
                let max = w.reduce == Reduce::Max;
                let mut acc = S::splat(if max { f32::NEG_INFINITY } else { 0.0 });
                for iy in y0..y1 {
                    let row = image.cast::<I>().add(iy * w.input[1] * w.ld[0] + c);
                    for ix in x0..x1 {
                        let v = I::load_n(row.add(ix * w.ld[0]), n);
                        acc = if max { S::max(acc, v) } else { S::add(acc, v) };
                    }
                }
                let v = S::fma(acc, S::splat(scale), S::load(bias.add(c)));
                let v = S::max(v, S::load(floor.add(c)));
                O::store_n(out.cast::<O>().add((x_out - x[0]) * w.ld[1] + c), v, n);
            }
            c += S::LANES;
        }
    }
}

/// Covers columns `from..to` with groups; the last one may overlap its neighbour, which computes a few pixels twice.
#[inline(always)]
fn groups(from: usize, to: usize, mut group: impl FnMut(usize)) -> [usize; 2] {
    let mut x = from;
    while x < to {
        group(x.min(to - GROUP));
        x += GROUP;
    }
    [from, to]
}

/// The greater, or the sum.
///
/// # Safety
/// See [`Simd`].
#[inline(always)]
unsafe fn join<S: Simd, const MAX: bool>(a: S::V, b: S::V) -> S::V {
    // SAFETY: as the caller's.
    unsafe { if MAX { S::max(a, b) } else { S::add(a, b) } }
}

/// What the groups of an output row of a pool share.
struct Group<'a> {
    w: &'a Window,
    /// The input rows under the window.
    rows: [usize; 2],
    scale: f32,
    image: *const u8,
    bias: *const f32,
    floor: *const f32,
}

/// `GROUP` pixels from column `x` of a pool of 3x3: each input column is reduced once for all windows that cover it.
///
/// # Safety
/// As [`pool`], `out` is the first of the pixels, and their windows lie inside the input horizontally.
#[inline(always)]
unsafe fn pool_group<S: Simd, I: Stored<S>, O: Stored<S>, const MAX: bool, const STRIDE: usize>(
    g: &Group<'_>,
    x: usize,
    out: *mut O,
) {
    let w = g.w;
    let corner = (g.rows[0] * w.input[1] + x * STRIDE - w.pad[1]) * w.ld[0];
    let mut c = 0;
    while c < w.channels {
        let n = (w.channels - c).min(S::LANES);
        // SAFETY: the rows are clipped to the input, the columns interior by the caller's promise, channels c..c + n exist;
        // bias and floor are padded to whole vectors.
        unsafe {
            // At most 9 columns: (GROUP - 1) * STRIDE + 3.
            let mut columns = [S::splat(0.0); (GROUP - 1) * 2 + 3];
            for (j, column) in columns.iter_mut().enumerate().take((GROUP - 1) * STRIDE + 3) {
                let top = g.image.cast::<I>().add(corner + j * w.ld[0] + c);
                *column = I::load_n(top, n);
                for row in 1..g.rows[1] - g.rows[0] {
                    *column = join::<S, MAX>(*column, I::load_n(top.add(row * w.input[1] * w.ld[0]), n));
                }
            }
            let (scale, bias, floor) = (S::splat(g.scale), S::load(g.bias.add(c)), S::load(g.floor.add(c)));
            for i in 0..GROUP {
                let left = join::<S, MAX>(columns[i * STRIDE], columns[i * STRIDE + 1]);
                let all = join::<S, MAX>(left, columns[i * STRIDE + 2]);
                let v = S::max(S::fma(all, scale, bias), floor);
                O::store_n(out.add(i * w.ld[1] + c), v, n);
            }
        }
        c += S::LANES;
    }
}

/// A pixel-by-pixel operation: `out = max(a * scale + shift [+ b], floor)`.
#[derive(Clone, Copy)]
pub(crate) struct Elementwise {
    /// Channels of a pixel.
    pub channels: usize,
    /// First pixel of the first operand.
    pub a: *const u8,
    /// First pixel of the second operand, or null.
    pub b: *const u8,
    /// First pixel of the result.
    pub out: *mut u8,
    /// Elements from one pixel to the next in `a`, `b` and `out`.
    pub ld: [usize; 3],
    /// Factor of each channel, padded to a whole vector, or null for one.
    pub scale: *const f32,
    /// Added to each channel, padded to a whole vector, or null for zero.
    pub shift: *const f32,
    /// Lower bound of every output.
    pub floor: f32,
}

/// Applies `e` to `pixels` pixels.
///
/// # Safety
/// `e` describes memory valid for that many pixels; see [`Simd`].
#[inline(always)]
pub(super) unsafe fn elementwise<S: Simd, E: Stored<S>>(e: &Elementwise, pixels: usize) {
    for p in 0..pixels {
        let mut c = 0;
        while c < e.channels {
            let n = (e.channels - c).min(S::LANES);
            // SAFETY: pixel p and channels c..c + n exist in each operand; scale and shift are padded.
            unsafe {
                let mut v = E::load_n(e.a.cast::<E>().add(p * e.ld[0] + c), n);
                if !e.scale.is_null() {
                    v = S::mul(v, S::load(e.scale.add(c)));
                }
                if !e.shift.is_null() {
                    v = S::add(v, S::load(e.shift.add(c)));
                }
                if !e.b.is_null() {
                    v = S::add(v, E::load_n(e.b.cast::<E>().add(p * e.ld[1] + c), n));
                }
                E::store_n(e.out.cast::<E>().add(p * e.ld[2] + c), S::max(v, S::splat(e.floor)), n);
            }
            c += S::LANES;
        }
    }
}

/// A sum of four matrices, each times a factor.
#[derive(Clone, Copy)]
pub(crate) struct Sum {
    /// Rows.
    pub rows: usize,
    /// Floats of a row.
    pub columns: usize,
    /// First row of each matrix, and its factor; the last ones may be zero.
    pub terms: [(*const f32, f32); 4],
    /// Floats from one row of a term to the next.
    pub ld: usize,
    /// First row of the sum.
    pub out: *mut f32,
    /// Floats from one row of the sum to the next.
    pub ld_out: usize,
}

/// Computes a sum.
///
/// # Safety
/// `s` describes valid memory; see [`Simd`].
#[inline(always)]
pub(super) unsafe fn sum<S: Simd>(s: &Sum) {
    for row in 0..s.rows {
        let mut c = 0;
        while c < s.columns {
            let n = (s.columns - c).min(S::LANES);
            // SAFETY: row and columns c..c + n exist in each term and in the sum.
            unsafe {
                let mut acc = S::splat(0.0);
                for (start, factor) in s.terms {
                    if factor != 0.0 {
                        acc = S::fma(S::load_n(start.add(row * s.ld + c), n), S::splat(factor), acc);
                    }
                }
                S::store_n(s.out.add(row * s.ld_out + c), acc, n);
            }
            c += S::LANES;
        }
    }
}
