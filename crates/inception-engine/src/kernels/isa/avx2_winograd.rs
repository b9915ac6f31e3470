//! Winograd's F(3x3,3x3) and F(2x2,3x3) on bytes, in integers: results are those of the direct algorithm to
//! the bit.
//!
//! Without dot products of bytes a CPU multiplies nearly as many words as bytes in a cycle (`vpmaddwd` makes
//! 16 products, `vpmaddubsw` 32 whose sums another `vpmaddwd` has to add), so that fewer multiplications, 25
//! of 81 or 16 of 36, are less time. Transformed bytes fit words. So do weights by a multiple of `G` that has
//! no fractions: the sums are a multiple of what they should be, and the last step divides them exactly. All
//! sums are in 32 bits, where intermediate ones may wrap around: only the last ones have to fit
//! ([`IntegerWinograd::most_channels`]).
//!
//! ```text
//! F(2,3): points 0, 1, -1, infinity              F(3,3): points 0, 1, -1, 2, infinity
//!
//!       | -1  0  1  0 |      | -2  0  0 |              |  2 -1 -2  1  0 |      |  3  0  0 |
//! B^T = |  0  1  1  0 | 2G = |  1  1  1 |              |  0 -2 -1  1  0 |      | -3 -3 -3 |
//!       |  0 -1  1  0 |      |  1 -1  1 |        B^T = |  0  2 -3  1  0 | 6G = | -1  1 -1 |
//!       |  0 -1  0  1 |      |  0  0  2 |              |  0 -1  0  1  0 |      |  1  2  4 |
//!                                                      |  0  2 -1 -2  1 |      |  0  0  6 |
//!
//! A^T = | 1  1  1  0 |                                 | 1  1  1  1  0 |
//!       | 0  1 -1  1 |                           A^T = | 0  1 -1  2  0 |
//!                                                      | 0  1  1  4  1 |
//! ```

use std::arch::x86_64::*;

use super::avx2_vector::{Avx2, load_words};
use crate::dtype::LINE;
use crate::kernels::conv::Tile;
use crate::kernels::simd::{Simd, Stored};
use crate::kernels::table::{ConvKernel, IntegerWinograd, entry};
use crate::kernels::winograd::{InputTile, OutputTile, Transform};

/// Rows and columns of the largest tile of the input, and of the output.
const MOST: [usize; 2] = [5, 3];

/// Of both axes.
trait Scheme {
    /// Rows and columns of a tile of the input.
    const POINTS: usize;
    /// Rows and columns of a tile of the output.
    const OUTPUTS: usize;
    /// What sums are a multiple of.
    const UNIT: usize;

    /// `B^T d` along one axis.
    ///
    /// # Safety
    /// AVX2.
    unsafe fn input(d: [__m256i; MOST[0]]) -> [__m256i; MOST[0]];
    /// `A^T m` along one axis.
    ///
    /// # Safety
    /// AVX2.
    unsafe fn output(m: [__m256i; MOST[0]]) -> [__m256i; MOST[1]];
    /// Sums without their unit.
    ///
    /// # Safety
    /// AVX2.
    unsafe fn divide(sums: __m256i) -> __m256i;
}

/// F(2x2,3x3).
struct F23;

impl Scheme for F23 {
    const POINTS: usize = 4;
    const OUTPUTS: usize = 2;
    const UNIT: usize = 4;

    #[inline(always)]
    unsafe fn input([a, b, c, d, e]: [__m256i; MOST[0]]) -> [__m256i; MOST[0]] {
        // SAFETY: the caller's promise.
        unsafe {
            let edges = [_mm256_sub_epi16(c, a), _mm256_sub_epi16(d, b)];
            [edges[0], _mm256_add_epi16(b, c), _mm256_sub_epi16(c, b), edges[1], e]
        }
    }
    #[inline(always)]
    unsafe fn output([a, b, c, d, e]: [__m256i; MOST[0]]) -> [__m256i; MOST[1]] {
        // SAFETY: the caller's promise.
        unsafe {
            let (sum, difference) = (_mm256_add_epi32(b, c), _mm256_sub_epi32(b, c));
            [_mm256_add_epi32(a, sum), _mm256_add_epi32(difference, d), e]
        }
    }
    #[inline(always)]
    unsafe fn divide(sums: __m256i) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_srai_epi32::<2>(sums) }
    }
}

/// F(3x3,3x3).
struct F33;

impl Scheme for F33 {
    const POINTS: usize = 5;
    const OUTPUTS: usize = 3;
    const UNIT: usize = 36;

