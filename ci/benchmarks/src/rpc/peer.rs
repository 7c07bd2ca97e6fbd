//! Server and client, each a process of its own, so that the cost of each is known. The process is
//! this program once more, with a hidden subcommand. It answers questions, one a line, and ends
//! when its standard input ends.

use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use anyhow::{Context, Result, anyhow, ensure};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::runtime::{Builder, Runtime};

use super::load::{Load, Ready};
use super::transport::Transport;
use super::usage;

/// Options of such a process.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[arg(long)]
    transport: Transport,
    /// Threads of its runtime.
    #[arg(long)]
    workers: usize,
    /// Processors to run on.
    #[arg(long, value_delimiter = ',')]
    processors: Vec<usize>,
    /// Address to serve at.
    #[arg(long)]
    address: Option<Ipv4Addr>,
    /// Server to call.
    #[arg(long)]
    server: Option<String>,
}

/// Question to a client.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) enum Order {
    /// Warms up for this load.
    Prepare(Load),
    /// Runs the turn.
    Go,
}

/// Runs such a process until no more questions can come.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let mut processors = CpuSet::new();
    arguments.processors.iter().try_for_each(|&processor| processors.set(processor))?;
    // Threads inherit the setting, so it is made before them.
    sched_setaffinity(Pid::from_raw(0), &processors)?;
    let runtime =
        Builder::new_multi_thread().worker_threads(arguments.workers).enable_all().build()?;
    match (arguments.address, &arguments.server) {
        (Some(address), _) => serve(&runtime, arguments.transport, address),
        (_, Some(server)) => call(&runtime, arguments.transport, server),
        _ => Err(anyhow!("peer: not started: neither --address nor --server is given")),
    }
}

fn serve(runtime: &Runtime, transport: Transport, address: Ipv4Addr) -> Result<()> {
    answer(&runtime.block_on(async { transport.serve(address) })?)?;
    for _question in questions::<()>() {
        answer(&usage()?)?;
    }
    Ok(())
}

fn call(runtime: &Runtime, transport: Transport, server: &str) -> Result<()> {
    let mut ready = None;
    for order in questions() {
        match order {
            Order::Prepare(load) => {
                let callers = transport.callers(server, load.callers);
                ready = Some(runtime.block_on(async { Ready::new(load, callers.await?).await })?);
                answer(&())?;
            }
            Order::Go => {
                answer(&runtime.block_on(
                    ready.take().context("turn: not run: no load was prepared")?.go(),
                )?)?;
            }
        }
    }
    Ok(())
}

/// Returns questions from a thread that reads them. Their end ends the process at once.
fn questions<T: DeserializeOwned + Send + 'static>() -> Receiver<T> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let lines = std::io::stdin().lock().lines().map_while(Result::ok);
        for question in lines.map_while(|line| serde_json::from_str(&line).ok()) {
            let _ = sender.send(question);
        }
        std::process::exit(0);
    });
    receiver
}

fn answer<T: Serialize>(answer: &T) -> Result<()> {
    println!("{}", serde_json::to_string(answer)?);
    Ok(())
}

/// Error for a peer that no longer answers.
const ENDED: &str = "peer: no answer: the server or client ended; see the messages above";

/// Such a process, as seen by its parent; ends when dropped.
pub(super) struct PeerProcess {
    process: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl PeerProcess {
    pub(super) fn server(command: Command, address: Ipv4Addr) -> Result<(Self, String)> {
        let mut peer = Self::start(command, "--address", &address.to_string())?;
        let server = peer.answer()?;
        Ok((peer, server))
    }

    pub(super) fn client(command: Command, server: &str) -> Result<Self> {
        Self::start(command, "--server", server)
    }

    fn start(mut command: Command, option: &str, value: &str) -> Result<Self> {
        command.args([option, value]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process =
            command.spawn().with_context(|| format!("peer: not started: {command:?}"))?;
        let questions = process.stdin.take();
        let answers = process.stdout.take().context("peer: started without a pipe for answers")?;
        Ok(Self { process, questions, answers: BufReader::new(answers) })
    }

    /// Asks a question, and waits for the answer.
    pub(super) fn ask<T: DeserializeOwned>(&mut self, question: &impl Serialize) -> Result<T> {
        let questions = self.questions.as_mut().context(ENDED)?;
        writeln!(questions, "{}", serde_json::to_string(question)?).context(ENDED)?;
        self.answer()
    }

    fn answer<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut line = String::new();
        ensure!(self.answers.read_line(&mut line)? > 0, ENDED);
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for PeerProcess {
    fn drop(&mut self) {
        drop(self.questions.take());
        let _ = self.process.wait();
    }
}
