//! The Mail Agent's link as a real connection.

use std::collections::VecDeque;
use std::future::pending;
use std::path::PathBuf;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use pickup_rs::client::{self, ClientError, Replies, Requests};
use pickup_rs::protocol::Request;
use tokio::sync::mpsc;

use super::Wire;
use crate::mail::{LinkEvent, LinkOrder};

/// See the module.
pub struct PickupWire {
    socket: PathBuf,
    state: State,
    events: VecDeque<LinkEvent>,
}

enum State {
    Down,
    /// Kept here, so that whoever gives up waiting for it doesn't begin it anew.
    Connecting(LocalBoxFuture<'static, Result<(Requests, Replies), ClientError>>),
    Up {
        replies: Replies,
        requests: mpsc::UnboundedSender<Request>,
    },
}

impl PickupWire {
    /// To the pickup-rs behind this socket.
    pub fn new(socket: PathBuf) -> Self {
        Self { socket, state: State::Down, events: VecDeque::new() }
    }

    fn connected(&mut self, outcome: Result<(Requests, Replies), ClientError>) -> LinkEvent {
        match outcome {
            Ok((requests, replies)) => {
                // A task of its own, so that both sides writing at once can't block each other. What waits in it is
                // bounded by what the machine has under way.
                let (sender, receiver) = mpsc::unbounded_channel();
                tokio::task::spawn_local(write(requests, receiver));
                self.state = State::Up { replies, requests: sender };
                LinkEvent::Connected
            }
            Err(error) => self.broken(&error),
        }
    }

    fn broken(&mut self, error: &ClientError) -> LinkEvent {
        tracing::debug!(%error, "no connection to pickup-rs");
        self.state = State::Down;
        LinkEvent::Disconnected
    }
}

impl Wire for PickupWire {
    type Event = LinkEvent;
    type Order = LinkOrder;

    async fn next(&mut self) -> LinkEvent {
        if let Some(event) = self.events.pop_front() {
            return event;
        }
        match &mut self.state {
            State::Down => pending().await,
            State::Connecting(attempt) => {
                let outcome = attempt.await;
                self.connected(outcome)
            }
            State::Up { replies, .. } => match replies.next().await {
                Ok(Some(reply)) => LinkEvent::Reply(reply),
                Ok(None) => {
                    self.state = State::Down;
                    LinkEvent::Disconnected
                }
                Err(error) => self.broken(&error),
            },
        }
    }

    fn order(&mut self, order: LinkOrder) {
        match order {
            LinkOrder::Connect => {
                let socket = self.socket.clone();
                let attempt = async move { client::connect(&socket).await };
                self.state = State::Connecting(attempt.boxed_local());
            }
            LinkOrder::Send(request) => {
                let State::Up { requests, .. } = &self.state else { return };
                if requests.send(request).is_err() {
                    self.state = State::Down;
                    self.events.push_back(LinkEvent::Disconnected);
                }
            }
        }
    }
}

/// Ends when the wire drops its end, or when the connection breaks; the reading half notices that too.
async fn write(mut requests: Requests, mut queue: mpsc::UnboundedReceiver<Request>) {
    while let Some(request) = queue.recv().await {
        if let Err(error) = requests.send(&request).await {
            tracing::debug!(%error, "request not sent");
            return;
        }
    }
}
