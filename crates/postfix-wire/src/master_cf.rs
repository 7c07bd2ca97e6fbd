//! `master.cf`: which services master runs.
//!
//! ```text
//! # service type  private unpriv  chroot  wakeup  maxproc command + args
//! optimus   unix  -       -       n       -       1       pickup-rs
//!     -o syslog_name=postfix/optimus -o { non_smtpd_milters = inet:a, inet:b }
//! ```
//!
//! `-` asks for a field's default. Arguments in braces may hold blanks.
//!
//! Source: `master(5)`, `master_ent.c`.

use std::path::{Path, PathBuf};

use crate::lines::{logical_lines, split_nameval};
use crate::main_cf::{MainCf, MainCfError, read_config};
use crate::master::MasterArgs;

/// The file's name.
pub const FILE_NAME: &str = "master.cf";

/// What separates fields.
const SEPARATORS: [char; 4] = [' ', '\t', '\r', '\n'];

/// Why a `master.cf` can't be used. Nothing was changed; correct the file and try again.
#[derive(Debug, thiserror::Error)]
pub enum MasterCfError {
    /// The file can't be read.
    #[error(transparent)]
    Read(#[from] MainCfError),
    /// A line lacks a field.
    #[error("{}: line {line}: missing {field:?} field", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// Where the entry starts.
        line: usize,
        /// Which field.
        field: &'static str,
    },
    /// A field's value makes no sense.
    #[error("{}: line {line}: field {field:?}: bad value: {value:?}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// Where the entry starts.
        line: usize,
        /// Which field.
        field: &'static str,
        /// What it says.
        value: String,
    },
}

/// How clients reach a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ServiceType {
    /// TCP.
    Inet,
    /// A Unix stream socket.
    Unix,
    /// A Unix datagram socket.
    UnixDgram,
    /// A FIFO.
    Fifo,
    /// Connections passed over a Unix socket.
    Pass,
}

impl ServiceType {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "inet" => Self::Inet,
            "unix" => Self::Unix,
            "unix-dgram" => Self::UnixDgram,
            "fifo" => Self::Fifo,
            "pass" => Self::Pass,
            _ => return None,
        })
    }
}

/// One service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// The line its entry starts on.
    pub line: usize,
    /// Its name; for `inet` a port or `host:port`.
    pub name: String,
    /// How clients reach it.
    pub service_type: ServiceType,
    /// Whether its socket is in `private/`, not `public/`.
    pub private: bool,
    /// Whether it runs as `mail_owner`.
    pub unprivileged: bool,
    /// Whether it is confined to the queue directory. `None`: as the compatibility level says.
    pub chroot: Option<bool>,
    /// How often master wakes it, seconds; 0 never.
    pub wakeup_s: u32,
    /// Whether master wakes it only once it was used.
    pub wakeup_if_used: bool,
    /// How many processes it may have; 0 any number. `None`: `default_process_limit`.
    pub process_limit: Option<u32>,
    /// The program, in `daemon_directory`.
    pub command: String,
    /// Its arguments, braces taken off.
    pub args: Vec<String>,
}

impl Service {
    /// The parameters that `-o` sets, in their order. Options end at the first operand, as with any Postfix daemon;
    /// what the daemon itself would refuse is left out.
    pub fn overrides(&self) -> Vec<(String, String)> {
        let argv = std::iter::once(&self.command).chain(&self.args);
        let overrides = MasterArgs::parse(argv).map(|args| args.overrides).unwrap_or_default();
        let split = |text: &String| split_nameval(text).ok().map(|(n, v)| (n.to_owned(), v.to_owned()));
        overrides.iter().filter_map(split).collect()
    }

    /// Where its socket lies, relative to the queue directory; `None` for `inet`.
    pub fn socket(&self) -> Option<PathBuf> {
        let class = if self.private { "private" } else { "public" };
        (self.service_type != ServiceType::Inet).then(|| Path::new(class).join(&self.name))
    }
}

/// All services of a Postfix instance, in the file's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MasterCf {
    services: Vec<Service>,
}

impl MasterCf {
    /// Reads `master.cf` in `config_directory`. Bytes that are not UTF-8 become U+FFFD.
    pub fn load(config_directory: &Path) -> Result<Self, MasterCfError> {
        let path = config_directory.join(FILE_NAME);
        Self::parse(&read_config(&path)?, &path)
    }

