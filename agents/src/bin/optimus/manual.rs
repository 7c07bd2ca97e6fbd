//! Man pages. What takes its options from clap has its page made from them; the others are in docs/man.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use agents::programs::{INFO, MAIL, SCHEDULER};
use anyhow::{Context, Result};
use clap::{Command, CommandFactory};
use clap_mangen::Man;

use crate::Cli;

/// One page.
pub(crate) struct Page {
    pub(crate) name: &'static str,
    pub(crate) section: u8,
    pub(crate) text: String,
}

const WRITTEN: [(&str, u8, &str); 7] = [
    ("sendmail", 1, include_str!("../../../../docs/man/sendmail.1")),
    ("mailq", 1, ".so man1/sendmail.1\n"),
    ("newaliases", 1, ".so man1/sendmail.1\n"),
    ("postdrop", 1, include_str!("../../../../docs/man/postdrop.1")),
    ("optimus.toml", 5, include_str!("../../../../docs/man/optimus.toml.5")),
    ("pickup-rs", 8, include_str!("../../../../docs/man/pickup-rs.8")),
    ("postdropd", 8, include_str!("../../../../docs/man/postdropd.8")),
];

const OF_OPTIMUS: &str = include_str!("../../../../docs/man/optimus.1.in");
const OF_AGENTS: &str = include_str!("../../../../docs/man/agents.8.in");

/// The string that clap_mangen writes for an apostrophe.
const APOSTROPHE: &str = ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n";

/// All of them.
pub(crate) fn pages() -> Vec<Page> {
    let mut pages: Vec<Page> =
        WRITTEN.map(|(name, section, text)| Page { name, section, text: text.to_owned() }).into();
    let text = made(Cli::command(), 1, OF_OPTIMUS);
    pages.push(Page { name: "optimus", section: 1, text });
    let agents = [INFO, SCHEDULER, MAIL];
    pages.extend(agents.map(|it| Page { name: it.name, section: 8, text: made(it.command(), 8, OF_AGENTS) }));
    pages
}

/// `optimus man`: all pages, as they are for a folder of man pages.
pub(crate) fn write(folder: &Path) -> Result<()> {
    for page in pages() {
        let path = folder.join(format!("man{}", page.section)).join(page.file_name());
        let written = std::fs::create_dir_all(path.parent().unwrap_or(folder));
        written.and_then(|()| std::fs::write(&path, page.text)).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

impl Page {
    pub(crate) fn file_name(&self) -> PathBuf {
        format!("{}.{}", self.name, self.section).into()
    }
}

/// Options from clap, one section for each subcommand, then what clap doesn't know.
fn made(command: Command, section: u8, rest: &str) -> String {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let name = command.get_name().to_owned();
    let title = name.to_uppercase();
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let mut text = ".\\\" Made from its options; the rest is in docs/man. Settings: optimus.toml(5).\n".to_owned();
    let _ = writeln!(text, ".TH {title} {section} 2026-11-21 OPTIMUS \"OPTIMUS\"");
    text += APOSTROPHE;
    let _ = writeln!(text, ".SH NAME\n{} \\- {}", escaped(&name), escaped(&uncapitalized(&about)));
    text += &part(&command, ".SH SYNOPSIS", |man, out| man.render_synopsis_section(out));
    let (description, rest) = rest.split_once(".\\\" OPTIONS\n").unwrap_or((rest, ""));
    text += description;
    text += &part(&command, ".SH OPTIONS", |man, out| man.render_options_section(out));
    subcommands(&command, "", &mut text);
    text += rest;
    text
}

/// Global options are told once, at the top.
fn subcommands(command: &Command, prefix: &str, text: &mut String) {
    for subcommand in command.get_subcommands() {
        let name = format!("{prefix}{}", subcommand.get_name());
        let about = subcommand.get_long_about().or(subcommand.get_about());
        let about = about.map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(text, ".SH \"OPTIMUS {}\"\n{}.", name.to_uppercase(), escaped(&about));
        let is_own = |it: &&clap::Arg| !it.is_global_set() && it.get_id() != "help" && it.get_id() != "version";
        let own = subcommand.get_arguments().filter(is_own).cloned();
        let shown = Command::new("x").disable_help_flag(true).disable_version_flag(true).args(own);
        if shown.get_arguments().next().is_some() {
            *text += &part(&shown, "", |man, out| man.render_options_section(out));
        }
        subcommands(subcommand, &format!("{name} "), text);
    }
}

/// A section as clap_mangen makes it, under our heading.
fn part(command: &Command, heading: &str, render: impl Fn(&Man, &mut Vec<u8>) -> std::io::Result<()>) -> String {
    let mut made = Vec::new();
    let _ = render(&Man::new(command.clone()), &mut made);
    let made = String::from_utf8_lossy(&made);
    let is_ours = |it: &&str| [".SH ", ".ie ", ".el "].iter().any(|start| it.starts_with(start));
    let body: Vec<&str> = made.lines().filter(|it| !is_ours(it)).map(str::trim_end).collect();
    let heading = if heading.is_empty() { String::new() } else { format!("{heading}\n") };
    format!("{heading}{}\n", body.join("\n"))
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}

fn uncapitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}
