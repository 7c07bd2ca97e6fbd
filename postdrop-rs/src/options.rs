//! `sendmail`'s command line.
//!
//! Everything Sendmail ever took is in one table, because an option's letter says whether it takes a value, and to
//! misread one would turn its value into a recipient. Options are read as getopt(3) reads them, and end at the first
//! operand. Two are not of getopt's form: a bare `-q`, and the VERP spelling of `-V`.
//!
//! Source: Postfix `sendmail(1)`.

use std::path::PathBuf;

use crate::delegate::Task;
use crate::exit::Failure;

/// What `sendmail` is to be this time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// The program that submits a message.
    Submit,
    /// Another program.
    Delegate(Task),
    /// Taken and without effect, as in Postfix.
    Nothing,
}

/// What `sendmail` is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// `-b`, `-q`, `-I`, or the program's name, of which the last one counts; `-qR`, `-qI` and `-q10m` over `-bm`.
    pub mode: Mode,
    /// `-C`.
    pub config_directory: Option<PathBuf>,
    /// `-B`.
    pub encoding: Option<&'static str>,
    /// `-f` or `-r`, as given.
    pub sender: Option<Vec<u8>>,
    /// `-F`.
    pub full_name: Option<Vec<u8>>,
    /// Unless `-i` or `-oi`.
    pub dot_ends: bool,
    /// `-oA`.
    pub alias_map: Option<Vec<u8>>,
    /// `-t`.
    pub recipients_from_headers: bool,
    /// The operands, as given.
    pub recipients: Vec<Vec<u8>>,
    queue: QueueOptions,
}

/// `-q` with a value: unlike a bare one it is no mode but something to be done in the mode that submits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct QueueOptions {
    /// `-q10m`: a daemon's business, which Postfix's master minds by itself.
    has_interval: bool,
    site: Option<Vec<u8>>,
    message: Option<Vec<u8>>,
}

/// What an option means to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Body,
    ConfigDirectory,
    FullName,
    Sender,
    DotIsText,
    RecipientsFromHeaders,
    Mode,
    Queue,
    Aliases,
    Set,
    /// Taken and without effect, as in Postfix.
    Ignored,
    /// Postfix can do this; we can't yet.
    NotYet,
    /// Postfix refuses it too.
    Refused,
}

/// Letter, whether it takes a value, and what it means.
const OPTIONS: &[(u8, bool, Meaning)] = &[
    (b'A', true, Meaning::Ignored),
    (b'B', true, Meaning::Body),
    (b'C', true, Meaning::ConfigDirectory),
    (b'F', true, Meaning::FullName),
    (b'G', false, Meaning::NotYet),
    (b'I', false, Meaning::Aliases),
    (b'L', true, Meaning::Ignored),
    (b'N', true, Meaning::NotYet),
    (b'O', true, Meaning::Ignored),
    (b'R', true, Meaning::NotYet),
    (b'U', false, Meaning::Ignored),
    (b'V', true, Meaning::NotYet),
    (b'X', true, Meaning::NotYet),
    (b'b', true, Meaning::Mode),
    (b'c', false, Meaning::Ignored),
    (b'e', true, Meaning::Ignored),
    (b'f', true, Meaning::Sender),
    (b'h', true, Meaning::Ignored),
    (b'i', false, Meaning::DotIsText),
    (b'm', false, Meaning::Ignored),
    (b'n', false, Meaning::Refused),
    (b'o', true, Meaning::Set),
    (b'p', true, Meaning::Ignored),
    (b'q', true, Meaning::Queue),
    (b'r', true, Meaning::Sender),
    (b't', false, Meaning::RecipientsFromHeaders),
    (b'v', false, Meaning::NotYet),
    (b'x', false, Meaning::Ignored),
];

