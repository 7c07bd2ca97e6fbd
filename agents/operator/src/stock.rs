//! Postfix's own postsuper, for mail in this host's Postfix.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use agents::daemon::Instance;
use anyhow::{Context, Result, ensure};
use postfix_wire::MainCf;

/// Name under which `optimus install` keeps stock postsuper.
const ASIDE: &str = "postsuper.postfix";

/// Stock postsuper, with the options of all its runs.
pub(crate) struct Stock {
    program: PathBuf,
    config_directory: PathBuf,
    /// Number of `-v` options that were asked for.
    pub(crate) verbosity: usize,
}

/// Outcome of stock postsuper's runs.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Number of messages by the words of the summary, as `Deleted`.
    pub(crate) messages: BTreeMap<String, u64>,
    /// The first exit status other than 0.
    pub(crate) failed: Option<u8>,
}

impl Stock {
    /// Finds stock postsuper, which has another name once OPTIMUS is installed.
    pub(crate) fn of(instance: &Instance) -> Result<Self> {
        Self::find(&instance.main_cf, &instance.places.config_directory)
    }

    /// Finds stock postsuper, where no more than `main.cf` is known to be right.
    pub(crate) fn in_directory(config_directory: &Path) -> Result<Self> {
        Self::find(&MainCf::load(config_directory)?, config_directory)
    }

    fn find(main_cf: &MainCf, config_directory: &Path) -> Result<Self> {
        let folder = main_cf.get_path("command_directory")?;
        let aside = folder.join(ASIDE);
        let program = if aside.exists() { aside } else { folder.join("postsuper") };
        let is_ours = program.canonicalize().ok() == std::env::current_exe().ok();
        ensure!(
            !is_ours,
            "{}: missing, and mail in Postfix needs it; put stock postsuper there",
            folder.join(ASIDE).display()
        );
        Ok(Self { program, config_directory: config_directory.to_owned(), verbosity: 0 })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg0("postsuper").env("MAIL_CONFIG", &self.config_directory);
        command.args(std::iter::repeat_n("-v", self.verbosity));
        command
    }

    /// Becomes stock postsuper, with these arguments. Returns only when that fails.
    pub(crate) fn become_it(&self, arguments: &[String]) -> anyhow::Error {
        let error = Command::new(&self.program).arg0("postsuper").args(arguments).exec();
        anyhow::Error::new(host::limit::starting(error))
            .context(format!("{}: not started", self.program.display()))
    }

    /// Runs stock postsuper with these arguments, and queue ids on its standard input. Its messages
    /// go on to standard error, but for the summary, which is added to the tally.
    pub(crate) fn run(
        &self,
        arguments: &[String],
        ids: &[String],
        tally: &mut Tally,
    ) -> Result<()> {
        let mut command = self.command();
        command.args(arguments).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .map_err(host::limit::starting)
            .with_context(|| format!("{}: not started", self.program.display()))?;
        let (input, said) = (child.stdin.take(), child.stderr.take());
        std::thread::scope(|scope| {
            // A postsuper that ends early doesn't read the ids, which is no failure here.
            scope.spawn(move || {
                input.map(|mut it| it.write_all((ids.join("\n") + "\n").as_bytes()))
            });
            for line in
                said.into_iter().flat_map(|it| BufReader::new(it).lines()).map_while(Result::ok)
            {
                if !tally.take(&line) {
                    eprintln!("{line}");
                }
            }
        });
        let status = child.wait()?;
        if !status.success() {
            let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
            tally.failed.get_or_insert(code);
        }
        Ok(())
    }
}

impl Tally {
    /// Takes a line of the summary, as `postsuper: Deleted: 2 messages`. Returns false for any
    /// other line.
    fn take(&mut self, line: &str) -> bool {
        let summary = || {
            let (what, count) = line.strip_prefix("postsuper: ")?.rsplit_once(": ")?;
            let count =
                count.strip_suffix(" messages").or_else(|| count.strip_suffix(" message"))?;
            Some((what.to_owned(), count.parse().ok()?))
        };
        let Some((what, count)) = summary() else { return false };
        self.add(&what, count);
        true
    }

    /// Counts messages, perhaps none, under the summary's words.
    pub(crate) fn add(&mut self, what: &str, count: u64) {
        *self.messages.entry(what.to_owned()).or_default() += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_counted_and_other_lines_are_not() {
        let mut tally = Tally::default();
        let lines =
            ["Deleted: 2 messages", "Deleted: 1 message", "4C1B2: removed", "warning: x: 1 y"];
        let taken = lines.map(|line| tally.take(&format!("postsuper: {line}")));
        assert_eq!(taken, [true, true, false, false]);
        assert_eq!(tally.messages, BTreeMap::from([("Deleted".to_owned(), 3)]));
    }
}
