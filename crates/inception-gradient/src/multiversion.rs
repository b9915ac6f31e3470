//! Function multiversioning: loops that are compiled for each instruction set.

/// A function whose loops are compiled for each instruction set; the one in use runs. It is unsafe: its
/// tensors are addresses, and it says, or the file does, what the caller promises of them.
macro_rules! multiversion {
    ($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) $body:block) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments)]
        pub(crate) unsafe fn $name<T: $crate::real::Real>($($arg: $type),*) {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            unsafe fn body<T: $crate::real::Real>($($arg: $type),*) $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
                #[allow(clippy::too_many_arguments)]
                unsafe fn avx512<T: $crate::real::Real>($($arg: $type),*) {
                    // SAFETY: the caller's promise.
                    unsafe { body::<T>($($arg),*) }
                }
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                unsafe fn avx2<T: $crate::real::Real>($($arg: $type),*) {
                    // SAFETY: the caller's promise.
                    unsafe { body::<T>($($arg),*) }
                }
                match $crate::isa::isa() {
                    // SAFETY: the CPU has it; the rest is the caller's promise.
                    inception_engine::Isa::Avx512 => return unsafe { avx512::<T>($($arg),*) },
                    // SAFETY: as above.
                    inception_engine::Isa::Avx2 => return unsafe { avx2::<T>($($arg),*) },
                    _ => {}
                }
            }
            // SAFETY: the caller's promise.
            unsafe { body::<T>($($arg),*) }
        }
    };
}

pub(crate) use multiversion;
