//! Winograd convolution: `m x m` outputs of an `r x r` kernel from `(m + r - 1)^2` multiplications instead of
//! `m^2 r^2`.
//!
//! A tile of the input is transformed, `V = B^T d B`, multiplied position by position with transformed
//! weights, `U = G g G^T`, summed over input channels to `M`, and transformed back, `A^T M A`. The sums over
//! channels are ordinary matrix products, one for each position of the tile, done by the micro-kernel of
//! `conv`. The transforms here are vectorised over channels.
//!
//! The two axes are independent: each has its own [`Scheme`], and an axis along which the kernel is one wide
//! uses [`One`]. `cook_toom` derives the matrices; those of F(2, 3) and F(4, 3) are, in the order of points
//! of the code,
//!
//! ```text
//! F(2,3): points 0, 1, -1, infinity              F(4,3): points 0, 1, -1, 2, -2, infinity
//!
//!       | -1  0  1  0 |      | -1    0    0  |         |  4  0 -5  0  1  0 |      |  1/4    0     0  |
//!       |  0  1  1  0 |      | 1/2  1/2  1/2 |         |  0 -4 -4  1  1  0 |      | -1/6  -1/6  -1/6 |
//! B^T = |  0 -1  1  0 |  G = | 1/2 -1/2  1/2 |   B^T = |  0  4 -4 -1  1  0 |  G = | -1/6   1/6  -1/6 |
//!       |  0 -1  0  1 |      |  0    0    1  |         |  0 -2 -1  2  1  0 |      | 1/24  1/12   1/6 |
//!                                                      |  0  2 -1 -2  1  0 |      | 1/24 -1/12   1/6 |
//!                                                      |  0  4  0 -5  0  1 |      |   0     0     1  |
//!
//! A^T = |  1  1  1  0 |                          A^T = |  1  1  1  1  1  0 |
//!       |  0  1 -1  1 |                                |  0  1 -1  2 -2  0 |
//!                                                      |  0  1  1  4  4  0 |
//!                                                      |  0  1 -1  8 -8  1 |
//! ```

use std::mem::MaybeUninit;

use super::cook_toom::{
    F23, F33By2, F43, F45, F47, F54, MAX_PAIRS, MAX_POINTS, One, Scheme, weight_transform,
};
use super::simd::{Simd, Stored};

/// `B^T d` along one axis. For each pair `k` of points, the two halves of the rows of `p` and `-p` are
///
/// ```text
/// even = d[2] even[k][0] + d[4] even[k][1] + ...      o[p]  = even + odd
/// odd  = d[1] odd[k][0]  + d[3] odd[k][1]  + ...      o[-p] = even - odd
/// ```
///
/// # Safety
/// See [`Simd`].
#[inline(always)]
unsafe fn transform_input<S: Simd, T: Scheme>(d: [S::V; MAX_POINTS]) -> [S::V; MAX_POINTS] {
    if T::POINTS == 1 {
        return d;
    }
    let pairs = T::PAIRS.len();
    let c = const { &T::COEFFICIENTS };
    let (mut o, mut d) = (d, d);
    if T::STRIDE == 2 {
        for i in 0..T::M {
            o[T::CORE + i] = d[2 * i + 1];
        }
        for i in 0..T::CORE {
            d[i] = d[2 * i];
        }
    }
    // SAFETY: register arithmetic; see `Simd`.
    unsafe {
        // The leading coefficient of each polynomial is one.
        let (mut zero, mut infinity) = (d[2 * pairs], d[2 * pairs + 1]);
        for j in 0..pairs {
            zero = S::fma(S::splat(c.q[j]), d[2 * j], zero);
            infinity = S::fma(S::splat(c.q[j]), d[2 * j + 1], infinity);
        }
        o[0] = zero;
        o[2 * pairs + 1] = infinity;
        for k in 0..pairs {
            let mut even = d[2 * pairs];
            let mut odd = S::mul(S::splat(c.powers[k][1]), d[2 * pairs - 1]);
            for j in 0..pairs - 1 {
                even = S::fma(S::splat(c.even[k][j]), d[2 * j + 2], even);
                odd = S::fma(S::splat(c.odd[k][j]), d[2 * j + 1], odd);
            }
            o[2 * k + 1] = S::add(even, odd);
            o[2 * k + 2] = S::sub(even, odd);
        }
    }
    o
}

