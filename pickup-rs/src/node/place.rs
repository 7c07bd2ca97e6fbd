//! Place of a queue directory, as Redis compares it and as people read it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Place of a queue directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QueuePlace {
    /// Boot, device and inode, which differ for any two directories that exist at the same time,
    /// also on two machines.
    pub(crate) place: String,
    /// Host name, machine id and path, which stay when a directory is put back or the machine
    /// reboots.
    pub(crate) host: String,
}

impl QueuePlace {
    pub(crate) fn of(queue_directory: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(queue_directory)?;
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let place = format!("{} {:x} {:x}", boot.trim(), metadata.dev(), metadata.ino());
        let name = nix::unistd::gethostname().unwrap_or_default();
        let machine = fs::read_to_string("/etc/machine-id").unwrap_or_default();
        let (name, directory) = (name.to_string_lossy(), queue_directory.display());
        Ok(Self {
            place,
            host: format!("{name} {} {directory}", machine.trim()).replace("  ", " "),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_another_place_and_a_restored_directory_has_the_same_host() {
        let folder = tempfile::tempdir().unwrap();
        let [one, other] = ["one", "other"].map(|name| folder.path().join(name));
        fs::create_dir(&one).unwrap();
        fs::create_dir(&other).unwrap();
        let (before, copy) = (QueuePlace::of(&one).unwrap(), QueuePlace::of(&other).unwrap());
        assert_eq!(QueuePlace::of(&one).unwrap(), before);
        assert!(copy.place != before.place && copy.host != before.host);
        fs::remove_dir(&one).unwrap();
        fs::rename(&other, &one).unwrap();
        let after = QueuePlace::of(&one).unwrap();
        assert_eq!((&after.place, after.host), (&copy.place, before.host));
    }
}
