//! Logs of this host: Postfix's own log file or the system's mail log, and the journal.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use postfix_wire::MainCf;

/// Files in which syslog daemons put Postfix's lines.
const MAIL_LOGS: [&str; 2] = ["/var/log/mail.log", "/var/log/maillog"];
/// Units of OPTIMUS, whose lines the journal has where Postfix's are in a file.
const UNITS: &str = "optimus*";
/// Suffix of rotated logs that were compressed.
const COMPRESSED: &str = ".gz";

/// A log that is open, or the reason why it is not.
pub(super) struct Source {
    /// Name for display.
    pub(super) name: String,
    input: Result<Input>,
}

struct Input {
    text: Box<dyn Read>,
    child: Option<Child>,
}

/// Opens the logs in `given`, or else this host's own logs from that time on.
pub(super) fn open(main_cf: &MainCf, given: &[PathBuf], since_s: u64) -> Vec<Source> {
    if !given.is_empty() {
        return given.iter().map(|path| Source::given(path)).collect();
    }
    let own = main_cf.get("maillog_file").filter(|path| !path.is_empty()).map(PathBuf::from);
    let candidates = own.into_iter().chain(MAIL_LOGS.map(PathBuf::from));
    let log = candidates.into_iter().find(|path| path.exists());
    let files = log.iter().flat_map(|log| generations(log, since_s));
    let mut sources: Vec<Source> = files.map(|path| Source::file(&path)).collect();
    let units = log.is_some().then_some(UNITS);
    sources.push(Source { name: "journal".to_owned(), input: journal(since_s, units) });
    sources
}

/// Returns the log and its rotated parts since then, the oldest first. logrotate appends a number
/// or a date to a log's name, and `postfix logrotate` a time.
fn generations(log: &Path, since_s: u64) -> Vec<PathBuf> {
    let since = UNIX_EPOCH + Duration::from_secs(since_s);
    let is_young = |it: &Metadata| it.modified().is_ok_and(|modified| modified >= since);
    let name = log.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let is_older = |path: &Path| {
        let other = path.file_name().unwrap_or_default().to_string_lossy();
        other.strip_prefix(&name).is_some_and(|rest| rest.starts_with(['.', '-']))
    };
    let entries = log.parent().map(fs::read_dir).into_iter().flatten().flatten().flatten();
    let older = entries.map(|entry| entry.path()).filter(|path| is_older(path));
    let older = older.filter_map(|path| path.metadata().ok().map(|it| (it, path)));
    let mut older: Vec<_> = older.filter(|(it, _)| is_young(it)).collect();
    older.sort_by_key(|(it, _)| it.modified().ok());
    older.into_iter().map(|(_, path)| path).chain([log.to_owned()]).collect()
}

/// Opens the journal.
fn journal(since_s: u64, units: Option<&str>) -> Result<Input> {
    let mut command = Command::new("journalctl");
    command.args(["--quiet", "--no-pager", "--output=short-iso", &format!("--since=@{since_s}")]);
    command.args(units.map(|units| format!("--unit={units}")));
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("journalctl: not started")?;
    let text = child.stdout.take().context("journalctl: started without a pipe for the log")?;
    Ok(Input { text: Box::new(text), child: Some(child) })
}

/// Opens a file. A FIFO in a log's place is refused without waiting for a writer.
fn file(path: &Path) -> Result<Input> {
    let is_compressed = path.as_os_str().as_encoded_bytes().ends_with(COMPRESSED.as_bytes());
    ensure!(
        !is_compressed,
        "not read: compressed; give the text: zcat FILE | optimus trace --log - ID"
    );
    let file: File = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    ensure!(file.metadata()?.is_file(), "not read: not a plain file; name a log file");
    Ok(Input { text: Box::new(file), child: None })
}

impl Source {
    fn given(path: &Path) -> Self {
        if path == Path::new("-") {
            let input = Ok(Input { text: Box::new(io::stdin()), child: None });
            return Self { name: "standard input".to_owned(), input };
        }
        Self::file(path)
    }

    fn file(path: &Path) -> Self {
        Self { name: path.display().to_string(), input: file(path) }
    }

    /// Passes on each line. Bytes that are no UTF-8 are replaced.
    pub(super) fn each_line(self, mut each: impl FnMut(&str)) -> Result<()> {
        let Input { text, child } = self.input?;
        let mut lines = BufReader::new(text);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line)? > 0 {
            each(String::from_utf8_lossy(&line).trim_end());
            line.clear();
        }
        let Some(child) = child else { return Ok(()) };
        let output = child.wait_with_output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("journalctl: {}: {}", output.status, said.trim().replace('\n', "; "));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_comes_with_what_was_rotated_out_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for (age_s, name) in
            ["log.1", "log-20261129", "log.20261130-120000", "log"].iter().enumerate()
        {
            let file = File::create(path(name)).unwrap();
            file.set_modified(UNIX_EPOCH + Duration::from_secs(1_000 + age_s as u64)).unwrap();
        }
        File::create(path("logger")).unwrap();
        let names = ["log-20261129", "log.20261130-120000", "log"].map(path);
        assert_eq!(generations(&path("log"), 1_001), names);
    }

    #[test]
    fn a_log_that_can_not_be_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("log.1.gz"), "x").unwrap();
        for (name, why) in
            [("log.1.gz", "zcat"), (".", "not a plain file"), ("none", "No such file")]
        {
            let source = Source::file(&folder.path().join(name));
            let error = source.each_line(|_| ()).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
    }
}
