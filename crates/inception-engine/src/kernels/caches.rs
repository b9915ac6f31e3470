//! The caches of this machine, as the system describes them.

use std::sync::LazyLock;

/// Bytes of the second-level cache of a core, if the system says. Linux does, in `sysfs`.
pub(super) fn second_level() -> Option<usize> {
    static READ: LazyLock<Option<usize>> = LazyLock::new(|| {
        let index = |index: usize| format!("/sys/devices/system/cpu/cpu0/cache/index{index}");
        let read = |index_folder: &str, file: &str| {
            std::fs::read_to_string(format!("{index_folder}/{file}")).ok().map(|text| text.trim().to_owned())
        };
        // Two of the first level, for data and instructions, then the others.
        let folder = (0..8).map(index).find(|folder| read(folder, "level").as_deref() == Some("2"))?;
        bytes(&read(&folder, "size")?)
    });
    *READ
}

/// A size as `sysfs` writes it: `512K`, `2M`.
fn bytes(text: &str) -> Option<usize> {
    let (digits, unit) = match text.strip_suffix('K') {
        Some(digits) => (digits, 1 << 10),
        None => (text.strip_suffix('M')?, 1 << 20),
    };
    digits.parse::<usize>().ok()?.checked_mul(unit).filter(|&bytes| bytes > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_linux_writes_them() {
        for (text, size) in [("512K", Some(512 << 10)), ("2M", Some(2 << 20)), ("1280K", Some(1280 << 10))] {
            assert_eq!(bytes(text), size);
        }
        for text in ["", "K", "0K", "512", "-1K", "99999999999999999999K", "18446744073709551615M"] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }
}
