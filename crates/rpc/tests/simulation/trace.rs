//! Trace of a schedule's events, printed only when a failed seed runs again.

use rpc::Key;
use rpc::packet::{ClientBody, ServerBody, open_answer, open_question};

use crate::network::Flight;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Trace {
    is_loud: bool,
}

impl Trace {
    pub(crate) fn quiet() -> Self {
        Self { is_loud: false }
    }

    /// Returns a trace that prints each event at once, since a panic may follow.
    pub(crate) fn loud() -> Self {
        Self { is_loud: true }
    }

    pub(crate) fn line(self, now_us: u64, text: &dyn Fn() -> String) {
        if self.is_loud {
            eprintln!("{:>12.3} ms {}", now_us as f64 / 1_000.0, text());
        }
    }

    pub(crate) fn packet(self, now_us: u64, what: &str, flight: &Flight, key: &Key) {
        self.line(now_us, &|| {
            let by = if flight.is_replayed { "replayed " } else { "" };
            format!(
                "{by}{what}: {} → {}: {}",
                flight.from,
                flight.to,
                describe(&flight.packet, key)
            )
        });
    }
}

fn describe(packet: &[u8], key: &Key) -> String {
    if let Ok(question) = open_question(key, packet) {
        let header = question.header;
        let said = match question.body {
            ClientBody::Request(request) => format!(
                "Request {} floor {} piece {}/{} patience {:?} limit {:?} credit {}",
                request.sequence,
                request.floor,
                request.fragment.index,
                request.fragment.count(),
                request.patience,
                request.limit,
                request.credit_bytes
            ),
            other => format!("{other:?}"),
        };
        return format!(
            "#{} epoch {} client {}.{} ticket {}: {said}",
            header.number,
            header.epoch,
            header.client.id,
            header.client.generation,
            header.ticket.issued_us
        );
    }
    let Ok(answer) = open_answer(key, packet) else {
        return format!("{} bytes of damage", packet.len());
    };
    let header = answer.header;
    let said = match answer.body {
        ServerBody::Reply { sequence, fragment } => {
            format!(
                "Reply {sequence} piece {}/{} of {} bytes",
                fragment.index,
                fragment.count(),
                fragment.total_bytes
            )
        }
        other => format!("{other:?}"),
    };
    format!(
        "to #{} epoch {} ticket {} held {:?}: {said}",
        header.number, header.epoch, header.ticket.issued_us, answer.held
    )
}
