//! The three agents as services. Each is a machine with its driver, named and connected by the
//! instance's configuration.

use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use notices::RedisNotices;
use spool::{AgentId, AgentKind, Generation};
use tokio::sync::watch;

use crate::daemon::Instance;
use crate::driver::{self, Driver, Endpoint, NoWire, PickupWire, SpoolExecutor, Wire};
use crate::info::{Info, Terms};
use crate::lease::Member;
use crate::machine::End;
use crate::mail::{self, Mail};
use crate::own_file;
use crate::peer;
use crate::quarantine;
use crate::scheduler::Scheduler;
use crate::showq;

/// Runs an Info Agent until it has drained.
pub async fn info(instance: Instance, drain: watch::Receiver<bool>) -> Result<()> {
    let member = member(&instance, AgentKind::Info)?;
    let lots = &instance.settings.lots;
    let terms = Terms { lot_size: lots.size.into(), linger: Duration::from_millis(lots.linger_ms) };
    let endpoint = Endpoint::open(&instance, member.generation).await;
    let machine = Info::new(member, instance.term(), terms);
    ended(AgentKind::Info, driver(machine, NoWire, endpoint, &instance).run(drain).await)
}

/// Runs a Scheduler until it has drained.
pub async fn scheduler(instance: Instance, drain: watch::Receiver<bool>) -> Result<()> {
    let member = member(&instance, AgentKind::Scheduler)?;
    let grace = Duration::from_secs(instance.settings.agents.node_loss_grace_s);
    let _limits = quarantine::QuarantineKeeper::start(&instance);
    let endpoint = Endpoint::open(&instance, member.generation).await;
    let machine = Scheduler::new(member, instance.term(), grace);
    ended(AgentKind::Scheduler, driver(machine, NoWire, endpoint, &instance).run(drain).await)
}

/// Runs a Mail Agent until it has drained. When its queue directory turns out to be another node's,
/// the agent starts again as that node's.
pub async fn mail(instance: Instance, drain: watch::Receiver<bool>) -> Result<()> {
    let _listings = showq::ListingService::start(&instance);
    loop {
        let generation = generation()?;
        let endpoint = Endpoint::open(&instance, generation).await;
        let config = mail::MailConfig {
            generation,
            name: instance.host(),
            term: instance.term(),
            window: instance.settings.mail.window,
        };
        let machine = Mail::new(config, Instant::now());
        let wire = PickupWire::new(instance.places.pickup_socket(), instance.spool());
        match driver(machine, wire, endpoint, &instance).run(drain.clone()).await {
            End::OtherNode => {
                tracing::warn!("Mail Agent started again: pickup-rs named another node");
            }
            end => return ended(AgentKind::Mail, end),
        }
    }
}

fn ended(kind: AgentKind, end: End) -> Result<()> {
    match end {
        End::Drained => {
            tracing::info!(%kind, "agent drained");
            Ok(())
        }
        End::Superseded => {
            bail!(
                "{kind} agent: superseded: another one of this name has started; stop one of them"
            )
        }
        End::OtherNode => {
            bail!("queue directory: belongs to another node now; start the {kind} agent again")
        }
    }
}

/// Returns a machine's driver with its own connections to Redis.
fn driver<M, W>(
    machine: M,
    wire: W,
    endpoint: Endpoint,
    instance: &Instance,
) -> Driver<M, W, RedisNotices>
where
    M: driver::Agent<Answer: 'static>,
    W: Wire<Event = M::Event, Order = M::Order>,
{
    let executor = executor(instance, &endpoint);
    Driver::new(machine, wire, RedisNotices::new(instance.spool()), endpoint, executor)
}

fn executor(instance: &Instance, endpoint: &Endpoint) -> Rc<SpoolExecutor> {
    Rc::new(SpoolExecutor {
        spool: instance.spool(),
        term: instance.term(),
        node_loss_grace: Duration::from_secs(instance.settings.agents.node_loss_grace_s),
        lot_size: instance.settings.lots.size,
        window_shared: instance.settings.mail.window_shared,
        address: endpoint.address().and_then(peer::written),
        config_directory: instance.places.config_directory.clone(),
    })
}

fn generation() -> Result<Generation> {
    Generation::new().context("generation: not made: no random numbers from the kernel")
}

/// Returns the identity of an Info Agent or a Scheduler. The name is the operator's (`--name`), or
/// else the instance's own, so that a restarted agent takes its former place at once.
fn member(instance: &Instance, kind: AgentKind) -> Result<Member> {
    let name = match &instance.name {
        Some(name) => name.clone(),
        None => own_name(&instance.places.data_directory.join("optimus-agent-name"))?,
    };
    let agent: AgentId = format!("{kind}-{name}").parse()?;
    Ok(Member { agent, kind, generation: generation()?, name: instance.host() })
}

/// Returns the name in this file, which is made once.
fn own_name(path: &Path) -> Result<String> {
    let make = || Generation::new().map(|name| name.to_string()).map_err(std::io::Error::other);
    own_file::text_of(path, |name| !name.is_empty(), make)
        .with_context(|| path.display().to_string())
}
