//! This machine's CPU.

use std::fs;
use std::thread;

/// The processor's own name for itself; on x86 with family and model, since virtual machines shorten the
/// name.
pub fn cpu_name() -> String {
    name_in(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default())
}

/// The processor of a `/proc/cpuinfo`.
fn name_in(info: &str) -> String {
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

/// Number of cores that this process may use.
pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// The cores that this process may use, for pinning threads to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cores(Vec<core_affinity::CoreId>);

impl Cores {
    /// Those of the calling thread, which must not be pinned yet; `None` where the system does not say.
    pub fn here() -> Option<Self> {
        core_affinity::get_core_ids().filter(|cores| !cores.is_empty()).map(Self)
    }

    /// Keeps the calling thread on one core: the `thread`-th, from 0, and the first again after the last.
    /// Returns whether the system allows it.
    pub fn pin(&self, thread: usize) -> bool {
        core_affinity::set_for_current(self.0[thread % self.0.len()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_of_one_name_are_told_apart() {
        let info = "processor\t: 0\ncpu family\t: 26\nmodel\t\t: 2\nmodel name\t: AMD EPYC\n\nprocessor\t: 1\nmodel\t\t: 3\n";
        assert_eq!(name_in(info), "AMD EPYC (family 26, model 2)");
        assert_eq!(name_in("model name: Arm\n"), "Arm");
        assert_eq!(name_in(""), std::env::consts::ARCH);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_pinned_thread_has_one_core() {
        let cores = Cores::here().expect("Linux says");
        let pinned = thread::spawn(move || (cores.pin(0), Cores::here(), self::cores())).join();
        let (pinned, left, count) = pinned.expect("no panic");
        assert!(pinned && left.is_some_and(|cores| cores.0.len() == 1) && count == 1);
    }
}
