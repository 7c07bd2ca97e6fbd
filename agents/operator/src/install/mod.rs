//! `optimus install` and `optimus uninstall`: put OPTIMUS into a system's Postfix, and take it out
//! without a trace.
//!
//! A *plan* is a list of things that must be there: files, folders, the entry in `master.cf`. A
//! look at each thing finds what it still needs, as a list of *changes*, each atomic. The *journal*
//! notes, before a thing is touched, what is needed to undo it. So installing twice is installing
//! once, and installing over an older version is an upgrade. After a run that was killed, either
//! command goes on from what is there.
//!
//! ```text
//!   plan ── look ──▶ changes ──▶ journal, fsync ──▶ change, fsync ──▶ next
//!                       │
//!                       └─▶ printed: all that a dry run does
//! ```
//!
//! There is a working `sendmail` at any instant, because a program is put in place by renaming it
//! over the other. See `docs/decisions/0012-*`.

mod change;
mod command;
mod dpkg;
mod file;
mod files;
mod give_over;
mod interrupt;
mod journal;
mod late;
mod left;
mod master_cf;
mod plan;
mod site;
mod undo;
mod units;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use agents::daemon::Options;
use anyhow::{Context, Result};

use crate::say;
use change::Change;
use journal::{Due, FileRecord, Journal, Record, What};
use plan::{Plan, Step, Thing};
use site::Site;

pub(crate) use give_over::run as give_over;

/// Folders of files that are not Postfix's.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Folders {
    /// Folder for optimus and the agents
    #[arg(long, value_name = "DIR", default_value = "/usr/sbin")]
    prefix: PathBuf,
    /// Folder for man pages, which go into its man1, man5 and man8
    #[arg(long, value_name = "DIR", default_value = "/usr/local/share/man")]
    man_directory: PathBuf,
    /// Folder for systemd units
    #[arg(long, value_name = "DIR", default_value = "/etc/systemd/system")]
    unit_directory: PathBuf,
    /// Folder for the journal, which uninstalling needs
    #[arg(long, value_name = "DIR", default_value = "/var/lib/optimus")]
    state_directory: PathBuf,
}

