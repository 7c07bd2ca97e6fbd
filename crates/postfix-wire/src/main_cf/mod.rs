//! `main.cf`: Postfix's parameters.
//!
//! A parameter's value is the last one given: by `-o` in `master.cf`, else in the file, else the
//! default. Values may refer to other parameters by `$name` ([`expand`]). References are resolved
//! at each read of a value, so an override changes all values that refer to it.
//!
//! A parameter in the table of `defaults` is checked when the file is read or an override is
//! applied. A value that Postfix would refuse is an error, which names file and line. Parameters
//! outside the table have no default, but their value in `main.cf` can be read all the same.
//!
//! Source: `mail_conf(3)`, `dict(3)`, `postconf(5)`.

mod defaults;
pub mod expand;
mod hostname;
mod value;

use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use defaults::{Parameter, ValueKind};
pub use expand::ExpandError;

use crate::lines::{is_space, logical_lines, split_nameval};

/// Name of the file.
pub const FILE_NAME: &str = "main.cf";

/// Error: the configuration can't be used. No parameter was changed; the administrator must correct
/// the file.
#[derive(Debug, thiserror::Error)]
pub enum MainCfError {
    /// The file can't be read.
    #[error("open {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A line, or an override, is not `name = value`.
    #[error("{place}: {reason}: {text:?}")]
    Syntax {
        /// File and line, or the option.
        place: String,
        /// Mistake, as Postfix words it.
        reason: &'static str,
        /// The line.
        text: String,
    },
    /// A value can't be expanded.
    #[error("{place}: parameter {name}: {source}")]
    Expand {
        /// Place where the parameter was set.
        place: String,
        /// Name of the parameter.
        name: String,
        /// The cause.
        source: ExpandError,
    },
    /// A value doesn't fit the parameter.
    #[error("{place}: parameter {name}: value {value:?} {reason}")]
    Value {
        /// Place where the parameter was set.
        place: String,
        /// Name of the parameter.
        name: String,
        /// Value of the parameter.
        value: String,
        /// Mistake in the value.
        reason: String,
    },
    /// The machine's own name is no host name, and `myhostname` isn't set.
    #[error("the name of this machine, {name:?}, {reason}; set myhostname in main.cf")]
    MachineName {
        /// The name.
        name: String,
        /// The mistake.
        reason: &'static str,
    },
    /// The parameter is not set, and the table of `defaults` lacks it.
    #[error("parameter {0}: no value and no default; set the parameter in main.cf")]
    NotSet(String),
}

/// Value of a parameter that was set, and the place where.
#[derive(Debug, Clone)]
struct Setting {
    value: String,
    /// File and line, or the option.
    place: String,
}

/// Parameters of one Postfix instance.
#[derive(Debug, Clone)]
pub struct MainCf {
    config_directory: PathBuf,
    host_name: String,
    settings: HashMap<String, Setting>,
}