/// `A^T m` along one axis. Even powers of `p` and `-p` are equal and odd ones opposite, so that
///
/// ```text
/// o[i] = sum over pairs k of powers[k][i] (m[p] + m[-p]), i even
/// o[i] = sum over pairs k of powers[k][i] (m[p] - m[-p]), i odd
/// ```
///
/// plus `m[0]` (the point 0) for the first output and `m[infinity]` for the last.
///
/// # Safety
/// See [`Simd`].
#[allow(clippy::needless_range_loop)] // An iterator that skips is not unrolled: a third of the whole step's time.
#[inline(always)]
unsafe fn transform_output<S: Simd, T: Scheme>(m: [S::V; MAX_POINTS]) -> [S::V; MAX_POINTS] {
    if T::POINTS == 1 {
        return m;
    }
    let pairs = T::PAIRS.len();
    let c = const { &T::COEFFICIENTS };
    let mut o = m;
    // SAFETY: register arithmetic; see `Simd`.
    unsafe {
        let (mut sum, mut difference) = ([m[0]; MAX_PAIRS], [m[0]; MAX_PAIRS]);
        for k in 0..pairs {
            sum[k] = S::add(m[2 * k + 1], m[2 * k + 2]);
            difference[k] = S::sub(m[2 * k + 1], m[2 * k + 2]);
        }
        for i in 0..T::M {
            let halves = if i % 2 == 0 { &sum } else { &difference };
            let mut acc = S::mul(S::splat(c.powers[0][i]), halves[0]);
            for k in 1..pairs {
                acc = S::fma(S::splat(c.powers[k][i]), halves[k], acc);
            }
            if i == 0 {
                acc = S::add(acc, m[0]);
            }
            if i == T::M - 1 {
                acc = S::add(acc, m[2 * pairs + 1]);
            }
            if T::STRIDE == 2 {
                acc = S::add(acc, m[T::CORE + i]);
            }
            o[i] = acc;
        }
    }
    o
}

/// One input tile.
#[derive(Clone, Copy)]
pub(crate) struct InputTile {
    /// First pixel of the tile's image.
    pub image: *const u8,
    /// Input height and width.
    pub input: [usize; 2],
    /// Elements from one pixel to the next.
    pub ld: usize,
    /// Input row and column of the tile's first element; negative inside the padding.
    pub origin: [isize; 2],
    /// Input channels.
    pub channels: usize,
    /// What stands for zero in bytes.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "AVX2 alone reads it"))]
    pub zero: u8,
    /// Where the tile's channels at position 0 go: `V`.
    pub v: *mut f32,
    /// Floats from one position to the next.
    pub ld_position: usize,
}

/// One output tile.
#[derive(Clone, Copy)]
pub(crate) struct OutputTile {
    /// The tile's channels at position 0: `M`.
    pub m: *const f32,
    /// Floats from one position to the next.
    pub ld_position: usize,
    /// Output channels.
    pub channels: usize,
    /// Factor of each channel's sum of integers, padded to a whole vector; null where sums are floats.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "AVX2 alone reads it"))]
    pub scale: *const f32,
    /// Added to each channel, padded to a whole vector.
    pub bias: *const f32,
    /// Lower bound of each channel, padded to a whole vector.
    pub min: *const f32,
    /// The tile's first output pixel.
    pub out: *mut u8,
    /// Elements from one output pixel to the next, and from one output row to the next.
    pub ld: [usize; 2],
    /// Rows and columns of the tile that lie inside the output.
    pub valid: [usize; 2],
}

/// A tile between the transforms of its two axes. It is too large for the registers and lives on the stack,
/// not initialised, since clearing it would take longer than a transform.
type HalfTransformed<V> = [[MaybeUninit<V>; MAX_POINTS]; MAX_POINTS];

/// See [`input`].
///
/// # Safety
/// As [`input`].
#[inline(always)]
unsafe fn input_tile<S: Simd, E: Stored<S>, Y: Scheme, X: Scheme>(t: &InputTile) {
    let [y0, x0] = t.origin;
    let inside =
        y0 >= 0 && x0 >= 0 && y0 as usize + Y::POINTS <= t.input[0] && x0 as usize + X::POINTS <= t.input[1];
    let mut c = 0;
    while c < t.channels {
        let n = (t.channels - c).min(S::LANES);
        // SAFETY: the caller's promise; a tile that is not inside is clipped.
        unsafe {
            if inside && n == S::LANES {
                input_channels::<S, E, Y, X, true>(t, c, n);
            } else {
                input_channels::<S, E, Y, X, false>(t, c, n);
            }
        }
        c += S::LANES;
    }
}

