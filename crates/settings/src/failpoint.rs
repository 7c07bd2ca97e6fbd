//! Failpoints: places between two steps where a test can kill a daemon, as a power failure would.
//!
//! With the feature `failpoints`, `hit("name")` looks for the file `failpoints/name` beside
//! `main.cf`. If the file exists, `hit` removes it and kills the process with SIGKILL. The removal
//! comes first, so that each failure happens once, even in daemons that master restarts. Without
//! the feature, as in shipped programs, `hit` does nothing. The feature needs debug assertions, so
//! no shipped program has it.

use std::path::Path;

#[cfg(all(feature = "failpoints", not(debug_assertions)))]
compile_error!("failpoints are for tests: build them with the profile `dev`");

/// Kills this process if a test set the failpoint.
#[cfg(feature = "failpoints")]
pub fn hit(config_directory: &Path, name: &str) {
    use nix::sys::signal::{Signal, kill};
    if std::fs::remove_file(config_directory.join("failpoints").join(name)).is_ok() {
        let _ = kill(nix::unistd::Pid::this(), Signal::SIGKILL);
    }
}

/// Does nothing: compiled without failpoints.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub fn hit(_config_directory: &Path, _name: &str) {}
