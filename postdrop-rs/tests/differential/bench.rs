//! Two installations of one configuration, with stock's programs and with OPTIMUS's, and the
//! outcome of a case in each.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use nix::unistd::{Group, chown};
use postfix_wire::attr;
use spool::{Message, MessageId};
use tempfile::TempDir;

use super::case::{Case, Configuration, Program, ROOT, Readable, USERS};
use super::differences::Aspect;
use super::support::{OUR_POSTDROP, OUR_SENDMAIL, Said, Site, run, without_time};

/// Script that becomes the user where `$1` is `/etc/postfix` and `$2` is `/etc/passwd`, and runs
/// the other arguments.
const AS_USER: &str = r#"
mount --bind "$1" /etc/postfix && mount --bind "$2" /etc/passwd || exit 99
uid=$3
shift 3
exec setpriv --reuid "$uid" --regid "$uid" --clear-groups -- env -i "$@"
"#;

/// Length of the message id with which an entry of the inbox begins.
const ID_BYTES: usize = 26;

/// Visible outcome of a run.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    pub exit: i32,
    pub stdout: Vec<String>,
    pub stderr: String,
    pub records: Option<Said>,
}

impl Outcome {
    /// Returns the aspects in which two outcomes differ.
    pub fn differs_in(&self, other: &Self) -> Vec<Aspect> {
        [
            (Aspect::Exit, self.exit == other.exit),
            (Aspect::Stdout, self.stdout == other.stdout),
            (Aspect::Stderr, self.stderr == other.stderr),
            (Aspect::Records, self.records == other.records),
        ]
        .into_iter()
        .filter_map(|(aspect, is_same)| (!is_same).then_some(aspect))
        .collect()
    }
}

/// OPTIMUS's programs, installed once for all threads. If threads copied them, a fork in another
/// thread could keep a copy open, and the kernel would not run it.
pub struct Programs {
    folder: TempDir,
}

impl Programs {
    pub fn install() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        for program in [OUR_SENDMAIL, OUR_POSTDROP] {
            install(Path::new(program), folder.path());
        }
        Self { folder }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// Site with one configuration.
pub struct Bench<'a> {
    pub site: Site,
    ours: &'a Path,
    inbox: Inbox,
}

impl<'a> Bench<'a> {
    pub fn new(programs: &'a Programs, configuration: &Configuration) -> Self {
        let mut site = Site::with_redis();
        let (unset, set): (Vec<&str>, Vec<&str>) =
            configuration.main.iter().partition(|it| it.starts_with('-'));
        site.postfix.set_main(&set).unwrap();
        unset.iter().for_each(|name| unset_main(&site, &name[1..]));
        write_files(&site, configuration);
        let passwd: Vec<&str> = USERS.iter().filter_map(|user| user.passwd).collect();
        // Postfix's own users must exist, too.
        let others = std::fs::read_to_string("/etc/passwd").unwrap();
        std::fs::write(site.postfix.path().join("passwd"), passwd.join("\n") + "\n" + &others)
            .unwrap();
        let inbox = Inbox::of(&mut site);
        Self { site, ours: programs.folder(), inbox }
    }

    pub fn stock(&mut self, case: &Case) -> Outcome {
        let output = run(&mut self.command(Path::new("/usr/sbin"), case), &case.input);
        let mut files = self.site.maildrop();
        self.site.empty_maildrop();
        assert!(files.len() <= 1, "{files:?}");
        outcome(case, &output, files.pop().map(|(_, records)| records))
    }

    pub fn ours(&mut self, case: &Case) -> Outcome {
        let output = run(&mut self.command(self.ours, case), &case.input);
        let message = self.inbox.take();
        assert_eq!(self.site.maildrop(), [], "{}", String::from_utf8_lossy(&output.stderr));
        assert!(message.as_ref().is_none_or(|message| message.uid == case.user.uid));
        outcome(case, &output, message.map(|message| without_time(&message.records)))
    }

    fn command(&self, folder: &Path, case: &Case) -> Command {
        let program = folder.join(match case.program {
            Program::Sendmail => "sendmail",
            Program::Postdrop => "postdrop",
        });
        let arguments = case.arguments.iter().cloned().map(OsString::from_vec);
        let mut command;
        if case.user == ROOT {
            command = of_root(&program, case);
            command.env_clear().env("MAIL_CONFIG", self.site.postfix.config_dir());
            command.envs(case.environment.iter().copied());
            if let Some(name) = case.called {
                command.arg0(name);
            }
        } else {
            assert_eq!(case.called, None, "only root's programs can have another name");
            command = Command::new("unshare");
            command.args(["-m", "sh", "-c", AS_USER, "sh"]).arg(self.site.postfix.config_dir());
            command.arg(self.site.postfix.path().join("passwd")).arg(case.user.uid.to_string());
            command.args(case.environment.iter().map(|(name, value)| format!("{name}={value}")));
            command.arg(program);
        }
        command.args(arguments).current_dir("/");
        command
    }
}

