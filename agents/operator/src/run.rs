//! `optimus run`: all agents in one process, each with its own connections, as if they were apart.
//!
//! The agents end together. A signal asks them to, or one of them fails, which ends the process
//! with an error that names it. Redis ends last, because the agents use it until they end.

use agents::agents::{info, mail, scheduler};
use agents::daemon::Instance;
use anyhow::{Context, Result, bail};
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::watch;

use crate::embedded::{Embedded, memory_bytes};
use crate::maildrop;

pub(crate) async fn run(instance: Instance, drain: watch::Receiver<bool>) -> Result<()> {
    if instance.settings.redis.url.is_some() {
        return agents(instance, drain).await;
    }
    let embedded = Embedded {
        socket: instance.places.redis_socket(),
        directory: instance.places.redis_directory(),
        password_file: instance.places.redis_password_file(),
        group: instance.setgid_group()?.gid,
        program: "redis-server".into(),
        memory_bytes: memory_bytes(instance.settings.redis.memory_mb),
    };
    let (end_redis, redis_drain) = watch::channel(false);
    let mut redis = embedded.run(redis_drain).boxed_local();
    let outcome = tokio::select! {
        outcome = agents(instance, drain) => outcome,
        // Redis can't run at all, so the agents have nothing to hand back.
        outcome = &mut redis => return outcome.context("embedded redis"),
    };
    end_redis.send_replace(true);
    match (outcome, redis.await) {
        (Err(agents), Err(redis)) => bail!("{agents:#}; embedded redis: {redis:#}"),
        (outcome, redis) => outcome.and(redis.context("embedded redis")),
    }
}

type AgentFuture = LocalBoxFuture<'static, (&'static str, Result<()>)>;

/// Runs the agents until all have ended. When one fails, the others are asked to drain.
async fn agents(instance: Instance, mut drain: watch::Receiver<bool>) -> Result<()> {
    let (end, ending) = watch::channel(false);
    let mut running = start(&instance, &ending);
    let mut failures = Vec::new();
    loop {
        tokio::select! {
            ended = running.next() => match ended {
                None => break,
                Some((_, Ok(()))) => (),
                Some((name, Err(error))) => {
                    let words = format!("{name} agent: {}", settings::told(error.as_ref()));
                    tracing::error!(failure = %words, "agent failed; others asked to drain");
                    failures.push(words);
                    end.send_replace(true);
                }
            },
            _ = drain.wait_for(|drain| *drain), if !*ending.borrow() => {
                end.send_replace(true);
            }
        }
    }
    if failures.is_empty() { Ok(()) } else { bail!(failures.join("; ")) }
}

fn start(instance: &Instance, ending: &watch::Receiver<bool>) -> FuturesUnordered<AgentFuture> {
    let instance = || instance.clone();
    let ending = || ending.clone();
    FuturesUnordered::from_iter([
        info(instance(), ending()).map(|result| ("info", result)).boxed_local(),
        scheduler(instance(), ending()).map(|result| ("scheduler", result)).boxed_local(),
        mail(instance(), ending()).map(|result| ("mail", result)).boxed_local(),
        maildrop::keep(instance(), ending()).map(|result| ("maildrop", result)).boxed_local(),
    ])
}
