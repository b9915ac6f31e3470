//! The floats that can be computed with.

use std::ops::{Add, AddAssign, Mul, Sub};

use crate::isa::isa;
use crate::kernels::{self, Kernels};

/// Single or double precision.
pub trait Real:
    Copy
    + Default
    + PartialOrd
    + Send
    + Sync
    + std::fmt::Debug
    + Add<Output = Self>
    + AddAssign
    + Mul<Output = Self>
    + Sub<Output = Self>
    + 'static
{
    /// Rounded from single precision: exact.
    fn of(x: f32) -> Self;
    /// Rounded from double precision.
    fn of_f64(x: f64) -> Self;
    /// Rounded to single precision.
    fn to_f32(self) -> f32;
    /// In double precision: exact.
    fn to_f64(self) -> f64;
    #[doc(hidden)]
    #[allow(private_interfaces)]
    fn kernels() -> &'static Kernels<Self>;
}

macro_rules! real {
    ($t:ty, $avx512:ident, $avx2:ident, $plain:ident) => {
        impl Real for $t {
            #[inline(always)]
            fn of(x: f32) -> Self {
                x as $t
            }
            #[inline(always)]
            fn of_f64(x: f64) -> Self {
                x as $t
            }
            #[inline(always)]
            fn to_f32(self) -> f32 {
                self as f32
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                self as f64
            }
            #[allow(private_interfaces)]
            fn kernels() -> &'static Kernels<Self> {
                match isa() {
                    #[cfg(target_arch = "x86_64")]
                    inception_engine::Isa::Avx512 => &kernels::$avx512::KERNELS,
                    #[cfg(target_arch = "x86_64")]
                    inception_engine::Isa::Avx2 => &kernels::$avx2::KERNELS,
                    _ => &kernels::$plain::KERNELS,
                }
            }
        }
    };
}

real!(f32, avx512_f32, avx2_f32, plain_f32);
real!(f64, avx512_f64, avx2_f64, plain_f64);
