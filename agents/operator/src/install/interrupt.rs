//! Places where a test can kill this command. They are numbered from 0, in the order in which they
//! are passed: the file `failpoints/install-7` beside `main.cf` chooses the eighth.

#[cfg(feature = "failpoints")]
mod counting {
    use std::path::{Path, PathBuf};
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    static CONFIG_DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    static PASSED: AtomicU32 = AtomicU32::new(0);

    pub(crate) fn for_instance(config_directory: &Path) {
        let _ = CONFIG_DIRECTORY.set(config_directory.to_owned());
    }

    pub(crate) fn here() {
        let number = PASSED.fetch_add(1, Ordering::Relaxed);
        if let Some(directory) = CONFIG_DIRECTORY.get() {
            settings::failpoint::hit(directory, &format!("install-{number}"));
        }
    }
}

#[cfg(feature = "failpoints")]
pub(super) use counting::{for_instance, here};

#[cfg(not(feature = "failpoints"))]
pub(super) fn for_instance(_config_directory: &std::path::Path) {}

#[cfg(not(feature = "failpoints"))]
pub(super) fn here() {}