impl MainCf {
    /// Reads `main.cf` in `config_directory`. Bytes that are not UTF-8 become U+FFFD. Fails if the
    /// file can't be read or has a value that Postfix refuses.
    pub fn load(config_directory: &Path) -> Result<Self, MainCfError> {
        let path = config_directory.join(FILE_NAME);
        let text = read_config(&path)?;
        let host_name = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned());
        Self::parse(&text, config_directory, host_name.as_deref().unwrap_or("localhost"))
    }

    /// Reads the text of a `main.cf`, as on a machine named `host_name`. Fails if the text has a
    /// value that Postfix refuses.
    pub fn parse(
        text: &str,
        config_directory: &Path,
        host_name: &str,
    ) -> Result<Self, MainCfError> {
        let path = config_directory.join(FILE_NAME);
        let mut this = Self {
            config_directory: config_directory.to_owned(),
            host_name: host_name.to_owned(),
            settings: HashMap::new(),
        };
        for line in logical_lines(text) {
            this.assign(&line.text, format!("{}, line {}", path.display(), line.number))?;
        }
        this.check()?;
        Ok(this)
    }

    /// Sets a parameter as `-o name=value` does. Fails if Postfix refuses the value.
    pub fn override_with(&mut self, assignment: &str) -> Result<(), MainCfError> {
        self.assign(assignment, format!("option -o {assignment}"))?;
        self.check()
    }

    /// Sets a parameter whose value the program knows, such as `service_name`. The file can't
    /// override it.
    pub fn set(&mut self, name: &str, value: &str) {
        let place = "set by the program".to_owned();
        self.settings.insert(name.to_owned(), Setting { value: value.to_owned(), place });
    }

    /// Returns the parameter's expanded value. Returns `None` if the parameter has no value, or a
    /// value that can't be expanded, which only a parameter outside the table of `defaults` can
    /// have.
    pub fn get(&self, name: &str) -> Option<String> {
        self.try_get(name).ok().flatten()
    }

    /// Returns the parameter's expanded value, or `None` if it has no value. Fails if the value
    /// can't be expanded.
    pub fn try_get(&self, name: &str) -> Result<Option<String>, MainCfError> {
        let Some(raw) = expand::Lookup::raw(self, name) else { return Ok(None) };
        let value = expand::expand(&raw, self).map_err(|source| MainCfError::Expand {
            place: self.place(name),
            name: name.to_owned(),
            source,
        })?;
        if name == "myorigin" && value.starts_with('/') {
            self.origin_file(&value).map(Some)
        } else {
            Ok(Some(value))
        }
    }

    /// Returns the text with all parameters in it expanded.
    pub fn expand(&self, text: &str) -> Result<String, ExpandError> {
        expand::expand(text, self)
    }

    /// Returns whether the file or an override sets the parameter.
    pub fn is_set(&self, name: &str) -> bool {
        self.settings.contains_key(name)
    }

    /// Returns whether a parameter is `yes`. Fails if it is neither `yes` nor `no`.
    pub fn get_bool(&self, name: &str) -> Result<bool, MainCfError> {
        let value = self.require(name)?;
        value::parse_bool(&value).ok_or_else(|| self.bad_value(name, value, "must be yes or no"))
    }

    /// Returns the number that a parameter has. Fails if the value is no number.
    pub fn get_int(&self, name: &str) -> Result<i64, MainCfError> {
        let value = self.require(name)?;
        value::parse_int(&value).ok_or_else(|| self.bad_value(name, value, "is not a number"))
    }

    /// Returns the time in seconds that a parameter has. A number without a unit has the unit of
    /// the default. Fails if the value is no time.
    pub fn get_time_s(&self, name: &str) -> Result<u64, MainCfError> {
        let value = self.require(name)?;
        let unit = defaults::find(name).map_or('s', |parameter| value::unit_of(parameter.default));
        value::parse_time_s(&value, unit)
            .ok_or_else(|| self.bad_value(name, value, "is not a time"))
    }

    /// Returns the path that a parameter has. Fails if the value is empty.
    pub fn get_path(&self, name: &str) -> Result<PathBuf, MainCfError> {
        match self.require(name)? {
            value if value.is_empty() => Err(self.bad_value(name, value, "must not be empty")),
            value => Ok(value.into()),
        }
    }

    /// Returns the directory from which the file was read.
    pub fn config_directory(&self) -> &Path {
        &self.config_directory
    }

    fn require(&self, name: &str) -> Result<String, MainCfError> {
        self.try_get(name)?.ok_or_else(|| MainCfError::NotSet(name.to_owned()))
    }

    fn assign(&mut self, text: &str, place: String) -> Result<(), MainCfError> {
        match split_nameval(text) {
            Ok((name, value)) => {
                self.settings.insert(name.to_owned(), Setting { value: value.to_owned(), place });
                Ok(())
            }
            Err(reason) => Err(MainCfError::Syntax { place, reason, text: text.to_owned() }),
        }
    }

    /// Checks the known parameters that are set.
    fn check(&self) -> Result<(), MainCfError> {
        self.check_host_names()?;
        defaults::PARAMETERS.iter().try_for_each(|parameter| self.check_one(parameter))
    }

    /// Checks host names, as every Postfix program does at its start (`mail_params_init`).
    fn check_host_names(&self) -> Result<(), MainCfError> {
        if !self.is_set("myhostname") {
            let name = self.host_name.clone();
            hostname::complaint(&name)
                .map_or(Ok(()), |reason| Err(MainCfError::MachineName { name, reason }))?;
        }
        for name in ["myhostname", "mydomain"] {
            let value = self.require(name)?;
            if let Some(reason) = hostname::complaint(&value) {
                return Err(self.bad_value(name, value, reason));
            }
        }
        Ok(())
    }

    fn check_one(&self, &Parameter { name, default, kind }: &Parameter) -> Result<(), MainCfError> {
        if kind == ValueKind::Text && !self.is_set(name) {
            return Ok(());
        }
        let value = self.require(name)?;
        match value::complaint(kind, default, &value) {
            Some(reason) => Err(self.bad_value(name, value, reason)),
            None => Ok(()),
        }
    }

    fn bad_value(&self, name: &str, value: String, reason: impl Into<String>) -> MainCfError {
        MainCfError::Value {
            place: self.place(name),
            name: name.to_owned(),
            value,
            reason: reason.into(),
        }
    }

    fn place(&self, name: &str) -> String {
        let file = || self.config_directory.join(FILE_NAME).display().to_string();
        self.settings.get(name).map_or_else(file, |setting| setting.place.clone())
    }

    /// Returns the first line of the file that `myorigin` names, such as Debian's `/etc/mailname`.
    fn origin_file(&self, path: &str) -> Result<String, MainCfError> {
        let text = read_config(Path::new(path))?;
        match text.lines().next().unwrap_or_default().trim_matches(is_space) {
            "" => Err(self.bad_value("myorigin", path.to_owned(), "names an empty file")),
            origin => Ok(origin.to_owned()),
        }
    }

    /// Returns the machine's name with a domain: its own, else `mydomain` if that is set, else
    /// [`DEFAULT_DOMAIN`].
    fn default_myhostname(&self) -> String {
        if self.host_name.contains('.') {
            return self.host_name.clone();
        }
        let set = self.settings.get("mydomain");
        let domain = set.and_then(|setting| {
            expand::expand(&setting.value, &Without { main_cf: self, name: "myhostname" }).ok()
        });
        format!("{}.{}", self.host_name, domain.as_deref().unwrap_or(DEFAULT_DOMAIN))
    }

    /// Returns the part of `myhostname` after the first dot, or [`DEFAULT_DOMAIN`] without a dot.
    fn default_mydomain(&self) -> String {
        let without = Without { main_cf: self, name: "mydomain" };
        let host = match self.settings.get("myhostname") {
            Some(setting) => expand::expand(&setting.value, &without).unwrap_or_default(),
            None => self.default_myhostname(),
        };
        host.split_once('.').map_or(DEFAULT_DOMAIN, |(_, domain)| domain).to_owned()
    }
}

