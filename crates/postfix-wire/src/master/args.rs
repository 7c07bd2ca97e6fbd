//! Command line that master gives to a service.

use crate::constants as c;
use crate::main_cf::{MainCf, MainCfError};

/// Error in a service's arguments. master or `master.cf` is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MasterArgsError {
    /// No service has this option.
    #[error("option -{0}: unknown; correct the service in master.cf")]
    Unknown(char),
    /// The option needs a value.
    #[error("option -{0}: value missing; correct the service in master.cf")]
    NoValue(char),
    /// `-s` needs a number above 0.
    #[error("option -s: {0:?} is no number of sockets above 0; let master(8) start this command")]
    SocketCount(String),
}

/// Command line that master gave the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MasterArgs {
    /// Name of the program, without directories.
    pub process_name: String,
    /// `-n`: name of the service in `master.cf`; the program's name without this option.
    pub service_name: String,
    /// `-t`: transport of clients: `unix`, `inet`, `pass`, `fifo`, `unix-dgram`.
    pub transport: Option<String>,
    /// `-s`: number of sockets to listen on.
    pub socket_count: usize,
    /// `-c`: enter the queue directory for good.
    pub chroot: bool,
    /// `-u`: become `mail_owner`.
    pub unprivileged: bool,
    /// `-l`: at most one process of this service.
    pub alone: bool,
    /// `-z`: any number of processes of this service.
    pub unlimited: bool,
    /// `-d`: run in the foreground, not as a daemon.
    pub foreground: bool,
    /// `-D`: start the debugger.
    pub debugger: bool,
    /// `-S`: the client is on standard input and output.
    pub stdio: bool,
    /// `-v`: number of these options.
    pub verbose: u32,
    /// `-V`: log to standard error too.
    pub log_to_stderr: bool,
    /// `-o name=value`, and the parameters that `-i` and `-m` set, in the order of the options.
    pub overrides: Vec<String>,
    /// Operands, which follow the options.
    pub operands: Vec<String>,
}

impl MasterArgs {
    /// Reads a command line that begins with the program's name, as `getopt` does: options may be
    /// joined, and the first operand or `--` ends them. Fails at an unknown option or a wrong
    /// value.
    pub fn parse(
        argv: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<Self, MasterArgsError> {
        let mut argv = argv.into_iter().map(Into::into);
        let mut this = Self::named(&argv.next().unwrap_or_default());
        this.read(&mut argv).map(|()| this)
    }

    /// Returns the overrides of a command line, which may be wrong otherwise.
    pub(crate) fn overrides_of(argv: impl IntoIterator<Item = String>) -> Vec<String> {
        let mut this = Self::named("");
        let mut argv = argv.into_iter();
        // The service reports mistakes when it starts. Each error uses up an argument, so the loop
        // ends.
        while this.read(&mut argv).is_err() {}
        this.overrides
    }

    fn read(&mut self, argv: &mut impl Iterator<Item = String>) -> Result<(), MasterArgsError> {
        while let Some(argument) = argv.next() {
            match argument.strip_prefix('-') {
                Some("-") => break,
                Some(letters) if !letters.is_empty() => self.options(letters, argv)?,
                _ => {
                    self.operands.push(argument);
                    break;
                }
            }
        }
        self.operands.extend(argv);
        Ok(())
    }

    fn named(program: &str) -> Self {
        let process_name = program.rsplit('/').next().unwrap_or_default().to_owned();
        Self {
            service_name: process_name.clone(),
            process_name,
            transport: None,
            socket_count: 1,
            chroot: false,
            unprivileged: false,
            alone: false,
            unlimited: false,
            foreground: false,
            debugger: false,
            stdio: false,
            verbose: 0,
            log_to_stderr: false,
            overrides: Vec::new(),
            operands: Vec::new(),
        }
    }

    /// Reads one argument's letters. The first letter that needs a value takes the other letters as
    /// its value, or the next argument.
    fn options(
        &mut self,
        letters: &str,
        argv: &mut impl Iterator<Item = String>,
    ) -> Result<(), MasterArgsError> {
        for (at, letter) in letters.char_indices() {
            if !"imnost".contains(letter) {
                self.flag(letter)?;
                continue;
            }
            let joined = &letters[at + 1..];
            let value = if joined.is_empty() { argv.next() } else { Some(joined.to_owned()) };
            return self.valued(letter, value.ok_or(MasterArgsError::NoValue(letter))?);
        }
        Ok(())
    }

    fn flag(&mut self, letter: char) -> Result<(), MasterArgsError> {
        match letter {
            'c' => self.chroot = true,
            'd' => self.foreground = true,
            'D' => self.debugger = true,
            'l' => self.alone = true,
            'S' => self.stdio = true,
            'u' => self.unprivileged = true,
            'v' => self.verbose += 1,
            'V' => self.log_to_stderr = true,
            'z' => self.unlimited = true,
            other => return Err(MasterArgsError::Unknown(other)),
        }
        Ok(())
    }

    fn valued(&mut self, letter: char, value: String) -> Result<(), MasterArgsError> {
        match letter {
            'i' => self.overrides.push(format!("max_idle={value}")),
            'm' => self.overrides.push(format!("max_use={value}")),
            'n' => self.service_name = value,
            'o' => self.overrides.push(value),
            't' => self.transport = Some(value),
            _ => match value.parse() {
                Ok(count) if count > 0 => self.socket_count = count,
                _ => return Err(MasterArgsError::SocketCount(value)),
            },
        }
        Ok(())
    }

    /// Applies the command line to the configuration, with the names of process and service.
    pub fn configure(&self, main_cf: &mut MainCf) -> Result<(), MainCfError> {
        main_cf.set("process_name", &self.process_name);
        for assignment in &self.overrides {
            main_cf.override_with(assignment)?;
        }
        main_cf.set("service_name", &self.service_name);
        Ok(())
    }
}

/// Reads the value of the environment's `GENERATION`; 0 if it is not set. Returns `None` if it is
/// no octal number.
pub(super) fn generation(value: Option<&str>) -> Option<u32> {
    match value {
        None => Some(0),
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            u32::from_str_radix(digits, 8).ok()
        }
        Some(_) => None,
    }
}

