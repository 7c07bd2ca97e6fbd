//! Failpoints: places between two steps where a test can kill a daemon, as a power failure would.
//!
//! With the feature `failpoints`, `hit("name")` looks for the file `failpoints/name` beside
//! `main.cf`. If it is there, it is removed and the process kills itself with SIGKILL. Removing it
//! first makes each failure happen once, even for daemons that master restarts. Without the
//! feature, as in shipped programs, `hit` does nothing. A program with failpoints can't be built as
//! shippable programs are, so it never lies among them.

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
