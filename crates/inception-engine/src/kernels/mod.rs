//! Kernels: written once over [`simd::Simd`], compiled for each instruction set, reached through a table of
//! functions.
//!
//! A kernel knows nothing of graphs, threads or buffers. It gets pointers and extents from a step, which owns
//! the promise that they are in bounds; that is why the entries are `unsafe fn`.
#![allow(unsafe_code)] // Vector loads and stores go through raw pointers; this is where they live.

mod caches;
pub(crate) mod conv;
pub(crate) mod cook_toom;
pub(crate) mod depthwise;
pub(crate) mod elementwise;
pub(crate) mod isa;
pub(crate) mod pool;
mod simd;
mod table;
pub(crate) mod winograd;

pub(crate) use table::{CostModel, KernelSet, Kernels};
pub use winograd::Transform;
pub(crate) use winograd::{TRANSFORMS, TransformSpec};

use std::fmt;

use crate::dtype::DType;
use isa::Isa;

/// The kernels of each instruction set of this architecture.
static TABLES: &[&Kernels] = &[
    &isa::portable::KERNELS,
    #[cfg(target_arch = "aarch64")]
    &isa::neon::KERNELS,
    #[cfg(target_arch = "x86_64")]
    &isa::avx2::KERNELS,
    #[cfg(target_arch = "x86_64")]
    &isa::avx512::KERNELS,
];

impl Isa {
    /// The kernels for activations of `dtype`, whether or not this CPU can run them; `None` where there are
    /// none.
    pub(crate) fn kernel_set(self, dtype: DType) -> Option<&'static KernelSet> {
        self.table()?.sets.iter().find(|set| set.activations == dtype)
    }

    /// All that there is for the instruction set; `None` on another architecture.
    pub(crate) fn table(self) -> Option<&'static Kernels> {
        TABLES.iter().copied().find(|kernels| kernels.isa == self)
    }

    /// Whether this CPU has the instruction set.
    pub fn available(self) -> bool {
        Kernels::of(self, DType::F32).is_some()
    }

    /// The micro-kernel's tile, and the caches that the cost model assumes.
    pub fn tier(self) -> Tier {
        let kernels = self.table();
        let tile = kernels.map_or([0; 2], |kernels| [kernels.tile_rows, kernels.panel]);
        Tier { isa: self, tile, caches: kernels.map_or([0; 2], |kernels| kernels.costs.assumed_caches()) }
    }

    /// Features that this CPU has beside the instruction set and that no kernel uses yet: dot products of
    /// integers and arithmetic of half precision.
    pub fn unused_features(self) -> Vec<&'static str> {
        let has = |&(name, detected): &table::UnusedFeature| detected().then_some(name);
        self.table().map_or(Vec::new(), |kernels| kernels.unused.iter().filter_map(has).collect())
    }

    /// The fastest instruction set that this CPU has.
    pub fn best() -> Isa {
        *Isa::ALL.iter().rev().find(|isa| isa.available()).unwrap_or(&Isa::Portable)
    }
}

/// What an instruction set's kernels and the planner assume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tier {
    /// The instruction set.
    pub isa: Isa,
    /// Pixels and channels of the micro-kernel's tile; zero on an architecture without the instruction set.
    pub tile: [usize; 2],
    /// Bytes of a core's first-level cache for data and of its second-level cache that the cost model
    /// assumes: as the system says, up to a limit, or else a default.
    pub caches: [usize; 2],
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let &Tier { isa, tile: [rows, columns], caches } = self;
        let [first, second] = caches.map(|bytes| bytes >> 10);
        write!(f, "{isa}, tiles of {rows}x{columns}, caches of {first} and {second} KiB assumed")
    }
}

impl Kernels {
    /// The kernels of `isa`, or `None` where this CPU cannot run those for `f32` and for activations of
    /// `dtype`.
    pub fn of(isa: Isa, dtype: DType) -> Option<&'static Kernels> {
        let usable = |dtype| isa.kernel_set(dtype).is_some_and(|set| set.missing().is_none());
        (usable(DType::F32) && usable(dtype)).then_some(isa.table()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys that plans ask for; see `plan::dtypes` for the ends of a network, which are `f32`.
    #[test]
    fn tables_have_a_kernel_for_all_that_plans_ask_for() {
        for kernels in TABLES {
            for KernelSet { activations, .. } in kernels.sets {
                let (a, f32) = (*activations, DType::F32);
                for (input, output) in [(a, a), (f32, a), (a, f32), (f32, f32)] {
                    let _ = kernels.conv(input, output);
                }
                let _ = (kernels.pool(a, a), kernels.pool(a, f32), kernels.depthwise(a, a));
                let _ = (kernels.winograd_input(a), kernels.winograd_output(a), kernels.elementwise(a));
            }
            assert!(kernels.tile_rows <= conv::MAX_TILE_ROWS && kernels.panel <= conv::MAX_PANEL);
        }
    }
}
