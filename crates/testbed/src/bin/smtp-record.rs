//! The SMTP sink for shell use: `smtp-record [--listen ADDRESS:PORT] [--log FILE] [--delay-ms N]`.
//!
//! Prints the address it listens on as its first line, then writes each delivery as a line of JSON to the log or to
//! standard output, until it is killed.

use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use testbed::{Sink, SinkBuilder};

fn main() -> Result<()> {
    let sink = configured(std::env::args().skip(1))?.start()?;
    let mut output = std::io::stdout();
    writeln!(output, "{}", sink.address())?;
    output.flush()?;
    loop {
        std::thread::park();
    }
}

fn configured(mut arguments: impl Iterator<Item = String>) -> Result<SinkBuilder> {
    let mut sink = Sink::builder().without_content();
    let mut log: Box<dyn Write + Send> = Box::new(std::io::stdout());
    while let Some(option) = arguments.next() {
        let value = arguments.next().with_context(|| format!("{option} needs a value"))?;
        match option.as_str() {
            "--listen" => sink = sink.listen(value.parse::<SocketAddr>().context("--listen ADDRESS:PORT")?),
            "--log" => log = Box::new(File::create(&value).context(value)?),
            "--delay-ms" => sink = sink.delay(Duration::from_millis(value.parse().context("--delay-ms N")?)),
            _ => bail!("unknown option {option}"),
        }
    }
    Ok(sink.log(log))
}
