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
use crate::driver::{Driver, NoWire, PickupWire, SpoolExecutor};
use crate::info::{Info, Terms};
use crate::lease::Member;
use crate::machine::End;
use crate::mail::{self, Mail};
use crate::own_file;
use crate::quarantine;
use crate::scheduler::Scheduler;
use crate::showq;

/// Runs an Info Agent until it has drained.
pub async fn info(instance: Instance, drain: watch::Receiver<bool>) -> Result<()> {
    let member = member(&instance, AgentKind::Info)?;
    let lots = &instance.settings.lots;
    let terms = Terms { lot_size: lots.size.into(), linger: Duration::from_millis(lots.linger_ms) };
    let machine = Info::new(member, instance.term(), terms);
    let end =
        Driver::new(machine, NoWire, RedisNotices::new(instance.spool()), executor(&instance))
            .run(drain)
            .await;
    ended(AgentKind::Info, end)
}

/// Runs a Scheduler until it has drained.
pub async fn scheduler(instance: Instance, drain: watch::Receiver<bool>) -> Result<()> {
    let member = member(&instance, AgentKind::Scheduler)?;
    let grace = Duration::from_secs(instance.settings.agents.node_loss_grace_s);
    let _limits = quarantine::Service::start(&instance);
    let machine = Scheduler::new(member, instance.term(), grace);
    let end =
        Driver::new(machine, NoWire, RedisNotices::new(instance.spool()), executor(&instance))
            .run(drain)
            .await;
    ended(AgentKind::Scheduler, end)
}

/// Runs a Mail Agent until it has drained. When its queue directory turns out to be another node's,
/// the agent starts again as that node's.
pub async fn mail(instance: Instance, drain: watch::Receiver<bool>) -> Result<()> {
    let _listings = showq::Service::start(&instance);
    loop {
        let config = mail::Config {
            generation: generation()?,
            name: instance.host(),
            term: instance.term(),
            window: instance.settings.mail.window,
        };
        let machine = Mail::new(config, Instant::now());
        let wire = PickupWire::new(instance.places.pickup_socket(), instance.spool());
        let bus = RedisNotices::new(instance.spool());
        match Driver::new(machine, wire, bus, executor(&instance)).run(drain.clone()).await {
            End::OtherNode => tracing::warn!("Mail Agent started again for another node"),
            end => return ended(AgentKind::Mail, end),
        }
    }
}

fn ended(kind: AgentKind, end: End) -> Result<()> {
    match end {
        End::Drained => {
            tracing::info!(%kind, "drained");
            Ok(())
        }
        End::Superseded => {
            bail!("superseded: another {kind} agent of this name has started; stop one of them")
        }
        End::OtherNode => {
            bail!("queue directory: belongs to another node now; start the {kind} agent again")
        }
    }
}

fn executor(instance: &Instance) -> Rc<SpoolExecutor> {
    Rc::new(SpoolExecutor {
        spool: instance.spool(),
        term: instance.term(),
        node_loss_grace: Duration::from_secs(instance.settings.agents.node_loss_grace_s),
        lot_size: instance.settings.lots.size,
        window_shared: instance.settings.mail.window_shared,
        config_directory: instance.places.config_directory.clone(),
    })
}

fn generation() -> Result<Generation> {
    Generation::new().context("generation: no random numbers")
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
