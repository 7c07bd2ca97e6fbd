//! The three agents as programs: their names and options. The agents' man pages are made from this
//! module.

use clap::{ArgMatches, Args, Command, FromArgMatches};

use crate::daemon::Options;

/// The program of a daemon.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// Name of the program.
    pub name: &'static str,
    /// Purpose of the program, in a few words.
    pub about: &'static str,
}

/// The Info Agent, [`crate::info`].
pub const INFO: Program =
    Program { name: "info-agent", about: "Shares lots of mail out over Postfix servers" };
/// The Scheduler, [`crate::scheduler`].
pub const SCHEDULER: Program =
    Program { name: "scheduler-agent", about: "Looks after Mail Agents" };
/// The Mail Agent, [`crate::mail`].
pub const MAIL: Program =
    Program { name: "mail-agent", about: "Hands lots of mail to one Postfix" };

impl Program {
    /// Returns the program's command line.
    pub fn command(&self) -> Command {
        Options::augment_args(
            Command::new(self.name).version(env!("CARGO_PKG_VERSION")).about(self.about),
        )
    }

    /// Returns the options of this process; ends it when they make no sense.
    pub fn options(&self) -> Options {
        let read = |given: &ArgMatches| Options::from_arg_matches(given);
        read(&self.command().get_matches()).unwrap_or_else(|error| error.exit())
    }
}
