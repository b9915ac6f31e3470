//! Loops over the channels of pixels: norms, ReLUs, sums.
//!
//! Each function takes the pixels `rows`, counted through the images; threads share pixels out by these.

use std::ops::Range;

use crate::memory::{Raw, Shared, parallel};
use crate::multiversion::multiversion;
use crate::real::Real;

/// Pixels of a task. Sums over pixels are made for as many first, so that they depend on no number of
/// threads.
const ROWS: usize = 128;

/// Calls `work` with parts of `rows` pixels.
pub(crate) fn by_rows(rows: usize, work: impl Fn(Range<usize>) + Sync + Send) {
    parallel(rows.div_ceil(ROWS), |task| work(task * ROWS..rows.min((task + 1) * ROWS)));
}

/// Sums over `rows` pixels, a list of `len` for each thread's part, which `work` adds to.
pub(crate) fn sums<T: Real>(
    rows: usize,
    len: usize,
    work: impl Fn(Range<usize>, &mut [T]) + Sync + Send,
) -> Vec<f64> {
    let mut parts = vec![T::default(); rows.div_ceil(ROWS) * len];
    let shared = Shared(parts.as_mut_ptr());
    by_rows(rows, |range| {
        // SAFETY: each part of the pixels has its own part of the list.
        let part = unsafe { std::slice::from_raw_parts_mut(shared.get().add(range.start / ROWS * len), len) };
        work(range, part);
    });
    let mut total = vec![0.0; len];
    for part in parts.chunks_exact(len) {
        total.iter_mut().zip(part).for_each(|(total, part)| *total += part.to_f64());
    }
    total
}

// What follows reads and writes the pixels `rows` of tensors. It is unsafe: the tensors have these pixels, of
// as many channels as the other arguments have values, nobody else has access to those that are written, and
// where an output is not the input they have no float in common. (Where it is, each value is read before it
// is written.)

multiversion! {
    /// Adds values less a pivot, and their squares, to the two halves of `sums`.
    fn moments(x: Raw<T>, rows: Range<usize>, pivot: &[T], sums: &mut [T]) {
        let (first, second) = sums.split_at_mut(pivot.len());
        for row in rows {
            // SAFETY: see above.
            let x = unsafe { x.row(row) };
            for ((x, pivot), (first, second)) in x.iter().zip(pivot).zip(first.iter_mut().zip(second.iter_mut())) {
                let moved = *x - *pivot;
                *first += moved;
                *second += moved * moved;
            }
        }
    }
}

/// What `of` the row gives, of each channel and its value in `x`, goes to `y`, or is added there with
/// `accumulate`.
///
/// # Safety
///
/// See above.
#[inline(always)]
unsafe fn each<T: Real, F: Fn(usize, T) -> T>(
    (x, y): (Raw<T>, Raw<T>),
    rows: Range<usize>,
    accumulate: bool,
    of: impl Fn(usize) -> F,
) {
    let channels = y.channels;
    for row in rows {
        let of = of(row);
        // SAFETY: the caller's promise.
        let (x, y) = unsafe { (x.at(row), y.at(row)) };
        for c in 0..channels {
            // SAFETY: a channel of the pixel.
            unsafe {
                let value = of(c, *x.add(c));
                *y.add(c) = if accumulate { *y.add(c) + value } else { value };
            }
        }
    }
}

multiversion! {
    /// `y = x * scale + shift`, then ReLU if asked.
    fn affine(x: Raw<T>, y: Raw<T>, rows: Range<usize>, scale: &[T], shift: &[T], relu: bool) {
        let floor = T::default();
        let (scale, shift) = (&scale[..y.channels], &shift[..y.channels]);
        let value = |c: usize, x: T| {
            let value = x * scale[c] + shift[c];
            if relu && value < floor { floor } else { value }
        };
        // SAFETY: see above.
        unsafe { each((x, y), rows, false, |_| value) }
    }
}

multiversion! {
    /// Adds gradients, and their products with what they belong to less its mean, to the two halves of
    /// `sums`. With `relu` a gradient is zero where `x * scale + shift` is not above zero.
    fn norm_sums(
        x: Raw<T>, dy: Raw<T>, rows: Range<usize>, mean: &[T], scale: &[T], shift: &[T], relu: bool, sums: &mut [T],
    ) {
        let zero = T::default();
        let channels = mean.len();
        let (first, second) = sums.split_at_mut(channels);
        let (first, second, scale, shift) =
            (&mut first[..channels], &mut second[..channels], &scale[..channels], &shift[..channels]);
        for row in rows {
            // SAFETY: see above.
            let (x, dy) = unsafe { (&x.row(row)[..channels], &dy.row(row)[..channels]) };
            for c in 0..channels {
                let on = !relu || x[c] * scale[c] + shift[c] > zero;
                let gradient = if on { dy[c] } else { zero };
                first[c] += gradient;
                second[c] += gradient * (x[c] - mean[c]);
            }
        }
    }
}

