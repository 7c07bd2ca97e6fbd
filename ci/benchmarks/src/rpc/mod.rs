//! Requests with replies of the same size: `rpc` against TCP with a connection per exchange, and
//! TCP kept open.
//!
//! The benchmark is fair to TCP:
//!
//! - All run on the same runtime with as many threads on both sides. They carry the same bodies,
//!   hand each reply over as a buffer of its own, and have a time limit for each call. TCP is
//!   written with equal care: [`tcp`] explains it.
//! - TCP's congestion control is cubic, unless chosen otherwise. It is Debian's default, and better
//!   for TCP here than BBR, which takes 42 ms where cubic takes 21 (64 KiB, kept open, 20 ms).
//! - Server and client are processes of their own that stay for the whole place, each with half of
//!   the processors ([`place`]). Each load (a size, a number of callers) has some rounds. In each
//!   round all take turns, and another one goes first. Before its clock starts, each caller makes
//!   some exchanges in which every byte is compared.
//! - A caller calls again when it has the reply. So the figure is the speed of the exchange and not
//!   the growth of a queue; with many callers it is the machine's number of exchanges.
//! - A figure is the median over the rounds; a ratio is the median of the ratios within a round.
//!   The 99th percentile of less than 100 exchanges is the slowest.
//! - Processor time is that of the two processes (getrusage). On loopback this is nearly all, since
//!   a packet is received where it is sent. The cost of delaying packets in [`testbed::Network`]
//!   counts for neither.
//!
//! No more than 16 MiB are under way at once; larger loads are left out.

mod figures;
mod library;
mod load;
mod peer;
mod place;
mod report;
mod tcp;
mod transport;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use testbed::Scratch;

use load::{Load, Measured};
use peer::{Order, PeerProcess};
use place::{BenchNetwork, Distance};
use report::{PlaceReport, Turn};
use transport::Transport;

pub(crate) use peer::{Arguments as PeerArguments, run as run_peer};
pub(crate) use report::{RpcReport, draw};

/// Limit of the bytes that all callers together have under way.
const MOST_BYTES: usize = 16 << 20;

/// Options of `rpc`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Places of server and client; the delays are those of a round trip.
    #[arg(long, value_delimiter = ',', default_value = "loopback,1ms,20ms")]
    places: Vec<Distance>,
    /// Bytes of a request, and of its reply.
    #[arg(long, value_delimiter = ',', default_value = "1,64,1024,4096,16384,65536,1048576")]
    sizes: Vec<usize>,
    /// Numbers of callers at once.
    #[arg(long, value_delimiter = ',', default_value = "1,16,128")]
    callers: Vec<usize>,
    /// Only these transports.
    #[arg(long, value_delimiter = ',')]
    transports: Vec<Transport>,
    /// Number of measurements of each.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Least time of one measurement, milliseconds.
    #[arg(long, default_value_t = 100)]
    turn_ms: u64,
    /// Threads of each side's runtime. One would hide the cost of passing a reply from the thread
    /// that reads the socket to the waiting one.
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// TCP's congestion control, of those that the kernel has.
    #[arg(long, default_value = "cubic")]
    congestion_control: String,
    /// Folder for plots of one caller's times.
    #[arg(long)]
    figures: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<RpcReport> {
    ensure!(arguments.rounds > 0, "--rounds: 0 measures nothing; give 1 or more");
    ensure!(
        !arguments.sizes.contains(&0) && !arguments.callers.contains(&0),
        "--sizes, --callers: 0 measures nothing; give 1 or more"
    );
    let places = arguments.places.iter().map(|&place| measure_place(place, arguments));
    let report = RpcReport::new(arguments, places.collect::<Result<_>>()?);
    arguments.figures.as_ref().map_or(Ok(()), |folder| figures::draw(&report, folder))?;
    Ok(report)
}

fn measure_place(place: Distance, arguments: &Arguments) -> Result<PlaceReport> {
    let (site, scratch) = (place.set_up(&arguments.congestion_control)?, Scratch::new()?);
    let chosen = |transport: &Transport| {
        let wanted = arguments.transports.is_empty() || arguments.transports.contains(transport);
        wanted && transport.is_at(place)
    };
    let transports = Transport::ALL.into_iter().filter(chosen);
    let contestants =
        transports.map(|transport| Endpoints::start(transport, &site, &scratch, arguments.workers));
    let mut contestants = contestants.collect::<Result<Vec<_>>>()?;
    let mut report = PlaceReport::new(place, site.delayed());
    for load in loads(arguments) {
        eprintln!("rpc: {}, {} bytes, {} at once", place.name(), load.bytes, load.callers);
        let rounds =
            (0..arguments.rounds).map(|round| measure_round(&mut contestants, round, load));
        report.add(load, &rounds.collect::<Result<Vec<_>>>()?);
    }
    Ok(report)
}

fn loads(arguments: &Arguments) -> impl Iterator<Item = Load> {
    let turn = Duration::from_millis(arguments.turn_ms);
    let each = arguments
        .callers
        .iter()
        .flat_map(|&callers| arguments.sizes.iter().map(move |&bytes| (callers, bytes)));
    let loads = each.map(move |(callers, bytes)| Load { bytes, callers, turn });
    loads.filter(|load| load.bytes * load.callers <= MOST_BYTES)
}

/// Measures one turn of each, in the order of the contestants.
fn measure_round(contestants: &mut [Endpoints], round: usize, load: Load) -> Result<Vec<Turn>> {
    let count = contestants.len();
    let mut turns = (0..count).map(|_| None).collect::<Vec<_>>();
    for place in 0..count {
        let next = (round + place) % count;
        let contestant = &mut contestants[next];
        let turn = contestant.turn(load);
        turns[next] = Some(turn.with_context(|| format!("{}: {load:?}", contestant.transport))?);
    }
    Ok(turns.into_iter().flatten().collect())
}

/// One transport: its server and its client.
struct Endpoints {
    transport: Transport,
    // Dropped before the server, which it would miss.
    client: PeerProcess,
    server: PeerProcess,
}

impl Endpoints {
    fn start(
        transport: Transport,
        site: &BenchNetwork,
        scratch: &Scratch,
        workers: usize,
    ) -> Result<Self> {
        let command = |command: Result<Command>| -> Result<Command> {
            let mut command = command?;
            let value = clap::ValueEnum::to_possible_value(&transport)
                .context("transport: has no name on the command line")?;
            command.args(["--transport", value.get_name(), "--workers", &workers.to_string()]);
            command.current_dir(scratch.path());
            Ok(command)
        };
        let (server, address) =
            PeerProcess::server(command(site.at_server())?, site.server_address())?;
        let client = PeerProcess::client(command(site.at_client())?, &address)?;
        Ok(Self { transport, client, server })
    }

    fn turn(&mut self, load: Load) -> Result<Turn> {
        let () = self.client.ask(&Order::Prepare(load))?;
        let before: Duration = self.server.ask(&())?;
        let measured: Measured = self.client.ask(&Order::Go)?;
        let after: Duration = self.server.ask(&())?;
        Ok(Turn { transport: self.transport, measured, server_cpu: after.saturating_sub(before) })
    }
}

/// Returns the processor time of this process until now, the kernel's for it included.
fn usage() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let micros = [usage.user_time(), usage.system_time()]
        .map(|time| time.tv_sec() * 1_000_000 + time.tv_usec());
    Ok(Duration::from_micros(micros.iter().sum::<i64>().try_into()?))
}
