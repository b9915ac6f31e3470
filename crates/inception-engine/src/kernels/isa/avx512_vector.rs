//! The vector type of AVX-512.

use std::arch::x86_64::*;

use crate::kernels::simd::{Simd, methods};

/// A vector of AVX-512.
pub(crate) struct Avx512;

// SAFETY: loads and stores touch exactly the floats that the trait allows: masked-off lanes are not accessed,
// and a prefetch is a hint, which faults on no address.
unsafe impl Simd for Avx512 {
    type V = __m512;
    const LANES: usize = 16;
    const PREFETCH_STEPS: usize = 1;
    const PREFETCH_ROWS: bool = true;

    methods! {
        splat(x: f32) -> __m512 = _mm512_set1_ps(x);
        load(p: *const f32) -> __m512 = _mm512_loadu_ps(p);
        load_n(p: *const f32, n: usize) -> __m512 =
            if n >= 16 { _mm512_loadu_ps(p) } else { _mm512_maskz_loadu_ps((1u16 << n) - 1, p) };
        store_n(p: *mut f32, v: __m512, n: usize) =
            if n >= 16 { _mm512_storeu_ps(p, v) } else { _mm512_mask_storeu_ps(p, (1u16 << n) - 1, v) };
        add(a: __m512, b: __m512) -> __m512 = _mm512_add_ps(a, b);
        sub(a: __m512, b: __m512) -> __m512 = _mm512_sub_ps(a, b);
        mul(a: __m512, b: __m512) -> __m512 = _mm512_mul_ps(a, b);
        fma(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fmadd_ps(a, b, c);
        max(a: __m512, b: __m512) -> __m512 = _mm512_max_ps(a, b);
        prefetch(p: *const f32) = _mm_prefetch::<_MM_HINT_T1>(p.cast());
    }
}