    #[inline(always)]
    unsafe fn input([a, b, c, d, e]: [__m256i; MOST[0]]) -> [__m256i; MOST[0]] {
        // SAFETY: the caller's promise.
        unsafe {
            let twice = |v| _mm256_add_epi16(v, v);
            let (two, far) = (_mm256_sub_epi16(d, b), _mm256_sub_epi16(d, c));
            [
                _mm256_add_epi16(twice(_mm256_sub_epi16(a, c)), two),
                _mm256_sub_epi16(far, twice(b)),
                _mm256_add_epi16(far, twice(_mm256_sub_epi16(b, c))),
                two,
                _mm256_sub_epi16(_mm256_sub_epi16(e, c), twice(two)),
            ]
        }
    }
    #[inline(always)]
    unsafe fn output([a, b, c, d, e]: [__m256i; MOST[0]]) -> [__m256i; MOST[1]] {
        // SAFETY: the caller's promise.
        unsafe {
            let (sum, difference) = (_mm256_add_epi32(b, c), _mm256_sub_epi32(b, c));
            let twice = _mm256_add_epi32(d, d);
            [
                _mm256_add_epi32(_mm256_add_epi32(a, sum), d),
                _mm256_add_epi32(difference, twice),
                _mm256_add_epi32(_mm256_add_epi32(sum, e), _mm256_add_epi32(twice, twice)),
            ]
        }
    }
    #[inline(always)]
    unsafe fn divide(sums: __m256i) -> __m256i {
        // Exact division by 9 is multiplication by its inverse modulo 2^32.
        const NINTH: i32 = 0x38e3_8e39;
        const { assert!(NINTH.wrapping_mul(9) == 1) };
        // SAFETY: the caller's promise.
        unsafe { _mm256_mullo_epi32(_mm256_srai_epi32::<2>(sums), _mm256_set1_epi32(NINTH)) }
    }
}