    /// Reads the text of a `master.cf`; `path` is for messages.
    pub fn parse(text: &str, path: &Path) -> Result<Self, MasterCfError> {
        let entry = |line: &crate::lines::LogicalLine| {
            Fields { path, line: line.number, rest: &line.text }.service().transpose()
        };
        Ok(Self { services: logical_lines(text).iter().filter_map(entry).collect::<Result<_, _>>()? })
    }

    /// All services.
    pub fn services(&self) -> &[Service] {
        &self.services
    }

    /// The service of that name and type. Later entries override earlier ones, as in master.
    pub fn find(&self, name: &str, service_type: ServiceType) -> Option<&Service> {
        self.services
            .iter()
            .rev()
            .find(|service| service.name == name && service.service_type == service_type)
    }

    /// The configuration as that service sees it.
    pub fn configuration_of(&self, service: &Service, main_cf: &MainCf) -> Result<MainCf, MainCfError> {
        let mut main_cf = main_cf.clone();
        for (name, value) in service.overrides() {
            main_cf.override_with(&format!("{name} = {value}"))?;
        }
        main_cf.set("service_name", &service.name);
        Ok(main_cf)
    }
}

/// The fields of one entry.
struct Fields<'a> {
    path: &'a Path,
    line: usize,
    rest: &'a str,
}

impl<'a> Fields<'a> {
    fn service(mut self) -> Result<Option<Service>, MasterCfError> {
        let Some(name) = self.next() else { return Ok(None) };
        let service_type = self.required("transport type", ServiceType::parse)?;
        let private = self.yes_no("private")?.unwrap_or(true);
        if private && service_type == ServiceType::Inet {
            return Err(self.bad("private", "y"));
        }
        let unprivileged = self.yes_no("unprivileged")?.unwrap_or(true);
        let chroot = self.yes_no("chroot")?;
        let wakeup = self.field("wakeup_time")?;
        let wakeup_s = self.number("wakeup_time", wakeup)?.unwrap_or(0);
        let limit = self.field("max_proc")?;
        let process_limit = self.number("max_proc", limit)?;
        let command = self.required("command", |text| Some(text.to_owned()))?;
        Ok(Some(Service {
            line: self.line,
            name: name.to_owned(),
            service_type,
            private,
            unprivileged,
            chroot,
            wakeup_s,
            wakeup_if_used: wakeup_s > 0 && wakeup.ends_with('?'),
            process_limit,
            command,
            args: self.arguments()?,
        }))
    }

