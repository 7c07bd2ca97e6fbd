//! The logs of this host: Postfix's own log file or the system's mail log, and the journal.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use postfix_wire::MainCf;

/// Where syslog daemons put what Postfix logs.
const MAIL_LOGS: [&str; 2] = ["/var/log/mail.log", "/var/log/maillog"];
/// What the journal has of OPTIMUS where Postfix's lines are in a file.
const UNITS: &str = "optimus*";

/// One log, open.
pub(super) struct Source {
    /// Its name for people.
    pub(super) name: String,
    input: Box<dyn Read>,
    child: Option<Child>,
}

/// Opens `given`, or what this host has. No log at all is an error.
pub(super) fn open(main_cf: &MainCf, given: &[PathBuf], since_s: u64) -> Result<Vec<Source>> {
    if !given.is_empty() {
        return given.iter().map(|path| Source::given(path)).collect();
    }
    let own = main_cf.get("maillog_file").filter(|path| !path.is_empty()).map(PathBuf::from);
    let mut sources = Vec::new();
    for path in own.into_iter().chain(MAIL_LOGS.map(PathBuf::from)) {
        let before = PathBuf::from(format!("{}.1", path.display()));
        for path in [before, path].iter().filter(|path| path.exists()) {
            sources.push(Source::file(path)?);
        }
        if !sources.is_empty() {
            break;
        }
    }
    let units = if sources.is_empty() { None } else { Some(UNITS) };
    sources.extend(Source::journal(since_s, units));
    ensure!(!sources.is_empty(), "there is no mail log and no journal; name the log with --log");
    Ok(sources)
}

impl Source {
    fn given(path: &Path) -> Result<Self> {
        if path == Path::new("-") {
            return Ok(Self {
                name: "standard input".to_owned(),
                input: Box::new(io::stdin()),
                child: None,
            });
        }
        Self::file(path)
    }

    /// Nobody waits for a FIFO in a log's place.
    fn file(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
        let file: File = file.with_context(|| name.clone())?;
        ensure!(file.metadata()?.is_file(), "{name}: not a file; name the log with --log");
        Ok(Self { name, input: Box::new(file), child: None })
    }

    /// None where there is no journal.
    fn journal(since_s: u64, units: Option<&str>) -> Option<Self> {
        let mut command = Command::new("journalctl");
        command.args([
            "--quiet",
            "--no-pager",
            "--output=short-iso",
            &format!("--since=@{since_s}"),
        ]);
        command.args(units.map(|units| format!("--unit={units}")));
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let output = child.stdout.take()?;
        Some(Self { name: "journal".to_owned(), input: Box::new(output), child: Some(child) })
    }

    /// Reads all of it. Bytes that are no UTF-8 are replaced.
    pub(super) fn each_line(self, mut each: impl FnMut(&str)) -> Result<()> {
        let mut lines = BufReader::new(self.input);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line)? > 0 {
            each(String::from_utf8_lossy(&line).trim_end());
            line.clear();
        }
        let Some(mut child) = self.child else { return Ok(()) };
        match child.wait()? {
            status if status.success() => Ok(()),
            status => bail!("journalctl: {status}"),
        }
    }
}
