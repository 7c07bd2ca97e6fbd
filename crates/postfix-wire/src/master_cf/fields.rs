//! Fields of an entry in `master.cf`.

use std::path::Path;

use super::{MasterCfError, MasterService, ServiceType};
use crate::lines::is_space;
use crate::main_cf::expand::balanced;

/// Characters between fields.
const SEPARATORS: [char; 4] = [' ', '\t', '\r', '\n'];

/// Reader of the fields of one entry.
pub(super) struct Fields<'a> {
    pub(super) path: &'a Path,
    pub(super) line: usize,
    pub(super) rest: &'a str,
}

impl<'a> Fields<'a> {
    pub(super) fn service(mut self) -> Result<Option<MasterService>, MasterCfError> {
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
        Ok(Some(MasterService {
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

    /// Returns the number that a field starts with, or `None` for `-`.
    fn number(&self, field: &'static str, text: &str) -> Result<Option<u32>, MasterCfError> {
        if text == "-" {
            return Ok(None);
        }
        let digits = text.find(|ch: char| !ch.is_ascii_digit()).map_or(text, |end| &text[..end]);
        digits.parse().map(Some).map_err(|_| self.bad(field, text))
    }

    /// Returns the arguments. Blanks inside braces don't separate them.
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
        match balanced(argument, '{', '}') {
            Some((inner, "")) => Ok(inner.trim_matches(is_space).to_owned()),
            _ => Err(self.bad("command", argument)),
        }
    }

    fn bad(&self, field: &'static str, value: &str) -> MasterCfError {
        MasterCfError::Value {
            path: self.path.to_owned(),
            line: self.line,
            field,
            value: value.to_owned(),
        }
    }
}
