//! The machine and the build of a timing.

use std::fmt;
use std::fs;
use std::process::Command;

use inception::engine::{Isa, Tier};
use inception::{cores, cpu_name};
use serde::{Deserialize, Serialize};

/// The machine and the build of a timing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// The processor's own name for itself; on x86 with family and model, since virtual machines shorten the
    /// name.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// The instruction set that the engine compiles for: `INCEPTION_ISA`, or the best of the CPU.
    pub instruction_set: String,
    /// The engine's tile and the cache that its planner assumes; runs before 26 November 2026 do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernels: Option<String>,
    /// The GPU, where one computed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<String>,
    /// Whether each thread was kept on a core of its own.
    #[serde(default)]
    pub pinned: bool,
    /// The frequency governor, if the system says.
    pub governor: Option<String>,
    /// This workspace's version.
    pub version: String,
    /// The commit of the working tree, with `+` where it has changes.
    pub commit: Option<String>,
}

impl Environment {
    /// Of this machine, now.
    pub fn here() -> Self {
        let isa = Isa::chosen().unwrap_or_else(|_| Isa::best());
        let Tier { tile: [rows, columns], caches, .. } = isa.tier();
        let [first, second] = caches.map(|bytes| bytes >> 10);
        let governor = fs::read_to_string("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
        Self {
            cpu: cpu_name(),
            cores: cores(),
            instruction_set: isa.to_string(),
            kernels: Some(format!(
                "tiles of {rows}x{columns}, L1 of {first} KiB and L2 of {second} KiB assumed"
            )),
            gpu: None,
            pinned: false,
            governor: governor.ok().map(|governor| governor.trim().to_owned()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: commit(),
        }
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu, cores, instruction_set, version, .. } = self;
        let kernels = self.kernels.as_ref().map(|kernels| format!(" ({kernels})")).unwrap_or_default();
        let governor = self.governor.as_deref().unwrap_or("unknown");
        let commit = self.commit.as_deref().unwrap_or("unknown");
        let pinned = if self.pinned { "threads pinned" } else { "threads not pinned" };
        if let Some(gpu) = &self.gpu {
            write!(f, "{gpu}; ")?;
        }
        write!(f, "{cpu}, {cores} cores, {instruction_set}{kernels}, {pinned}, governor {governor}; ")?;
        write!(f, "inception {version}, commit {commit}")
    }
}

fn commit() -> Option<String> {
    // Of this workspace: the program may be installed, and run in another repository.
    let workspace = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(workspace).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let root = fs::canonicalize(git(&["rev-parse", "--show-toplevel"])?).ok()?;
    if root != fs::canonicalize(workspace).ok()? {
        return None;
    }
    let hash = git(&["rev-parse", "--short=12", "HEAD"])?;
    // The files of results do not change what is measured.
    let changes = git(&["status", "--porcelain", "--untracked-files=no", "--", ":(top,exclude)bench/runs"]);
    let changes = changes?;
    Some(hash + if changes.is_empty() { "" } else { "+" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_names_the_machine() {
        let environment = Environment::here();
        assert!(
            !environment.cpu.is_empty() && environment.cores > 0 && !environment.instruction_set.is_empty()
        );
    }
}