/// Returns the name of the environment's `GENERATION`.
pub(super) fn generation_variable() -> &'static str {
    let name = c::MASTER_GEN_NAME;
    std::str::from_utf8(&name[..name.len() - 1]).unwrap_or("GENERATION")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(line: &str) -> Result<MasterArgs, MasterArgsError> {
        MasterArgs::parse(line.split(' '))
    }

    #[test]
    fn master_s_arguments_are_read() {
        let args = parse(
            "/usr/lib/postfix/sbin/pickup-rs -l -n optimus -t unix -u -c -o max_idle=5 -s 2 x -l",
        )
        .unwrap();
        assert_eq!(args.process_name, "pickup-rs");
        assert_eq!(args.service_name, "optimus");
        assert_eq!(args.transport.as_deref(), Some("unix"));
        assert!(args.alone && args.unprivileged && args.chroot && !args.unlimited);
        assert_eq!(args.overrides, ["max_idle=5"]);
        assert_eq!(args.socket_count, 2);
        assert_eq!(args.operands, ["x", "-l"]);
    }

    #[test]
    fn options_may_be_joined() {
        let args = parse("pickup-rs -cuvvom=n -i7 -- -v").unwrap();
        assert!(args.chroot && args.unprivileged && args.verbose == 2);
        assert_eq!(args.overrides, ["m=n", "max_idle=7"]);
        assert_eq!(args.operands, ["-v"]);
    }

    #[test]
    fn wrong_arguments_are_errors() {
        assert_eq!(parse("x -q"), Err(MasterArgsError::Unknown('q')));
        assert_eq!(parse("x -n"), Err(MasterArgsError::NoValue('n')));
        assert_eq!(parse("x -s 0"), Err(MasterArgsError::SocketCount("0".to_owned())));
    }

    #[test]
    fn the_configuration_knows_its_service() {
        let text = "syslog_name = postfix/$service_name";
        let mut main_cf = MainCf::parse(text, std::path::Path::new("/etc/postfix"), "h").unwrap();
        parse("pickup-rs -n optimus -o max_use=3 -m 4").unwrap().configure(&mut main_cf).unwrap();
        assert_eq!(main_cf.get("syslog_name").unwrap(), "postfix/optimus");
        assert_eq!(main_cf.get_int("max_use").unwrap(), 4);
    }

    #[test]
    fn generations_are_octal() {
        assert_eq!(generation(Some("17")), Some(15));
        assert_eq!(generation(None), Some(0));
        assert_eq!(generation(Some("8")), None);
        assert_eq!(generation(Some("+7")), None);
        assert_eq!(generation_variable(), "GENERATION");
    }

    proptest! {
        #[test]
        fn any_arguments_are_read_or_refused(
            argv in prop::collection::vec("-?[a-zA-Z=é ]{0,6}", 0..8),
        ) {
            let _ = MasterArgs::parse(argv);
        }
    }
}