/// Postfix's domain for a machine whose name has no domain.
const DEFAULT_DOMAIN: &str = "localdomain";

impl expand::Lookup for MainCf {
    fn raw(&self, name: &str) -> Option<Cow<'_, str>> {
        if let Some(setting) = self.settings.get(name) {
            return Some(Cow::Borrowed(&setting.value));
        }
        match name {
            "config_directory" => Some(self.config_directory.to_string_lossy()),
            "myhostname" => Some(Cow::Owned(self.default_myhostname())),
            "mydomain" => Some(Cow::Owned(self.default_mydomain())),
            _ => defaults::find(name).map(|parameter| Cow::Borrowed(parameter.default)),
        }
    }
}

/// All parameters but one. The defaults of `myhostname` and `mydomain` depend on each other, so
/// each is made without itself.
struct Without<'a> {
    main_cf: &'a MainCf,
    name: &'static str,
}

impl expand::Lookup for Without<'_> {
    fn raw(&self, name: &str) -> Option<Cow<'_, str>> {
        if name == self.name { None } else { self.main_cf.raw(name) }
    }
}

/// Reads a configuration file of any size, as Postfix does. Bytes that are not UTF-8 become U+FFFD.
pub(crate) fn read_config(path: &Path) -> Result<String, MainCfError> {
    let bytes = std::fs::read(path)
        .map_err(|source| MainCfError::Read { path: path.to_owned(), source })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Returns every value that `main.cf` gives to one of `names`, unexpanded. Wrong lines are skipped,
/// and a later value doesn't replace an earlier one. Fails if the file can't be read.
///
/// Postfix decides by these values which other configurations it may trust (`mail_conf_checkdir`).
pub fn written_values(config_directory: &Path, names: &[&str]) -> Result<Vec<String>, MainCfError> {
    let text = read_config(&config_directory.join(FILE_NAME))?;
    let lines = logical_lines(&text);
    let settings = lines.iter().filter_map(|line| split_nameval(&line.text).ok());
    Ok(settings
        .filter(|(name, _)| names.contains(name))
        .map(|(_, value)| value.to_owned())
        .collect())
}

#[cfg(test)]
mod against_postconf;
#[cfg(test)]
mod tests;
