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
    // SAFETY: the caller's promise.
    unsafe {
        match (e.scale.is_null(), e.shift.is_null(), e.b.is_null()) {
            (true, true, true) => rows::<S, E, false, false, false>(e, pixels),
            (true, true, false) => rows::<S, E, false, false, true>(e, pixels),
            (true, false, true) => rows::<S, E, false, true, false>(e, pixels),
            (true, false, false) => rows::<S, E, false, true, true>(e, pixels),
            (false, true, true) => rows::<S, E, true, false, false>(e, pixels),
            (false, true, false) => rows::<S, E, true, false, true>(e, pixels),
            (false, false, true) => rows::<S, E, true, true, false>(e, pixels),
            (false, false, false) => rows::<S, E, true, true, true>(e, pixels),
        }
    }
}

/// A row's elements of a type for vectors of an instruction set: what [`store_row`] stores.
///
/// (A closure would be a function of its own, without the instruction set.)
trait Row<S: Simd, E: Stored<S>> {
    /// The `n` elements from `c` on, at most a vector.
    ///
    /// # Safety
    /// They exist; see [`Simd`].
    unsafe fn value(&self, c: usize, n: usize) -> S::V;
}

/// Stores the `columns` elements of `row` at `out`. A row that is no whole number of vectors ends in one that
/// overlaps the one before it, since stores of a part are slow (microcode on AMD); it is computed first, as
/// `out` may be what is read.
///
/// # Safety
/// `out` has room for `columns` elements; see [`Simd`].
#[inline(always)]
unsafe fn store_row<S: Simd, E: Stored<S>>(row: &impl Row<S, E>, columns: usize, out: *mut E) {
    // SAFETY: the caller's promise.
    unsafe {
        if columns < S::LANES {
            return E::store_n(out, row.value(0, columns), columns);
        }
        let end = columns - S::LANES;
        let last = row.value(end, S::LANES);
        let mut c = 0;
        while c < end {
            E::store_n(out.add(c), row.value(c, S::LANES), S::LANES);
            c += S::LANES;
        }
        E::store_n(out.add(end), last, S::LANES);
    }
}

/// A pixel of an elementwise operation, with or without scale, shift and second operand.
struct Pixel<'a, const SCALE: bool, const SHIFT: bool, const B: bool> {
    e: &'a Elementwise,
    number: usize,
}

impl<S: Simd, E: Stored<S>, const SCALE: bool, const SHIFT: bool, const B: bool> Row<S, E>
    for Pixel<'_, SCALE, SHIFT, B>
{
    #[inline(always)]
    unsafe fn value(&self, c: usize, n: usize) -> S::V {
        let &Self { e, number } = self;
        // SAFETY: channels c..c + n of the pixel exist in each operand; scale and shift are padded.
        unsafe {
            let mut v = E::load_n(e.a.cast::<E>().add(number * e.ld[0] + c), n);
            if SCALE {
                v = S::mul(v, S::load(e.scale.add(c)));
            }
            if SHIFT {
                v = S::add(v, S::load(e.shift.add(c)));
            }
            if B {
                let mut b = E::load_n(e.b.cast::<E>().add(number * e.ld[1] + c), n);
                if E::QUANTIZED {
                    b = S::mul(b, S::splat(e.b_scale));
                }
                v = S::add(v, b);
            }
            S::max(v, S::splat(e.min))
        }
    }
}

/// [`elementwise`] with or without scale, shift and second operand.
///
/// # Safety
/// As [`elementwise`].
#[inline(always)]
unsafe fn rows<S: Simd, E: Stored<S>, const SCALE: bool, const SHIFT: bool, const B: bool>(
    e: &Elementwise,
    pixels: usize,
) {
    for number in 0..pixels {
        let pixel = Pixel::<SCALE, SHIFT, B> { e, number };
        // SAFETY: the caller's promise.
        unsafe { store_row(&pixel, e.channels, e.out.cast::<E>().add(number * e.ld[2])) };
    }
}

/// A sum of four matrices, each times a factor.
#[derive(Clone, Copy)]
pub(crate) struct Sum {
    /// Rows.
    pub rows: usize,
    /// Floats of a row.
    pub columns: usize,
    /// First row of each matrix, and its factor; the last ones may be zero, and no other.
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
    // SAFETY: the caller's promise.
    unsafe {
        match s.terms.iter().rposition(|(_, factor)| *factor != 0.0) {
            Some(3) => sum_of::<S, 4>(s),
            Some(2) => sum_of::<S, 3>(s),
            _ => sum_of::<S, 2>(s),
        }
    }
}

/// A row of the sum of the first `TERMS` terms, at least one.
struct SumRow<'a, const TERMS: usize> {
    sum: &'a Sum,
    number: usize,
}

impl<S: Simd, const TERMS: usize> Row<S, f32> for SumRow<'_, TERMS> {
    #[inline(always)]
    unsafe fn value(&self, c: usize, n: usize) -> S::V {
        let at = self.number * self.sum.ld + c;
        // SAFETY: the row and columns c..c + n exist in each term.
        unsafe {
            let (start, factor) = self.sum.terms[0];
            let mut acc = S::mul(S::load_n(start.add(at), n), S::splat(factor));
            for &(start, factor) in self.sum.terms.iter().take(TERMS).skip(1) {
                acc = S::fma(S::load_n(start.add(at), n), S::splat(factor), acc);
            }
            acc
        }
    }
}

/// The sum of the first `TERMS` terms.
///
/// # Safety
/// As [`sum`].
#[inline(always)]
unsafe fn sum_of<S: Simd, const TERMS: usize>(s: &Sum) {
    for number in 0..s.rows {
        let row = SumRow::<TERMS> { sum: s, number };
        // SAFETY: the caller's promise.
        unsafe { store_row::<S, f32>(&row, s.columns, s.out.add(number * s.ld_out)) };
    }
}
