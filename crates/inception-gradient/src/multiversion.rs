//! Loops that are compiled for each instruction set.

/// A function whose loops are compiled for each instruction set; the best one runs.
macro_rules! vectorized {
    ($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) $body:block) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments)]
        pub(crate) fn $name<T: $crate::real::Real>($($arg: $type),*) {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn body<T: $crate::real::Real>($($arg: $type),*) $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
                #[allow(clippy::too_many_arguments)]
                fn avx512<T: $crate::real::Real>($($arg: $type),*) {
                    body::<T>($($arg),*)
                }
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                fn avx2<T: $crate::real::Real>($($arg: $type),*) {
                    body::<T>($($arg),*)
                }
                match $crate::isa::Isa::best() {
                    // SAFETY: the CPU has it.
                    $crate::isa::Isa::Avx512 => return unsafe { avx512::<T>($($arg),*) },
                    // SAFETY: the CPU has it.
                    $crate::isa::Isa::Avx2 => return unsafe { avx2::<T>($($arg),*) },
                    $crate::isa::Isa::Portable => {}
                }
            }
            body::<T>($($arg),*)
        }
    };
}

pub(crate) use vectorized;
