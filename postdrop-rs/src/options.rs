//! `sendmail`'s command line.
//!
//! This module knows all options that Sendmail ever had, because only a known letter says whether
//! its option takes a value. A misread option would turn its value into a recipient. Most options
//! have no effect in Postfix. The arguments not in getopt's form are a bare `-q`, and VERP by its
//! old and its new name: `-V`, `-V+=`, `-XV`.
//!
//! The command line is read twice: first for `-C`, which names the configuration, then for
//! everything. Remarks to the user come in the order of the options. Conflicts between options are
//! found when all are read.
//!
//! Source: Postfix `sendmail(1)`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use postfix_wire::main_cf::FILE_NAME;

use crate::delegate::Task;
use crate::dsn;
use crate::exit::Failure;
use crate::getopt::{CommandLineItem, Getopt, Letters, Mistake};

/// Letters of all options.
const LETTERS: Letters = b"A:B:C:F:GIL:N:O:R:UV:X:b:ce:f:h:imno:p:r:q:tvx";

/// Role of `sendmail` in this run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Submission of a message.
    Submit,
    /// Task of another command.
    Delegate(Task),
    /// Mode that Postfix accepts without effect.
    Nothing,
}

/// Wish for a report on the delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trace {
    /// `-bv`: report what would become of a message, without delivering one.
    Probe,
    /// `-v`: report what becomes of this message.
    Record,
}

impl Trace {
    /// Returns the flags as records have them (`deliver_request.h`).
    pub fn flags(self) -> u32 {
        match self {
            Self::Probe => 1 << 9,
            Self::Record => 1 << 10,
        }
    }
}

/// Request to `sendmail`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// Mode of `-b`, `-q`, `-I`, or the program's name; the last one counts. `-qR`, `-qI` and
    /// `-q10m` apply on top of `-bm`.
    pub mode: Mode,
    /// Encoding of `-B`.
    pub encoding: Option<&'static str>,
    /// Sender of `-f` or `-r`, unchanged.
    pub sender: Option<Vec<u8>>,
    /// Full name of `-F`.
    pub full_name: Option<Vec<u8>>,
    /// Whether a lone dot ends the message: false with `-i` or `-oi`.
    pub dot_ends: bool,
    /// Whether `-t` was given.
    pub recipients_from_headers: bool,
    /// Whether `-G` was given: mail from elsewhere, whose incomplete addresses stay incomplete.
    pub is_from_elsewhere: bool,
    /// Mask of the events of `-N`: see [`dsn::notify`].
    pub notify: Option<u32>,
    /// Mask of `-R` for the part of the message that returns: see [`dsn::ret`].
    pub ret: Option<u32>,
    /// Envelope id of `-V`.
    pub envelope_id: Option<Vec<u8>>,
    /// Delimiters of VERP addresses, of `-XV`.
    pub verp_delimiters: Option<Vec<u8>>,
    /// Report that `-v` or `-bv` asks for.
    pub trace: Option<Trace>,
    /// Number of `-v` options, which other commands get; 0 if `-v` asks for a report.
    pub verbosity: usize,
    /// Operands, unchanged.
    pub recipients: Vec<Vec<u8>>,
}

/// Remark to the author of the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remark {
    /// Mistake that getopt would report.
    Mistake(Mistake),
    /// Remark on an option that is ignored or has a newer name.
    Warning(String),
    /// Remark that is made only after `-v`.
    Info(String),
}

/// Inputs of [`Invocation::parse`] besides the arguments.
pub struct ParseInputs<'a> {
    /// Name of the program, without directory.
    pub name: &'a [u8],
    /// Look-up of a parameter's value.
    pub parameter: &'a dyn Fn(&str) -> String,
    /// Receiver of remarks.
    pub say: &'a mut dyn FnMut(Remark),
}

