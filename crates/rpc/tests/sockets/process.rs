//! Parts of tests in processes of their own, which are killed or run in another network. Each
//! process runs this program with the name of its part.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

const FOLDER: &str = "RPC_TEST_FOLDER";

/// A process that is killed when dropped.
pub(crate) struct Process(Child);

impl Process {
    /// Plays the `part`, the whole name of an ignored test, with a folder to share.
    pub(crate) fn begin(part: &str, folder: &Path) -> Self {
        Self::begin_by(Command::new(env::current_exe().unwrap()), part, folder)
    }

    /// Plays a part by a command that ends with this program's name.
    pub(crate) fn begin_by(mut command: Command, part: &str, folder: &Path) -> Self {
        command.args([part, "--exact", "--ignored", "--nocapture"]).env(FOLDER, folder);
        Self(command.spawn().unwrap())
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Kills the process by SIGKILL.
    pub(crate) fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// Waits for the process's end, which must be a success.
    pub(crate) fn wait(mut self) {
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns the folder of a process that plays a part; `None` when a person runs ignored tests.
pub(crate) fn folder() -> Option<PathBuf> {
    env::var_os(FOLDER).map(PathBuf::from)
}
