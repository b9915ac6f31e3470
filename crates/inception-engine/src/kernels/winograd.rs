//! Winograd convolution: `m x m` outputs of an `r x r` kernel from `(m + r - 1)^2` multiplications instead of
//! `m^2 r^2`.
//!
//! A tile of the input is transformed (`B^T d B`), multiplied position by position with transformed weights
//! (`G g G^T`), summed over input channels, and transformed back (`A^T m A`). The sums over channels are ordinary
//! matrix products, one for each position of the tile, done by the micro-kernel of `conv`. The transforms here are
//! vectorised over channels.
//!
//! The two axes are independent: each has its own [`Scheme`], and an axis along which the kernel is one wide uses
//! [`One`].
//!
//! Every scheme is the Cook-Toom construction on points that come in pairs: 0, `p` and `-p` for each `p` of
//! [`Scheme::PAIRS`], and infinity. With `Q(x)` the product of all `x^2 - p^2`, the rows of `B^T` are the
//! coefficients of `Q` for the point 0, of `x Q` for infinity, and of `x (x + p) Q / (x^2 - p^2)` for `p`. The two
//! members of a pair thus share their even and their odd half, which halves the work; and no rows need balancing,
//! since a factor that is a power of two does not change a rounding.
//!
//! With a stride of 2 the even taps of a kernel see only even inputs, and the odd ones only odd inputs, each with a stride of 1.
//! Of three taps two are even, an F(M, 2); the odd one is multiplied as it is.

use std::mem::MaybeUninit;

use super::element::Stored;
use super::isa::Simd;

/// The longest transform: F(4, 7) has ten points.
pub(crate) const MAX_POINTS: usize = 10;
const MAX_PAIRS: usize = MAX_POINTS / 2 - 1;

/// A one-dimensional algorithm F(M, R): `M` outputs of an `R`-tap filter from `POINTS = M + R - 1` multiplications.
///
/// Arrays are [`MAX_POINTS`] long so that one signature serves all schemes; entries past `POINTS` (or `M`) are not
/// read, and the compiler removes them.
pub(crate) trait Scheme {
    /// Outputs of a tile along this axis.
    const M: usize;
    /// Kernel taps along this axis.
    const R: usize;
    /// The finite points other than 0, one of each pair.
    const PAIRS: &'static [f64];
    /// Inputs from one output to the next, 1 or 2.
    const STRIDE: usize = 1;
    /// Multiplications at points.
    const CORE: usize = Self::M + Self::R.div_ceil(Self::STRIDE) - 1;
    /// Inputs of a tile, and multiplications.
    const POINTS: usize = (Self::M - 1) * Self::STRIDE + Self::R;
    /// What the transforms multiply by.
    const COEFFICIENTS: Coefficients = Coefficients::of(Self::PAIRS);
}

/// The identity, for an axis along which the kernel has one tap.
pub(crate) struct One;

impl Scheme for One {
    const M: usize = 1;
    const R: usize = 1;
    const PAIRS: &'static [f64] = &[];
}

