//! Paths of this build's programs.

use std::path::{Path, PathBuf};

/// Environment variable for a folder with the programs to test, instead of the one beside the test.
const DIRECTORY_VARIABLE: &str = "OPTIMUS_BIN_DIR";

/// Returns the path of this build's program `name`: `target/<profile>/name`.
///
/// # Panics
/// Panics when the program hasn't been built; the message says how to build it.
pub fn bin(name: &str) -> PathBuf {
    let path = directory().join(name);
    assert!(
        path.is_file(),
        "{}: missing; run cargo build --workspace --all-features --bins",
        path.display()
    );
    path
}

fn directory() -> PathBuf {
    match std::env::var_os(DIRECTORY_VARIABLE) {
        Some(directory) => directory.into(),
        None => profile_directory(&std::env::current_exe().unwrap_or_default()),
    }
}

/// Returns `target/<profile>` for a program there, or for a test in its `deps`.
fn profile_directory(current: &Path) -> PathBuf {
    let parent = current.parent().unwrap_or(Path::new("."));
    match parent.file_name() {
        Some(name) if name == "deps" || name == "examples" => {
            parent.parent().unwrap_or(parent).to_owned()
        }
        _ => parent.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_beside_deps() {
        assert_eq!(profile_directory(Path::new("/t/debug/deps/x-1")), Path::new("/t/debug"));
        assert_eq!(profile_directory(Path::new("/t/release/quickstart")), Path::new("/t/release"));
    }

    #[test]
    #[should_panic(expected = "cargo build")]
    fn a_missing_program_says_how_to_build_it() {
        bin("no-such-program");
    }
}
