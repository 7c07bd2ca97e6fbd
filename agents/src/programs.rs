//! The three agents as programs: what they are called and take. Apart from them, because their man
//! pages are made from it.

use clap::{ArgMatches, Args, Command, FromArgMatches};

use crate::daemon::Options;

/// A daemon.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// Its name.
    pub name: &'static str,
    /// What it does, in a few words.
    pub about: &'static str,
}

/// See [`crate::info`].
pub const INFO: Program =
    Program { name: "info-agent", about: "Shares lots of mail out over Postfix servers" };
/// See [`crate::scheduler`].
pub const SCHEDULER: Program =
    Program { name: "scheduler-agent", about: "Looks after Mail Agents" };
/// See [`crate::mail`].
pub const MAIL: Program =
    Program { name: "mail-agent", about: "Hands lots of mail to one Postfix" };

impl Program {
    /// Its command line.
    pub fn command(&self) -> Command {
        Options::augment_args(
            Command::new(self.name).version(env!("CARGO_PKG_VERSION")).about(self.about),
        )
    }

    /// What this process was given; ends it when that makes no sense.
    pub fn options(&self) -> Options {
        let read = |given: &ArgMatches| Options::from_arg_matches(given);
        read(&self.command().get_matches()).unwrap_or_else(|error| error.exit())
    }
}