/// Returns the configuration directories that `-C` names, from left to right. Calls `say` for wrong
/// options.
pub fn config_directories(arguments: Vec<Vec<u8>>, say: &mut dyn FnMut(Remark)) -> Vec<PathBuf> {
    let mut getopt = Getopt::new(LETTERS, arguments);
    let mut directories = Vec::new();
    loop {
        if getopt.ahead().0 == Some(b"-q") {
            getopt.pass_over();
            continue;
        }
        match getopt.next() {
            Some(CommandLineItem::Option(b'C', value)) => directories.push(config_path(&value)),
            Some(CommandLineItem::Option(..)) => {}
            Some(CommandLineItem::Wrong(mistake)) => say(Remark::Mistake(mistake)),
            None => return directories,
        }
    }
}

impl Invocation {
    /// Parses a command line without the program's name.
    pub fn parse(arguments: Vec<Vec<u8>>, context: ParseInputs<'_>) -> Result<Self, Failure> {
        let mut reader = OptionReader::new(context);
        let mut getopt = Getopt::new(LETTERS, arguments);
        while !reader.special(&mut getopt)? {
            match getopt.next() {
                Some(CommandLineItem::Option(letter, value)) => reader.option(letter, value)?,
                Some(CommandLineItem::Wrong(mistake)) => return Err(reader.wrong(mistake)),
                None => break,
            }
        }
        reader.invocation.recipients = getopt.operands();
        reader.settle()?;
        Ok(reader.invocation)
    }
}

/// Reader of the options, from left to right.
struct OptionReader<'a> {
    invocation: Invocation,
    context: ParseInputs<'a>,
    /// Value of `-oA`.
    alias_map: Option<Vec<u8>>,
    /// Whether `-bv` was given.
    is_probe: bool,
    /// Whether `-q10m` was given: an interval for a daemon, which Postfix's master doesn't need.
    has_interval: bool,
    /// Site of `-qR`. Unlike a bare `-q`, this option sets no mode, and is valid only in the mode
    /// that submits.
    site: Option<Vec<u8>>,
    /// Queue id of `-qI`, which sets no mode either.
    message: Option<Vec<u8>>,
}

impl<'a> OptionReader<'a> {
    fn new(context: ParseInputs<'a>) -> Self {
        let invocation = Invocation {
            mode: named(context.name),
            encoding: None,
            sender: None,
            full_name: None,
            dot_ends: true,
            recipients_from_headers: false,
            is_from_elsewhere: false,
            notify: None,
            ret: None,
            envelope_id: None,
            verp_delimiters: None,
            trace: None,
            verbosity: 0,
            recipients: Vec::new(),
        };
        Self {
            invocation,
            context,
            alias_map: None,
            is_probe: false,
            has_interval: false,
            site: None,
            message: None,
        }
    }

    /// Takes an argument that getopt must not see. Returns true at the end of the command line.
    fn special(&mut self, getopt: &mut Getopt) -> Result<bool, Failure> {
        loop {
            let (Some(argument), following) = getopt.ahead() else { return Ok(true) };
            match argument {
                b"-q" => self.flush(),
                b"-XV" => self.set_default_verp(),
                // Before Postfix 2.3, VERP was -V, which now takes an envelope id.
                b"-V" if following.is_some_and(|following| following.len() == 2) => {
                    self.warn("option -V is deprecated with Postfix 2.3; specify -XV instead");
                    self.set_default_verp();
                }
                [b'-', b'V', delimiters @ ..] if delimiters.len() == 2 => {
                    let option = String::from_utf8_lossy(argument);
                    let value = &option[1..];
                    let words = format!(
                        "option {option} is deprecated with Postfix 2.3; specify -X{value} instead"
                    );
                    let delimiters = delimiters.to_vec();
                    self.warn(&words);
                    self.set_verp(delimiters)?;
                }
                _ => return Ok(false),
            }
            getopt.pass_over();
        }
    }

