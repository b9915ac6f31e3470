//! AVX2 with FMA: sixteen registers of eight floats.

use std::arch::x86_64::*;

use super::Isa;
use crate::kernels::depthwise;
use crate::kernels::simd::{Simd, implement_simd};
use crate::kernels::table::{CostModel, Kernels, kernel_set};

/// A vector of AVX2.
pub(crate) struct Avx2;

/// The mask of `vmaskmov` whose first `n` lanes are on.
#[inline(always)]
unsafe fn mask(n: usize) -> __m256i {
    // SAFETY: register arithmetic; the caller's function has AVX2 (see the trait).
    unsafe { _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)) }
}

implement_simd! {
    Avx2: 8 lanes of __m256, prefetch_steps: 4, prefetch_rows: false;
    splat(x: f32) -> __m256 = _mm256_set1_ps(x);
    load(p: *const f32) -> __m256 = _mm256_loadu_ps(p);
    load_n(p: *const f32, n: usize) -> __m256 =
        if n >= 8 { _mm256_loadu_ps(p) } else { _mm256_maskload_ps(p, mask(n)) };
    // The full store is kept apart: a masked one is microcode on AMD.
    store_n(p: *mut f32, v: __m256, n: usize) =
        if n >= 8 { _mm256_storeu_ps(p, v) } else { _mm256_maskstore_ps(p, mask(n), v) };
    add(a: __m256, b: __m256) -> __m256 = _mm256_add_ps(a, b);
    sub(a: __m256, b: __m256) -> __m256 = _mm256_sub_ps(a, b);
    mul(a: __m256, b: __m256) -> __m256 = _mm256_mul_ps(a, b);
    fma(a: __m256, b: __m256, c: __m256) -> __m256 = _mm256_fmadd_ps(a, b, c);
    max(a: __m256, b: __m256) -> __m256 = _mm256_max_ps(a, b);
    prefetch(p: *const f32) = _mm_prefetch::<_MM_HINT_T1>(p.cast());
}

/// The kernels.
pub(in crate::kernels) static KERNELS: Kernels = Kernels {
    isa: Isa::Avx2,
    prefetch_steps: Avx2::PREFETCH_STEPS,
    // Twelve accumulators, two vectors of weights and one broadcast pixel fill fifteen of sixteen registers.
    tile_rows: 6,
    panel: 16,
    narrow_panel: 8,
    costs: CostModel::AVX2,
    unused: &[("avxvnni", || is_x86_feature_detected!("avxvnni"))],
    sets: &[kernel_set! {
        simd: Avx2,
        target: [#[target_feature(enable = "avx2,fma")]],
        tile_rows: [1 2 3 4 5 6],
        activations: F32,
        features: [
            is_x86_feature_detected!("avx2") => "needs a CPU with AVX2 (avx2)",
            is_x86_feature_detected!("fma") => "needs a CPU with fused multiply-adds (fma)",
        ],
        conv: [f32 => f32],
        pool: [f32 => f32],
        depthwise: [f32: depthwise::segment::<Avx2, f32>, None],
        winograd: [f32],
        elementwise: [f32],
        sum: [f32],
    }],
};
