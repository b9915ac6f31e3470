//! What a timing was taken on.

use std::fmt;
use std::fs;
use std::hint::black_box;
use std::process::Command;
use std::thread;
use std::time::Instant;

use inception_engine::Isa;
use serde::{Deserialize, Serialize};

use crate::{DeviceKind, Precision};

/// The circumstances of a timing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Regime {
    /// The processor's own name for itself; on x86 with family and model, since virtual machines shorten the name.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// The widest vector instructions of the family that the kernels use.
    pub instruction_set: String,
    /// The GPU, where one computed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<String>,
    /// Whether each thread was kept on a core of its own.
    #[serde(default)]
    pub pinned: bool,
    /// The frequency governor, where the system says.
    pub governor: Option<String>,
    /// This workspace's version.
    pub version: String,
    /// The commit of the working tree, with `+` where it has changes.
    pub commit: Option<String>,
}

impl Regime {
    /// Of this machine, now.
    pub fn here() -> Self {
        let cpu_info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let governor = fs::read_to_string("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
        Self {
            cpu: cpu_name(&cpu_info),
            cores: cores(),
            instruction_set: Isa::best().name().to_owned(),
            gpu: None,
            pinned: false,
            governor: governor.ok().map(|governor| governor.trim().to_owned()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: commit(),
        }
    }
}

impl fmt::Display for Regime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu, cores, instruction_set, version, .. } = self;
        let governor = self.governor.as_deref().unwrap_or("unknown");
        let commit = self.commit.as_deref().unwrap_or("unknown");
        let pinned = if self.pinned { "threads pinned" } else { "threads not pinned" };
        if let Some(gpu) = &self.gpu {
            write!(f, "{gpu}; ")?;
        }
        write!(f, "{cpu}, {cores} cores, {instruction_set}, {pinned}, governor {governor}; ")?;
        write!(f, "inception {version}, commit {commit}")
    }
}

/// The processor of a `/proc/cpuinfo`.
fn cpu_name(info: &str) -> String {
    let value = |key: &str| {
        let mut fields = info.lines().filter_map(|line| line.split_once(':'));
        fields.find(|(name, _)| name.trim() == key).map(|(_, value)| value.trim())
    };
    let name = value("model name").unwrap_or(std::env::consts::ARCH);
    match (value("cpu family"), value("model")) {
        (Some(family), Some(model)) => format!("{name} (family {family}, model {model})"),
        _ => name.to_owned(),
    }
}

/// Cores that this process may use.
pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

fn commit() -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let hash = git(&["rev-parse", "--short=12", "HEAD"])?;
    // Results that are being written change nothing of what is measured.
    let changes = git(&["status", "--porcelain", "--untracked-files=no", "--", ":(top,exclude)bench/runs"]);
    let changes = changes?;
    Some(hash + if changes.is_empty() { "" } else { "+" })
}

/// The most memory that this process has held, in units of 10^6 bytes, since [`reset_peak_memory`] or its start.
/// Linux only.
pub fn peak_memory_mb() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024.0 / 1e6)
}

/// Memory that a process can still take without others being pushed out, in bytes. Linux only.
pub fn free_memory() -> Option<u64> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

/// The cores that this process may use, for pinning threads to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cores(Vec<core_affinity::CoreId>);

impl Cores {
    /// Those of the calling thread, which must not be pinned yet; `None` where the system does not say.
    pub fn here() -> Option<Self> {
        core_affinity::get_core_ids().filter(|cores| !cores.is_empty()).map(Self)
    }

    /// Keeps the calling thread on a core of its own, if there are as many: the `thread`-th, from 0. Says whether the
    /// system lets it.
    pub fn pin(&self, thread: usize) -> bool {
        core_affinity::set_for_current(self.0[thread % self.0.len()])
    }
}

/// Forgets the peak so far, where the system lets it.
pub fn reset_peak_memory() {
    // Where it fails, the peak is that of the whole process: larger, never smaller.
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// Turns of the loop of multiply-adds: some tens of milliseconds.
const TURNS: usize = 4_000_000;

/// Defines one thread's loop of nothing but multiply-adds in registers, which gives the number that it made. The sums are
/// enough to cover an FMA's latency of four or five cycles on two ports.
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

/// One thread's loop, with the widest instructions that there are.
fn multiply_adds(precision: Precision) -> f64 {
    #[cfg(target_arch = "x86_64")]
    #[allow(unsafe_code)]
    if precision == Precision::Bf16 && precision.missing(DeviceKind::Engine).is_none() {
        // SAFETY: the CPU has the features, as just asked.
        return unsafe { multiply_adds_bf16() };
    } else if is_x86_feature_detected!("avx512f") {
        // SAFETY: the CPU has the feature, as just asked.
        return unsafe { multiply_adds_avx512() };
    } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: as above.
        return unsafe { multiply_adds_avx2() };
    }
    // Without an FMA instruction `mul_add` is a library call; a product and a sum are what the kernels do there.
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

/// What this machine can do at most: floating-point operations a second, in units of 10^9, of `threads` loops of
/// multiply-adds (two operations each) in `precision` that touch no memory. The best of ten.
pub fn peak_gflops(threads: usize, precision: Precision) -> f64 {
    let once = || {
        let start = Instant::now();
        let adds: f64 = thread::scope(|scope| {
            let loops: Vec<_> = (1..threads).map(|_| scope.spawn(|| multiply_adds(precision))).collect();
            let own = multiply_adds(precision);
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
    fn the_regime_names_the_machine() {
        let regime = Regime::here();
        assert!(!regime.cpu.is_empty() && regime.cores > 0 && !regime.instruction_set.is_empty());
    }

    #[test]
    fn processors_of_one_name_are_told_apart() {
        let info = "processor\t: 0\ncpu family\t: 26\nmodel\t\t: 2\nmodel name\t: AMD EPYC\n\nprocessor\t: 1\nmodel\t\t: 3\n";
        assert_eq!(cpu_name(info), "AMD EPYC (family 26, model 2)");
        assert_eq!(cpu_name("model name: Arm\n"), "Arm");
        assert_eq!(cpu_name(""), std::env::consts::ARCH);
    }

    #[test]
    fn the_peak_is_that_of_a_machine() {
        for precision in Precision::ALL {
            let peak = peak_gflops(1, precision);
            assert!((0.5..2000.0).contains(&peak), "{peak} GFLOP/s on one core in {precision}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_pinned_thread_has_one_core() {
        let cores = Cores::here().expect("Linux says");
        let pinned = thread::spawn(move || (cores.pin(0), Cores::here(), self::cores())).join();
        let (pinned, left, count) = pinned.expect("no panic");
        assert!(pinned && left.is_some_and(|cores| cores.0.len() == 1) && count == 1);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn memory_peaks() {
        let before = peak_memory_mb();
        let block = black_box(vec![1u8; 64 << 20]);
        let after = peak_memory_mb();
        drop(block);
        assert!(after > before, "{before:?} {after:?}");
    }
}
