//! Man pages. The pages of programs that parse their options with clap are generated; the others
//! are in docs/man.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use agents::programs::{INFO, MAIL, SCHEDULER};
use anyhow::{Context, Result};
use clap::{Command, CommandFactory};
use clap_mangen::Man;

use crate::Cli;

/// A man page.
pub(crate) struct Page {
    pub(crate) name: &'static str,
    pub(crate) section: u8,
    pub(crate) text: String,
}

const WRITTEN: [(&str, u8, &str); 8] = [
    ("sendmail", 1, include_str!("../../../docs/man/sendmail.1")),
    ("mailq", 1, ".so man1/sendmail.1\n"),
    ("newaliases", 1, ".so man1/sendmail.1\n"),
    ("postdrop", 1, include_str!("../../../docs/man/postdrop.1")),
    ("postsuper", 1, include_str!("../../../docs/man/postsuper.1")),
    ("optimus.toml", 5, include_str!("../../../docs/man/optimus.toml.5")),
    ("pickup-rs", 8, include_str!("../../../docs/man/pickup-rs.8")),
    ("postdropd", 8, include_str!("../../../docs/man/postdropd.8")),
];

const OF_OPTIMUS: &str = include_str!("../../../docs/man/optimus.1.in");
const OF_AGENTS: &str = include_str!("../../../docs/man/agents.8.in");

/// The string that clap_mangen writes for an apostrophe.
const APOSTROPHE: &str = ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n";

/// Returns all man pages.
pub(crate) fn pages() -> Vec<Page> {
    let mut pages: Vec<Page> =
        WRITTEN.map(|(name, section, text)| Page { name, section, text: text.to_owned() }).into();
    let text = made(Cli::command(), 1, OF_OPTIMUS);
    pages.push(Page { name: "optimus", section: 1, text });
    let agents = [INFO, SCHEDULER, MAIL];
    pages.extend(agents.map(|it| Page {
        name: it.name,
        section: 8,
        text: made(it.command(), 8, OF_AGENTS),
    }));
    pages
}

/// `optimus man`: writes all pages into a folder of man pages.
pub(crate) fn write(folder: &Path) -> Result<()> {
    for page in pages() {
        let path = folder.join(format!("man{}", page.section)).join(page.file_name());
        let written = std::fs::create_dir_all(path.parent().unwrap_or(folder));
        written
            .and_then(|()| std::fs::write(&path, page.text))
            .with_context(|| path.display().to_string())?;
    }
    Ok(())
}

impl Page {
    pub(crate) fn file_name(&self) -> PathBuf {
        format!("{}.{}", self.name, self.section).into()
    }
}

