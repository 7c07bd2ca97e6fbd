//! `optimus queue`: mail in Redis and in this host's Postfix, as one list.
//!
//! The list is text as `postqueue -p` prints it, or lines of JSON as from `postqueue -j`.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use agents::daemon::{self, Instance, Options};
use agents::listing::Entries;
use anyhow::{Context, Result, ensure};
use host::local_time::local_time;
use postfix_wire::showq::{Entry, ListingReader, TextListing, json_line};

/// Time for which Postfix's service may be silent, as for `mailq`.
const PATIENCE: Duration = Duration::from_secs(60);

/// Form in which the list is printed.
enum Printer {
    Text(TextListing),
    Json,
}

impl Printer {
    fn entry(&mut self, entry: &Entry) -> Result<()> {
        let lines = match self {
            Self::Text(listing) => listing.entry(entry, |unix_s| local_time(unix_s).asctime()),
            Self::Json => json_line(entry),
        };
        Ok(std::io::stdout().write_all(lines.as_bytes())?)
    }

    fn end(&self) -> Result<()> {
        match self {
            Self::Text(listing) => Ok(std::io::stdout().write_all(listing.summary().as_bytes())?),
            Self::Json => Ok(()),
        }
    }
}

/// Prints the list. A reader who has seen enough closes the pipe, which is no failure.
pub(crate) fn print(options: &Options, as_json: bool) -> Result<ExitCode> {
    let instance = Instance::open(options)?;
    // The process is still root here: only root can read the queue of a Postfix that doesn't run.
    let local = Local::open(&instance)?;
    instance.drop_privileges()?;
    let has_long_ids = instance.main_cf.get_bool("enable_long_queue_ids")?;
    let mut printer =
        if as_json { Printer::Json } else { Printer::Text(TextListing::new(has_long_ids)) };
    match daemon::block_on(list(&instance, local, &mut printer))? {
        Err(error) if is_closed_pipe(&error) => Ok(ExitCode::SUCCESS),
        outcome => outcome.map(|()| ExitCode::SUCCESS),
    }
}

async fn list(instance: &Instance, local: Local, printer: &mut Printer) -> Result<()> {
    let server = instance.server.address.to_string();
    let mut entries = Entries::of(&instance.looking(), &instance.main_cf, &instance.places);
    while let Some(page) =
        entries.next_page().await.with_context(|| format!("redis at {server}"))?
    {
        page.iter().try_for_each(|entry| printer.entry(entry))?;
    }
    local.list(printer)?;
    printer.end()
}

/// Source of the mail in this host's Postfix.
enum Local {
    /// Postfix's service.
    Service(UnixStream),
    /// Postfix's program, where Postfix doesn't run.
    Program(Child),
}

impl Local {
    fn open(instance: &Instance) -> Result<Self> {
        let service =
            instance.main_cf.get("showq_service_name").unwrap_or_else(|| "showq".to_owned());
        let socket = instance.places.queue_directory.join("public").join(service);
        // Root's rights are not needed, so root doesn't connect to a socket that others can put
        // there.
        if let Ok(stream) = instance.with_least_rights(|| host::peer::connect(&socket))? {
            stream.set_read_timeout(Some(PATIENCE))?;
            return Ok(Self::Service(stream));
        }
        let program = instance.main_cf.get_path("daemon_directory")?.join("showq");
        let mut command = Command::new(&program);
        command.args(["-u", "-S"]).env("MAIL_CONFIG", &instance.places.config_directory);
        let child = command.stdout(Stdio::piped()).spawn().map_err(host::limit::starting);
        Ok(Self::Program(child.with_context(|| program.display().to_string())?))
    }

    fn list(self, printer: &mut Printer) -> Result<()> {
        match self {
            Self::Service(stream) => {
                copy(BufReader::new(stream), printer).context("Postfix's queue: not listed")
            }
            Self::Program(mut child) => {
                let output = child.stdout.take().context("showq: no output")?;
                let copied = copy(BufReader::new(output), printer);
                let status = child.wait()?;
                ensure!(status.success(), "Postfix is not running, and showq failed: {status}");
                copied.context("Postfix's queue: not listed by showq")
            }
        }
    }
}

fn copy(reader: impl BufRead, printer: &mut Printer) -> Result<()> {
    let mut report = ListingReader::open(reader)?;
    while let Some(entry) = report.next_entry()? {
        printer.entry(&entry)?;
    }
    Ok(())
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<std::io::Error>();
    error.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
