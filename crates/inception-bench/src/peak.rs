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

/// Defines a loop of multiply-adds in registers, which returns their number: of so many sums, enough to cover the
/// instruction's latency on all ports, with so many multiply-adds in each step of a sum.
macro_rules! multiply_add_loop {
    ($name:ident, $features:literal, $sums:literal x $adds:literal, $factor:expr, |$sum:ident, $x:ident| $step:expr) => {
        #[target_feature(enable = $features)]
        pub(super) fn $name() -> f64 {
            let $x = black_box($factor);
            let mut sums = [black_box($x); $sums];
            for _ in 0..TURNS {
                for $sum in &mut sums {
                    *$sum = $step;
                }
            }
            black_box(sums);
            (TURNS * $sums * $adds) as f64
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod loops {
    use std::arch::x86_64::{
        _mm256_fmadd_ps, _mm256_set1_ps, _mm512_cvtne2ps_pbh, _mm512_dpbf16_ps, _mm512_dpbusd_epi32,
        _mm512_fmadd_ps, _mm512_set1_epi32, _mm512_set1_ps,
    };
    use std::hint::black_box;

    use super::TURNS;

    multiply_add_loop!(avx512, "avx512f", 12 x 16, _mm512_set1_ps(0.5), |sum, x| _mm512_fmadd_ps(*sum, x, x));
    multiply_add_loop!(avx2, "avx2,fma", 12 x 8, _mm256_set1_ps(0.5), |sum, x| _mm256_fmadd_ps(*sum, x, x));
    // Of pairs of `bf16`.
    multiply_add_loop!(bf16, "avx512f,avx512bf16", 12 x 32, _mm512_set1_ps(0.5), |sum, x| {
        let pairs = _mm512_cvtne2ps_pbh(x, x);
        _mm512_dpbf16_ps(*sum, pairs, pairs)
    });
    // Of bytes, four a lane.
    multiply_add_loop!(vnni, "avx512f,avx512vnni", 12 x 64, _mm512_set1_epi32(0x0101_0101), |sum, x| {
        _mm512_dpbusd_epi32(*sum, x, x)
    });
}

#[cfg(target_arch = "aarch64")]
mod loops {
    use std::arch::aarch64::{vdupq_n_f32, vfmaq_f32};
    use std::hint::black_box;

    use super::TURNS;

    // For four ports.
    multiply_add_loop!(neon, "neon", 20 x 4, vdupq_n_f32(0.5), |sum, x| vfmaq_f32(*sum, x, x));
}

/// One thread's loop, with the instructions of `isa`, which this CPU has.
fn multiply_adds(isa: Isa, precision: Precision) -> f64 {
    #[cfg(target_arch = "x86_64")]
    #[allow(unsafe_code)]
    if precision == Precision::Bf16 && precision.missing(DeviceKind::Engine).is_none() {
        // SAFETY: the CPU has the features, as just asked.
        return unsafe { loops::bf16() };
    } else if precision == Precision::Int8
        && isa == Isa::Avx512
        && isa.available()
        && is_x86_feature_detected!("avx512vnni")
    {
        // SAFETY: the CPU has AVX-512F and VNNI, as just asked.
        return unsafe { loops::vnni() };
    } else if isa == Isa::Avx512 && isa.available() {
        // SAFETY: the CPU has AVX-512F, as just asked.
        return unsafe { loops::avx512() };
    } else if isa == Isa::Avx2 && isa.available() {
        // SAFETY: the CPU has AVX2 and FMA, as just asked.
        return unsafe { loops::avx2() };
    }
    #[cfg(target_arch = "aarch64")]
    #[allow(unsafe_code)]
    if isa == Isa::Neon && isa.available() && precision == Precision::F32 {
        // SAFETY: the CPU has NEON, as just asked.
        return unsafe { loops::neon() };
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
