//! Elementwise kernels, vectorised over channels, and the weighted sums of matrices in Strassen's algorithm.

use super::simd::{Simd, Stored};

/// A pixel-by-pixel operation: `out = max(a * scale + shift [+ b * b_scale], min)`.
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
    /// Factor of the second operand where it is quantised.
    pub b_scale: f32,
    /// Lower bound of every output.
    pub min: f32,
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
                    let mut b = E::load_n(e.b.cast::<E>().add(p * e.ld[1] + c), n);
                    if E::QUANTIZED {
                        b = S::mul(b, S::splat(e.b_scale));
                    }
                    v = S::add(v, b);
                }
                E::store_n(e.out.cast::<E>().add(p * e.ld[2] + c), S::max(v, S::splat(e.min)), n);
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
