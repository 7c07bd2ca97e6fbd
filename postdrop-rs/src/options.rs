//! `sendmail`'s command line.
//!
//! Everything Sendmail ever took, because an option's letter says whether it takes a value, and to
//! misread one would turn its value into a recipient. Most of it has no effect in Postfix. What
//! isn't of getopt's form is a bare `-q`, and VERP by its old and its new name: `-V`, `-V+=`,
//! `-XV`.
//!
//! It is read twice. First for `-C`, which says where the configuration is; then for everything,
//! with remarks to the user in the order of the options. What options come to together is decided
//! when all are read.
//!
//! Source: Postfix `sendmail(1)`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use postfix_wire::main_cf::FILE_NAME;

use crate::delegate::Task;
use crate::dsn;
use crate::exit::Failure;
use crate::getopt::{Found, Getopt, Letters, Mistake};

/// All options.
const LETTERS: Letters = b"A:B:C:F:GIL:N:O:R:UV:X:b:ce:f:h:imno:p:r:q:tvx";

/// The role of `sendmail` this time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// The program that submits a message.
    Submit,
    /// Another program.
    Delegate(Task),
    /// Taken and without effect, as in Postfix.
    Nothing,
}

/// Whether the delivery is to be reported to the sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trace {
    /// `-bv`: what would become of a message, without one.
    Probe,
    /// `-v`: what becomes of this one.
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

/// The request to `sendmail`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// `-b`, `-q`, `-I`, or the program's name, of which the last one counts; `-qR`, `-qI` and
    /// `-q10m` over `-bm`.
    pub mode: Mode,
    /// `-B`.
    pub encoding: Option<&'static str>,
    /// `-f` or `-r`, as given.
    pub sender: Option<Vec<u8>>,
    /// `-F`.
    pub full_name: Option<Vec<u8>>,
    /// Unless `-i` or `-oi`.
    pub dot_ends: bool,
    /// `-t`.
    pub recipients_from_headers: bool,
    /// `-G`: mail from elsewhere, whose incomplete addresses are not ours to complete.
    pub is_from_elsewhere: bool,
    /// `-N`: see [`dsn::notify`].
    pub notify: Option<u32>,
    /// `-R`: see [`dsn::ret`].
    pub ret: Option<u32>,
    /// `-V` with an envelope id.
    pub envelope_id: Option<Vec<u8>>,
    /// `-XV`: the two delimiters of VERP addresses.
    pub verp_delimiters: Option<Vec<u8>>,
    /// `-v`, `-bv`.
    pub trace: Option<Trace>,
    /// The number of `-v`, for the commands that are run; 0 where it asks for a report.
    pub verbosity: usize,
    /// The operands, as given.
    pub recipients: Vec<Vec<u8>>,
}

/// A remark of the reader to the author of the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remark {
    /// getopt's.
    Mistake(Mistake),
    /// A remark on an option that is ignored, or has a better name.
    Warning(String),
    /// A remark that is made only after `-v`.
    Info(String),
}

/// The reader's knowledge beside the command line.
pub struct Context<'a> {
    /// The program's name, without directory.
    pub name: &'a [u8],
    /// A parameter's value.
    pub parameter: &'a dyn Fn(&str) -> String,
    /// Hears the remarks.
    pub say: &'a mut dyn FnMut(Remark),
}

/// The configuration directories that `-C` names, from left to right. `say` hears of options that
/// are wrong.
pub fn config_directories(arguments: Vec<Vec<u8>>, say: &mut dyn FnMut(Remark)) -> Vec<PathBuf> {
    let mut getopt = Getopt::new(LETTERS, arguments);
    let mut directories = Vec::new();
    loop {
        if getopt.ahead().0 == Some(b"-q") {
            getopt.pass_over();
            continue;
        }
        match getopt.next() {
            Some(Found::Option(b'C', value)) => directories.push(config_path(&value)),
            Some(Found::Option(..)) => {}
            Some(Found::Wrong(mistake)) => say(Remark::Mistake(mistake)),
            None => return directories,
        }
    }
}

