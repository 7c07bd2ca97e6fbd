//! Gives the mail that was committed to this node over to its Postfix, for good.
//!
//! Redis keeps a message until the Mail Agent has seen its queue file go. Once that Mail Agent has
//! been away for `node_loss_grace_s`, another node sends the message again. An uninstalled Mail
//! Agent never comes back, while this Postfix goes on delivering. So the last step in Redis is to
//! settle all of its mail. Nothing can be committed any more by then: the agents of this host have
//! ended, and no prepared file is undecided.
//!
//! An embedded Redis has no other nodes, and has ended with its agents.

use std::time::Duration;

use agents::daemon::Instance;
use anyhow::{Context, Result, bail, ensure};
use settings::Settings;
use spool::{
    AgentId, AgentKind, Arrived, FencingToken, Generation, LastAttendance, LibraryState, NodeId,
    Registered, Registration, Spool,
};

use super::site::Site;
use super::{command, left};
use crate::say;

/// Term of the lease: longer than the calls take.
const LEASE: Duration = Duration::from_secs(10);

/// Gives the mail over. With `force` a failure is a warning that names its consequences.
pub(super) fn give_over(site: &Site, force: bool) -> Result<()> {
    if Settings::load(&site.config_directory)?.redis.url.is_none() {
        return Ok(());
    }
    if !force {
        left::refuse_while_mail_is_left(site)?;
    }
    // A child does it, because it gives up root's rights before it talks to Redis.
    let words = ["give-over".as_ref(), "-c".as_ref(), site.config_directory.as_os_str()];
    match command::text(std::env::current_exe()?, words) {
        Ok(said) if said.is_empty() => (),
        Ok(said) => say(said),
        Err(error) if force => say(format!(
            "warning: node not given over: {error:#}: once the Mail Agent has been away for \
                node_loss_grace_s, other nodes send the mail committed here again, also mail that \
                this Postfix has delivered meanwhile"
        )),
        Err(error) => bail!(
            "{error:#}: until Redis knows that the mail committed here is this Postfix's alone, \
                other nodes would send that mail again; mend the cause and give the command \
                again, or add --force"
        ),
    }
    Ok(())
}

/// `optimus give-over`: settles all committed mail, and prints the number of messages, if any.
pub(crate) async fn run(instance: Instance) -> Result<()> {
    let path = instance.places.identity_file();
    let text = instance.places.identity().with_context(|| path.display().to_string())?;
    let Some(text) = text else { return Ok(()) };
    let node: NodeId = text.parse().with_context(|| path.display().to_string())?;
    let spool = instance.looking();
    if spool.library().await? == LibraryState::Missing {
        // No agent has ever used this Redis.
        return Ok(());
    }
    // A copy's node may have a Mail Agent, but that is the original's.
    refuse_a_copy(&instance, &spool, &node).await?;
    refuse_while_it_runs(&spool, &node).await?;
    let registration = registration(&instance, &node)?;
    let token = last_mail_agent(&spool, &node, &registration).await?;
    let committed = spool.inventory(&node).await?;
    spool.settle(&token, &committed).await?;
    spool.leave(&registration.agent, registration.generation).await?;
    let left = spool.inventory(&node).await?.len();
    ensure!(
        left == 0,
        "node {node}: not given over: {left} messages were committed just now; give the command \
            again"
    );
    if !committed.is_empty() {
        say(format!(
            "{} messages given over to this Postfix, which delivers them by itself",
            committed.len()
        ));
    }
    Ok(())
}

/// Fails on a copy of a queue directory, since the mail is the original's.
async fn refuse_a_copy(instance: &Instance, spool: &Spool, node: &NodeId) -> Result<()> {
    let LastAttendance { nonce: Some(nonce), host, .. } = spool.last_attendance(node).await? else {
        return Ok(());
    };
    let host = host.unwrap_or_default();
    ensure!(
        queue::mark::is_latest(&instance.places.mark_file(), nonce)?,
        "queue directory: nothing given over: a copy, while the mail of node {node} is with \
            {host}, which served that node last; add --force to uninstall without giving mail over"
    );
    Ok(())
}

async fn refuse_while_it_runs(spool: &Spool, node: &NodeId) -> Result<()> {
    let directory = spool.directory().await?;
    let agent = AgentId::from(node.clone());
    match directory.alive(AgentKind::Mail).into_iter().find(|it| it.agent == agent) {
        Some(it) => bail!("Mail Agent {agent} of {}: still runs; end that process", it.name),
        None => Ok(()),
    }
}

fn registration(instance: &Instance, node: &NodeId) -> Result<Registration> {
    Ok(Registration {
        agent: node.clone().into(),
        kind: AgentKind::Mail,
        generation: Generation::new()?,
        lease: LEASE,
        name: instance.host(),
        capacity: 0,
        address: None,
        unfit: None,
    })
}

/// Takes the node as its last Mail Agent does: an earlier one that was stopped, and goes on later,
/// is fenced.
async fn last_mail_agent(spool: &Spool, node: &NodeId, it: &Registration) -> Result<FencingToken> {
    let (Registered::New(start) | Registered::Replaced(start) | Registered::Already(start)) =
        spool.register(it).await?
    else {
        bail!("node {node}: a Mail Agent just started; end that process");
    };
    let token = FencingToken { node: node.clone(), start };
    match spool.arrive(&token).await? {
        Arrived::Arrived | Arrived::Already => Ok(token),
        Arrived::Superseded => bail!("node {node}: a Mail Agent just arrived; end that process"),
    }
}
