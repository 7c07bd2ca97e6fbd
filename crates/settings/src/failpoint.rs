//! Failpoints: places between two steps where a test can kill a daemon, as a power failure would,
//! or stall it, as a slow disk would.
//!
//! With the feature `failpoints`, `hit("name")` looks for the file `failpoints/name` beside
//! `main.cf`. If the file exists, `hit` removes it and kills the process with SIGKILL. The removal
//! comes first, so that each failure happens once, even in daemons that master restarts. If the
//! file has the text `stall`, `hit` waits until it is removed instead. Without
//! the feature, as in shipped programs, `hit` does nothing. The feature needs debug assertions, so
//! no shipped program has it.

use std::path::Path;

#[cfg(all(feature = "failpoints", not(debug_assertions)))]
compile_error!("failpoints are for tests: build them with the profile `dev`");

/// Kills or stalls this process if a test set the failpoint.
#[cfg(feature = "failpoints")]
pub fn hit(config_directory: &Path, name: &str) {
    use nix::sys::signal::{Signal, kill};
    let file = config_directory.join("failpoints").join(name);
    if std::fs::read_to_string(&file).is_ok_and(|text| text == "stall") {
        while file.exists() {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        return;
    }
    if std::fs::remove_file(&file).is_ok() {
        let _ = kill(nix::unistd::Pid::this(), Signal::SIGKILL);
    }
}

/// Does nothing: compiled without failpoints.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub fn hit(_config_directory: &Path, _name: &str) {}
