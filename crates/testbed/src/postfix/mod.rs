//! A private Postfix: the installed programs with a configuration, queue and log of their own.
//!
//! The instance sends everything to one relay, normally a [`Sink`](crate::Sink). The instance uses
//! no DNS and listens on no TCP port. Mail enters through the maildrop directory and stock pickup,
//! or through a service that a test adds. `daemon_directory` is a folder of links to the stock
//! daemons, beside which a test puts its own.
//!
//! Needs root, as Postfix's master does.

mod builder;
mod configuration;
mod control;
mod layout;
mod queue;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

pub use builder::PostfixBuilder;

use crate::namespace::{self, Namespace};
use crate::scratch::Scratch;
use layout::Layout;

/// File that lists what Postfix's own command repairs.
const POSTFIX_FILES: &str = "/etc/postfix/postfix-files";

/// Lines of the log that a failed test shows.
const SHOWN_LOG_LINES: usize = 150;

/// A Postfix instance. Stops when dropped; shows the end of its log when dropped by a panic.
#[derive(Debug)]
pub struct Postfix {
    layout: Layout,
    namespace: Option<Namespace>,
    scratch: Scratch,
}

impl Postfix {
    /// Begins the description of an instance. [`PostfixBuilder::start`] starts it.
    pub fn builder() -> PostfixBuilder {
        PostfixBuilder::default()
    }

    /// Returns the instance's scratch folder. Programs of the instance work in that folder, so that
    /// they end with it.
    pub fn path(&self) -> &Path {
        self.scratch.path()
    }

    /// Returns the folder of `main.cf`.
    pub fn config_dir(&self) -> &Path {
        &self.layout.config
    }

    /// Returns Postfix's `queue_directory`.
    pub fn queue_dir(&self) -> &Path {
        &self.layout.queue
    }

    /// Returns Postfix's `data_directory`.
    pub fn data_dir(&self) -> &Path {
        &self.layout.data
    }

    /// Returns Postfix's log so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log_file()).unwrap_or_default()).into_owned()
    }

    /// Returns the path of the log, as in `maillog_file`.
    pub fn log_file(&self) -> PathBuf {
        self.layout.log.join("maillog")
    }

    /// Returns a command for this instance that works in its folder. Only `MAIL_CONFIG` is set.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = namespace::command(self.namespace.as_ref(), program);
        command.env("MAIL_CONFIG", self.config_dir()).current_dir(self.path());
        command
    }

    /// Changes or adds settings of `main.cf`, each as `name = value`. Daemons started from now on
    /// use them; after `reload` all do.
    pub fn set_main(&self, lines: &[&str]) -> Result<()> {
        configuration::change_main(&self.layout.config, lines)
    }

    /// Limits the repairs of `postfix set-permissions`, `check` and `start` to the queue directory,
    /// so that they touch nothing of the machine's own Postfix.
    pub fn limit_repairs(&self) -> Result<()> {
        let folder = self.config_dir().join("meta");
        std::fs::create_dir(&folder)?;
        let files = std::fs::read_to_string(POSTFIX_FILES).context(POSTFIX_FILES)?;
        let queue = files.lines().filter(|line| line.starts_with("$queue_directory"));
        let queue: String = queue.map(|line| format!("{line}\n")).collect();
        std::fs::write(folder.join("postfix-files"), queue)?;
        self.set_main(&[&format!("meta_directory = {}", folder.display())])
    }

    fn show_log(&self) {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let shown = &lines[lines.len().saturating_sub(SHOWN_LOG_LINES)..];
        eprintln!("--- end of Postfix's log:\n{}\n---", shown.join("\n"));
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show_log();
        }
        let _ = self.stop();
    }
}
