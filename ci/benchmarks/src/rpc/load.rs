//! Load of a client: a number of callers at once, each of which waits for its reply before its next
//! call.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::transport::TransportCaller;
use super::usage;

/// Calls of each caller before the clock starts: connections open and learn their path, and caches
/// warm up.
const WARM_UP: usize = 2;
/// Least number of calls of each caller, however long they take.
const AT_LEAST: usize = 2;

/// Task of a client in one turn.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Load {
    pub(super) bytes: usize,
    pub(super) callers: usize,
    pub(super) turn: Duration,
}

/// Result of a turn.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Measured {
    pub(super) exchanges: usize,
    pub(super) elapsed: Duration,
    pub(super) median: Duration,
    pub(super) p99: Duration,
    pub(super) cpu: Duration,
}

/// Callers that have warmed up.
pub(super) struct Ready {
    load: Load,
    callers: Vec<(TransportCaller, Bytes)>,
}

impl Ready {
    /// Warms callers up, and compares every byte of each reply.
    pub(super) async fn new(load: Load, callers: Vec<TransportCaller>) -> Result<Self> {
        let mut tasks = JoinSet::new();
        for (number, mut caller) in callers.into_iter().enumerate() {
            let body = body(number, load.bytes);
            tasks.spawn(async move {
                for _ in 0..WARM_UP {
                    ensure!(
                        caller.call(&body).await? == body,
                        "echo: reply differs from the request"
                    );
                }
                Ok((caller, body))
            });
        }
        let callers = tasks
            .join_all()
            .await
            .into_iter()
            .collect::<Result<_>>()
            .context("callers: not warmed up")?;
        Ok(Self { load, callers })
    }

    /// Runs one turn.
    pub(super) async fn go(self) -> Result<Measured> {
        let (before, started) = (usage()?, Instant::now());
        let mut tasks = JoinSet::new();
        for (caller, body) in self.callers {
            tasks.spawn(call_until(caller, body, started + self.load.turn));
        }
        let times = tasks.join_all().await.into_iter().collect::<Result<Vec<_>>>()?;
        let (elapsed, cpu) = (started.elapsed(), usage()? - before);
        let mut times = times.concat();
        times.sort_unstable();
        let (median, p99) = (quantile(&times, 0.5), quantile(&times, 0.99));
        Ok(Measured { exchanges: times.len(), elapsed, median, p99, cpu })
    }
}

async fn call_until(
    mut caller: TransportCaller,
    body: Bytes,
    end: Instant,
) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    let mut now = Instant::now();
    while now < end || times.len() < AT_LEAST {
        let reply = caller.call(&body).await?;
        let after = Instant::now();
        times.push(after - now);
        now = after;
        // Comparing every byte would be a good part of a large exchange's cost.
        ensure!(
            reply.len() == body.len()
                && reply[..STAMP.min(body.len())] == body[..STAMP.min(body.len())]
        );
    }
    Ok(times)
}

/// Bytes of a body that tell callers apart.
const STAMP: usize = 8;

fn body(caller: usize, bytes: usize) -> Bytes {
    caller.to_le_bytes().into_iter().cycle().take(bytes).collect()
}

/// Returns a quantile by the nearest rank; of fewer than 100 the last is the 99th percentile.
fn quantile(sorted: &[Duration], part: f64) -> Duration {
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    // The rank is far below 2^52, so `f64` holds it exactly.
    let rank = (sorted.len() as f64 * part).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_by_the_nearest_rank() {
        let times = |count| (1..=count).map(Duration::from_micros).collect::<Vec<_>>();
        let quantiles = |count| [0.5, 0.99].map(|part| quantile(&times(count), part).as_micros());
        assert_eq!([1, 2, 5, 200].map(quantiles), [[1, 1], [1, 2], [3, 5], [100, 198]]);
    }

    #[test]
    fn callers_have_bodies_of_their_own() {
        assert_ne!(body(1, 100), body(2, 100));
        assert_eq!(body(3, 20).len(), 20);
    }
}
