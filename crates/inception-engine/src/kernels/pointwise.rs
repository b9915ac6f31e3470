//! Pooling and elementwise kernels, vectorised over channels.

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
    for x_out in x[0]..x[1] {
        let (x0, x1, width) = span(x_out, 1);
        let scale = match w.reduce {
            Reduce::Max => 1.0,
            Reduce::Mean => 1.0 / ((y1 - y0) * (x1 - x0)).max(1) as f32,
            Reduce::MeanWithPadding => 1.0 / (height * width) as f32,
        };
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
                let v = S::max(S::fma(acc, S::splat(scale), S::load(bias.add(c))), S::load(floor.add(c)));
                O::store_n(out.cast::<O>().add((x_out - x[0]) * w.ld[1] + c), v, n);
            }
            c += S::LANES;
        }
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
