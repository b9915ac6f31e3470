//! The instruction sets, a file each: the vector type, and the row of data that says which kernels there are
//! for it.
//!
//! To add one, write its file, declare it below, and add a row to `instruction_sets!` here and one to
//! `TABLES` in `kernels`.

#[cfg(target_arch = "x86_64")]
pub(super) mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx2_depthwise;
#[cfg(target_arch = "x86_64")]
mod avx2_vector;
#[cfg(target_arch = "x86_64")]
mod avx2_winograd;
#[cfg(target_arch = "x86_64")]
pub(super) mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512_int8;
#[cfg(target_arch = "x86_64")]
mod avx512_vector;
#[cfg(target_arch = "aarch64")]
pub(super) mod neon;
pub(super) mod portable;

use std::fmt;

/// Declares the instruction sets and their names.
macro_rules! instruction_sets {
    ($($(#[$doc:meta])* $variant:ident = $name:literal;)*) => {
        /// The instruction set that a compiled model runs on.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Isa {
            $($(#[$doc])* $variant,)*
        }

        impl Isa {
            /// All instruction sets, slowest first.
            pub const ALL: [Isa; [$($name),*].len()] = [$(Isa::$variant),*];

            /// The name that `INCEPTION_ISA` takes and `explain` prints.
            pub fn name(self) -> &'static str {
                match self {
                    $(Isa::$variant => $name,)*
                }
            }
        }
    };
}

instruction_sets! {
    /// No intrinsics: arrays that the compiler vectorises for the target's baseline.
    Portable = "portable";
    /// NEON, the baseline of aarch64: thirty-two registers of four floats.
    Neon = "neon";
    /// AVX2 with FMA: sixteen registers of eight floats.
    Avx2 = "avx2";
    /// AVX-512F: thirty-two registers of sixteen floats, with masks.
    Avx512 = "avx512";
}

impl Isa {
    /// The instruction set called `name`, if there is one.
    pub fn from_name(name: &str) -> Option<Isa> {
        Isa::ALL.into_iter().find(|isa| isa.name().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