    fn option(&mut self, letter: u8, value: Vec<u8>) -> Result<(), Failure> {
        let invocation = &mut self.invocation;
        match letter {
            b'B' => invocation.encoding = Some(encoding(&value)?),
            b'F' => invocation.full_name = Some(value),
            b'f' | b'r' => invocation.sender = Some(value),
            b'G' => invocation.is_from_elsewhere = true,
            b'I' => invocation.mode = Mode::Delegate(Task::Aliases(None)),
            b'N' => self.notify(&value),
            b'R' => self.ret(&value),
            b'V' => self.envelope_id(value),
            b'X' => self.verp(&value)?,
            b'b' => self.mode(&value)?,
            b'i' => invocation.dot_ends = false,
            b'n' => return Err(Failure::usage("-n option not supported")),
            b'o' => self.set(&value)?,
            b'q' => self.queue(&value)?,
            b't' => invocation.recipients_from_headers = true,
            b'v' => invocation.verbosity += 1,
            _ => self.inform(format!("-{} option ignored", char::from(letter))),
        }
        Ok(())
    }

    fn notify(&mut self, value: &[u8]) {
        let (mut warnings, mut words) = (Vec::new(), Vec::new());
        self.invocation.notify =
            dsn::notify(value, &mut |warning| warnings.push(warning), &mut |word| words.push(word));
        words.into_iter().for_each(|word| self.inform(word));
        warnings.iter().for_each(|warning| self.warn(warning));
        if self.invocation.notify.is_none() {
            self.warn("bad -N option value -- ignored");
        }
    }

    fn ret(&mut self, value: &[u8]) {
        self.invocation.ret = dsn::ret(value);
        if self.invocation.ret.is_none() {
            self.warn("bad -R option value -- ignored");
        }
    }

    fn envelope_id(&mut self, value: Vec<u8>) {
        match dsn::envelope_id(value) {
            Ok(id) => self.invocation.envelope_id = Some(id),
            Err(why) => self.warn(&format!("{why} -- ignored")),
        }
    }

    /// Takes `-X`, of which Postfix knows `-XV`.
    fn verp(&mut self, value: &[u8]) -> Result<(), Failure> {
        match value {
            [b'V', delimiters @ ..] => self.set_verp(delimiters.to_vec()),
            other => Err(unsupported('X', other)),
        }
    }

    fn set_verp(&mut self, delimiters: Vec<u8>) -> Result<(), Failure> {
        let filter = (self.context.parameter)("verp_delimiter_filter");
        if delimiters.len() != 2 || !delimiters.iter().all(|byte| filter.as_bytes().contains(byte))
        {
            return Err(Failure::usage(format!("-V requires two characters from {filter}")));
        }
        self.invocation.verp_delimiters = Some(delimiters);
        Ok(())
    }

    fn set_default_verp(&mut self) {
        let delimiters = (self.context.parameter)("default_verp_delimiters");
        self.invocation.verp_delimiters = Some(delimiters.into_bytes());
    }

    /// Takes `-b`.
    fn mode(&mut self, value: &[u8]) -> Result<(), Failure> {
        self.invocation.mode = match value.first() {
            Some(b'm') => Mode::Submit,
            Some(b'p') => Mode::Delegate(Task::ShowQueue),
            Some(b'i') => Mode::Delegate(Task::Aliases(None)),
            Some(b's') => Mode::Delegate(Task::Smtp),
            Some(b'd' | b'l') => {
                if self.invocation.mode == Mode::Delegate(Task::Flush) {
                    self.warn("ignoring -q option in daemon mode");
                }
                Mode::Delegate(Task::Start)
            }
            Some(b'h' | b'H') => Mode::Nothing,
            // `-bv` sets no mode, but a way to submit.
            Some(b'v') => {
                self.is_probe = true;
                return Ok(());
            }
            _ => return Err(unsupported('b', value)),
        };
        Ok(())
    }

    /// Takes a bare `-q`.
    fn flush(&mut self) {
        if self.invocation.mode == Mode::Delegate(Task::Start) {
            self.warn("ignoring -q option in daemon mode");
        } else {
            self.invocation.mode = Mode::Delegate(Task::Flush);
        }
    }

    /// Takes `-q` with a value.
    fn queue(&mut self, value: &[u8]) -> Result<(), Failure> {
        match value {
            [b'0'..=b'9', ..] => self.has_interval = true,
            b"R" => return Err(Failure::usage("specify: -qRsitename")),
            b"I" => return Err(Failure::usage("specify: -qIqueueid")),
            [b'R', site @ ..] => self.site = Some(site.to_vec()),
            [b'I', id @ ..] => self.message = Some(id.to_vec()),
            other => return Err(Failure::usage(format!("-q{} is not implemented", first(other)))),
        }
        Ok(())
    }