/// Systemd units for the agents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum UnitChoice {
    /// optimus.service: all agents in one process, with a Redis of its own when none is configured
    Together,
    /// optimus-info.service, optimus-scheduler.service, optimus-mail.service and
    /// optimus-maildrop.service
    Apart,
    /// Only optimus-maildrop.service, which resolves submissions in doubt; agents run elsewhere
    None,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Install {
    #[command(flatten)]
    folders: Folders,
    /// The folder with the built programs [default: this program's folder]
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// The agents' systemd units
    #[arg(long, value_enum, default_value = "together")]
    agents: UnitChoice,
    /// Show what would be done, step by step, and do nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Uninstall {
    #[command(flatten)]
    folders: Folders,
    /// Put stock sendmail and postdrop back at once, then wait until Redis has no mail left before
    /// removing the rest
    #[arg(long, conflicts_with = "force")]
    wait: bool,
    /// Uninstall even while Redis has mail, which nobody delivers until OPTIMUS is installed again;
    /// and even when Redis can't be reached, so that other nodes will send again the mail that this
    /// Postfix has taken
    #[arg(long)]
    force: bool,
    /// Show what would be done, step by step, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// A run that makes changes, or only prints them.
struct Changes {
    journal: Journal,
    dry_run: bool,
    made: usize,
}

pub(crate) fn install(options: &Options, install: &Install) -> Result<ExitCode> {
    let site = begin(options, &install.folders, install.dry_run)?;
    site.refuse_if_impossible(install.dry_run)?;
    let from = match &install.from {
        Some(folder) => folder.clone(),
        None => std::env::current_exe()?.parent().map(Path::to_owned).unwrap_or_default(),
    };
    let mut changes = Changes::over(&install.folders.state_directory, install.dry_run)?;
    let steps = Plan::of(&site, &from, install.agents, &changes.journal)?;
    // All refusals come before the first change.
    let records =
        steps.iter().map(|it| record(&site, it, &changes.journal)).collect::<Result<Vec<_>>>()?;
    let wanted: BTreeSet<PathBuf> =
        records.iter().flatten().map(|it| it.what.path().to_owned()).collect();
    changes.note(&steps, records)?;
    steps.iter().try_for_each(|step| changes.step(&site, step))?;
    changes.remove_unwanted(&site, &wanted)?;
    changes.tell_of_changes(&site)?;
    changes.summary("installed");
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn uninstall(options: &Options, uninstall: &Uninstall) -> Result<ExitCode> {
    let site = begin(options, &uninstall.folders, uninstall.dry_run)?;
    let mut changes = Changes::over(&uninstall.folders.state_directory, uninstall.dry_run)?;
    if !uninstall.force && !uninstall.wait && !changes.journal.is_unused() {
        left::refuse_while_mail_is_left(&site)?;
    }
    changes.undo(&site, |it| it.submits)?;
    if !uninstall.dry_run && !uninstall.force && !changes.journal.is_unused() {
        if uninstall.wait {
            left::wait_until_none_is_left(&site)?;
        }
        // Mail may have come in before stock sendmail was back.
        left::refuse_while_mail_is_left(&site)?;
    }
    changes.undo(&site, |it| it.what.is_unit())?;
    if !uninstall.dry_run && !changes.journal.is_unused() {
        give_over::give_over(&site, uninstall.force)?;
    }
    changes.undo(&site, |_| true)?;
    changes.tell_of_changes(&site)?;
    changes.summary("uninstalled");
    if !changes.dry_run && changes.journal.is_unused() {
        changes.journal.end()?;
    }
    left::tell_what_stays(&site);
    Ok(ExitCode::SUCCESS)
}

fn begin(options: &Options, folders: &Folders, dry_run: bool) -> Result<Site> {
    let site = Site::read(&options.config_directory, folders)?;
    interrupt::for_instance(&site.config_directory);
    if !dry_run {
        site::refuse_unless_root()?;
    }
    Ok(site)
}

/// Returns the record for undoing a step, the journal's if it has one. A folder that somebody else
/// has made needs none.
fn record(site: &Site, step: &Step, journal: &Journal) -> Result<Option<Record>> {
    let known = |path: &Path| journal.find(path).map(|it| it.what.clone());
    let what = match &step.what {
        Thing::Folder(path) => match known(path) {
            Some(what) => what,
            None if path.is_dir() => return Ok(None),
            None => What::Folder(path.clone()),
        },
        Thing::File(wanted) => match known(&wanted.path) {
            Some(What::File(file)) => What::File(FileRecord { is_unit: wanted.is_unit, ..file }),
            _ => What::File(wanted.record()?),
        },
        Thing::Entry => {
            let file = undo::master_cf(site, journal);
            file.has_entry()?;
            known(&file.path()?)
                .map_or_else(|| file.record(&journal.saved_folder()).map(What::Entry), Ok)?
        }
    };
    let users = BTreeSet::from([site.config_directory.clone()]);
    Ok(Some(Record { users, submits: step.submits, due: step.due, what }))
}

impl Changes {
    fn over(state_directory: &Path, dry_run: bool) -> Result<Self> {
        let journal =
            if dry_run { Journal::read(state_directory)? } else { Journal::open(state_directory)? };
        Ok(Self { journal, dry_run, made: 0 })
    }

    /// Notes all changes to come, durably. A change that was noted and not made does no harm when
    /// it is undone.
    fn note(&mut self, steps: &[Step], records: Vec<Option<Record>>) -> Result<()> {
        let known = self.journal.records.clone();
        for (step, record) in steps.iter().zip(records) {
            let Some(record) = record else { continue };
            let entered = self.journal.enter(record);
            if let (What::File(file), Thing::File(wanted)) = (&mut entered.what, &step.what) {
                file.prints.insert(files::print(&wanted.content));
            }
        }
        let is_new = self.journal.records != known;
        if is_new && !self.dry_run { self.journal.save() } else { Ok(()) }
    }

    /// Makes the changes that are left of a step.
    fn step(&mut self, site: &Site, step: &Step) -> Result<()> {
        let changes = match &step.what {
            Thing::Folder(path) if !path.is_dir() => vec![Change::MakeFolder(path.clone())],
            Thing::Folder(_) => Vec::new(),
            Thing::Entry => self.edit(site)?,
            Thing::File(wanted) => match self.journal.find(&wanted.path).map(|it| &it.what) {
                Some(What::File(file)) => wanted.changes(file)?,
                _ => Vec::new(),
            },
        };
        self.make(&changes, step.due)
    }

    fn edit(&mut self, site: &Site) -> Result<Vec<Change>> {
        let file = undo::master_cf(site, &self.journal);
        let path = file.path()?;
        let Some(mut edit) = file.adding()? else { return Ok(Vec::new()) };
        let entry = self.journal.records.iter_mut().find_map(|it| match &mut it.what {
            What::Entry(entry) if entry.path == path => Some(entry),
            _ => None,
        });
        if !self.dry_run {
            file.prepare(&mut edit, entry.context("master.cf: entry not recorded")?)?;
            self.journal.save()?;
        }
        Ok(vec![Change::Edit(edit)])
    }

    /// Makes changes one after the other, and prints each. The journal notes before the first which
    /// program must be told of them.
    fn make(&mut self, changes: &[Change], due: Option<Due>) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let is_new = due.is_some_and(|due| self.journal.due.insert(due));
        if is_new && !self.dry_run {
            self.journal.save()?;
        }
        for change in changes {
            self.made += 1;
            say(if self.dry_run { format!("would {change}") } else { change.to_string() });
            if !self.dry_run {
                interrupt::here();
                change.make()?;
                interrupt::here();
            }
        }
        Ok(())
    }

    /// Reloads the running services that changes concern. Each stays in the journal until it is
    /// reloaded, so that the run after an interrupted one reloads it.
    fn tell_of_changes(&mut self, site: &Site) -> Result<()> {
        let mut changes = Vec::new();
        if self.journal.due.contains(&Due::Systemd) && units::systemd_is_running() {
            changes.push(Change::ReloadSystemd);
        }
        if self.journal.due.contains(&Due::Postfix) && site.postfix_is_running() {
            let config_directory = site.config_directory.clone();
            changes
                .push(Change::ReloadPostfix { program: site.command("postfix"), config_directory });
        }
        self.make(&changes, None)?;
        if !self.journal.due.is_empty() {
            self.journal.due.clear();
            if !self.dry_run {
                self.journal.save()?;
            }
        }
        Ok(())
    }

    fn summary(&self, done: &str) {
        say(match (self.made, self.dry_run) {
            (0, _) => "nothing to do".to_owned(),
            (made, true) => format!("{made} steps; nothing was done"),
            (made, false) => format!("{done}, {made} steps"),
        });
    }
}