impl Invocation {
    /// Reads the command line. `name` is the program's, without directory.
    pub fn parse(name: &[u8], arguments: impl IntoIterator<Item = Vec<u8>>) -> Result<Self, Failure> {
        let mut invocation = Self {
            mode: named(name)?,
            config_directory: None,
            encoding: None,
            sender: None,
            full_name: None,
            dot_ends: true,
            alias_map: None,
            recipients_from_headers: false,
            recipients: Vec::new(),
            queue: QueueOptions::default(),
        };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            if argument == b"--" {
                break;
            }
            if argument.len() < 2 || argument[0] != b'-' {
                invocation.recipients.push(argument);
                break;
            }
            invocation.cluster(&argument, &mut arguments)?;
        }
        invocation.recipients.extend(arguments);
        invocation.settle()?;
        Ok(invocation)
    }

    /// What the options come to together, by stock's rules and in their order.
    fn settle(&mut self) -> Result<(), Failure> {
        let submits = self.mode == Mode::Submit;
        let site = self.queue.site.take().map(Task::FlushSite);
        let message = self.queue.message.take().map(Task::FlushMessage);
        let for_delivery =
            [("-t", self.recipients_from_headers), ("-qR", site.is_some()), ("-qI", message.is_some())];
        if let Some((option, _)) = for_delivery.iter().find(|(_, given)| *given && !submits) {
            return Err(Failure::usage(format!("{option} can be used only in delivery mode")));
        }
        if let Some(task) = site.or(message) {
            self.mode = Mode::Delegate(task);
        }
        if self.queue.has_interval {
            self.mode = Mode::Nothing;
        }
        match &mut self.mode {
            Mode::Delegate(task) if !self.recipients.is_empty() => {
                return Err(Failure::usage(format!("{} requires no recipient", task.as_stock_calls_it())));
            }
            Mode::Delegate(Task::Aliases(map)) => map.clone_from(&self.alias_map),
            _ => {}
        }
        Ok(())
    }

    /// One argument of options: `-i`, `-ti`, `-tfann`, `-f ann`.
    fn cluster(
        &mut self,
        argument: &[u8],
        arguments: &mut impl Iterator<Item = Vec<u8>>,
    ) -> Result<(), Failure> {
        // Before getopt sees them: neither has a value to look for in the next argument.
        if argument == b"-q" {
            self.mode = Mode::Delegate(Task::Flush);
            return Ok(());
        }
        if is_old_verp(argument) {
            return Err(not_yet(&String::from_utf8_lossy(argument)));
        }
        for (index, letter) in argument.iter().enumerate().skip(1) {
            let Some((_, takes_value, meaning)) = OPTIONS.iter().find(|(l, ..)| l == letter) else {
                return Err(usage("invalid option", *letter));
            };
            if !takes_value {
                self.apply(*letter, *meaning, Vec::new())?;
                continue;
            }
            let attached = &argument[index + 1..];
            let value = if attached.is_empty() { arguments.next() } else { Some(attached.to_vec()) };
            let missing = || usage("option requires an argument", *letter);
            return self.apply(*letter, *meaning, value.ok_or_else(missing)?);
        }
        Ok(())
    }

    fn apply(&mut self, letter: u8, meaning: Meaning, value: Vec<u8>) -> Result<(), Failure> {
        match meaning {
            Meaning::Body => self.encoding = Some(encoding(&value)?),
            Meaning::ConfigDirectory => self.config_directory = Some(config_directory(value)),
            Meaning::FullName => self.full_name = Some(value),
            Meaning::Sender => self.sender = Some(value),
            Meaning::DotIsText => self.dot_ends = false,
            Meaning::RecipientsFromHeaders => self.recipients_from_headers = true,
            Meaning::Mode => self.mode = mode(&value)?,
            Meaning::Queue => self.queue(&value)?,
            Meaning::Aliases => self.mode = Mode::Delegate(Task::Aliases(None)),
            Meaning::Set => self.set(&value)?,
            Meaning::Ignored => {}
            Meaning::NotYet => return Err(not_yet(&format!("option -{}", char::from(letter)))),
            Meaning::Refused => {
                return Err(Failure::usage(format!("-{} option not supported", char::from(letter))));
            }
        }
        Ok(())
    }

    /// `-q` with a value.
    fn queue(&mut self, value: &[u8]) -> Result<(), Failure> {
        match value {
            [b'0'..=b'9', ..] => self.queue.has_interval = true,
            b"R" => return Err(Failure::usage("specify: -qRsitename")),
            b"I" => return Err(Failure::usage("specify: -qIqueueid")),
            [b'R', site @ ..] => self.queue.site = Some(site.to_vec()),
            [b'I', id @ ..] => self.queue.message = Some(id.to_vec()),
            other => {
                return Err(Failure::usage(format!("-q{} is not implemented", other.escape_ascii())));
            }
        }
        Ok(())
    }

    /// `-o`: of Sendmail's settings Postfix knows `-oi` and `-oA`; the rest has no effect.
    fn set(&mut self, value: &[u8]) -> Result<(), Failure> {
        match value {
            b"A" => return Err(Failure::usage("-oA requires pathname")),
            [b'A', map @ ..] => self.alias_map = Some(map.to_vec()),
            [b'i', ..] => self.dot_ends = false,
            _ => {}
        }
        Ok(())
    }
}