macro_rules! schemes {
    ($($(#[$doc:meta])* $name:ident: F($m:literal, $r:literal) by $stride:literal on $pairs:expr;)*) => {$(
        $(#[$doc])*
        pub(crate) struct $name;

        impl Scheme for $name {
            const M: usize = $m;
            const R: usize = $r;
            const PAIRS: &'static [f64] = &$pairs;
            const STRIDE: usize = $stride;
        }

        // A scheme has the points 0, infinity, and pairs; with a stride of 2 also one odd tap, a multiplication an output.
        const _: () = assert!($name::PAIRS.len() * 2 + 2 == $name::CORE);
        const _: () = assert!($stride == 1 || $stride == 2 && $r == 3 && $name::CORE + $m == $name::POINTS);
    )*};
}

schemes! {
    /// 2 multiplications an output instead of 3.
    F23: F(2, 3) by 1 on [1.0];
    /// With a stride of 2: 2.33 multiplications an output instead of 3.
    F33By2: F(3, 3) by 2 on [1.0];
    /// 1.5 multiplications an output instead of 3.
    F43: F(4, 3) by 1 on [1.0, 2.0];
    /// 1.6 multiplications an output instead of 4.
    F54: F(5, 4) by 1 on [1.0, 2.0, 0.5];
    /// 2 multiplications an output instead of 5.
    F45: F(4, 5) by 1 on [1.0, 2.0, 0.5];
    /// 2.5 multiplications an output instead of 7. With 3/4 the error is half of that with the usual 4 and -1/4.
    F47: F(4, 7) by 1 on [1.0, 2.0, 0.5, 0.75];
}

/// The numbers of a scheme, computed by the compiler.
pub(crate) struct Coefficients {
    /// Coefficients of `Q` at the even powers.
    q: [f32; MAX_PAIRS + 1],
    /// For each pair the coefficients of `Q / (x^2 - p^2)` at the even powers,
    even: [[f32; MAX_PAIRS]; MAX_PAIRS],
    /// and `p` times them.
    odd: [[f32; MAX_PAIRS]; MAX_PAIRS],
    /// Powers of `p` for each pair.
    powers: [[f32; MAX_POINTS]; MAX_PAIRS],
}

/// Coefficients, in powers of `x^2`, of the product of `x^2 - p^2` over all pairs but number `skip`.
const fn product(pairs: &[f64], skip: usize) -> [f64; MAX_PAIRS + 1] {
    let mut q = [0.0; MAX_PAIRS + 1];
    q[0] = 1.0;
    let mut k = 0;
    while k < pairs.len() {
        if k != skip {
            let mut j = MAX_PAIRS;
            while j > 0 {
                q[j] = q[j - 1] - pairs[k] * pairs[k] * q[j];
                j -= 1;
            }
            q[0] *= -pairs[k] * pairs[k];
        }
        k += 1;
    }
    q
}

impl Coefficients {
    const fn of(pairs: &[f64]) -> Self {
        let mut c = Coefficients {
            q: [0.0; MAX_PAIRS + 1],
            even: [[0.0; MAX_PAIRS]; MAX_PAIRS],
            odd: [[0.0; MAX_PAIRS]; MAX_PAIRS],
            powers: [[0.0; MAX_POINTS]; MAX_PAIRS],
        };
        let q = product(pairs, usize::MAX);
        let mut j = 0;
        while j <= MAX_PAIRS {
            c.q[j] = q[j] as f32;
            j += 1;
        }
        let mut k = 0;
        while k < pairs.len() {
            let q = product(pairs, k);
            let mut j = 0;
            while j < MAX_PAIRS {
                c.even[k][j] = q[j] as f32;
                c.odd[k][j] = (q[j] * pairs[k]) as f32;
                j += 1;
            }
            let (mut i, mut power) = (0, 1.0);
            while i < MAX_POINTS {
                c.powers[k][i] = power as f32;
                power *= pairs[k];
                i += 1;
            }
            k += 1;
        }
        c
    }
}

/// `G` of the scheme with these pairs, `r` taps and a stride: one row for each point, in the order 0, p, -p, ..., infinity; with a
/// stride of 2, whose kernels have three taps, this for the even taps, then the odd one for each of the `m` outputs.
pub(crate) fn weight_transform(pairs: &[f64], r: usize, [stride, m]: [usize; 2]) -> Vec<Vec<f64>> {
    if stride == 2 {
        let even = weight_transform(pairs, r.div_ceil(2), [1, m]).into_iter().map(|g| vec![g[0], 0.0, g[1]]);
        return even.chain(std::iter::repeat_n(vec![0.0, 1.0, 0.0], m)).collect();
    }
    if r == 1 {
        return vec![vec![1.0]];
    }
    let row =
        |point: f64, factor: f64| (0..r).map(|tap| point.powi(tap as i32) / factor).collect::<Vec<f64>>();
    let mut g = vec![row(0.0, pairs.iter().map(|p| -p * p).product())];
    for p in pairs {
        // The product of the differences from all other points.
        let others: f64 = pairs.iter().filter(|q| *q != p).map(|q| p * p - q * q).product();
        g.extend([*p, -p].map(|point| row(point, 2.0 * p * p * others)));
    }
    g.push((0..r).map(|tap| f64::from(u8::from(tap == r - 1))).collect());
    g
}

/// `B^T d`
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

/// `A^T m`
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
            // Even powers of p and -p are equal, odd ones opposite.
            let halves = if i % 2 == 0 { &sum } else { &difference };
            // The point 0 has no part in any output but the first, infinity in none but the last.
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
pub(crate) struct TileIn {
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
    /// Where the tile's channels go for position 0.
    pub v: *mut f32,
    /// Floats from one position to the next.
    pub position: usize,
}

/// One output tile.
#[derive(Clone, Copy)]
pub(crate) struct TileOut {
    /// The tile's channels at position 0.
    pub m: *const f32,
    /// Floats from one position to the next.
    pub position: usize,
    /// Output channels.
    pub channels: usize,
    /// Added to each channel, padded to a whole vector.
    pub bias: *const f32,
    /// Lower bound of each channel, padded to a whole vector.
    pub floor: *const f32,
    /// The tile's first output pixel.
    pub out: *mut u8,
    /// Elements from one output pixel to the next, and from one output row to the next.
    pub ld: [usize; 2],
    /// Rows and columns of the tile that lie inside the output.
    pub valid: [usize; 2],
}

/// A tile between the transforms of its two axes: too large for the registers, so it lives on the stack. Not
/// initialised, since clearing it would take longer than a transform.
type Square<V> = [[MaybeUninit<V>; MAX_POINTS]; MAX_POINTS];

/// Transforms one input tile.
///
/// # Safety
/// `t` describes valid memory; see [`Simd`].
#[inline(always)]
pub(super) unsafe fn input<S: Simd, E: Stored<S>, Y: Scheme, X: Scheme>(t: &TileIn) {
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
    t: &TileIn,
    c: usize,
    n: usize,
) {
    // SAFETY: elements outside the input are replaced by zero; channels c..c + n exist at each pixel and position;
    // the second half reads exactly the elements of the square that the first wrote.
    unsafe {
        let mut square: Square<S::V> = [[const { MaybeUninit::uninit() }; MAX_POINTS]; MAX_POINTS];
        for (i, row) in square.iter_mut().enumerate().take(Y::POINTS) {
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
            for (e, row) in column.iter_mut().zip(&square).take(Y::POINTS) {
                *e = row[j].assume_init();
            }
            let column = transform_input::<S, Y>(column);
            for (i, e) in column.iter().enumerate().take(Y::POINTS) {
                let v = t.v.add((i * X::POINTS + j) * t.position + c);
                if FULL { S::store_n(v, *e, S::LANES) } else { S::store_n(v, *e, n) }
            }
        }
    }
}

/// Transforms one output tile back, adds the bias, applies the floor and stores what lies inside the output.
///
/// # Safety
/// `t` describes valid memory; see [`Simd`].
#[inline(always)]
pub(super) unsafe fn output<S: Simd, E: Stored<S>, Y: Scheme, X: Scheme>(t: &TileOut) {
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
    t: &TileOut,
    c: usize,
    n: usize,
) {
    // SAFETY: channels c..c + n exist at each position and output pixel; pixels outside the output are skipped; the
    // second half reads exactly the elements of the square that the first wrote.
    unsafe {
        let mut square: Square<S::V> = [[const { MaybeUninit::uninit() }; MAX_POINTS]; MAX_POINTS];
        for j in 0..X::POINTS {
            let mut column = [S::splat(0.0); MAX_POINTS];
            for (i, e) in column.iter_mut().enumerate().take(Y::POINTS) {
                let m = t.m.add((i * X::POINTS + j) * t.position + c);
                *e = if FULL { S::load(m) } else { S::load_n(m, n) };
            }
            let column = transform_output::<S, Y>(column);
            for (e, row) in column.iter().zip(&mut square).take(Y::M) {
                row[j].write(*e);
            }
        }
        let (bias, floor) = (S::load(t.bias.add(c)), S::load(t.floor.add(c)));
        for (i, row) in square.iter().enumerate().take(Y::M) {
            let mut m = [bias; MAX_POINTS];
            for (m, e) in m.iter_mut().zip(row).take(X::POINTS) {
                *m = e.assume_init();
            }
            let row = transform_output::<S, X>(m);
            for (j, e) in row.iter().enumerate().take(X::M) {
                let v = S::max(S::add(*e, bias), floor);
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
