//! The vector type of AVX2, and what kernels on words share.

use std::arch::asm;
use std::arch::x86_64::*;

use crate::kernels::simd::{Simd, methods};

/// A vector of AVX2.
pub(crate) struct Avx2;

/// The mask of `vmaskmov` whose first `n` lanes are on.
#[inline(always)]
unsafe fn mask(n: usize) -> __m256i {
    // SAFETY: register arithmetic; the caller's function has AVX2 (see the trait).
    unsafe { _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)) }
}

// SAFETY: loads and stores touch exactly the floats that the trait allows: masked-off lanes are not accessed,
// and a prefetch is a hint, which faults on no address.
unsafe impl Simd for Avx2 {
    type V = __m256;
    const LANES: usize = 8;
    const PREFETCH_STEPS: usize = 4;
    const PREFETCH_ROWS: bool = false;

    methods! {
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
}

/// `acc + a * b`, summed over the two words of each lane. The compiler would load `b` as an operand of
/// `vpmaddwd`, which is slow on Zen 3.
///
/// # Safety
/// AVX2.
// `asm!` knows no vectors outside of such a function, which is inlined into kernels of the same features.
#[target_feature(enable = "avx2,fma")]
#[inline]
pub(super) unsafe fn dot_of_words(a: __m256i, b: __m256i, mut acc: __m256i) -> __m256i {
    // SAFETY: registers only.
    unsafe {
        asm!(
            "vpmaddwd {products}, {a}, {b}",
            "vpaddd {acc}, {acc}, {products}",
            products = out(ymm_reg) _,
            a = in(ymm_reg) a,
            b = in(ymm_reg) b,
            acc = inout(ymm_reg) acc,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    acc
}

/// Sixteen bytes as words.
///
/// # Safety
/// They exist; AVX2.
#[inline(always)]
pub(super) unsafe fn load_words(p: *const u8) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe { _mm256_cvtepu8_epi16(_mm_loadu_si128(p.cast())) }
}