fn encoding(value: &[u8]) -> Result<&'static str, Failure> {
    match value {
        b"8BITMIME" => Ok("8bit"),
        b"7BIT" => Ok("7bit"),
        _ => Err(Failure::usage("-B option needs 8BITMIME or 7BIT")),
    }
}

/// `-C` may name the directory or the `main.cf` in it.
fn config_directory(value: Vec<u8>) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let path = PathBuf::from(std::ffi::OsString::from_vec(value));
    match (path.file_name(), path.parent()) {
        (Some(name), Some(parent)) if name == "main.cf" => parent.to_owned(),
        _ => path,
    }
}

/// What the program's name asks for; options may ask for something else.
fn named(program: &[u8]) -> Result<Mode, Failure> {
    match program {
        b"mailq" => Ok(Mode::Delegate(Task::ShowQueue)),
        b"newaliases" => Ok(Mode::Delegate(Task::Aliases(None))),
        b"smtpd" => Err(not_yet("smtpd")),
        _ => Ok(Mode::Submit),
    }
}

/// `-b`.
fn mode(value: &[u8]) -> Result<Mode, Failure> {
    let first = value.first().copied().unwrap_or(b' ');
    match first {
        b'm' => Ok(Mode::Submit),
        b'p' => Ok(Mode::Delegate(Task::ShowQueue)),
        b'i' => Ok(Mode::Delegate(Task::Aliases(None))),
        b's' => Ok(Mode::Delegate(Task::Smtp)),
        b'h' | b'H' => Ok(Mode::Nothing),
        b'd' | b'l' | b'v' => Err(not_yet(&format!("option -b{}", char::from(first)))),
        other => Err(Failure::usage(format!("unsupported: -b{}", other.escape_ascii()))),
    }
}

/// `-V` and `-V+=` were VERP before Postfix 2.3.
fn is_old_verp(argument: &[u8]) -> bool {
    argument == b"-V" || argument == b"-XV" || (argument.starts_with(b"-V") && argument.len() == 4)
}

fn usage(what: &str, letter: u8) -> Failure {
    Failure::usage(format!("{what} -- '{}'; usage: sendmail [options]", letter.escape_ascii()))
}

