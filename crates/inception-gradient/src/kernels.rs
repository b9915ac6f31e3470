//! The two loops that nearly all of the time goes into.
//!
//! Both hold a tile of sums in registers and read activations where they lie, pixels by channels. Nothing but
//! weights is packed.

#![allow(clippy::needless_range_loop)] // By numbers, what is unrolled is plain to the compiler.

use crate::simd::{Plain, Vector};

/// Vectors of columns in a tile.
const VECTORS: usize = 2;

/// A tile of a convolution: a row is a pixel of the output, a column is a channel.
///
/// Row `r` is the sum over runs of `len` products of what is at `sources[run * tile + r]` and of rows of
/// weights, each [`Kernels::columns`] long, from `weights[run]` on.
pub(crate) struct RowsArgs<T> {
    pub sources: *const *const T,
    pub weights: *const *const T,
    pub runs: usize,
    pub len: usize,
    /// One for each column, or null.
    pub bias: *const T,
    /// Whether the sums are added to what is there.
    pub accumulate: bool,
    /// Where each row goes.
    pub targets: *const *mut T,
    /// Rows and columns that are stored.
    pub rows: usize,
    pub columns: usize,
}

/// A tile of the gradient of weights: a row is a channel of the input, a column one of the output.
///
/// The sum over images and over `pairs`, pixels, of products of the channels from `x` and of those from `y`
/// on; a pair is two distances in floats.
pub(crate) struct WeightGradientArgs<T> {
    pub x: *const T,
    pub y: *const T,
    pub pairs: *const (u32, u32),
    pub count: usize,
    pub images: usize,
    /// Floats from image to image.
    pub x_image: usize,
    pub y_image: usize,
    pub target: *mut T,
    /// Floats from row to row of the target.
    pub stride: usize,
    pub accumulate: bool,
    pub columns: usize,
}

/// Computes a tile of a convolution.
type Rows<T> = unsafe fn(&RowsArgs<T>);
/// Computes a tile of the gradient of weights.
type WeightGradient<T> = unsafe fn(&WeightGradientArgs<T>);

/// The kernels of an instruction set.
pub(crate) struct Kernels<T: 'static> {
    /// Floats of a vector. Those of a tile's columns are two vectors.
    pub lanes: usize,
    /// Rows of a tile of a convolution, and the most of one of a gradient.
    pub tile: usize,
    /// By the number of vectors of columns, less one.
    rows: [Rows<T>; VECTORS],
    /// By the number of rows, and by the number of vectors of columns, each less one.
    weight_gradients: &'static [[WeightGradient<T>; VECTORS]],
}

impl<T> Kernels<T> {
    /// The most columns of a tile, and floats in a packed row of weights.
    pub fn columns(&self) -> usize {
        VECTORS * self.lanes
    }

    /// Computes a tile of a convolution.
    ///
    /// # Safety
    ///
    /// The CPU has the instruction set. There are `tile` sources for each run, of `len` readable floats each;
    /// `len` rows of weights for each run; `rows` targets of `columns` writable floats, to which nobody else
    /// has access. `columns` is at most [`columns`](Self::columns), and as many biases are readable.
    pub unsafe fn rows(&self, args: &RowsArgs<T>) {
        // SAFETY: the caller's promise.
        unsafe { self.rows[usize::from(args.columns > self.lanes)](args) }
    }

    /// Computes a tile of a gradient of `rows` rows.
    ///
    /// # Safety
    ///
    /// The CPU has the instruction set. From each pair's places `rows` floats of `x` and
    /// [`columns`](Self::columns) of `y` are readable, for each image; `rows` rows of `columns` floats of the
    /// target are writable, and nobody else has access to them.
    pub unsafe fn weight_gradient(&self, rows: usize, args: &WeightGradientArgs<T>) {
        // SAFETY: the caller's promise.
        unsafe { self.weight_gradients[rows - 1][usize::from(args.columns > self.lanes)](args) }
    }
}

/// Stores, or adds, the first `columns` floats of `sums` at `target`.
#[inline(always)]
unsafe fn store<V: Vector, const NV: usize>(
    sums: [V; NV],
    target: *mut V::T,
    columns: usize,
    accumulate: bool,
) {
    // SAFETY: `columns` floats are writable at `target`, and `spare` has as many as all vectors.
    unsafe {
        if columns == NV * V::LANES {
            for v in 0..NV {
                let place = target.add(v * V::LANES);
                let sum = if accumulate { sums[v].add(V::load(place)) } else { sums[v] };
                sum.store(place);
            }
            return;
        }
        let mut spare = [V::splat(V::T::default()); NV];
        let floats = spare.as_mut_ptr().cast::<V::T>();
        if accumulate {
            std::ptr::copy_nonoverlapping(target, floats, columns);
        }
        for v in 0..NV {
            spare[v] = if accumulate { spare[v].add(sums[v]) } else { sums[v] };
        }
        std::ptr::copy_nonoverlapping(spare.as_ptr().cast::<V::T>(), target, columns);
    }
}

