//! Driver of the service: waits for events of all sources, and applies them one by one.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener as StdListener;
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::{Pid, getppid};
use postfix_wire::MasterLink;
use postfix_wire::master::Availability;
use spool::NodeId;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc::{self, Receiver, UnboundedReceiver};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tracing::{info, warn};

use super::{Service, ServiceEvent, WAITING_REQUESTS_LIMIT};
use crate::configuration::Configuration;
use crate::feeder::Feeder;
use crate::node::Attendance;
use crate::readiness;
use crate::session::{Said, SessionId};
use crate::watch::Watch;

/// Longest wait after a reload for feedings to end. Afterwards the process ends as if killed, which
/// loses nothing.
const RETIREMENT_LIMIT: Duration = Duration::from_secs(10);

/// Pause between two checks that master lives, once master's end of the link is closed.
const PARENT_PAUSE: Duration = Duration::from_millis(50);

/// Readiness of the link to master when master's end is closed. pickup-rs only writes to the link,
/// so the kernel reports an error.
const MASTER_GOES: Interest = Interest::READABLE.add(Interest::ERROR);

/// Pause after a connection could not be accepted, for want of a descriptor for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Sources of events.
struct Sources {
    events: UnboundedReceiver<ServiceEvent>,
    attendance: Arc<Attendance>,
    requests: Receiver<(SessionId, Said)>,
    listener: UnixListener,
    master: MasterLink,
    master_goes: AsyncFd<OwnedFd>,
    rescan: tokio::time::Interval,
    line_is_cut: bool,
    parent: Pid,
}

/// Serves until master has ended or has a new configuration.
pub(crate) async fn run(
    configuration: Configuration,
    node: NodeId,
    feeder: Feeder,
    attendance: Arc<Attendance>,
    listener: StdListener,
    master: MasterLink,
) -> io::Result<()> {
    let (events_sender, events) = mpsc::unbounded_channel();
    let (requests_sender, requests) = mpsc::channel(WAITING_REQUESTS_LIMIT);
    let mut rescan = interval(Duration::from_secs(configuration.settings.pickup.rescan_s));
    rescan.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sources = Sources {
        events,
        attendance: Arc::clone(&attendance),
        requests,
        listener: UnixListener::from_std(listener)?,
        master_goes: readiness::of(&master, MASTER_GOES)?,
        master,
        rescan,
        line_is_cut: false,
        parent: getppid(),
    };
    let service =
        Service::new(configuration, node, feeder, attendance, events_sender, requests_sender)?;
    serve(service, &mut sources).await
}

async fn serve(mut service: Service, sources: &mut Sources) -> io::Result<()> {
    while !sources.line_is_cut && !service.retiring {
        let event = sources.next(&mut service.watch).await?;
        service.apply(event);
    }
    let parent = sources.parent;
    tokio::select! {
        // Cleanup waits for services that only a living master starts, so no feeding would end.
        () = master_is_dead(parent) => info!("service ended: master died"),
        () = finish(service, sources) => {
            info!("service ended after all feedings; another process may take over");
        }
    }
    Ok(())
}

/// Waits until master is dead. After a reload master lives, though its end of the link is closed.
async fn master_is_dead(parent: Pid) {
    // A dying process closes the link a moment before its children get another parent.
    while getppid() == parent {
        sleep(PARENT_PAUSE).await;
    }
}

/// Lets feedings end, and sends their replies.
async fn finish(mut service: Service, sources: &mut Sources) {
    let finishing = async {
        while !service.is_finished() {
            let event = sources.next_of_feeding().await;
            service.apply(event);
        }
        for (_, session) in std::mem::take(&mut service.sessions) {
            session.finish().await;
        }
    };
    if timeout(RETIREMENT_LIMIT, finishing).await.is_err() {
        warn!(
            "service ended: cleanup or a client took longer than {} s",
            RETIREMENT_LIMIT.as_secs()
        );
    }
}

impl Sources {
    /// Returns the next event. Events of feedings come before the kernel's, so that a file is
    /// tracked before its end is seen. A feeding sends the file's name before cleanup can finish
    /// the file.
    async fn next(&mut self, watch: &mut Watch) -> io::Result<ServiceEvent> {
        tokio::select! {
            biased;
            () = self.attendance.changed() => Ok(ServiceEvent::Attended),
            Some(event) = self.events.recv() => Ok(event),
            changes = watch.changes() => changes.map(ServiceEvent::Changed),
            gone = self.master_goes.ready(MASTER_GOES) => {
                gone?.retain_ready();
                self.line_is_cut = true;
                Ok(ServiceEvent::Retire)
            }
            Some((session, said)) = self.requests.recv() => Ok(ServiceEvent::Said(session, said)),
            stream = accept(&self.listener, &self.master) => Ok(ServiceEvent::Connected(stream)),
            _ = self.rescan.tick() => Ok(ServiceEvent::Rescan),
        }
    }

    async fn next_of_feeding(&mut self) -> ServiceEvent {
        match self.events.recv().await {
            Some(event) => event,
            // The service itself has a sender, so the channel never closes.
            None => std::future::pending().await,
        }
    }
}

async fn accept(listener: &UnixListener, master: &MasterLink) -> UnixStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Once a process has done one job, master takes its death for an accident, not for
                // a broken installation, and starts another at once. `master_goes` notices a dead
                // master.
                let _ = master.notify(Availability::Taken);
                let _ = master.notify(Availability::Available);
                return stream;
            }
            Err(error) => {
                warn!(%error, "connection to the hand-off socket not accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
