//! Places where a test can kill a daemon, as a power failure would, between two steps.
//!
//! With the feature `failpoints`, `hit("name")` looks for the file `failpoints/name` beside
//! `main.cf`; if it is there, it is removed and the process kills itself with SIGKILL. Removing
//! first makes each failure happen once, also for daemons that master starts again. Without the
//! feature, which is how it is shipped, `hit` does nothing.

use std::path::Path;

/// Dies here if a test asked for it.
#[cfg(feature = "failpoints")]
pub fn hit(config_directory: &Path, name: &str) {
    use nix::sys::signal::{Signal, kill};
    if std::fs::remove_file(config_directory.join("failpoints").join(name)).is_ok() {
        let _ = kill(nix::unistd::Pid::this(), Signal::SIGKILL);
    }
}

/// Compiled without failpoints: nothing.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub fn hit(_config_directory: &Path, _name: &str) {}
