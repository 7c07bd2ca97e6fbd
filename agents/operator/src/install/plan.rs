//! The plan of an installation, in order: first the parts that bring mail out, last those that take
//! mail in.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::file::Wanted;
use super::files::{FileContent, Rights};
use super::journal::{Due, Journal};
use super::site::{Programs, Site};
use super::units::POSTDROPD;
use super::{UnitChoice, units};
use crate::check::services;
use crate::manual;

/// Suffix under which Postfix's own programs are kept.
const STOCK: &str = ".postfix";
const BEFORE: &str = ".before-optimus";
/// Programs that replace none of Postfix's.
const AGENTS: [&str; 4] = ["optimus", "info-agent", "scheduler-agent", "mail-agent"];

/// One step of a plan.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) what: Thing,
    pub(super) submits: bool,
    pub(super) due: Option<Due>,
}

#[derive(Debug)]
pub(super) enum Thing {
    Folder(PathBuf),
    File(Wanted),
    Entry,
}

pub(super) struct Plan<'a> {
    site: &'a Site,
    programs: Programs,
    steps: Vec<Step>,
}

impl<'a> Plan<'a> {
    pub(super) fn of(
        site: &'a Site,
        from: &Path,
        agents: UnitChoice,
        journal: &Journal,
    ) -> Result<Vec<Step>> {
        let mut plan = Self { site, programs: Programs(from.to_owned()), steps: Vec::new() };
        plan.standing_programs()?;
        plan.postsuper();
        plan.manual();
        plan.units(agents)?;
        plan.rights_for_postfix();
        plan.steps.push(Step { what: Thing::Entry, submits: false, due: Some(Due::Postfix) });
        plan.submission(journal)?;
        Ok(plan.steps)
    }

    fn standing_programs(&mut self) -> Result<()> {
        let pickup = self.programs.read(services::PROGRAM)?;
        let path = self.site.daemon_directory.join(services::PROGRAM);
        self.push(program(path, pickup), Some(Due::Postfix));
        let prefix = self.site.folders.prefix.clone();
        self.folder(&prefix);
        for name in AGENTS {
            let bytes = self.programs.read(name)?;
            self.push(program(prefix.join(name), bytes), None);
        }
        if let Some(bytes) = self.programs.read_if_there(POSTDROPD)? {
            self.push(program(prefix.join(POSTDROPD), bytes), None);
        }
        Ok(())
    }

    /// Adds OPTIMUS's postsuper. It is `optimus` by another name, and runs stock's for mail in
    /// Postfix.
    fn postsuper(&mut self) {
        let content = FileContent::LinkTo(self.site.folders.prefix.join("optimus"));
        let path = self.site.command("postsuper");
        self.push(Wanted { content, suffix: STOCK, ..text(path, String::new()) }, None);
    }

    fn manual(&mut self) {
        let root = self.site.folders.man_directory.clone();
        for page in manual::pages() {
            let folder = root.join(format!("man{}", page.section));
            self.folder(&root);
            self.folder(&folder);
            self.push(text(folder.join(page.file_name()), page.text), None);
        }
    }

    fn units(&mut self, agents: UnitChoice) -> Result<()> {
        let has_postdropd = self.programs.read_if_there(POSTDROPD)?.is_some();
        for unit in units::of(self.site, agents, has_postdropd)? {
            let folder = self.site.folders.unit_directory.clone();
            self.folder(&folder);
            let wanted = Wanted { is_unit: true, ..text(folder.join(&unit.name), unit.text) };
            let what = Thing::File(wanted);
            self.steps.push(Step { what, submits: unit.submits, due: Some(Due::Systemd) });
        }
        Ok(())
    }

    /// Adds a rule for `postfix set-permissions`, which packages run when they are upgraded.
    /// Without the rule, that would take the group away from `sendmail`.
    fn rights_for_postfix(&mut self) {
        let folder = self.site.meta_directory.join("postfix-files.d");
        self.folder(&folder);
        let rule = "# Made by `optimus install`: OPTIMUS's sendmail is set-group-id, as postdrop \
            is.\n\
                    $sendmail_path:f:root:$setgid_group:2755:u\n";
        self.push(text(folder.join("optimus.files"), rule.to_owned()), None);
    }

    fn submission(&mut self, journal: &Journal) -> Result<()> {
        let (sendmail, postdrop) = (self.site.sendmail.clone(), self.site.command("postdrop"));
        for (name, path) in [("sendmail", sendmail.clone()), ("postdrop", postdrop)] {
            let rights = Rights { mode: 0o2755, uid: 0, gid: self.site.setgid_group.gid.as_raw() };
            let group = Some(self.site.setgid_group.name.clone());
            let program = program(path, self.programs.read(name)?);
            self.submitting(Wanted { rights, group, suffix: STOCK, ..program });
        }
        for path in [self.site.mailq.clone(), self.site.newaliases.clone()] {
            // Stock's mailq and newaliases are links to sendmail, which stay as they are.
            if journal.find(&path).is_some() || !leads_to(&path, &sendmail) {
                let content = FileContent::LinkTo(sendmail.clone());
                self.submitting(Wanted { content, suffix: STOCK, ..text(path, String::new()) });
            }
        }
        Ok(())
    }

    fn submitting(&mut self, wanted: Wanted) {
        self.steps.push(Step { what: Thing::File(wanted), submits: true, due: None });
    }

    fn push(&mut self, wanted: Wanted, due: Option<Due>) {
        self.steps.push(Step { what: Thing::File(wanted), submits: false, due });
    }

    fn folder(&mut self, path: &Path) {
        let is_planned = |it: &Step| matches!(&it.what, Thing::Folder(planned) if planned == path);
        if !self.steps.iter().any(is_planned) {
            self.steps.push(Step {
                what: Thing::Folder(path.to_owned()),
                submits: false,
                due: None,
            });
        }
    }
}

fn program(path: PathBuf, bytes: Vec<u8>) -> Wanted {
    let rights = Rights::of_root(0o755);
    let content = FileContent::Bytes(bytes);
    Wanted { path, content, rights, group: None, suffix: BEFORE, is_program: true, is_unit: false }
}

fn text(path: PathBuf, text: String) -> Wanted {
    let rights = Rights::of_root(0o644);
    let content = FileContent::Bytes(text.into_bytes());
    Wanted { path, content, rights, group: None, suffix: BEFORE, is_program: false, is_unit: false }
}

fn leads_to(path: &Path, target: &Path) -> bool {
    matches!((path.canonicalize(), target.canonicalize()), (Ok(one), Ok(other)) if one == other)
}