/// Returns a command of root, with the case's host name.
fn of_root(program: &Path, case: &Case) -> Command {
    let Some(name) = case.machine else { return Command::new(program) };
    let rename = format!(
        "syscall({}, $ARGV[0], length shift) == 0 or exit 99; exec @ARGV",
        libc::SYS_sethostname
    );
    let mut command = Command::new("/usr/bin/unshare");
    command.args(["-u", "/usr/bin/perl", "-e", &rename, "--", name]).arg(program);
    command
}

/// Inbox in Redis, which has messages until an Info Agent cuts lots. One connection serves all
/// cases, because a thousand cases would start thousands of redis-cli.
struct Inbox(BufReader<UnixStream>);

impl Inbox {
    fn of(site: &mut Site) -> Self {
        Self(BufReader::new(UnixStream::connect(site.redis().socket()).unwrap()))
    }

    /// Takes the message in the inbox, if there is one, and checks that there is no second.
    fn take(&mut self) -> Option<Message> {
        let inbox = spool::keys::INBOX;
        self.0.get_mut().write_all(format!("LPOP {inbox}\r\nLLEN {inbox}\r\n").as_bytes()).unwrap();
        let length = self.line().strip_prefix('$').unwrap().parse::<i64>().unwrap();
        let entry = usize::try_from(length).ok().map(|length| {
            let mut entry = vec![0; length + 2];
            self.0.read_exact(&mut entry).unwrap();
            entry.truncate(length);
            entry
        });
        assert_eq!(self.line(), ":0", "messages in Redis beside the first");
        let entry = entry?;
        let (id, value) = entry.split_at(ID_BYTES);
        let id: MessageId = std::str::from_utf8(id).unwrap().parse().unwrap();
        Some(Message::decode(id, value.to_vec()).unwrap())
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

/// Copies a program with the group and mode of an installation.
fn install(program: &Path, folder: &Path) {
    let copy = folder.join(program.file_name().unwrap());
    std::fs::copy(program, &copy).unwrap();
    chown(&copy, None, Some(group())).unwrap();
    std::fs::set_permissions(&copy, PermissionsExt::from_mode(0o2755)).unwrap();
}

fn group() -> nix::unistd::Gid {
    Group::from_name("postdrop").unwrap().unwrap().gid
}

fn unset_main(site: &Site, name: &str) {
    let file = site.postfix.config_dir().join("main.cf");
    let text = std::fs::read_to_string(&file).unwrap();
    let others = text.lines().filter(|line| line.split([' ', '=']).next() != Some(name));
    std::fs::write(file, others.map(|line| line.to_owned() + "\n").collect::<String>()).unwrap();
}

fn write_files(site: &Site, configuration: &Configuration) {
    let folder = site.postfix.config_dir();
    for (name, content, readable) in configuration.files {
        let path = folder.join(name);
        std::fs::write(&path, content).unwrap();
        chown(&path, None, Some(group())).unwrap();
        let mode = if *readable == Readable::ByAll { 0o644 } else { 0o640 };
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    }
    for name in configuration.databases {
        let table = format!("hash:{}", folder.join(name).display());
        let output = site.postfix.command("/usr/sbin/postmap").arg(table).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        chown(&folder.join(format!("{name}.db")), None, Some(group())).unwrap();
    }
}

fn outcome(case: &Case, output: &Output, records: Option<Said>) -> Outcome {
    let exit = output.status.code().unwrap_or_else(|| panic!("{case:?}: {}", output.status));
    assert_ne!(exit, 99, "no private mounts here: {}", String::from_utf8_lossy(&output.stderr));
    let stdout = match case.program {
        Program::Sendmail => vec![output.stdout.escape_ascii().to_string()],
        Program::Postdrop => answers(&output.stdout),
    };
    // The program's path depends on the user who runs it.
    let stderr = output.stderr.escape_ascii().to_string().replace("\\n", "\n");
    Outcome { exit, stdout, stderr, records }
}

/// Returns postdrop's attribute lists. The queue id is replaced, because it differs in each run.
fn answers(mut stdout: &[u8]) -> Vec<String> {
    let mut answers = Vec::new();
    while let Some((list, length)) = attr::decode(stdout).unwrap() {
        for name in ["protocol", "queue_id", "status", "reason"] {
            if let Some(value) = list.get(name) {
                let value = if name == "queue_id" && !value.is_empty() { "some" } else { value };
                answers.push(format!("{name}={value}"));
            }
        }
        answers.push("end".to_owned());
        stdout = &stdout[length..];
    }
    assert!(stdout.is_empty(), "half a list: {stdout:?}");
    answers
}
