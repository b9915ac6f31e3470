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

pub(crate) use table::{CostModel, DepthwiseLayer, IntegerWinograd, KernelSet, Kernels};
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
        self.table()?.set(dtype)
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

    /// Features that this CPU has beside the instruction set and that no kernel uses yet, arithmetic of half
    /// precision for example.
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

    /// Pixels that are as large as they can be, and some of everything.
    fn pixel(r: usize, c: usize) -> u8 {
        if r == 0 { 255 } else { ((r * 97 + c * 31) % 256) as u8 }
    }

    /// Runs a micro-kernel on bytes on a full tile with these weights of channel and column, and compares
    /// with scalar code.
    #[allow(unsafe_code)] // A kernel is called with pointers.
    fn check_on_bytes(
        what: &str,
        kernels: &Kernels,
        kernel: table::ConvKernel,
        weight: impl Fn(usize, usize) -> i32,
    ) {
        use super::conv::{Prefetch, Tile};
        const K: usize = 38;
        let (rows, width) = (kernels.tile_rows, kernels.panel);
        let pixels: Vec<u8> = (0..rows * K).map(|i| pixel(i / K, i % K)).collect();
        let lanes = K.div_ceil(4) * width;
        let byte = |c: usize, o: usize| if c < K { weight(c, o) as i8 } else { 0 };
        let lane = |i: usize| {
            let bytes = [0, 1, 2, 3].map(|j| byte(i / width * 4 + j, i % width).cast_unsigned());
            f32::from_bits(u32::from_le_bytes(bytes))
        };
        let weights: Vec<f32> = (0..lanes).map(lane).collect();
        let pointers: Vec<*const u8> = (0..rows).map(|r| pixels[r * K..].as_ptr()).collect();
        let (scale, bias, min) = (vec![1.5e-4; width], vec![128.0; width], vec![3.0; width]);
        let residual: Vec<u8> = (0..rows * width).map(|i| (i % 7) as u8).collect();
        let mut out = vec![0u8; rows * width];
        let tile = Tile {
            indirection: pointers.as_ptr(),
            rows,
            taps: 1,
            k: K,
            weights: weights.as_ptr(),
            prefetch: Prefetch { start: weights.as_ptr(), lines: 0 },
            width,
            valid: width - 1,
            scale: scale.as_ptr(),
            bias: bias.as_ptr(),
            min: min.as_ptr(),
            residual: residual.as_ptr(),
            ld_residual: width,
            residual_scale: 0.5,
            out: out.as_mut_ptr(),
            ld_out: width,
        };
        // SAFETY: the tile describes the arrays above, and the caller's CPU has the kernel's features.
        unsafe { kernel(&tile) };
        for (i, found) in out.iter().enumerate() {
            let (r, o) = (i / width, i % width);
            let sum: i32 = (0..K).map(|c| i32::from(pixel(r, c)) * weight(c, o)).sum();
            let v = sum as f32 * 1.5e-4 + 128.0 + f32::from(residual[i]) * 0.5;
            let wanted = v.clamp(3.0, 255.0).round_ties_even() as u8;
            let wanted = if o < width - 1 { wanted } else { 0 };
            assert_eq!(*found, wanted, "{what}, row {r}, column {o}");
        }
    }

    /// The sets of kernels on bytes that this CPU can run, also those that it has a faster one for.
    fn sets_on_bytes() -> impl Iterator<Item = (&'static Kernels, &'static KernelSet, String)> {
        let sets = TABLES.iter().flat_map(|kernels| kernels.sets.iter().map(move |set| (*kernels, set)));
        sets.filter(|(_, set)| set.activations == DType::U8).filter_map(|(kernels, set)| {
            match set.missing() {
                Some(reason) => {
                    eprintln!("SKIPPED: bytes on {} {reason}", kernels.isa);
                    None
                }
                None => Some((kernels, set, format!("{}, {} features", kernels.isa, set.features.len()))),
            }
        })
    }

    /// Every micro-kernel on bytes gives the bytes of scalar code. Products are as large as they can be: what
    /// saturates on the way shows.
    #[test]
    fn micro_kernels_on_bytes_equal_scalar_code() {
        for (kernels, set, what) in sets_on_bytes() {
            let row = set.conv.iter().find(|row| (row.input, row.output) == (DType::U8, DType::U8));
            check_on_bytes(&what, kernels, row.expect("from bytes to bytes").kernel, |c, o| match o {
                0 => 127,
                1 => -127,
                _ => ((c * 53 + o * 29) % 255) as i32 - 127,
            });
        }
    }

    /// Those for weights whose pairs fit give the same, with pairs at both limits and each number of pairs of
    /// both signs; and they do saturate beyond, so that what is tested is that kernel.
    #[test]
    fn micro_kernels_for_pairs_equal_scalar_code() {
        let paired = |c: usize, o: usize| {
            let first = ((c / 2 * 53 + o * 29) % 255) as i32 - 127;
            let [low, high] = [(-128 - first.min(0)).max(-127), (128 - first.max(0)).min(127)];
            let second = match (c / 2 + o) % 3 {
                0 => low,
                1 => high,
                _ => (low + high) / 2,
            };
            if (c + o).is_multiple_of(2) { first } else { second }
        };
        let weight = |c: usize, o: usize| match (o, c % 2) {
            (0, _) => 64,
            (1, _) => -64,
            (2, 0) => 127,
            (2, _) => 1,
            (3, 0) => -1,
            (3, _) => -127,
            (4, 0) => 127,
            (4, _) => -127,
            _ => paired(c, o),
        };
        for pair in (0..38).step_by(2) {
            for o in 0..conv::MAX_PANEL {
                let bytes = [weight(pair, o), weight(pair + 1, o)].map(|w| w as i8);
                assert!(inception_graph::integers::pairs_fit(bytes), "{bytes:?}");
            }
        }
        for (kernels, set, what) in sets_on_bytes() {
            for row in set.paired_conv.iter().filter(|row| row.output == DType::U8) {
                check_on_bytes(&what, kernels, row.kernel, weight);
                let beyond = |c: usize, o: usize| if c < 2 && o == 0 { 127 } else { weight(c, o) };
                let saturates = || check_on_bytes(&what, kernels, row.kernel, beyond);
                assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(saturates)).is_err());
            }
        }
    }

    /// No kernel calls an intrinsic as a function: in code without the instruction set, a closure for
    /// example, it cannot be inlined, and passes its vectors through memory. Such functions have a name in
    /// this very program.
    #[test]
    fn intrinsics_are_inlined() -> std::io::Result<()> {
        if cfg!(debug_assertions) || cfg!(sanitized) {
            eprintln!("SKIPPED: nothing is inlined without optimisation");
            return Ok(());
        }
        let program = std::fs::read(std::env::current_exe()?)?;
        // As names of modules are mangled. In two parts, so that this is not what is found.
        let module = ["9core", "_arch"].concat().into_bytes();
        let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        let named = program.windows(module.len()).enumerate().filter(|(_, bytes)| *bytes == module);
        let called: std::collections::BTreeSet<String> = named
            .map(|(at, _)| {
                program[at..].iter().take_while(|byte| is_name(byte)).map(|b| char::from(*b)).collect()
            })
            .collect();
        // What asks the system for features, and this test.
        let others = ["xgetbv", "cpuid"];
        let called: Vec<_> = called
            .iter()
            .filter(|name| name.len() > module.len() && !others.iter().any(|other| name.contains(other)))
            .collect();
        assert!(called.is_empty(), "{called:#?}");
        Ok(())
    }

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
                let _ = kernels.elementwise(a);
                // Those of Winograd's algorithm on integers are in a list of their own.
                if a != DType::U8 {
                    let _ = (kernels.winograd_input(a), kernels.winograd_output(a));
                }
            }
            assert!(kernels.tile_rows <= conv::MAX_TILE_ROWS && kernels.panel <= conv::MAX_PANEL);
        }
    }
}
