//! Connections between Mail Agents and the pickup-rs of their Postfix: one at a time, which keeps
//! its order and may end.

use agents::machine::Input;
use agents::mail::LinkEvent;
use handoff::protocol::{Reply, Request};

use super::processes::Process;
use super::{Event, World};
use crate::postfix::Postfix;

impl World {
    pub(crate) fn kill_pickup(&mut self, place: usize) {
        self.note(&format!("kill pickup {place}"));
        self.troubles += 1;
        self.postfixes[place].kill_pickup();
        self.tell_disconnected(place);
    }

    /// Kills the node's pickup-rs, and puts the disk back to its kept copy.
    pub(crate) fn put_back(&mut self, place: usize) {
        self.note(&format!("put back {place}"));
        self.kill_pickup(place);
        self.postfixes[place].put_back();
    }

    fn tell_disconnected(&mut self, place: usize) {
        let of_place = self.processes.iter().filter(|(_, it)| it.postfix == Some(place));
        let numbers: Vec<usize> = of_place.map(|(number, _)| *number).collect();
        for number in numbers {
            let current = self.postfixes[place].connection;
            let is_connected = self.postfixes[place].is_connected;
            let process = self.processes.get_mut(&number).expect("listed");
            if process.connection.is_some_and(|it| !is_connected || it != current) {
                process.connection = None;
                self.tell(number, Input::Link(LinkEvent::Disconnected));
            }
        }
    }

    pub(super) fn connect(&mut self, number: usize) {
        let Some(place) = self.processes.get(&number).and_then(|it| it.postfix) else { return };
        if self.postfixes[place].connect() {
            let connection = self.postfixes[place].connection;
            self.tell_disconnected(place);
            self.processes.get_mut(&number).expect("looked up").connection = Some(connection);
            self.tell(number, Input::Link(LinkEvent::Connected));
        } else {
            self.tell(number, Input::Link(LinkEvent::Disconnected));
        }
    }

    pub(super) fn request(&mut self, place: usize, connection: u64, request: Request) {
        if request == Request::Inventory {
            if !self.redis_is_up {
                // pickup-rs must attend in Redis before it lists the queue.
                return self.later(5, 20, Event::ToPickup(place, connection, request));
            }
            let Postfix { node, mark, .. } = &self.postfixes[place];
            self.postfixes[place].floor = self.redis.spool.attend(node, *mark);
        }
        let postfix = &mut self.postfixes[place];
        if postfix.is_connected && postfix.connection == connection {
            postfix.request(request);
            self.carry_replies(place);
        }
    }

    pub(super) fn reply(&mut self, number: usize, connection: u64, reply: Reply) {
        if self.processes.get(&number).is_some_and(|it| it.connection == Some(connection)) {
            self.tell(number, Input::Link(LinkEvent::Reply(reply)));
        }
    }

    pub(super) fn carry_replies(&mut self, place: usize) {
        let connection = self.postfixes[place].connection;
        let replies = std::mem::take(&mut self.postfixes[place].replies);
        let is_connected =
            |it: &Process| it.connection == Some(connection) && it.postfix == Some(place);
        let to = self.processes.iter().find(|(_, it)| is_connected(it));
        let Some((&number, _)) = to else { return };
        for reply in replies {
            // The delay is the same for all replies, so that they stay in order.
            self.later(1, 2, Event::FromPickup(number, connection, reply));
        }
    }
}