/// Transforms channels `c..c + n` of a tile; a whole vector of a tile inside the input if `FULL`.
///
/// # Safety
/// As [`input`].
#[inline(always)]
unsafe fn input_channels<S: Simd, E: Stored<S>, Y: Scheme, X: Scheme, const FULL: bool>(
    t: &InputTile,
    c: usize,
    n: usize,
) {
    // SAFETY: elements outside the input are replaced by zero; channels c..c + n exist at each pixel and
    // position; the second half reads exactly the elements of `half` that the first wrote.
    unsafe {
        let mut half: HalfTransformed<S::V> = [[const { MaybeUninit::uninit() }; MAX_POINTS]; MAX_POINTS];
        for (i, row) in half.iter_mut().enumerate().take(Y::POINTS) {
            let mut d = [S::splat(0.0); MAX_POINTS];
            // A negative coordinate wraps to a huge one.
            let y = (t.origin[0] + i as isize) as usize;
            for (j, d) in d.iter_mut().enumerate().take(X::POINTS) {
                let x = (t.origin[1] + j as isize) as usize;
                if FULL {
                    *d = E::load_n(t.image.cast::<E>().add((y * t.input[1] + x) * t.ld + c), S::LANES);
                } else if y < t.input[0] && x < t.input[1] {
                    *d = E::load_n(t.image.cast::<E>().add((y * t.input[1] + x) * t.ld + c), n);
                }
            }
            let d = transform_input::<S, X>(d);
            for (d, e) in d.iter().zip(row).take(X::POINTS) {
                e.write(*d);
            }
        }
        for j in 0..X::POINTS {
            let mut column = [S::splat(0.0); MAX_POINTS];
            for (e, row) in column.iter_mut().zip(&half).take(Y::POINTS) {
                *e = row[j].assume_init();
            }
            let column = transform_input::<S, Y>(column);
            for (i, e) in column.iter().enumerate().take(Y::POINTS) {
                let v = t.v.add((i * X::POINTS + j) * t.ld_position + c);
                if FULL { S::store_n(v, *e, S::LANES) } else { S::store_n(v, *e, n) }
            }
        }
    }
}

/// See [`output`].
///
/// # Safety
/// As [`output`].
#[inline(always)]
unsafe fn output_tile<S: Simd, E: Stored<S>, Y: Scheme, X: Scheme>(t: &OutputTile) {
    let inside = t.valid[0] >= Y::M && t.valid[1] >= X::M;
    let mut c = 0;
    while c < t.channels {
        let n = (t.channels - c).min(S::LANES);
        // SAFETY: the caller's promise; a tile that is not inside is clipped.
        unsafe {
            if inside && n == S::LANES {
                output_channels::<S, E, Y, X, true>(t, c, n);
            } else {
                output_channels::<S, E, Y, X, false>(t, c, n);
            }
        }
        c += S::LANES;
    }
}

/// Transforms channels `c..c + n` of a tile back; a whole vector of a tile inside the output if `FULL`.
///
/// # Safety
/// As [`output`].
#[inline(always)]
unsafe fn output_channels<S: Simd, E: Stored<S>, Y: Scheme, X: Scheme, const FULL: bool>(
    t: &OutputTile,
    c: usize,
    n: usize,
) {
    // SAFETY: channels c..c + n exist at each position and output pixel; pixels outside the output are
    // skipped; the second half reads exactly the elements of `half` that the first wrote.
    unsafe {
        let mut half: HalfTransformed<S::V> = [[const { MaybeUninit::uninit() }; MAX_POINTS]; MAX_POINTS];
        for j in 0..X::POINTS {
            let mut column = [S::splat(0.0); MAX_POINTS];
            for (i, e) in column.iter_mut().enumerate().take(Y::POINTS) {
                let m = t.m.add((i * X::POINTS + j) * t.ld_position + c);
                *e = if FULL { S::load(m) } else { S::load_n(m, n) };
            }
            let column = transform_output::<S, Y>(column);
            for (e, row) in column.iter().zip(&mut half).take(Y::M) {
                row[j].write(*e);
            }
        }
        let (bias, min) = (S::load(t.bias.add(c)), S::load(t.min.add(c)));
        for (i, row) in half.iter().enumerate().take(Y::M) {
            let mut m = [bias; MAX_POINTS];
            for (m, e) in m.iter_mut().zip(row).take(X::POINTS) {
                *m = e.assume_init();
            }
            let row = transform_output::<S, X>(m);
            for (j, e) in row.iter().enumerate().take(X::M) {
                let v = S::max(S::add(*e, bias), min);
                let out = t.out.cast::<E>().wrapping_add(i * t.ld[1] + j * t.ld[0] + c);
                if FULL {
                    E::store_n(out, v, S::LANES);
                } else if i < t.valid[0] && j < t.valid[1] {
                    E::store_n(out, v, n);
                }
            }
        }
    }
}

