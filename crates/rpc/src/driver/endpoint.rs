//! The common part of client and server: a core behind a lock, its sockets, its timer.
//!
//! A caller, or the task that received packets, locks the core, gives it the input, and takes its
//! outputs. After unlocking, the same task sends the packets and carries out the effects. So a call
//! leaves without another task's turn, and no task awaits or sends under the lock.
//!
//! One task per socket waits for packets, and one for the core's next deadline. A call that ends
//! takes its deadline with it, so this task may wake once for nothing. The alternative would be to
//! wake the task at each call.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::time::{Sleep, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use super::counters::{Datagrams, SocketCounters};
use super::error::BindError;
use super::inbox::ReceiveBuffer;
use super::socket::{Socket, Writable};
use super::sockets::{Local, Sockets};
use super::task::Task;
use crate::{Address, Key, Time, Transmit};

/// A core and its environment.
pub(super) trait Machine: Send + 'static {
    /// Configuration that makes the core.
    type Config: Bounded;
    /// Work outside the lock.
    type Effect: Send;

    fn new(config: Self::Config) -> Self;

    fn handle_packet(&mut self, now: Time, from: &Address, packet: &[u8]);
    fn handle_timeout(&mut self, now: Time);
    fn poll_transmit(&mut self) -> Option<Transmit>;
    fn poll_effect(&mut self) -> Option<Self::Effect>;
    fn poll_timeout(&self) -> Option<Time>;
    /// Logs counters of invalid packets after a batch was handled.
    fn observe(&mut self);
    /// Begins to close; may be called more than once.
    fn close(&mut self, now: Time);
    /// Ends all waiters without the core, which may panic.
    fn abort_waiters(&mut self);
    /// Carries out an effect of `poll_effect`.
    fn perform(endpoint: &Arc<Endpoint<Self>>, effect: Self::Effect)
    where
        Self: Sized;
}

/// Configuration of a core, with its limits.
pub(super) trait Bounded {
    fn key(&self) -> &Key;
    /// Returns the bytes of a message that may be under way to this process at once.
    fn window_bytes(&mut self) -> &mut u32;
    /// Returns the time without a call after which a client forgets a server.
    fn idle(&self) -> Duration;
}

#[derive(Debug)]
pub(super) struct Endpoint<M> {
    began: Instant,
    locked: Mutex<Locked<M>>,
    pub(super) sockets: Sockets,
    pub(super) counters: SocketCounters,
    pub(super) runtime: Handle,
    closed: CancellationToken,
    tasks: Mutex<Vec<Task>>,
}

#[derive(Debug)]
struct Locked<M> {
    machine: M,
    alarm: Alarm,
}

/// Time at which the timer's task wakes, and the means to wake it earlier.
#[derive(Debug, Default)]
struct Alarm {
    at: Option<Time>,
    task: Option<Waker>,
}

struct Outputs<E> {
    transmits: Vec<Transmit>,
    effects: Vec<E>,
}

impl<M: Machine> Endpoint<M> {
    /// Binds the sockets and begins the tasks. Small socket buffers reduce the configured window.
    pub(super) fn open(locals: &[Local], mut config: M::Config) -> Result<Arc<Self>, BindError> {
        let runtime = Handle::try_current().map_err(|_| BindError::NoRuntime)?;
        let sockets = Sockets::bind(locals, config.key(), config.idle())?;
        let window_bytes = config.window_bytes();
        *window_bytes = sockets.window_bytes().min(*window_bytes);
        let machine = M::new(config);
        let endpoint = Arc::new(Self {
            began: Instant::now(),
            locked: Mutex::new(Locked { machine, alarm: Alarm::default() }),
            sockets,
            counters: SocketCounters::default(),
            runtime,
            closed: CancellationToken::new(),
            tasks: Mutex::default(),
        });
        let mut tasks: Vec<_> =
            endpoint.sockets.bound().map(|socket| endpoint.receive_from(socket)).collect();
        let watch = Watch::until_closed(&endpoint);
        tasks.push(endpoint.spawn(watch.over(endpoint.clone().keep_time())));
        *endpoint.lock_tasks() = tasks;
        Ok(endpoint)
    }

    /// Runs `input` on the machine, then sends its packets and carries out its effects.
    pub(super) fn drive<R>(self: &Arc<Self>, input: impl FnOnce(&mut M, Time) -> R) -> R {
        let (result, outputs) = {
            let mut locked = self.lock();
            let result = input(&mut locked.machine, self.now());
            (result, locked.outputs())
        };
        self.emit(outputs);
        result
    }

    /// Reads the machine, or changes it in ways that have no output.
    pub(super) fn with<R>(&self, look: impl FnOnce(&mut M) -> R) -> R {
        look(&mut self.lock().machine)
    }

    fn emit(self: &Arc<Self>, outputs: Outputs<M::Effect>) {
        if !outputs.transmits.is_empty() {
            // Spawning needs a runtime, and the caller may be outside of any.
            let _runtime = self.runtime.enter();
            self.sockets
                .send(&outputs.transmits, &self.counters, |socket| self.receive_from(socket));
        }
        for effect in outputs.effects {
            M::perform(self, effect);
        }
    }

    /// Ends all calls, requests and tasks; sends the packets that the core still has.
    pub(super) fn close(self: &Arc<Self>) {
        self.drive(M::close);
        self.end();
    }

    /// Closes after a panic, when the core may panic again.
    fn close_whatever_happens(self: &Arc<Self>) {
        if catch_unwind(AssertUnwindSafe(|| self.drive(M::close))).is_err() {
            self.with(M::abort_waiters);
        }
        self.end();
    }