impl Invocation {
    /// Reads the command line, which doesn't hold the program's name.
    pub fn parse(arguments: Vec<Vec<u8>>, context: Context<'_>) -> Result<Self, Failure> {
        let mut reader = Reader::new(context);
        let mut getopt = Getopt::new(LETTERS, arguments);
        while !reader.special(&mut getopt)? {
            match getopt.next() {
                Some(Found::Option(letter, value)) => reader.option(letter, value)?,
                Some(Found::Wrong(mistake)) => return Err(reader.wrong(mistake)),
                None => break,
            }
        }
        reader.invocation.recipients = getopt.operands();
        reader.settle()?;
        Ok(reader.invocation)
    }
}

/// Gathers what the options say, from left to right.
struct Reader<'a> {
    invocation: Invocation,
    context: Context<'a>,
    /// `-oA`.
    alias_map: Option<Vec<u8>>,
    /// `-bv`.
    is_probe: bool,
    /// `-q10m`: a daemon's business, which Postfix's master minds by itself.
    has_interval: bool,
    /// `-qR`: unlike a bare `-q` it is no mode, but something to be done in the mode that submits.
    site: Option<Vec<u8>>,
    /// `-qI`: the same.
    message: Option<Vec<u8>>,
}

impl<'a> Reader<'a> {
    fn new(context: Context<'a>) -> Self {
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

    /// Takes what getopt must not see. Returns true when there is nothing further.
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

    /// `-X`, of which Postfix knows `-XV`.
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

    /// `-b`.
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
            // No mode, but a way to submit.
            Some(b'v') => {
                self.is_probe = true;
                return Ok(());
            }
            _ => return Err(unsupported('b', value)),
        };
        Ok(())
    }

    /// A bare `-q`.
    fn flush(&mut self) {
        if self.invocation.mode == Mode::Delegate(Task::Start) {
            self.warn("ignoring -q option in daemon mode");
        } else {
            self.invocation.mode = Mode::Delegate(Task::Flush);
        }
    }

    /// `-q` with a value.
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

    /// `-o`: of Sendmail's settings Postfix knows `-oi` and `-oA`; the rest has no effect.
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

    /// Decides what the options come to together, by stock's rules and in their order.
    fn settle(&mut self) -> Result<(), Failure> {
        self.refuse_conflicts()?;
        let invocation = &mut self.invocation;
        let submits = invocation.mode == Mode::Submit;
        if self.is_probe {
            invocation.trace = Some(Trace::Probe);
        }
        // Once asks for a report of the delivery; more often, for a verbose log.
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

    /// Only those who have asked before hear it.
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

/// Postfix's way to tell the file from its directory (`sane_basename(3)`, `sane_dirname(3)`).
fn config_path(value: &[u8]) -> PathBuf {
    let path = without_trailing_slashes(value);
    let (parent, name) = match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (without_trailing_slashes(&path[..=slash]), &path[slash + 1..]),
        None => (&b"."[..], path),
    };
    let directory = if name == FILE_NAME.as_bytes() { parent } else { value };
    OsStr::from_bytes(directory).into()
}

/// All slashes are the root directory.
fn without_trailing_slashes(path: &[u8]) -> &[u8] {
    let end =
        path.iter().rposition(|&byte| byte != b'/').map_or(path.len().min(1), |last| last + 1);
    &path[..end]
}

/// Returns the mode that the program's name asks for; options may ask for something else.
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

/// The first byte as text, which is all that stock says of a value.
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
        let context = Context { name: name.as_bytes(), parameter: &parameter, say };
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
    fn what_can_not_be_done_is_said() {
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
    fn its_name_says_what_it_is() {
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
    fn once_verbose_is_a_report_and_more_often_a_log() {
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
