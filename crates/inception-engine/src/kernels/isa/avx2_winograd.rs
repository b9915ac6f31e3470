//! Winograd's F(2x2,3x3) on bytes, in integers: results are those of the direct algorithm to the bit.
//!
//! Without dot products of bytes a CPU multiplies as many words as bytes in a cycle (`vpmaddwd` makes 16
//! products, `vpmaddubsw` 32 whose sums another `vpmaddwd` has to add), so that four ninths of the
//! multiplications are four ninths of the time. The transformed bytes, sums of four, fit words. So do the
//! weights by `2 G` in place of `G`, which has halves: the results are four times what they should be, and the
//! last step shifts them by two bits. All sums are in 32 bits, where intermediate ones may wrap around: only
//! the results have to fit (see [`MOST_CHANNELS`]).

use std::arch::x86_64::*;

use super::avx2::Avx2;
use crate::dtype::LINE;
use crate::kernels::conv::Tile;
use crate::kernels::simd::{Simd, Stored};
use crate::kernels::table::{IntegerWinograd, entry};
use crate::kernels::winograd::{InputTile, OutputTile};

/// Input channels of which four times a sum of products fits 32 bits, whatever the bytes and weights are.
const MOST_CHANNELS: usize = i32::MAX as usize / (4 * 9 * 255 * 127);

/// Rows and columns of a tile of the input.
const SIDE: usize = 4;
/// Rows and columns of a tile of the output.
const OUTPUTS: usize = 2;

/// The kernels.
pub(super) const KERNELS: IntegerWinograd = IntegerWinograd {
    input: entry!([#[target_feature(enable = "avx2,fma")]], (t: &InputTile) input(t)),
    multiply: entry!([#[target_feature(enable = "avx2,fma")]], (t: &Tile) multiply(t)),
    output: entry!([#[target_feature(enable = "avx2,fma")]], (t: &OutputTile) output(t)),
    most_channels: MOST_CHANNELS,
};

/// `B^T d` along one axis.
///
/// # Safety
/// AVX2.
#[inline(always)]
unsafe fn transform_input([a, b, c, d]: [__m256i; SIDE]) -> [__m256i; SIDE] {
    // SAFETY: the caller's promise.
    unsafe {
        [_mm256_sub_epi16(c, a), _mm256_add_epi16(b, c), _mm256_sub_epi16(c, b), _mm256_sub_epi16(d, b)]
    }
}

/// `A^T m` along one axis.
///
/// # Safety
/// AVX2.
#[inline(always)]
unsafe fn transform_output([a, b, c, d]: [__m256i; SIDE]) -> [__m256i; OUTPUTS] {
    // SAFETY: the caller's promise.
    unsafe {
        let (sum, difference) = (_mm256_add_epi32(b, c), _mm256_sub_epi32(b, c));
        [_mm256_add_epi32(a, sum), _mm256_add_epi32(difference, d)]
    }
}

/// Eight or sixteen bytes as words.
///
/// # Safety
/// AVX2, and the bytes exist.
#[inline(always)]
unsafe fn words(p: *const u8, sixteen: bool) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe {
        let bytes = if sixteen { _mm_loadu_si128(p.cast()) } else { _mm_loadl_epi64(p.cast()) };
        _mm256_cvtepu8_epi16(bytes)
    }
}

/// Transforms one tile of the input, of a multiple of eight channels, to words.
///
/// # Safety
/// `t` describes valid memory, at whose positions channels are padded to sixteen; AVX2.
#[inline(always)]
unsafe fn input(t: &InputTile) {
    let [y0, x0] = t.origin;
    let outside = [t.zero; 16];
    // The tile's pixels, or what stands for them outside the image.
    let mut pixels = [[(outside.as_ptr(), 0); SIDE]; SIDE];
    for (y, row) in pixels.iter_mut().enumerate() {
        for (x, pixel) in row.iter_mut().enumerate() {
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
            let mut d = [[_mm256_setzero_si256(); SIDE]; SIDE];
            for (d, row) in d.iter_mut().zip(&pixels) {
                for (d, (start, step)) in d.iter_mut().zip(row) {
                    *d = words(start.wrapping_add(c * step), c + 16 <= t.channels);
                }
                *d = transform_input(*d);
            }
            for x in 0..SIDE {
                let column = transform_input([d[0][x], d[1][x], d[2][x], d[3][x]]);
                for (y, v) in column.into_iter().enumerate() {
                    let to = t.v.wrapping_add((y * SIDE + x) * t.ld_position).cast::<i16>();
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
unsafe fn output(t: &OutputTile) {
    for c in (0..t.channels).step_by(Avx2::LANES) {
        // SAFETY: sums, factors, biases and bounds are padded to whole vectors; pixels outside the output are
        // skipped.
        unsafe {
            let m = t.m.wrapping_add(c).cast::<__m256i>();
            let mut rows = [[_mm256_setzero_si256(); SIDE]; OUTPUTS];
            for x in 0..SIDE {
                let at = |y: usize| m.byte_add((y * SIDE + x) * t.ld_position * size_of::<f32>());
                let column = [0, 1, 2, 3].map(at);
                let column = transform_output([
                    _mm256_loadu_si256(column[0]),
                    _mm256_loadu_si256(column[1]),
                    _mm256_loadu_si256(column[2]),
                    _mm256_loadu_si256(column[3]),
                ]);
                (rows[0][x], rows[1][x]) = (column[0], column[1]);
            }
            let [scale, bias, min] = [t.scale, t.bias, t.min].map(|p| p.wrapping_add(c));
            let (scale, bias, min) = (Avx2::load(scale), Avx2::load(bias), Avx2::load(min));
            for (y, row) in rows.into_iter().enumerate().take(t.valid[0]) {
                for (x, sum) in transform_output(row).into_iter().enumerate().take(t.valid[1]) {
                    let sum = _mm256_cvtepi32_ps(_mm256_srai_epi32::<2>(sum));
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
