//! Result of `rpc`: for each load a row per transport, with ratios to the two baselines.

use std::time::Duration;

use comfy_table::Table;
use serde::Serialize;
use testbed::Delayed;
use trials::table;

use super::Arguments;
use super::load::{Load, Measured};
use super::place::Distance;
use super::transport::Transport;
use crate::rounds::{median, rounded};

/// One transport's part of a round.
pub(super) struct Turn {
    pub(super) transport: Transport,
    pub(super) measured: Measured,
    pub(super) server_cpu: Duration,
}

/// Result of `rpc`.
#[derive(Serialize)]
pub(crate) struct RpcReport {
    benchmark: &'static str,
    pub(super) rounds: usize,
    /// TCP's congestion control.
    congestion_control: String,
    pub(super) places: Vec<PlaceReport>,
}

impl RpcReport {
    pub(super) fn new(arguments: &Arguments, places: Vec<PlaceReport>) -> Self {
        let congestion_control = arguments.congestion_control.clone();
        Self { benchmark: "rpc", rounds: arguments.rounds, congestion_control, places }
    }
}

#[derive(Serialize)]
pub(super) struct PlaceReport {
    pub(super) place: Distance,
    delayed: Option<Delayed>,
    pub(super) rows: Vec<RpcRow>,
}

/// Medians of rounds.
#[derive(Serialize)]
pub(super) struct RpcRow {
    pub(super) bytes: usize,
    pub(super) callers: usize,
    pub(super) transport: Transport,
    /// Number of exchanges in all rounds together.
    exchanges: usize,
    pub(super) median_us: f64,
    p99_us: f64,
    calls_per_second: f64,
    client_cpu_us: f64,
    server_cpu_us: f64,
    /// TCP's median latency, as a multiple of this one.
    times_faster_than_tcp_each: Option<f64>,
    times_faster_than_tcp_kept: Option<f64>,
}

impl PlaceReport {
    pub(super) fn new(place: Distance, delayed: Option<Delayed>) -> Self {
        Self { place, delayed, rows: Vec::new() }
    }

    /// Adds the rounds of a load; all have the same transports in the same order.
    pub(super) fn add(&mut self, load: Load, rounds: &[Vec<Turn>]) {
        for (index, turn) in rounds[0].iter().enumerate() {
            let figure = |of: fn(&Turn) -> f64| {
                rounded(median(rounds.iter().map(|turns| of(&turns[index])).collect()))
            };
            self.rows.push(RpcRow {
                bytes: load.bytes,
                callers: load.callers,
                transport: turn.transport,
                exchanges: rounds.iter().map(|turns| turns[index].measured.exchanges).sum(),
                median_us: figure(|turn| micros(turn.measured.median)),
                p99_us: figure(|turn| micros(turn.measured.p99)),
                calls_per_second: figure(|turn| 1e6 / turn.per_call(turn.measured.elapsed)),
                client_cpu_us: figure(|turn| turn.per_call(turn.measured.cpu)),
                server_cpu_us: figure(|turn| turn.per_call(turn.server_cpu)),
                times_faster_than_tcp_each: times_faster(rounds, index, Transport::TcpEach),
                times_faster_than_tcp_kept: times_faster(rounds, index, Transport::TcpKept),
            });
        }
    }
}

impl Turn {
    /// Returns microseconds per exchange.
    fn per_call(&self, all: Duration) -> f64 {
        #[allow(clippy::cast_precision_loss)] // far below 2^52
        let exchanges = self.measured.exchanges as f64;
        micros(all) / exchanges
    }
}

/// Returns how many times faster than a baseline it is; `None` for the baseline itself.
fn times_faster(rounds: &[Vec<Turn>], index: usize, baseline: Transport) -> Option<f64> {
    let ratios = rounds.iter().map(|turns| {
        let baseline = turns
            .iter()
            .find(|turn| turn.transport == baseline && turn.transport != turns[index].transport)?;
        Some(micros(baseline.measured.median) / micros(turns[index].measured.median))
    });
    ratios.collect::<Option<Vec<_>>>().map(|ratios| rounded(median(ratios)))
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// Heads of the columns.
const HEADS: [&str; 11] = [
    "place",
    "bytes",
    "callers",
    "",
    "median µs",
    "99 % µs",
    "calls/s",
    "client CPU µs",
    "server CPU µs",
    "times faster than TCP per exchange",
    "than TCP kept open",
];

pub(crate) fn draw(report: &RpcReport) -> Table {
    let mut table = table(&HEADS);
    for place in &report.places {
        for row in &place.rows {
            let what = [row.bytes.to_string(), row.callers.to_string(), row.transport.to_string()];
            let figures = [
                row.median_us,
                row.p99_us,
                row.calls_per_second,
                row.client_cpu_us,
                row.server_cpu_us,
            ];
            let ratios = [row.times_faster_than_tcp_each, row.times_faster_than_tcp_kept];
            let ratios =
                ratios.map(|ratio| ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}")));
            let figures = figures.map(|figure| format!("{figure:.0}"));
            table.add_row(
                [place.place.name().to_owned()]
                    .into_iter()
                    .chain(what)
                    .chain(figures)
                    .chain(ratios),
            );
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(transport: Transport, median_us: u64) -> Turn {
        let [median, cpu] = [median_us, 500].map(Duration::from_micros);
        let measured =
            Measured { exchanges: 50, elapsed: Duration::from_millis(1), median, p99: median, cpu };
        Turn { transport, measured, server_cpu: cpu * 2 }
    }

    #[test]
    fn a_ratio_is_that_of_the_same_round() {
        let rounds = [(100, 50), (300, 100), (400, 100)];
        let rounds = rounds.map(|(each, kept)| {
            vec![turn(Transport::TcpEach, each), turn(Transport::TcpKept, kept)]
        });
        let mut place = PlaceReport::new(Distance::Loopback, None);
        place.add(Load { bytes: 1, callers: 1, turn: Duration::ZERO }, &rounds);
        let [each, kept] = &place.rows[..] else { panic!("a row for each") };
        assert_eq!(
            (each.times_faster_than_tcp_each, kept.times_faster_than_tcp_each),
            (None, Some(3.0))
        );
        let figures =
            [kept.median_us, kept.calls_per_second, kept.client_cpu_us, kept.server_cpu_us];
        assert_eq!(figures.map(f64::to_bits), [100.0, 50_000.0, 10.0, 20.0].map(f64::to_bits));
        assert_eq!(kept.exchanges, 150);
    }
}
