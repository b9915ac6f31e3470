//! Winograd convolution: `m x m` outputs of an `r x r` kernel from `(m + r - 1)^2` multiplications instead of `m^2 r^2`.
//!
//! A tile of the input is transformed (`B^T d B`), multiplied position by position with transformed weights (`G g G^T`),
//! summed over input channels, and transformed back (`A^T m A`). The sums over channels are ordinary matrix products, one
//! for each position of the tile, done by the micro-kernel of `conv`. The transforms here are vectorised over channels.
//!
//! The two axes are independent: each has its own [`Scheme`], and an axis along which the kernel is one wide uses [`One`].

use super::isa::Simd;

/// The longest transform: F(4, 7) has ten points.
pub(crate) const MAX_POINTS: usize = 10;

/// A one-dimensional algorithm F(M, R): `M` outputs of an `R`-tap filter from `POINTS = M + R - 1` multiplications.
///
/// Arrays are [`MAX_POINTS`] long so that one signature serves all schemes; entries past `POINTS` (or `M`) are not read,
/// and the compiler removes them.
pub(crate) trait Scheme {
    /// Outputs of a tile along this axis.
    const M: usize;
    /// Kernel taps along this axis.
    const R: usize;
    /// Inputs of a tile, and multiplications.
    const POINTS: usize = Self::M + Self::R - 1;
    /// `G`, `[POINTS][R]`, applied to the weights once, in f64.
    const G: &'static [&'static [f64]];

    /// `B^T d`
    ///
    /// # Safety
    /// See [`Simd`].
    unsafe fn input<S: Simd>(d: [S::V; MAX_POINTS]) -> [S::V; MAX_POINTS];

    /// `A^T m`
    ///
    /// # Safety
    /// See [`Simd`].
    unsafe fn output<S: Simd>(m: [S::V; MAX_POINTS]) -> [S::V; MAX_POINTS];
}

/// The identity, for an axis along which the kernel has one tap.
pub(crate) struct One;

impl Scheme for One {
    const M: usize = 1;
    const R: usize = 1;
    const G: &'static [&'static [f64]] = &[&[1.0]];

    #[inline(always)]
    unsafe fn input<S: Simd>(d: [S::V; MAX_POINTS]) -> [S::V; MAX_POINTS] {
        d
    }
    #[inline(always)]
    unsafe fn output<S: Simd>(m: [S::V; MAX_POINTS]) -> [S::V; MAX_POINTS] {
        m
    }
}

/// `B^T` for the points 0, 1, -1, 2, -2 and infinity: it depends on the points only, so F(4, 3) and F(2, 5) share it.
#[inline(always)]
unsafe fn six_points<S: Simd>(d: [S::V; MAX_POINTS]) -> [S::V; MAX_POINTS] {
    // SAFETY: register arithmetic; see `Simd`.
    unsafe {
        let (two, four, five) = (S::splat(2.0), S::splat(4.0), S::splat(-5.0));
        let minus_four = S::splat(-4.0);
        // Points p and -p share an even and an odd half.
        let even1 = S::fma(minus_four, d[2], d[4]);
        let odd1 = S::fma(minus_four, d[1], d[3]);
        let even2 = S::sub(d[4], d[2]);
        let odd2 = S::mul(two, S::sub(d[3], d[1]));
        let mut o = d;
        o[0] = S::fma(four, d[0], S::fma(five, d[2], d[4]));
        o[1] = S::add(even1, odd1);
        o[2] = S::sub(even1, odd1);
        o[3] = S::add(even2, odd2);
        o[4] = S::sub(even2, odd2);
        o[5] = S::fma(four, d[1], S::fma(five, d[3], d[5]));
        o
    }
}

/// F(4, 3): 1.5 multiplications an output instead of 3.
pub(crate) struct F43;

