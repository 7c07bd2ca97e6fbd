//! Which Postfix instance mail is submitted to, and what its configuration says.
//!
//! `-C`, `-c` or `MAIL_CONFIG` name another configuration directory than `/etc/postfix`. The
//! directory decides where mail goes, so whoever could name any directory could make a privileged
//! program open any socket and write to any directory its group may. Postfix's rule: a privileged
//! program, and anyone but root with `sendmail -C`, may only use a directory that the default
//! `main.cf` lists in `alternate_config_directories` or `multi_instance_directories`. Names are
//! compared byte by byte, as Postfix does: `/etc/postfix/` is not `/etc/postfix`, `$name` in a list
//! stands for itself, and a list that is given twice counts both times.
//!
//! Source: Postfix `mail_conf(3)`, `sendmail(1)`.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use postfix_wire::main_cf::{MainCf, MainCfError, written_values};
use settings::{Places, Settings};

use crate::exit::Failure;
use crate::filter::FilterLimits;
use crate::list::words;
use crate::log::Log;
use crate::privilege::{Caller, is_privileged};

/// The folder of Postfix's configuration unless somebody names another.
pub const DEFAULT_CONFIG_DIRECTORY: &str = "/etc/postfix";

/// The largest message, where `message_size_limit` is 0 or larger: it is held in memory, and
/// Redis's own limit for a value is 512 MiB.
pub const MESSAGE_BYTES_MAX: usize = 500 * 1024 * 1024;

/// The source of the configuration's place.
#[derive(Debug)]
pub enum Asked {
    /// `sendmail -C`, perhaps several: the last counts, and anyone but root must name listed
    /// directories only.
    BySendmailOption(Vec<PathBuf>),
    /// `postdrop -c`: the same as `MAIL_CONFIG`, which it overrides.
    ByPostdropOption(PathBuf),
    /// No option; perhaps `MAIL_CONFIG`.
    No,
}

/// A Postfix instance.
#[derive(Debug)]
pub struct Instance {
    /// The folder of `main.cf` and `optimus.toml`.
    pub config_directory: PathBuf,
    /// The content of `main.cf`.
    pub main_cf: MainCf,
}

impl Instance {
    /// Finds the configuration, if this caller may use it, and reads it.
    pub fn open(asked: Asked, caller: &Caller) -> Result<Self, Failure> {
        let named = match asked {
            Asked::BySendmailOption(paths) => {
                let all_count = !geteuid().is_root();
                paths.iter().filter(|_| all_count).try_for_each(|path| require_listed(path))?;
                paths.into_iter().next_back()
            }
            Asked::ByPostdropOption(path) => Some(path),
            Asked::No => caller.mail_config.clone().map(PathBuf::from),
        };
        let is_default = named.is_none();
        let config_directory = named.unwrap_or_else(|| DEFAULT_CONFIG_DIRECTORY.into());
        if is_privileged() {
            require_listed(&config_directory)?;
        }
        let config_directory = or_root(config_directory);
        let main_cf = match MainCf::load(&config_directory) {
            Err(error) if is_default && is_missing(&error) => nothing_but_a_socket().ok_or(error),
            loaded => loaded,
        };
        Ok(Self { config_directory, main_cf: main_cf.map_err(|error| configuration(&error))? })
    }

    /// A parameter that is text; empty when it isn't set.
    pub fn text(&self, name: &str) -> String {
        self.main_cf.get(name).unwrap_or_default()
    }

    /// A parameter that is a number of bytes.
    pub fn size(&self, name: &str) -> Result<usize, Failure> {
        let value = self.main_cf.get_int(name).map_err(|error| configuration(&error))?;
        Ok(usize::try_from(value).unwrap_or_default())
    }

    /// Returns the limits of a message.
    pub fn filter_limits(&self) -> Result<FilterLimits, Failure> {
        let message = match self.size("message_size_limit")? {
            0 => MESSAGE_BYTES_MAX,
            limit => limit.min(MESSAGE_BYTES_MAX),
        };
        Ok(FilterLimits { message: Some(message), record: self.size("line_length_limit")? })
    }

    /// Makes `log` write as this instance does.
    pub fn configure(&self, log: &mut Log) -> Result<(), Failure> {
        log.configure(&self.main_cf).map_err(|error| Failure::temporary(error.to_string()))
    }
}

fn is_missing(error: &MainCfError) -> bool {
    matches!(error, MainCfError::Read { source, .. } if source.kind() == io::ErrorKind::NotFound)
}

/// A container may have our programs and the submission socket of its host, and no Postfix. The
/// configuration that counts is then postdropd's.
fn nothing_but_a_socket() -> Option<MainCf> {
    let directory = Path::new(DEFAULT_CONFIG_DIRECTORY);
    // This machine's name goes nowhere.
    let defaults = MainCf::parse("", directory, "localhost").ok()?;
    let places = Places::of(directory, &defaults).ok()?;
    places.submit_socket(&Settings::default()).exists().then_some(defaults)
}

fn configuration(error: &MainCfError) -> Failure {
    Failure::temporary(error.to_string())
}

/// Postfix puts `/main.cf` behind the directory's name: behind none, that is the root directory's
/// file.
fn or_root(directory: PathBuf) -> PathBuf {
    if directory.as_os_str().is_empty() { "/".into() } else { directory }
}

fn require_listed(directory: &Path) -> Result<(), Failure> {
    let name = directory.as_os_str();
    if name == DEFAULT_CONFIG_DIRECTORY {
        return Ok(());
    }
    let lists = ["alternate_config_directories", "multi_instance_directories"];
    let lists = written_values(Path::new(DEFAULT_CONFIG_DIRECTORY), &lists);
    if lists.map_err(|error| configuration(&error))?.iter().any(|list| is_in_list(list, name)) {
        return Ok(());
    }
    let directory = directory.display();
    Err(Failure::temporary(format!(
        "unauthorized configuration directory name: {directory}; specify \
         \"alternate_config_directories = {directory}\" or \"multi_instance_directories = \
         {directory}\" in {DEFAULT_CONFIG_DIRECTORY}/main.cf"
    )))
}

/// `OsStr` is compared byte by byte, unlike `Path`, to which `/a` and `//a/` are one. U+FFFD stands
/// for bytes that are not UTF-8, which names nothing for certain.
fn is_in_list(list: &str, directory: &OsStr) -> bool {
    words(list).any(|name| OsStr::new(name) == directory && !name.contains('\u{fffd}'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listed_directory_is_listed_literally() {
        let is_listed = |list, directory: &str| is_in_list(list, OsStr::new(directory));
        assert!(is_listed("/etc/postfix-a, /etc/postfix-b", "/etc/postfix-b"));
        assert!(is_listed("/etc/postfix-a/", "/etc/postfix-a/"));
        for other in [
            "/etc/postfix-b",
            "/etc/postfix-a/../x",
            "/etc/postfix-a/",
            "//etc/postfix-a",
            "/etc/./postfix-a",
        ] {
            assert!(!is_listed("/etc/postfix-a", other), "{other}");
        }
        assert!(!is_listed("", ""));
        assert!(!is_listed("/a\u{fffd}", "/a\u{fffd}"));
    }
}
