//! The memory that this process may use: the machine's, or its control group's limit if that is
//! less.

use std::fs;
use std::path::Path;

/// Returns the memory that this process may use, in bytes; `None` where neither `/proc` nor the
/// control group tells.
pub(super) fn memory_bytes() -> Option<u64> {
    let whole = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_bytes(&text));
    let group = fs::read_to_string("/proc/self/cgroup").ok();
    let limit = group.as_deref().and_then(|text| limit_bytes(text, Path::new("/sys/fs/cgroup")));
    whole.into_iter().chain(limit).min()
}

/// Returns `MemTotal` of `/proc/meminfo`, in bytes.
fn total_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Returns the least `memory.max` from this process's group up to the root, in bytes. Only control
/// groups of version 2 have one.
fn limit_bytes(groups: &str, root: &Path) -> Option<u64> {
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let folder = root.join(own);
    let limits = folder.ancestors().take_while(|folder| folder.starts_with(root));
    let bytes =
        |folder: &Path| fs::read_to_string(folder.join("memory.max")).ok()?.trim().parse().ok();
    limits.filter_map(bytes).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_limit_on_the_way_up_counts() {
        let root = testbed::Scratch::new().unwrap();
        let own = root.folder("a/b").unwrap();
        let limit = |groups| limit_bytes(groups, root.path());
        fs::write(own.join("memory.max"), "max\n").unwrap();
        assert_eq!(limit("0::/a/b\n"), None);
        fs::write(root.path().join("a/memory.max"), "1000\n").unwrap();
        assert_eq!(limit("1:x:/y\n0::/a/b\n"), Some(1000));
        fs::write(own.join("memory.max"), "500\n").unwrap();
        assert_eq!((limit("0::/a/b\n"), limit("0::/a\n")), (Some(500), Some(1000)));
    }

    #[test]
    fn the_machine_s_memory_is_read() {
        assert_eq!(
            total_bytes("MemTotal:       16315332 kB\nMemFree: 1 kB\n"),
            Some(16_315_332 * 1024)
        );
        assert_eq!(total_bytes("MemFree: 1 kB\n"), None);
        assert!(memory_bytes().is_some());
    }
}