/// What the gradient of a norm's input is made of, for each channel.
pub(crate) struct NormGradient<'a, T> {
    pub scale: &'a [T],
    pub shift: &'a [T],
    /// Factor of the input, and summand.
    pub factor: &'a [T],
    pub summand: &'a [T],
    pub relu: bool,
    pub accumulate: bool,
}

multiversion! {
    /// `dx = dy * scale + x * factor + summand`, `dy` as in [`norm_sums`].
    fn norm_gradient(x: Raw<T>, dy: Raw<T>, dx: Raw<T>, rows: Range<usize>, norm: &NormGradient<'_, T>) {
        let zero = T::default();
        let channels = norm.scale.len();
        let (scale, shift) = (&norm.scale[..channels], &norm.shift[..channels]);
        let (factor, summand) = (&norm.factor[..channels], &norm.summand[..channels]);
        let (relu, accumulate) = (norm.relu, norm.accumulate);
        for row in rows {
            // SAFETY: see above.
            let (x, dy, dx) = unsafe { (x.at(row), dy.at(row), dx.at(row)) };
            for c in 0..channels {
                // SAFETY: channels of the pixel.
                unsafe {
                    let x = *x.add(c);
                    let on = !relu || x * scale[c] + shift[c] > zero;
                    let gradient = if on { *dy.add(c) } else { zero };
                    let value = gradient * scale[c] + (x * factor[c] + summand[c]);
                    *dx.add(c) = if accumulate { *dx.add(c) + value } else { value };
                }
            }
        }
    }
}

multiversion! {
    /// `y = max(x, 0)`; what is no number stays.
    fn relu(x: Raw<T>, y: Raw<T>, rows: Range<usize>) {
        let zero = T::default();
        // SAFETY: see above.
        unsafe { each((x, y), rows, false, |_| |_, x| if x < zero { zero } else { x }) }
    }
}

multiversion! {
    /// The gradient of [`relu`], from what it gave.
    fn relu_gradient(y: Raw<T>, dy: Raw<T>, dx: Raw<T>, rows: Range<usize>, accumulate: bool) {
        let zero = T::default();
        // SAFETY: see above.
        unsafe {
            each((dy, dx), rows, accumulate, |row| {
                let y = &y.row(row)[..dx.channels];
                move |c, dy| if y[c] > zero { dy } else { zero }
            });
        }
    }
}

multiversion! {
    /// `y = x * scale + shift`, or with `accumulate` that much more.
    fn scale(x: Raw<T>, y: Raw<T>, rows: Range<usize>, scale: T, shift: T, accumulate: bool) {
        // SAFETY: see above.
        unsafe { each((x, y), rows, accumulate, |_| |_, x| x * scale + shift) }
    }
}

multiversion! {
    /// `y = x * mask`, or with `accumulate` that much more; the mask has a value for each channel of each
    /// pixel.
    fn masked(x: Raw<T>, mask: &[T], y: Raw<T>, rows: Range<usize>, accumulate: bool) {
        // SAFETY: see above.
        unsafe {
            each((x, y), rows, accumulate, |row| {
                let mask = &mask[row * y.channels..][..y.channels];
                move |c, x| x * mask[c]
            });
        }
    }
}

multiversion! {
    /// `y += x`
    fn add(x: Raw<T>, y: Raw<T>, rows: Range<usize>) {
        for row in rows {
            // SAFETY: see above; the two are not one.
            let (x, y) = unsafe { (x.row(row), y.row_mut(row)) };
            y.iter_mut().zip(x).for_each(|(y, &x)| *y += x);
        }
    }
}

multiversion! {
    /// Adds the values of each channel to `sums`.
    fn column_sums(x: Raw<T>, rows: Range<usize>, sums: &mut [T]) {
        for row in rows {
            // SAFETY: see above.
            let x = unsafe { x.row(row) };
            sums.iter_mut().zip(x).for_each(|(sum, &x)| *sum += x);
        }
    }
}