    /// Takes `-o`. Of Sendmail's settings Postfix knows `-oi` and `-oA`; the others have no effect.
    fn set(&mut self, value: &[u8]) -> Result<(), Failure> {
        match value {
            b"A" => return Err(Failure::usage("-oA requires pathname")),
            [b'A', map @ ..] => self.alias_map = Some(map.to_vec()),
            [b'i', ..] => self.invocation.dot_ends = false,
            [b'7' | b'8' | b'm', ..] => {}
            other => self.inform(format!("-o{} option ignored", first(other))),
        }
        Ok(())
    }

    /// Combines all options, by stock's rules and in the order of those rules.
    fn settle(&mut self) -> Result<(), Failure> {
        self.refuse_conflicts()?;
        let invocation = &mut self.invocation;
        let submits = invocation.mode == Mode::Submit;
        if self.is_probe {
            invocation.trace = Some(Trace::Probe);
        }
        // One `-v` asks for a report of the delivery; several ask for a verbose log.
        if invocation.verbosity == 1 && submits {
            invocation.verbosity = 0;
            invocation.trace = Some(Trace::Record);
        }
        let site = self.site.take().map(Task::FlushSite);
        if let Some(task) = site.or(self.message.take().map(Task::FlushMessage)) {
            invocation.mode = Mode::Delegate(task);
        }
        if self.has_interval && invocation.mode != Mode::Delegate(Task::Start) {
            invocation.mode = Mode::Nothing;
        }
        match &mut invocation.mode {
            Mode::Delegate(task) if !invocation.recipients.is_empty() => {
                Err(Failure::usage(format!("{} requires no recipient", task.as_stock_calls_it())))
            }
            Mode::Delegate(Task::Aliases(map)) => {
                *map = self.alias_map.take();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn refuse_conflicts(&self) -> Result<(), Failure> {
        let invocation = &self.invocation;
        let submits = invocation.mode == Mode::Submit;
        let only_delivers = [
            ("-t", invocation.recipients_from_headers),
            ("-qR", self.site.is_some()),
            ("-qI", self.message.is_some()),
        ];
        if let Some((option, _)) = only_delivers.iter().find(|(_, given)| *given && !submits) {
            return Err(Failure::usage(format!("{option} can be used only in delivery mode")));
        }
        let never_probes = [
            ("-t", invocation.recipients_from_headers),
            ("-N", invocation.notify.is_some()),
            ("-R", invocation.ret.is_some()),
            ("-v", invocation.verbosity == 1),
        ];
        match never_probes.iter().find(|(_, given)| *given && self.is_probe) {
            Some((option, _)) => {
                Err(Failure::usage(format!("{option} option cannot be used with -bv")))
            }
            None => Ok(()),
        }
    }

    fn wrong(&mut self, mistake: Mistake) -> Failure {
        (self.context.say)(Remark::Mistake(mistake));
        let name = String::from_utf8_lossy(self.context.name);
        Failure::usage(format!("usage: {name} [options]"))
    }

    fn warn(&mut self, words: &str) {
        (self.context.say)(Remark::Warning(words.to_owned()));
    }

    /// Makes a remark, if a `-v` came before the current option.
    fn inform(&mut self, words: String) {
        if self.invocation.verbosity > 0 {
            (self.context.say)(Remark::Info(words));
        }
    }
}

fn encoding(value: &[u8]) -> Result<&'static str, Failure> {
    match value {
        b"8BITMIME" => Ok("8bit"),
        b"7BIT" => Ok("7bit"),
        _ => Err(Failure::usage("-B option needs 8BITMIME or 7BIT")),
    }
}

/// Returns the directory that `-C` names, which may also name the `main.cf` in it. Splits names as
/// Postfix does (`sane_basename(3)`, `sane_dirname(3)`).
fn config_path(value: &[u8]) -> PathBuf {
    let path = without_trailing_slashes(value);
    let (parent, name) = match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (without_trailing_slashes(&path[..=slash]), &path[slash + 1..]),
        None => (&b"."[..], path),
    };
    let directory = if name == FILE_NAME.as_bytes() { parent } else { value };
    OsStr::from_bytes(directory).into()
}

/// Removes trailing slashes. A path of slashes alone becomes the root directory.
fn without_trailing_slashes(path: &[u8]) -> &[u8] {
    let end =
        path.iter().rposition(|&byte| byte != b'/').map_or(path.len().min(1), |last| last + 1);
    &path[..end]
}

/// Returns the mode of the program's name; options may set another.
fn named(program: &[u8]) -> Mode {
    match program {
        b"mailq" => Mode::Delegate(Task::ShowQueue),
        b"newaliases" => Mode::Delegate(Task::Aliases(None)),
        b"smtpd" => Mode::Delegate(Task::Start),
        _ => Mode::Submit,
    }
}

fn unsupported(letter: char, value: &[u8]) -> Failure {
    Failure::usage(format!("unsupported: -{letter}{}", first(value)))
}

/// Returns the first byte as text. Stock shows no more of a value.
fn first(value: &[u8]) -> String {
    String::from_utf8_lossy(&value[..value.len().min(1)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_as(name: &str, arguments: &[&str]) -> (Result<Invocation, String>, Vec<Remark>) {
        let arguments = arguments.iter().map(|argument| argument.as_bytes().to_vec()).collect();
        let mut remarks = Vec::new();
        let parameter = |name: &str| match name {
            "verp_delimiter_filter" => "-=+".to_owned(),
            _ => "+=".to_owned(),
        };
        let say = &mut |remark| remarks.push(remark);
        let context = ParseInputs { name: name.as_bytes(), parameter: &parameter, say };
        let parsed = Invocation::parse(arguments, context).map_err(|failure| failure.to_string());
        (parsed, remarks)
    }

    fn parse(arguments: &[&str]) -> Result<Invocation, String> {
        parse_as("sendmail", arguments).0
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
    }

    #[test]
    fn letters_can_be_bundled_and_values_attached() {
        let invocation =
            parse(&["-tiFAnn B", "-r", "", "-B7BIT", "-bm", "-oem", "-om", "-h", "3", "-eq"])
                .unwrap();
        assert!(invocation.recipients_from_headers && !invocation.dot_ends);
        assert_eq!(invocation.full_name.as_deref(), Some(&b"Ann B"[..]));
        assert_eq!(invocation.sender.as_deref(), Some(&b""[..]));
        assert_eq!(invocation.encoding, Some("7bit"));
        assert!(invocation.recipients.is_empty());
        assert!(!parse(&["-oi"]).unwrap().dot_ends);
    }

    #[test]
    fn the_configuration_is_a_directory_or_the_file_in_it() {
        let directories = |arguments: &[&str]| {
            let arguments = arguments.iter().map(|argument| argument.as_bytes().to_vec()).collect();
            let found = config_directories(arguments, &mut drop);
            found.iter().map(|it| it.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(directories(&["-C/etc/p"]), ["/etc/p"]);
        assert_eq!(directories(&["-q", "-C", "/etc/p/main.cf", "bob"]), ["/etc/p"]);
        assert_eq!(directories(&["-C", "/a", "-t", "-C/b", "-C", "c"]), ["/a", "/b", "c"]);
        assert_eq!(directories(&["bob", "-C", "/x"]), Vec::<String>::new());
        for (given, directory) in [
            ("main.cf", "."),
            ("/main.cf", "/"),
            ("//a//main.cf//", "//a"),
            ("/a/", "/a/"),
            ("/a/main.cf/.", "/a/main.cf/."),
            ("/a/./main.cf", "/a/."),
            ("/", "/"),
            ("", ""),
        ] {
            assert_eq!(directories(&["-C", given]), [directory], "{given:?}");
        }
    }

    #[test]
    fn an_impossible_request_is_refused_in_stock_s_words() {
        for (arguments, words) in [
            (&["-n"][..], "-n option not supported"),
            (&["-ba"], "unsupported: -ba"),
            (&["-Xl"], "unsupported: -Xl"),
            (&["-XVab"], "-V requires two characters from -=+"),
            (&["-V+a"], "-V requires two characters from -=+"),
            (&["-bp", "bob"], "display queue mode requires no recipient"),
            (&["-bd", "bob"], "daemon mode requires no recipient"),
            (&["-qRx", "bob"], "flush site requires no recipient"),
            (&["-t", "-bp"], "-t can be used only in delivery mode"),
            (&["-qRx", "-bi"], "-qR can be used only in delivery mode"),
            (&["-q", "-qIx"], "-qI can be used only in delivery mode"),
            (&["-bv", "-t"], "-t option cannot be used with -bv"),
            (&["-bv", "-Nnever"], "-N option cannot be used with -bv"),
            (&["-bv", "-v"], "-v option cannot be used with -bv"),
            (&["-qx"], "-qx is not implemented"),
            (&["-qR"], "specify: -qRsitename"),
            (&["-tq"], "usage: sendmail [options]"),
            (&["-B", "9BIT"], "-B option needs 8BITMIME or 7BIT"),
            (&["-oA"], "-oA requires pathname"),
            (&["-Z"], "usage: sendmail [options]"),
        ] {
            assert_eq!(parse(arguments).unwrap_err(), words);
        }
        assert_eq!(parse_as("sendmail", &["-Z"]).1, [Remark::Mistake(Mistake::Unknown(b'Z'))]);
    }

    #[test]
    fn tasks_of_postfix_s_commands_are_left_to_them() {
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
            (&["-bd", "-q1h"], Task::Start),
            (&["-bl", "-q"], Task::Start),
        ] {
            assert_eq!(parse(arguments).unwrap().mode, Mode::Delegate(task), "{arguments:?}");
        }
        for arguments in
            [&["-bh"][..], &["-q30m"], &["-q1h", "-bm", "bob"], &["-qRx", "-q5m"], &["-bp", "-q1m"]]
        {
            assert_eq!(parse(arguments).unwrap().mode, Mode::Nothing, "{arguments:?}");
        }
    }

    #[test]
    fn the_program_s_name_sets_the_mode() {
        for (name, task) in [
            ("mailq", Task::ShowQueue),
            ("newaliases", Task::Aliases(None)),
            ("smtpd", Task::Start),
        ] {
            assert_eq!(parse_as(name, &[]).0.unwrap().mode, Mode::Delegate(task));
        }
        assert_eq!(parse_as("mailq", &["-bm", "bob"]).0.unwrap().mode, Mode::Submit);
    }

    #[test]
    fn one_v_asks_for_a_report_and_several_for_a_verbose_log() {
        let of = |arguments: &[&str]| {
            let invocation = parse(arguments).unwrap();
            (invocation.trace, invocation.verbosity)
        };
        assert_eq!(of(&["-v"]), (Some(Trace::Record), 0));
        assert_eq!(of(&["-vv"]), (None, 2));
        assert_eq!(of(&["-v", "-bp"]), (None, 1));
        assert_eq!(of(&["-bv", "-v", "-v"]), (Some(Trace::Probe), 2));
        let remarks = parse_as("sendmail", &["-U", "-v", "-U", "-oj", "-om", "-N", "Never"]).1;
        let words = ["-U option ignored", "-oj option ignored", "name_mask: Never"];
        assert_eq!(remarks, words.map(|words| Remark::Info(words.to_owned())));
    }

    #[test]
    fn verp_has_an_old_name_and_a_new_one() {
        let verp = |arguments: &[&str]| parse(arguments).unwrap().verp_delimiters.unwrap();
        for arguments in
            [&["-XV"][..], &["-XV+="], &["-V+="], &["-X", "V+="], &["-V", "-t"], &["-tXV+="]]
        {
            assert_eq!(verp(arguments), b"+=", "{arguments:?}");
        }
        assert_eq!(parse_as("sendmail", &["-V==", "-XV--"]).1.len(), 1);
        let invocation = parse(&["-V", "envelope", "-Vx"]).unwrap();
        assert_eq!(
            (invocation.envelope_id.as_deref(), invocation.verp_delimiters),
            (Some(&b"x"[..]), None)
        );
    }
}