#[inline(always)]
unsafe fn rows<V: Vector, const MR: usize, const NV: usize>(args: &RowsArgs<V::T>) {
    // SAFETY: `Kernels::rows` says what is readable.
    unsafe {
        // All numbers of sums are known where they are used: the compiler would otherwise store each of them
        // each time. So what comes after the loops has a copy.
        let mut sums = [[V::splat(V::T::default()); NV]; MR];
        for run in 0..args.runs {
            let sources: [*const V::T; MR] = std::array::from_fn(|r| *args.sources.add(run * MR + r));
            let mut weights = *args.weights.add(run);
            for k in 0..args.len {
                let row: [V; NV] = std::array::from_fn(|v| V::load(weights.add(v * V::LANES)));
                for r in 0..MR {
                    let x = V::splat(*sources[r].add(k));
                    for v in 0..NV {
                        sums[r][v] = x.fma(row[v], sums[r][v]);
                    }
                }
                weights = weights.add(VECTORS * V::LANES);
            }
        }
        let mut bias = [V::splat(V::T::default()); NV];
        if !args.bias.is_null() {
            let floats = bias.as_mut_ptr().cast::<V::T>();
            std::ptr::copy_nonoverlapping(args.bias, floats, args.columns);
        }
        let done = sums;
        for r in 0..MR.min(args.rows) {
            let mut sums = done[r];
            for v in 0..NV {
                sums[v] = sums[v].add(bias[v]);
            }
            store::<V, NV>(sums, *args.targets.add(r), args.columns, args.accumulate);
        }
    }
}

#[inline(always)]
unsafe fn weight_gradient<V: Vector, const MR: usize, const NV: usize>(args: &WeightGradientArgs<V::T>) {
    // SAFETY: `Kernels::weight_gradient` says what is readable.
    unsafe {
        let mut sums = [[V::splat(V::T::default()); NV]; MR];
        for image in 0..args.images {
            let (x, y) = (args.x.add(image * args.x_image), args.y.add(image * args.y_image));
            for pair in 0..args.count {
                let (at_x, at_y) = *args.pairs.add(pair);
                let (x, y) = (x.add(at_x as usize), y.add(at_y as usize));
                let row: [V; NV] = std::array::from_fn(|v| V::load(y.add(v * V::LANES)));
                for r in 0..MR {
                    let x = V::splat(*x.add(r));
                    for v in 0..NV {
                        sums[r][v] = x.fma(row[v], sums[r][v]);
                    }
                }
            }
        }
        let done = sums;
        for (r, &sums) in done.iter().enumerate() {
            store::<V, NV>(sums, args.target.add(r * args.stride), args.columns, args.accumulate);
        }
    }
}

macro_rules! kernels {
    ($name:ident: $vector:ty, $t:ty, tile $tile:literal, rows [$($rows:literal)*], $(#[$feature:meta])*) => {
        pub(crate) mod $name {
            use super::*;

            $(#[$feature])*
            unsafe fn tile<const NV: usize>(args: &RowsArgs<$t>) {
                // SAFETY: the caller's promise.
                unsafe { rows::<$vector, $tile, NV>(args) }
            }

            $(#[$feature])*
            unsafe fn gradient<const MR: usize, const NV: usize>(args: &WeightGradientArgs<$t>) {
                // SAFETY: the caller's promise.
                unsafe { weight_gradient::<$vector, MR, NV>(args) }
            }

            pub static KERNELS: Kernels<$t> = Kernels {
                lanes: <$vector as Vector>::LANES,
                tile: $tile,
                rows: [tile::<1>, tile::<2>],
                weight_gradients: &[$([gradient::<$rows, 1>, gradient::<$rows, 2>]),*],
            };
        }
    };
}

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m256, __m256d, __m512, __m512d};

// 32 registers: 28 sums, 2 vectors of weights, a float of the input.
#[cfg(target_arch = "x86_64")]
kernels!(avx512_f32: __m512, f32, tile 14, rows [1 2 3 4 5 6 7 8 9 10 11 12 13 14],
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]);
#[cfg(target_arch = "x86_64")]
kernels!(avx512_f64: __m512d, f64, tile 14, rows [1 2 3 4 5 6 7 8 9 10 11 12 13 14],
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]);
// 16 registers: 12 sums, 2 vectors of weights, a float of the input.
#[cfg(target_arch = "x86_64")]
kernels!(avx2_f32: __m256, f32, tile 6, rows [1 2 3 4 5 6], #[target_feature(enable = "avx2,fma")]);
#[cfg(target_arch = "x86_64")]
kernels!(avx2_f64: __m256d, f64, tile 6, rows [1 2 3 4 5 6], #[target_feature(enable = "avx2,fma")]);
kernels!(plain_f32: Plain<f32>, f32, tile 4, rows [1 2 3 4],);
kernels!(plain_f64: Plain<f64>, f64, tile 4, rows [1 2 3 4],);