    fn next(&mut self) -> Option<&'a str> {
        let rest = self.rest.trim_start_matches(SEPARATORS);
        let (field, rest) = rest.split_at(rest.find(SEPARATORS).unwrap_or(rest.len()));
        self.rest = rest;
        (!field.is_empty()).then_some(field)
    }

    fn field(&mut self, field: &'static str) -> Result<&'a str, MasterCfError> {
        self.next().ok_or_else(|| MasterCfError::Missing {
            path: self.path.to_owned(),
            line: self.line,
            field,
        })
    }

    fn required<T>(
        &mut self,
        field: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<T, MasterCfError> {
        let text = self.field(field)?;
        if text == "-" { None } else { parse(text) }.ok_or_else(|| self.bad(field, text))
    }

    fn yes_no(&mut self, field: &'static str) -> Result<Option<bool>, MasterCfError> {
        match self.field(field)? {
            "-" => Ok(None),
            "y" => Ok(Some(true)),
            "n" => Ok(Some(false)),
            other => Err(self.bad(field, other)),
        }
    }

    /// The digits that a field starts with.
    fn number(&self, field: &'static str, text: &str) -> Result<Option<u32>, MasterCfError> {
        if text == "-" {
            return Ok(None);
        }
        let digits = text.find(|ch: char| !ch.is_ascii_digit()).map_or(text, |end| &text[..end]);
        digits.parse().map(Some).map_err(|_| self.bad(field, text))
    }

    /// Arguments; blanks in braces separate nothing.
    fn arguments(&self) -> Result<Vec<String>, MasterCfError> {
        let mut arguments = Vec::new();
        let (mut level, mut start) = (0usize, None);
        for (at, ch) in self.rest.char_indices().chain([(self.rest.len(), ' ')]) {
            let ends = at == self.rest.len() || (level == 0 && SEPARATORS.contains(&ch));
            match ch {
                _ if ends => arguments.extend(start.take().map(|start| &self.rest[start..at])),
                '{' => level += 1,
                '}' => level = level.saturating_sub(1),
                _ => {}
            }
            if !ends && start.is_none() {
                start = Some(at);
            }
        }
        arguments.into_iter().map(|argument| self.unbraced(argument)).collect()
    }

    fn unbraced(&self, argument: &str) -> Result<String, MasterCfError> {
        if !argument.starts_with('{') {
            return Ok(argument.to_owned());
        }
        match crate::main_cf::expand::balanced(argument, '{', '}') {
            Some((inner, "")) => Ok(inner.trim_matches(crate::lines::is_space).to_owned()),
            _ => Err(self.bad("command", argument)),
        }
    }

    fn bad(&self, field: &'static str, value: &str) -> MasterCfError {
        MasterCfError::Value { path: self.path.to_owned(), line: self.line, field, value: value.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<MasterCf, MasterCfError> {
        MasterCf::parse(text, Path::new("/etc/postfix/master.cf"))
    }

    const SAMPLE: &str = "\
# comment
smtp      inet  n       -       y       -       -       smtpd
pickup    unix  n       -       y       60      1       pickup
optimus   unix  -       n       n       300?    1       pickup-rs
  -o syslog_name=postfix/optimus
# between
  -o { non_smtpd_milters = inet:a:1, inet:b:2 } -v
maildrop  unix  -       n       n       -       -       pipe
  flags=DRXhu user=vmail argv=/usr/bin/maildrop -o x=y
";

    #[test]
    fn a_sample() {
        let master_cf = parse(SAMPLE).unwrap();
        assert_eq!(master_cf.services().len(), 4);
        let optimus = master_cf.find("optimus", ServiceType::Unix).unwrap();
        assert_eq!((optimus.line, optimus.private, optimus.unprivileged), (4, true, false));
        assert_eq!((optimus.chroot, optimus.wakeup_s, optimus.wakeup_if_used), (Some(false), 300, true));
        assert_eq!(optimus.process_limit, Some(1));
        let expected =
            ["-o", "syslog_name=postfix/optimus", "-o", "non_smtpd_milters = inet:a:1, inet:b:2", "-v"];
        assert_eq!(optimus.args, expected);
        assert_eq!(
            optimus.overrides(),
            [
                ("syslog_name".to_owned(), "postfix/optimus".to_owned()),
                ("non_smtpd_milters".to_owned(), "inet:a:1, inet:b:2".to_owned()),
            ]
        );
        assert_eq!(optimus.socket().unwrap(), Path::new("private/optimus"));
    }

    #[test]
    fn an_argument_of_the_command_is_no_override() {
        let master_cf = parse(SAMPLE).unwrap();
        assert_eq!(master_cf.find("maildrop", ServiceType::Unix).unwrap().overrides(), []);
    }

    #[test]
    fn errors_name_line_and_field() {
        for (text, expected) in [
            ("a unix - - - -", "line 1: missing \"max_proc\" field"),
            ("\n\na unix - x - - - c", "line 3: field \"unprivileged\": bad value: \"x\""),
            ("a tcp - - - - - c", "field \"transport type\": bad value: \"tcp\""),
            ("a unix - - - -1 - c", "field \"wakeup_time\": bad value: \"-1\""),
            ("a unix - - - - - c -o {a=b", "bad value: \"{a=b\""),
            ("25 inet - - - - - smtpd", "field \"private\""),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn the_configuration_of_a_service() {
        let main_cf = MainCf::parse("syslog_name = x", Path::new("/etc/postfix"), "h").unwrap();
        let master_cf = parse(SAMPLE).unwrap();
        let optimus = master_cf.find("optimus", ServiceType::Unix).unwrap();
        let seen = master_cf.configuration_of(optimus, &main_cf).unwrap();
        assert_eq!(seen.get("syslog_name").unwrap(), "postfix/optimus");
        assert_eq!(main_cf.get("syslog_name").unwrap(), "x");
    }

    proptest! {
        #[test]
        fn any_text_has_an_answer(text in "(?s).{0,200}") {
            let _ = parse(&text);
        }

        #[test]
        fn any_arguments_have_an_answer(arguments in "[-{}o= ,a$é]{0,40}") {
            if let Ok(master_cf) = parse(&format!("a unix - - - - - c {arguments}")) {
                for service in master_cf.services() {
                    let _ = service.overrides();
                }
            }
        }
    }
}