/// [`multiply`], which is the same for all schemes.
const MULTIPLY: ConvKernel = entry!([#[target_feature(enable = "avx2,fma")]], (t: &Tile) multiply(t));

/// The kernels of a scheme.
macro_rules! kernels {
    ($scheme:ty, $transform:expr, $weights:expr) => {
        IntegerWinograd {
            transform: $transform,
            weights: $weights,
            input: entry!([#[target_feature(enable = "avx2,fma")]], (t: &InputTile) input::<$scheme>(t)),
            multiply: MULTIPLY,
            output: entry!([#[target_feature(enable = "avx2,fma")]], (t: &OutputTile) output::<$scheme>(t)),
            // Of which the last sums fit 32 bits, whatever the bytes and weights are.
            most_channels: i32::MAX as usize / (<$scheme>::UNIT * 9 * 255 * 127),
        }
    };
}

/// The kernels.
pub(super) const KERNELS: &[IntegerWinograd] = &[
    kernels!(
        F33,
        Transform::F33xF33,
        &[[3.0, 0.0, 0.0], [-3.0, -3.0, -3.0], [-1.0, 1.0, -1.0], [1.0, 2.0, 4.0], [0.0, 0.0, 6.0]]
    ),
    kernels!(
        F23,
        Transform::F23xF23,
        &[[-2.0, 0.0, 0.0], [1.0, 1.0, 1.0], [1.0, -1.0, 1.0], [0.0, 0.0, 2.0]]
    ),
];

/// Eight or sixteen bytes as words.
///
/// # Safety
/// AVX2, and the bytes exist.
#[inline(always)]
unsafe fn words(p: *const u8, sixteen: bool) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe { if sixteen { load_words(p) } else { _mm256_cvtepu8_epi16(_mm_loadl_epi64(p.cast())) } }
}

/// Transforms one tile of the input, of a multiple of eight channels, to words.
///
/// # Safety
/// `t` describes valid memory, at whose positions channels are padded to sixteen; AVX2.
#[inline(always)]
unsafe fn input<T: Scheme>(t: &InputTile) {
    let [y0, x0] = t.origin;
    let outside = [t.zero; 16];
    // The tile's pixels, or what stands for them outside the image.
    let mut pixels = [[(outside.as_ptr(), 0); MOST[0]]; MOST[0]];
    for (y, row) in pixels.iter_mut().enumerate().take(T::POINTS) {
        for (x, pixel) in row.iter_mut().enumerate().take(T::POINTS) {
            let (y, x) = (y0 + y.cast_signed(), x0 + x.cast_signed());
            if (0..t.input[0].cast_signed()).contains(&y) && (0..t.input[1].cast_signed()).contains(&x) {
                let place = y.cast_unsigned() * t.input[1] + x.cast_unsigned();
                *pixel = (t.image.wrapping_add(place * t.ld), 1);
            }
        }
    }
    let mut c = 0;
    while c < t.channels {
        // SAFETY: the pixels are inside the image, or are sixteen bytes; the caller's promise.
        unsafe {
            let mut d = [[_mm256_setzero_si256(); MOST[0]]; MOST[0]];
            for (d, row) in d.iter_mut().zip(&pixels).take(T::POINTS) {
                for (d, (start, step)) in d.iter_mut().zip(row).take(T::POINTS) {
                    *d = words(start.wrapping_add(c * step), c + 16 <= t.channels);
                }
                *d = T::input(*d);
            }
            #[allow(clippy::needless_range_loop)] // A column has an element of each row.
            for x in 0..T::POINTS {
                let column = T::input([d[0][x], d[1][x], d[2][x], d[3][x], d[4][x]]);
                for (y, v) in column.into_iter().enumerate().take(T::POINTS) {
                    let to = t.v.wrapping_add((y * T::POINTS + x) * t.ld_position).cast::<i16>();
                    _mm256_storeu_si256(to.wrapping_add(c).cast(), v);
                }
            }
        }
        c += 16;
    }
}

/// Transforms one tile of sums back, and stores what lies inside the output as bytes.
///
/// # Safety
/// `t` describes valid memory; AVX2.
#[inline(always)]
unsafe fn output<T: Scheme>(t: &OutputTile) {
    for c in (0..t.channels).step_by(Avx2::LANES) {
        // SAFETY: sums, factors, biases and bounds are padded to whole vectors; pixels outside the output are
        // skipped.
        unsafe {
            let m = t.m.wrapping_add(c);
            let mut rows = [[_mm256_setzero_si256(); MOST[0]]; MOST[1]];
            for x in 0..T::POINTS {
                let mut column = [_mm256_setzero_si256(); MOST[0]];
                for (y, sum) in column.iter_mut().enumerate().take(T::POINTS) {
                    *sum = _mm256_loadu_si256(m.wrapping_add((y * T::POINTS + x) * t.ld_position).cast());
                }
                for (row, sum) in rows.iter_mut().zip(T::output(column)) {
                    row[x] = sum;
                }
            }
            let [scale, bias, min] = [t.scale, t.bias, t.min].map(|p| p.wrapping_add(c));
            let (scale, bias, min) = (Avx2::load(scale), Avx2::load(bias), Avx2::load(min));
            for (y, row) in rows.into_iter().enumerate().take(T::OUTPUTS.min(t.valid[0])) {
                for (x, sum) in T::output(row).into_iter().enumerate().take(T::OUTPUTS.min(t.valid[1])) {
                    let sum = _mm256_cvtepi32_ps(T::divide(sum));
                    let value = Avx2::max(Avx2::add(Avx2::mul(sum, scale), bias), min);
                    let out = t.out.wrapping_add(y * t.ld[1] + x * t.ld[0] + c);
                    <u8 as Stored<Avx2>>::store_n(out, value, (t.channels - c).min(Avx2::LANES));
                }
            }
        }
    }
}

/// `MR` rows of words by `NZ` vectors of pairs of them, from column `col` on: 32-bit sums.
///
/// # Safety
/// As [`multiply`]; `t.rows == MR`.
#[inline(always)]
unsafe fn block<const MR: usize, const NZ: usize>(t: &Tile, col: usize) {
    // SAFETY: each row has `k` words, the panel as many weights in pairs, and the output whole panels.
    unsafe {
        let rows: [*const i32; MR] = t.indirection.cast::<[*const i32; MR]>().read();
        let mut acc = [[_mm256_setzero_si256(); NZ]; MR];
        let (mut b, mut prefetch) = (t.weights.add(col), t.prefetch.start);
        let pairs = t.k / 2;
        for pair in 0..pairs {
            if pair % Avx2::PREFETCH_STEPS == 0 {
                for line in 0..t.prefetch.lines {
                    Avx2::prefetch(prefetch.wrapping_add(line * LINE));
                }
                prefetch = prefetch.wrapping_add(t.prefetch.lines * LINE);
            }
            let mut weights = [_mm256_setzero_si256(); NZ];
            for (z, weights) in weights.iter_mut().enumerate() {
                *weights = _mm256_loadu_si256(b.add(z * Avx2::LANES).cast());
            }
            for (row, acc) in rows.iter().zip(acc.iter_mut()) {
                let pixel = _mm256_set1_epi32(row.add(pair).read_unaligned());
                for (acc, weights) in acc.iter_mut().zip(weights) {
                    *acc = _mm256_add_epi32(*acc, _mm256_madd_epi16(pixel, weights));
                }
            }
            b = b.add(t.width);
        }
        for z in 0..NZ {
            for (r, acc) in acc.iter().enumerate() {
                let out = t.out.cast::<f32>().add(r * t.ld_out + col + z * Avx2::LANES);
                _mm256_storeu_si256(out.cast(), acc[z]);
            }
        }
    }
}

/// All columns of a panel for `MR` rows.
///
/// # Safety
/// As [`multiply`]; `t.rows == MR`.
#[inline(always)]
unsafe fn panel<const MR: usize>(t: &Tile) {
    let mut col = 0;
    while col + 2 * Avx2::LANES <= t.width {
        // SAFETY: the caller's promise.
        unsafe { block::<MR, 2>(t, col) };
        col += 2 * Avx2::LANES;
    }
    if col < t.width {
        // SAFETY: the caller's promise.
        unsafe { block::<MR, 1>(t, col) };
    }
}

/// Multiplies rows of words, an even number of them, by a panel of pairs, and stores the sums of all columns,
/// those of padding, too. Reads neither scale, bias, bound nor residual.
///
/// # Safety
/// `t` describes valid memory; AVX2.
#[inline(always)]
unsafe fn multiply(t: &Tile) {
    // SAFETY: the caller's promise.
    unsafe {
        match t.rows {
            1 => panel::<1>(t),
            2 => panel::<2>(t),
            3 => panel::<3>(t),
            4 => panel::<4>(t),
            5 => panel::<5>(t),
            6 => panel::<6>(t),
            rows => unreachable!("a tile of {rows} rows"),
        }
    }
}
