//! Postfix instance to which mail is submitted, and its configuration.
//!
//! `-C`, `-c` or `MAIL_CONFIG` name another configuration directory than `/etc/postfix`. The
//! directory decides where mail goes. A privileged program that took any directory could open any
//! socket for its caller, and write wherever its group may. So Postfix has a rule for privileged
//! programs, and for every user except root with `sendmail -C`. Such programs and users may use
//! only a directory that the default `main.cf` lists in `alternate_config_directories` or
//! `multi_instance_directories`. Names are compared byte by byte, as Postfix does: `/etc/postfix/`
//! is not `/etc/postfix`, `$name` in a list stands for itself, and a list that is given twice
//! counts both times.
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

/// Directory of Postfix's configuration, unless the caller names another.
pub const DEFAULT_CONFIG_DIRECTORY: &str = "/etc/postfix";

/// Size in bytes of the largest message, where `message_size_limit` is 0 or larger than this. Redis
/// takes no value over 512 MiB.
pub const MESSAGE_BYTES_MAX: usize = 500 * 1024 * 1024;

/// Way in which the caller named the configuration directory.
#[derive(Debug)]
pub enum ConfigurationChoice {
    /// `sendmail -C`, perhaps several times. The last one counts. Every user except root must name
    /// listed directories only.
    BySendmailOption(Vec<PathBuf>),
    /// `postdrop -c`, which overrides `MAIL_CONFIG` and has the same meaning.
    ByPostdropOption(PathBuf),
    /// No option, but perhaps `MAIL_CONFIG`.
    No,
}

/// Postfix instance.
#[derive(Debug)]
pub struct Instance {
    /// Directory of `main.cf` and `optimus.toml`.
    pub config_directory: PathBuf,
    /// Content of `main.cf`.
    pub main_cf: MainCf,
}

impl Instance {
    /// Finds and reads the configuration. Fails if this caller may not use it, or `main.cf` can't
    /// be read.
    pub fn open(asked: ConfigurationChoice, caller: &Caller) -> Result<Self, Failure> {
        let named = match asked {
            ConfigurationChoice::BySendmailOption(paths) => {
                let all_count = !geteuid().is_root();
                paths.iter().filter(|_| all_count).try_for_each(|path| require_listed(path))?;
                paths.into_iter().next_back()
            }
            ConfigurationChoice::ByPostdropOption(path) => Some(path),
            ConfigurationChoice::No => caller.mail_config.clone().map(PathBuf::from),
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

    /// Returns a parameter's text, which is empty if the parameter is not set.
    pub fn text(&self, name: &str) -> String {
        self.main_cf.get(name).unwrap_or_default()
    }

    /// Returns the value of a parameter in bytes. Fails if the value is no number.
    pub fn size(&self, name: &str) -> Result<usize, Failure> {
        let value = self.main_cf.get_int(name).map_err(|error| configuration(&error))?;
        Ok(usize::try_from(value).unwrap_or_default())
    }

    /// Returns the limits of a message. Fails if one of them is no number in `main.cf`.
    pub fn filter_limits(&self) -> Result<FilterLimits, Failure> {
        let message = match self.size("message_size_limit")? {
            0 => MESSAGE_BYTES_MAX,
            limit => limit.min(MESSAGE_BYTES_MAX),
        };
        Ok(FilterLimits { message: Some(message), record: self.size("line_length_limit")? })
    }

    /// Makes `log` write to this instance's mail log. Fails if a parameter of the log is wrong.
    pub fn configure(&self, log: &mut Log) -> Result<(), Failure> {
        log.configure(&self.main_cf).map_err(|error| Failure::temporary(error.to_string()))
    }
}

fn is_missing(error: &MainCfError) -> bool {
    matches!(error, MainCfError::Read { source, .. } if source.kind() == io::ErrorKind::NotFound)
}

/// Returns defaults for a container that has the submission socket of its host and no Postfix. The
/// configuration of postdropd then decides.
fn nothing_but_a_socket() -> Option<MainCf> {
    let directory = Path::new(DEFAULT_CONFIG_DIRECTORY);
    // Code that runs with these defaults uses no host name.
    let defaults = MainCf::parse("", directory, "localhost").ok()?;
    let places = Places::of(directory, &defaults).ok()?;
    places.submit_socket(&Settings::default()).exists().then_some(defaults)
}

fn configuration(error: &MainCfError) -> Failure {
    Failure::temporary(error.to_string())
}

/// Replaces an empty name by the root directory. Postfix appends `/main.cf` to the name, so an
/// empty name leads to the root directory's file.
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

/// Returns whether the list names the directory, byte by byte: `Path` would take `/a` and `//a/`
/// for one. In a list, bytes that are not UTF-8 are U+FFFD and match no directory.
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