/// Makes a page: clap's options, one section for each subcommand, then `rest`, unknown to clap.
fn made(command: Command, section: u8, rest: &str) -> String {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let name = command.get_name().to_owned();
    let title = name.to_uppercase();
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let mut text =
        ".\\\" Generated from the options; the rest is in docs/man. Settings: optimus.toml(5).\n"
            .to_owned();
    let _ = writeln!(text, ".TH {title} {section} 2026-11-30 OPTIMUS \"OPTIMUS\"");
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

/// Adds a section for each subcommand. Global options are listed once, at the top.
fn subcommands(command: &Command, prefix: &str, text: &mut String) {
    for subcommand in command.get_subcommands().filter(|it| !it.is_hide_set()) {
        let name = format!("{prefix}{}", subcommand.get_name());
        let about = subcommand.get_long_about().or(subcommand.get_about());
        let about = about.map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(text, ".SH \"OPTIMUS {}\"\n{}.", name.to_uppercase(), escaped(&about));
        let is_own = |it: &&clap::Arg| {
            !it.is_global_set() && it.get_id() != "help" && it.get_id() != "version"
        };
        let own = subcommand.get_arguments().filter(is_own).cloned();
        let shown = Command::new("x").disable_help_flag(true).disable_version_flag(true).args(own);
        if shown.get_arguments().next().is_some() {
            *text += &part(&shown, "", |man, out| man.render_options_section(out));
        }
        subcommands(subcommand, &format!("{name} "), text);
    }
}

/// Returns a section as clap_mangen makes it, under another heading.
fn part(
    command: &Command,
    heading: &str,
    render: impl Fn(&Man, &mut Vec<u8>) -> std::io::Result<()>,
) -> String {
    let mut made = Vec::new();
    let _ = render(&Man::new(command.clone()), &mut made);
    let made = String::from_utf8_lossy(&made);
    let is_left_out =
        |it: &&str| [".SH ", ".ie ", ".el ", ".br"].iter().any(|start| it.starts_with(start));
    let body: Vec<&str> = made.lines().filter(|it| !is_left_out(it)).map(str::trim_end).collect();
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

#[cfg(test)]
mod tests {
    use std::process::Command as Process;

    use serde_json::Value;
    use settings::Settings;

    use super::*;

    fn page(name: &str) -> String {
        pages().into_iter().find(|it| it.name == name).unwrap().text
    }

    /// The letters are stock's getopt string; the parser's own test compares its table with them.
    #[test]
    fn each_option_of_sendmail_is_in_its_page() {
        let page = page("sendmail");
        for letter in "ABCFGILNORUVXbcefhimnoprqtvx".chars() {
            assert!(page.contains(&format!("\\-{letter}")), "-{letter}");
        }
        for mode in
            ["bm", "bs", "bp", "bi", "bv", "bd", "bl", "bh", "bH", "qI", "qR", "XV", "oA", "oi"]
        {
            assert!(page.contains(&format!("\\-{mode}")), "-{mode}");
        }
    }

    #[test]
    fn each_option_of_the_other_programs_is_in_its_page() {
        for option in ["c", "r", "v"] {
            assert!(page("postdrop").contains(&format!("\\-{option}")), "-{option}");
        }
        for option in ["-c", "--connections", "--connections-per-user", "--idle-s", "--total-s"] {
            assert!(page("postdropd").contains(&option.replace('-', "\\-")), "{option}");
        }
        for program in [INFO, SCHEDULER, MAIL] {
            expect_options(&program.command(), &page(program.name));
        }
        expect_options(&Cli::command(), &page("optimus"));
    }

    fn expect_options(command: &Command, page: &str) {
        for argument in command.get_arguments() {
            let long = argument.get_long().map(|it| format!("\\-\\-{}", it.replace('-', "\\-")));
            assert!(long.is_none_or(|long| page.contains(&long)), "{argument:?}");
        }
        for subcommand in command.get_subcommands().filter(|it| !it.is_hide_set()) {
            assert!(page.contains(&subcommand.get_name().to_uppercase()), "{subcommand}");
            expect_options(subcommand, page);
        }
    }

    #[test]
    fn each_setting_is_in_its_page_with_its_default_and_no_other_is() {
        let page = page("optimus.toml");
        let tables = serde_json::to_value(Settings::default()).unwrap();
        let mut expected = Vec::new();
        for (table, settings) in tables.as_object().unwrap() {
            for (name, default) in settings.as_object().unwrap() {
                let default = match default {
                    Value::Null => "none".to_owned(),
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                expected.push(format!(".BR {table}.{name} \" (default: {default})\""));
            }
        }
        let mut told: Vec<_> = page.lines().filter(|it| it.contains("(default: ")).collect();
        told.sort_unstable();
        expected.sort_unstable();
        assert_eq!(told, expected);
    }

    #[test]
    fn pages_are_free_of_faults() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path()).unwrap();
        // A page that only refers to another has no more to check.
        for page in pages().iter().filter(|it| !it.text.starts_with(".so ")) {
            let path = folder.path().join(format!("man{}", page.section)).join(page.file_name());
            for words in [
                &["mandoc", "-T", "lint", "-W", "warning"][..],
                &["groff", "-man", "-Tutf8", "-ww", "-z"],
            ] {
                let output = Process::new(words[0]).args(&words[1..]).arg(&path).output().unwrap();
                let said =
                    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
                assert!(output.status.success() && said.is_empty(), "{words:?}: {said}");
            }
        }
    }
}
