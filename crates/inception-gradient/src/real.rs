//! The floats that can be computed with.

use std::ops::{Add, AddAssign, Mul, Sub};

use crate::isa::Isa;
use crate::kernels::{Kernels, f32_kernels, f64_kernels};

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
    fn kernels(isa: Isa) -> &'static Kernels<Self>;
}

macro_rules! real {
    ($t:ty, $kernels:ident) => {
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
            fn kernels(isa: Isa) -> &'static Kernels<Self> {
                $kernels(isa)
            }
        }
    };
}

real!(f32, f32_kernels);
real!(f64, f64_kernels);