    fn end(&self) {
        self.closed.cancel();
        self.sockets.disconnect();
        let tasks = std::mem::take(&mut *self.lock_tasks());
        drop(tasks);
    }

    /// Waits for a future, until `limit` at the latest, or until the endpoint is closed. Outside of
    /// any runtime there is no clock, so the endpoint's runtime provides one.
    pub(super) async fn within<T>(
        &self,
        limit: Duration,
        something: impl Future<Output = T>,
    ) -> Option<T> {
        let limit = {
            let _runtime = Handle::try_current().is_err().then(|| self.runtime.enter());
            sleep(limit)
        };
        tokio::select! {
            biased;
            // The check for closing comes first: the clock of an ended runtime panics.
            () = self.closed() => None,
            something = something => Some(something),
            () = limit => None,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// Waits until the endpoint is closed.
    pub(super) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    pub(super) fn datagrams(&self) -> Datagrams {
        self.counters.get()
    }

    pub(super) fn now(&self) -> Time {
        Time(u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// Spawns a task that ends when the returned value is dropped.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> Task {
        Task::spawn(&self.runtime, task)
    }

    fn lock(&self) -> MutexGuard<'_, Locked<M>> {
        self.locked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_tasks(&self) -> MutexGuard<'_, Vec<Task>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn receive_from(self: &Arc<Self>, socket: Arc<Socket>) -> Task {
        self.spawn(Watch::against_panics(self).over(receive(self.clone(), socket)))
    }

    async fn keep_time(self: Arc<Self>) {
        let mut sleep = pin!(sleep_until(self.began.into()));
        loop {
            poll_fn(|cx| self.poll_alarm(cx, sleep.as_mut())).await;
            self.drive(M::handle_timeout);
        }
    }

    fn poll_alarm(&self, cx: &mut Context<'_>, mut sleep: std::pin::Pin<&mut Sleep>) -> Poll<()> {
        let Some(at) = self.lock().alarm.wait(cx) else { return Poll::Pending };
        let at = (self.began + at.since(Time(0))).into();
        if sleep.deadline() != at {
            sleep.as_mut().reset(at);
        }
        ready!(sleep.as_mut().poll(cx));
        self.lock().alarm.at = None;
        Poll::Ready(())
    }
}

impl<M: Machine> Locked<M> {
    fn outputs(&mut self) -> Outputs<M::Effect> {
        let transmits = std::iter::from_fn(|| self.machine.poll_transmit()).collect();
        let effects = std::iter::from_fn(|| self.machine.poll_effect()).collect();
        if let Some(next) = self.machine.poll_timeout() {
            self.alarm.not_after(next);
        }
        Outputs { transmits, effects }
    }
}

impl Alarm {
    fn not_after(&mut self, next: Time) {
        if self.at.is_none_or(|at| next < at) {
            self.at = Some(next);
            if let Some(task) = &self.task {
                task.wake_by_ref();
            }
        }
    }

    fn wait(&mut self, cx: &Context<'_>) -> Option<Time> {
        if !self.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            self.task = Some(cx.waker().clone());
        }
        self.at
    }
}

/// Guard that closes the endpoint when one of its tasks ends by mistake, so that no waiter waits
/// for ever.
pub(super) struct Watch<M: Machine> {
    endpoint: Arc<Endpoint<M>>,
    /// Whether the task lives as long as the endpoint. An earlier end means that the runtime has
    /// ended.
    until_closed: bool,
}

impl<M: Machine> Watch<M> {
    /// Watches a task that may end before the endpoint is closed, but not by a panic.
    pub(super) fn against_panics(endpoint: &Arc<Endpoint<M>>) -> Self {
        Self { endpoint: endpoint.clone(), until_closed: false }
    }

    fn until_closed(endpoint: &Arc<Endpoint<M>>) -> Self {
        Self { endpoint: endpoint.clone(), until_closed: true }
    }

    /// Returns the task, watched even before it has begun: a runtime may end before it runs.
    pub(super) async fn over(self, task: impl Future<Output = ()>) {
        let _watch = self;
        task.await;
    }
}

impl<M: Machine> Drop for Watch<M> {
    fn drop(&mut self) {
        let panicked = std::thread::panicking();
        if self.endpoint.closed.is_cancelled() || !(panicked || self.until_closed) {
            return;
        }
        match panicked {
            true => error!("endpoint closed: a task panicked"),
            false => debug!("endpoint closed: the runtime ended"),
        }
        self.endpoint.close_whatever_happens();
    }
}

/// Receives from one socket until the endpoint is closed. If receiving becomes impossible, closes
/// the endpoint, so that no waiter waits for ever.
async fn receive<M: Machine>(endpoint: Arc<Endpoint<M>>, socket: Arc<Socket>) {
    let mut inbox = ReceiveBuffer::new();
    let mut writable = Writable::default();
    loop {
        let arrived = poll_fn(|cx| {
            socket.poll_flush(cx, &mut writable, &endpoint.counters);
            socket.poll_receive(cx, &mut inbox, &endpoint.counters)
        });
        if let Err(error) = arrived.await {
            error!(%error, "endpoint closed: receiving failed");
            return endpoint.close();
        }
        let mut packets = 0;
        endpoint.drive(|machine, now| {
            inbox.take_all(|from, packet| {
                packets += 1;
                machine.handle_packet(now, from, packet);
            });
            machine.observe();
        });
        endpoint.counters.received(packets);
    }
}

#[cfg(test)]
mod tests;
