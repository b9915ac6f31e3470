//! The caches of this machine, as the system describes them.

use std::sync::LazyLock;

/// Bytes of a core's first-level cache for data and of its second-level cache, if the system says. Linux
/// does, in `sysfs`.
pub(super) fn sizes() -> [Option<usize>; 2] {
    static READ: LazyLock<[Option<usize>; 2]> = LazyLock::new(|| ["1", "2"].map(size));
    *READ
}

/// Bytes of the cache of this level that holds data.
fn size(level: &str) -> Option<usize> {
    // Two of the first level, for data and instructions, then the others.
    (0..8).find_map(|index| {
        let read = |file: &str| {
            let path = format!("/sys/devices/system/cpu/cpu0/cache/index{index}/{file}");
            std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
        };
        let wanted =
            read("level").as_deref() == Some(level) && read("type").as_deref() != Some("Instruction");
        if wanted { bytes(&read("size")?) } else { None }
    })
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