/// Declares the Winograd transforms: the enum that names them, their table, and the dispatch.
macro_rules! transforms {
    (
        floats { $($(#[$doc:meta])* $variant:ident: $y:ident, $x:ident, $name:literal, $time_scale:literal;)* }
        integers { $($(#[$integer_doc:meta])* $integer:ident: $spec:expr;)* }
    ) => {
        /// A pair of one-dimensional Winograd schemes, vertical and horizontal.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Transform {
            $($(#[$doc])* $variant,)*
            $($(#[$integer_doc])* $integer,)*
        }

        /// Every transform that the kernels have.
        pub(crate) const TRANSFORMS: &[TransformSpec] =
            &[$(spec::<$y, $x>(Transform::$variant, $name, $time_scale),)* $($spec,)*];

        /// Transforms one input tile.
        ///
        /// # Safety
        /// `t` describes valid memory; see [`Simd`].
        #[inline(always)]
        pub(super) unsafe fn input<S: Simd, E: Stored<S>>(transform: Transform, t: &InputTile) {
            match transform {
                // SAFETY: the caller's promise, unchanged.
                $(Transform::$variant => unsafe { input_tile::<S, E, $y, $x>(t) },)*
                $(Transform::$integer => unreachable!("no floats"),)*
            }
        }

        /// Transforms one output tile back, adds the bias, applies the lower bound and stores what lies
        /// inside the output.
        ///
        /// # Safety
        /// `t` describes valid memory; see [`Simd`].
        #[inline(always)]
        pub(super) unsafe fn output<S: Simd, E: Stored<S>>(transform: Transform, t: &OutputTile) {
            match transform {
                // SAFETY: the caller's promise, unchanged.
                $(Transform::$variant => unsafe { output_tile::<S, E, $y, $x>(t) },)*
                $(Transform::$integer => unreachable!("no floats"),)*
            }
        }
    };
}

transforms! {
    floats {
        /// Kernels of 3x3.
        F43xF43: F43, F43, "winograd F(4x4,3x3)", 1.0;
        /// Kernels of 3x3 on small maps: fewer weights.
        F23xF23: F23, F23, "winograd F(2x2,3x3)", 1.0;
        /// Kernels of 3x3 with a stride of 2.
        F33By2xF33By2: F33By2, F33By2, "winograd F(3x3,3x3) by 2", 1.1;
        /// Kernels of 4x4: 7x7 with a stride of 2 after space-to-depth.
        F54xF54: F54, F54, "winograd F(5x5,4x4)", 1.0;
        /// Kernels of 5x5.
        F45xF45: F45, F45, "winograd F(4x4,5x5)", 1.1;
        /// Kernels of 1x3.
        OnexF43: One, F43, "winograd F(4,3) along rows", 1.0;
        /// Kernels of 3x1.
        F43xOne: F43, One, "winograd F(4,3) along columns", 1.0;
        /// Kernels of 1x7.
        OnexF47: One, F47, "winograd F(4,7) along rows", 0.9;
        /// Kernels of 7x1.
        F47xOne: F47, One, "winograd F(4,7) along columns", 0.9;
    }
    integers {
        /// Kernels of 3x3, of bytes alone.
        F33xF33: TransformSpec {
            transform: Transform::F33xF33,
            name: "winograd F(3x3,3x3)",
            time_scale: 1.0,
            outputs: [3; 2],
            kernel: [3; 2],
            stride: [1; 2],
            points: [5; 2],
            pairs: [&[]; 2],
            floats: false,
        };
    }
}

/// A transform as the planner sees it.
#[derive(Clone, Copy)]
pub(crate) struct TransformSpec {
    /// Which one.
    pub transform: Transform,
    /// Name for `explain`.
    pub name: &'static str,
    /// Measured time over the time that the cost model expects, as `cargo xtask explain --measure`
    /// finds.
    pub time_scale: f64,
    /// Outputs of a tile.
    pub outputs: [usize; 2],
    /// Kernel size.
    pub kernel: [usize; 2],
    /// Inputs from one output to the next.
    pub stride: [usize; 2],
    /// Multiplications along each axis.
    pub points: [usize; 2],
    /// Whether there are kernels of floats.
    pub floats: bool,
    /// The pairs of points of each axis.
    pairs: [&'static [f64]; 2],
}

impl TransformSpec {
    /// `G` of an axis, `[points][kernel]`.
    pub fn weight_transform(&self, axis: usize) -> Vec<Vec<f64>> {
        weight_transform(self.pairs[axis], self.kernel[axis], [self.stride[axis], self.outputs[axis]])
    }
}

const fn spec<Y: Scheme, X: Scheme>(
    transform: Transform,
    name: &'static str,
    time_scale: f64,
) -> TransformSpec {
    TransformSpec {
        transform,
        name,
        time_scale,
        outputs: [Y::M, X::M],
        kernel: [Y::R, X::R],
        stride: [Y::STRIDE, X::STRIDE],
        points: [Y::POINTS, X::POINTS],
        floats: true,
        pairs: [Y::PAIRS, X::PAIRS],
    }
}
