//! The peak of this machine: multiply-adds in registers.

use std::hint::black_box;
use std::thread;
use std::time::Instant;

#[cfg(target_arch = "x86_64")]
use inception::DeviceKind;
use inception::Precision;
use inception::engine::Isa;

/// Iterations of the loop of multiply-adds: some tens of milliseconds.
const TURNS: usize = 4_000_000;

/// Defines a loop of multiply-adds in registers, which returns their number. There are enough sums to cover
/// an FMA's latency of four or five cycles on two ports.
#[cfg(target_arch = "x86_64")]
macro_rules! fma_loop {
    ($name:ident, $features:literal, $splat:ident, $fma:ident, $lanes:literal) => {
        #[target_feature(enable = $features)]
        fn $name() -> f64 {
            use std::arch::x86_64::{$fma, $splat};
            const SUMS: usize = 12;
            let factor = $splat(black_box(0.5));
            let mut sums = [$splat(black_box(1.0)); SUMS];
            for _ in 0..TURNS {
                for sum in &mut sums {
                    *sum = $fma(*sum, factor, factor);
                }
            }
            black_box(sums);
            (TURNS * SUMS * $lanes) as f64
        }
    };
}

#[cfg(target_arch = "x86_64")]
fma_loop!(multiply_adds_avx512, "avx512f", _mm512_set1_ps, _mm512_fmadd_ps, 16);
#[cfg(target_arch = "x86_64")]
fma_loop!(multiply_adds_avx2, "avx2,fma", _mm256_set1_ps, _mm256_fmadd_ps, 8);

/// As `fma_loop!`, of pairs of `bf16`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
fn multiply_adds_bf16() -> f64 {
    use std::arch::x86_64::{_mm512_cvtne2ps_pbh, _mm512_dpbf16_ps, _mm512_set1_ps};
    const SUMS: usize = 12;
    let half = _mm512_set1_ps(black_box(0.5));
    let factor = _mm512_cvtne2ps_pbh(half, half);
    let mut sums = [half; SUMS];
    for _ in 0..TURNS {
        for sum in &mut sums {
            *sum = _mm512_dpbf16_ps(*sum, factor, factor);
        }
    }
    black_box(sums);
    (TURNS * SUMS * 32) as f64
}

/// As `fma_loop!`, of products of bytes, four a lane.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
fn multiply_adds_vnni() -> f64 {
    use std::arch::x86_64::{_mm512_dpbusd_epi32, _mm512_set1_epi32};
    const SUMS: usize = 12;
    let factor = _mm512_set1_epi32(black_box(0x0101_0101));
    let mut sums = [factor; SUMS];
    for _ in 0..TURNS {
        for sum in &mut sums {
            *sum = _mm512_dpbusd_epi32(*sum, factor, factor);
        }
    }
    black_box(sums);
    (TURNS * SUMS * 64) as f64
}

/// As `fma_loop!`, with NEON, and sums for four ports.
#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
fn multiply_adds_neon() -> f64 {
    use std::arch::aarch64::{vdupq_n_f32, vfmaq_f32};
    const SUMS: usize = 20;
    let factor = vdupq_n_f32(black_box(0.5));
    let mut sums = [vdupq_n_f32(black_box(1.0)); SUMS];
    for _ in 0..TURNS {
        for sum in &mut sums {
            *sum = vfmaq_f32(*sum, factor, factor);
        }
    }
    black_box(sums);
    (TURNS * SUMS * 4) as f64
}

/// One thread's loop, with the instructions of `isa`, which this CPU has.
fn multiply_adds(isa: Isa, precision: Precision) -> f64 {
    #[cfg(target_arch = "x86_64")]
    #[allow(unsafe_code)]
    if precision == Precision::Bf16 && precision.missing(DeviceKind::Engine).is_none() {
        // SAFETY: the CPU has the features, as just asked.
        return unsafe { multiply_adds_bf16() };
    } else if precision == Precision::Int8
        && isa == Isa::Avx512
        && isa.available()
        && is_x86_feature_detected!("avx512vnni")
    {
        // SAFETY: the CPU has AVX-512F and VNNI, as just asked.
        return unsafe { multiply_adds_vnni() };
    } else if isa == Isa::Avx512 && isa.available() {
        // SAFETY: the CPU has AVX-512F, as just asked.
        return unsafe { multiply_adds_avx512() };
    } else if isa == Isa::Avx2 && isa.available() {
        // SAFETY: the CPU has AVX2 and FMA, as just asked.
        return unsafe { multiply_adds_avx2() };
    }
    #[cfg(target_arch = "aarch64")]
    #[allow(unsafe_code)]
    if isa == Isa::Neon && isa.available() && precision == Precision::F32 {
        // SAFETY: the CPU has NEON, as just asked.
        return unsafe { multiply_adds_neon() };
    }
    // Without an FMA instruction `mul_add` is a library call; a product and a sum are what the kernels do
    // there.
    let factor = black_box(0.5f32);
    let mut sums = [black_box(1.0f32); 32];
    for _ in 0..TURNS {
        for sum in &mut sums {
            *sum = *sum * factor + factor;
        }
    }
    black_box(sums);
    (TURNS * sums.len()) as f64
}

/// The peak of this machine: floating-point operations a second, in units of 10^9, of `threads` loops
/// of multiply-adds (two operations each) in `precision` that touch no memory, with the instructions that the
/// engine uses ([`Isa::chosen`]); in `int8` without AVX512-VNNI that of `f32`. The best of ten.
pub fn peak_gflops(threads: usize, precision: Precision) -> f64 {
    let isa = Isa::chosen().unwrap_or_else(|_| Isa::best());
    let once = || {
        let start = Instant::now();
        let adds: f64 = thread::scope(|scope| {
            let loops: Vec<_> = (1..threads).map(|_| scope.spawn(|| multiply_adds(isa, precision))).collect();
            let own = multiply_adds(isa, precision);
            own + loops.into_iter().map(|l| l.join().unwrap_or(0.0)).sum::<f64>()
        });
        2.0 * adds / start.elapsed().as_secs_f64() / 1e9
    };
    (0..10).map(|_| once()).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_that_of_a_machine() {
        for precision in Precision::ALL {
            let peak = peak_gflops(1, precision);
            assert!((0.5..2000.0).contains(&peak), "{peak} GFLOP/s on one core in {precision}");
        }
    }
}