fn not_yet(what: &str) -> Failure {
    Failure::usage(format!("{what} is not yet supported"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Invocation, String> {
        let arguments = arguments.iter().map(|argument| argument.as_bytes().to_vec());
        Invocation::parse(b"sendmail", arguments).map_err(|failure| failure.to_string())
    }

    fn recipients(invocation: &Invocation) -> Vec<&str> {
        invocation.recipients.iter().map(|r| std::str::from_utf8(r).unwrap()).collect()
    }

    #[test]
    fn options_end_at_the_first_operand() {
        let invocation = parse(&["-i", "-fann@x", "bob", "-t", "-f"]).unwrap();
        assert_eq!(invocation.sender.as_deref(), Some(&b"ann@x"[..]));
        assert_eq!(recipients(&invocation), ["bob", "-t", "-f"]);
        assert!(!invocation.recipients_from_headers && !invocation.dot_ends);
        assert_eq!(recipients(&parse(&["-t", "--", "-x", "--"]).unwrap()), ["-x", "--"]);
        assert_eq!(recipients(&parse(&["-", "a"]).unwrap()), ["-", "a"]);
        assert_eq!(recipients(&parse(&["", "a"]).unwrap()), ["", "a"]);
    }

    #[test]
    fn letters_can_be_bundled_and_values_attached() {
        let invocation =
            parse(&["-tiFAnn B", "-r", "", "-B7BIT", "-bm", "-oem", "-om", "-h", "3", "-eq"]).unwrap();
        assert!(invocation.recipients_from_headers && !invocation.dot_ends);
        assert_eq!(invocation.full_name.as_deref(), Some(&b"Ann B"[..]));
        assert_eq!(invocation.sender.as_deref(), Some(&b""[..]));
        assert_eq!(invocation.encoding, Some("7bit"));
        assert!(invocation.recipients.is_empty());
        assert!(!parse(&["-oi"]).unwrap().dot_ends);
        assert_eq!(parse(&["-F=Name"]).unwrap().full_name.as_deref(), Some(&b"=Name"[..]));
    }

    #[test]
    fn the_configuration_is_a_directory_or_the_file_in_it() {
        assert_eq!(parse(&["-C/etc/p"]).unwrap().config_directory, Some("/etc/p".into()));
        assert_eq!(parse(&["-C", "/etc/p/main.cf"]).unwrap().config_directory, Some("/etc/p".into()));
    }

    #[test]
    fn what_can_not_be_done_is_said() {
        for (arguments, words) in [
            (&["-n"][..], "-n option not supported"),
            (&["-bv"], "option -bv is not yet supported"),
            (&["-ba"], "unsupported: -ba"),
            (&["-bp", "bob"], "display queue mode requires no recipient"),
            (&["-qRx", "bob"], "flush site requires no recipient"),
            (&["-t", "-bp"], "-t can be used only in delivery mode"),
            (&["-qRx", "-bi"], "-qR can be used only in delivery mode"),
            (&["-q", "-qIx"], "-qI can be used only in delivery mode"),
            (&["-qx"], "-qx is not implemented"),
            (&["-qR"], "specify: -qRsitename"),
            (&["-V", "x"], "-V is not yet supported"),
            (&["-tq"], "option requires an argument -- 'q'; usage: sendmail [options]"),
            (&["-B", "9BIT"], "-B option needs 8BITMIME or 7BIT"),
            (&["-oA"], "-oA requires pathname"),
            (&["-f"], "option requires an argument -- 'f'; usage: sendmail [options]"),
            (&["-Z"], "invalid option -- 'Z'; usage: sendmail [options]"),
        ] {
            assert_eq!(parse(arguments).unwrap_err(), words);
        }
        assert!(Invocation::parse(b"smtpd", []).is_err());
    }

    #[test]
    fn what_postfix_s_commands_do_is_left_to_them() {
        for (arguments, task) in [
            (&["-bp"][..], Task::ShowQueue),
            (&["-q"], Task::Flush),
            (&["-bi", "-q"], Task::Flush),
            (&["-q", "-bi"], Task::Aliases(None)),
            (&["-I"], Task::Aliases(None)),
            (&["-bi", "-oAhash:/x"], Task::Aliases(Some(b"hash:/x".to_vec()))),
            (&["-qRexample.org"], Task::FlushSite(b"example.org".to_vec())),
            (&["-qIx", "-bi", "-qRx", "-bm"], Task::FlushSite(b"x".to_vec())),
            (&["-qI4C1B21A0"], Task::FlushMessage(b"4C1B21A0".to_vec())),
            (&["-bs"], Task::Smtp),
        ] {
            assert_eq!(parse(arguments).unwrap().mode, Mode::Delegate(task), "{arguments:?}");
        }
        for arguments in
            [&["-bh"][..], &["-q30m"], &["-q1h", "-bm", "bob"], &["-qRx", "-q5m"], &["-bp", "-q1m"]]
        {
            assert_eq!(parse(arguments).unwrap().mode, Mode::Nothing);
        }
        assert_eq!(parse(&["-bp", "-bm", "bob"]).unwrap().mode, Mode::Submit);
        let named = |name| Invocation::parse(name, []).unwrap().mode;
        assert_eq!(named(b"mailq"), Mode::Delegate(Task::ShowQueue));
        assert_eq!(named(b"newaliases"), Mode::Delegate(Task::Aliases(None)));
    }

    #[test]
    fn the_table_has_every_letter_of_stock_sendmail() {
        let stock = "A:B:C:F:GIL:N:O:R:UV:X:b:ce:f:h:imno:p:r:q:tvx";
        for (index, letter) in stock.bytes().enumerate().filter(|(_, letter)| *letter != b':') {
            let takes_value = stock.as_bytes().get(index + 1) == Some(&b':');
            assert!(
                OPTIONS.iter().any(|(l, v, _)| (*l, *v) == (letter, takes_value)),
                "{}",
                char::from(letter)
            );
        }
        assert_eq!(OPTIONS.len(), stock.replace(':', "").len());
    }
}