impl Scheme for F43 {
    const M: usize = 4;
    const R: usize = 3;
    const G: &'static [&'static [f64]] = &[
        &[1.0 / 4.0, 0.0, 0.0],
        &[-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
        &[-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
        &[1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
        &[1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
        &[0.0, 0.0, 1.0],
    ];

    #[inline(always)]
    unsafe fn input<S: Simd>(d: [S::V; MAX_POINTS]) -> [S::V; MAX_POINTS] {
        // SAFETY: as the caller's.
        unsafe { six_points::<S>(d) }
    }

    #[inline(always)]
    unsafe fn output<S: Simd>(m: [S::V; MAX_POINTS]) -> [S::V; MAX_POINTS] {
        // SAFETY: register arithmetic; see `Simd`.
        unsafe {
            let (sum1, dif1) = (S::add(m[1], m[2]), S::sub(m[1], m[2]));
            let (sum2, dif2) = (S::add(m[3], m[4]), S::sub(m[3], m[4]));
            let mut o = m;
            o[0] = S::add(m[0], S::add(sum1, sum2));
            o[1] = S::fma(S::splat(2.0), dif2, dif1);
            o[2] = S::fma(S::splat(4.0), sum2, sum1);
            o[3] = S::add(S::fma(S::splat(8.0), dif2, dif1), m[5]);
            o
        }
    }
}

/// One input tile.
#[derive(Clone, Copy)]
pub(crate) struct TileIn {
    /// First pixel of the tile's image.
    pub image: *const f32,
    /// Input height and width.
    pub input: [usize; 2],
    /// Floats from one pixel to the next.
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
    pub out: *mut f32,
    /// Floats from one output pixel to the next, and from one output row to the next.
    pub ld: [usize; 2],
    /// Rows and columns of the tile that lie inside the output.
    pub valid: [usize; 2],
}

/// Transforms one input tile.
///
/// # Safety
/// `t` describes valid memory; see [`Simd`].
#[inline(always)]
pub(super) unsafe fn input<S: Simd, Y: Scheme, X: Scheme>(t: &TileIn) {
    let [y0, x0] = t.origin;
    let inside =
        y0 >= 0 && x0 >= 0 && y0 as usize + Y::POINTS <= t.input[0] && x0 as usize + X::POINTS <= t.input[1];
    let mut c = 0;
    while c < t.channels {
        let n = (t.channels - c).min(S::LANES);
        // SAFETY: elements outside the input are replaced by zero; channels c..c + n exist at each pixel and position.
        unsafe {
            let zero = S::splat(0.0);
            let mut d = [[zero; MAX_POINTS]; MAX_POINTS];
            for (i, d) in d.iter_mut().enumerate().take(Y::POINTS) {
                for (j, d) in d.iter_mut().enumerate().take(X::POINTS) {
                    let (y, x) = ((y0 + i as isize) as usize, (x0 + j as isize) as usize);
                    // A negative coordinate wraps to a huge one.
                    if inside || (y < t.input[0] && x < t.input[1]) {
                        *d = S::load_n(t.image.add((y * t.input[1] + x) * t.ld + c), n);
                    }
                }
                *d = X::input::<S>(*d);
            }
            for j in 0..X::POINTS {
                let mut column = [zero; MAX_POINTS];
                for (e, row) in column.iter_mut().zip(&d).take(Y::POINTS) {
                    *e = row[j];
                }
                let column = Y::input::<S>(column);
                for (i, e) in column.iter().enumerate().take(Y::POINTS) {
                    S::store_n(t.v.add((i * X::POINTS + j) * t.position + c), *e, n);
                }
            }
        }
        c += S::LANES;
    }
}

/// Transforms one output tile back, adds the bias, applies the floor and stores what lies inside the output.
///
/// # Safety
/// `t` describes valid memory; see [`Simd`].
#[inline(always)]
pub(super) unsafe fn output<S: Simd, Y: Scheme, X: Scheme>(t: &TileOut) {
    let mut c = 0;
    while c < t.channels {
        let n = (t.channels - c).min(S::LANES);
        // SAFETY: channels c..c + n exist at each position and output pixel; pixels outside the output are skipped.
        unsafe {
            let zero = S::splat(0.0);
            let mut s = [[zero; MAX_POINTS]; MAX_POINTS];
            for j in 0..X::POINTS {
                let mut column = [zero; MAX_POINTS];
                for (i, e) in column.iter_mut().enumerate().take(Y::POINTS) {
                    *e = S::load_n(t.m.add((i * X::POINTS + j) * t.position + c), n);
                }
                let column = Y::output::<S>(column);
                for (e, row) in column.iter().zip(&mut s).take(Y::M) {
                    row[j] = *e;
                }
            }
            let (bias, floor) = (S::load(t.bias.add(c)), S::load(t.floor.add(c)));
            for (i, row) in s.iter().enumerate().take(Y::M) {
                let row = X::output::<S>(*row);
                for (j, e) in row.iter().enumerate().take(X::M) {
                    if i < t.valid[0] && j < t.valid[1] {
                        let v = S::max(S::add(*e, bias), floor);
                        S::store_n(t.out.add(i * t.ld[1] + j * t.ld[0] + c), v, n);
                    }
                }
            }
        }
        c += S::LANES;
    }
}
