//! Vectors of floats, over which the kernels are written once.

/// A register of floats.
///
/// # Safety
///
/// All methods are for functions that have the instruction set of the type; pointers are to
/// [`LANES`](Self::LANES) readable, for `store` writable, floats.
pub(crate) trait Vector: Copy {
    /// One float of it.
    type T: Copy + Default;
    /// Floats in a register.
    const LANES: usize;
    unsafe fn splat(x: Self::T) -> Self;
    unsafe fn load(p: *const Self::T) -> Self;
    unsafe fn store(self, p: *mut Self::T);
    unsafe fn add(self, other: Self) -> Self;
    /// `self * b + c`
    unsafe fn fma(self, b: Self, c: Self) -> Self;
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::Vector;

    macro_rules! vector {
        ($vector:ty, $t:ty, $lanes:literal, $splat:ident $load:ident $store:ident $add:ident $fma:ident) => {
            impl Vector for $vector {
                type T = $t;
                const LANES: usize = $lanes;
                #[inline(always)]
                unsafe fn splat(x: $t) -> Self {
                    // SAFETY: the caller's function has the instruction set (see the trait); so below.
                    unsafe { $splat(x) }
                }
                #[inline(always)]
                unsafe fn load(p: *const $t) -> Self {
                    // SAFETY: as above, and the caller's pointer.
                    unsafe { $load(p) }
                }
                #[inline(always)]
                unsafe fn store(self, p: *mut $t) {
                    // SAFETY: as above, and the caller's pointer.
                    unsafe { $store(p, self) }
                }
                #[inline(always)]
                unsafe fn add(self, other: Self) -> Self {
                    // SAFETY: as above.
                    unsafe { $add(self, other) }
                }
                #[inline(always)]
                unsafe fn fma(self, b: Self, c: Self) -> Self {
                    // SAFETY: as above.
                    unsafe { $fma(self, b, c) }
                }
            }
        };
    }

    vector! { __m512, f32, 16,
    _mm512_set1_ps _mm512_loadu_ps _mm512_storeu_ps _mm512_add_ps _mm512_fmadd_ps }
    vector! { __m512d, f64, 8,
    _mm512_set1_pd _mm512_loadu_pd _mm512_storeu_pd _mm512_add_pd _mm512_fmadd_pd }
    vector! { __m256, f32, 8,
    _mm256_set1_ps _mm256_loadu_ps _mm256_storeu_ps _mm256_add_ps _mm256_fmadd_ps }
    vector! { __m256d, f64, 4,
    _mm256_set1_pd _mm256_loadu_pd _mm256_storeu_pd _mm256_add_pd _mm256_fmadd_pd }
}

/// What every CPU has: four floats that the compiler finds registers for.
#[derive(Clone, Copy)]
pub(crate) struct Plain<T>([T; 4]);

macro_rules! plain {
    ($t:ty) => {
        impl Vector for Plain<$t> {
            type T = $t;
            const LANES: usize = 4;
            #[inline(always)]
            unsafe fn splat(x: $t) -> Self {
                Plain([x; 4])
            }
            #[inline(always)]
            unsafe fn load(p: *const $t) -> Self {
                // SAFETY: the caller's pointer.
                Plain(unsafe { p.cast::<[$t; 4]>().read_unaligned() })
            }
            #[inline(always)]
            unsafe fn store(self, p: *mut $t) {
                // SAFETY: the caller's pointer.
                unsafe { p.cast::<[$t; 4]>().write_unaligned(self.0) }
            }
            #[inline(always)]
            unsafe fn add(self, other: Self) -> Self {
                Plain(std::array::from_fn(|lane| self.0[lane] + other.0[lane]))
            }
            #[inline(always)]
            unsafe fn fma(self, b: Self, c: Self) -> Self {
                Plain(std::array::from_fn(|lane| self.0[lane] * b.0[lane] + c.0[lane]))
            }
        }
    };
}

plain!(f32);
plain!(f64);
