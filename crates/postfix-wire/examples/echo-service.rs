//! Smallest service of master: it answers each line with its process id, `syslog_name`, and the
//! line.
//!
//! The entry in master.cf: `echo unix - - n - 1 echo-service -o syslog_name=postfix/$service_name`.
//! The line `die` makes the process exit with a failure. master doesn't throttle a service for such
//! an exit of a process that has been used.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::ExitCode;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use postfix_wire::master::{Availability, Inherited, MasterLink};
use postfix_wire::{MainCf, MasterArgs};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode> {
    let args = MasterArgs::parse(std::env::args())?;
    let mut inherited = Inherited::take(&args)?;
    let listeners = inherited.unix_listeners()?;
    let config_directory = std::env::var("MAIL_CONFIG").unwrap_or("/etc/postfix".to_owned());
    let mut main_cf = MainCf::load(Path::new(&config_directory))?;
    args.configure(&mut main_cf)?;
    while wait(&inherited.link, &listeners)? {
        for listener in &listeners {
            // Another process of the service may have taken the client.
            let Ok((client, _)) = listener.accept() else { continue };
            inherited.link.notify(Availability::Taken)?;
            if serve(&client, &main_cf)? == AfterRequest::Die {
                return Ok(ExitCode::FAILURE);
            }
            inherited.link.notify(Availability::Available)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Waits for a client. Returns whether a client came: false means that master is gone.
fn wait(link: &MasterLink, listeners: &[UnixListener]) -> Result<bool> {
    let descriptors = std::iter::once(link.as_fd()).chain(listeners.iter().map(AsFd::as_fd));
    let mut fds: Vec<_> = descriptors.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    poll(&mut fds, PollTimeout::NONE)?;
    Ok(!link.is_gone()?)
}

#[derive(PartialEq)]
enum AfterRequest {
    GoOn,
    Die,
}

fn serve(client: &UnixStream, main_cf: &MainCf) -> Result<AfterRequest> {
    client.set_nonblocking(false)?;
    for line in BufReader::new(client).lines() {
        match line?.as_str() {
            "die" => return Ok(AfterRequest::Die),
            line => {
                let name = main_cf.get("syslog_name").unwrap_or_default();
                writeln!(&mut { client }, "{} {name} {line}", std::process::id())?;
            }
        }
    }
    Ok(AfterRequest::GoOn)
}
