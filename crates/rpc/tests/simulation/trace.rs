//! What happened, for people; kept only where somebody will read it.

use rpc::Key;
use rpc::packet::{Answer, Question, open_answer, open_question};

use crate::network::Flight;

#[derive(Debug, Default)]
pub(crate) struct Trace(Option<Vec<String>>);

impl Trace {
    pub(crate) fn kept() -> Self {
        Self(Some(Vec::new()))
    }

    pub(crate) fn line(&mut self, now_us: u64, text: &str) {
        if let Some(lines) = &mut self.0 {
            lines.push(format!("{:>12.3} ms {text}", now_us as f64 / 1_000.0));
        }
    }

    pub(crate) fn packet(&mut self, now_us: u64, what: &str, flight: &Flight, key: &Key) {
        if self.0.is_some() {
            let by = if flight.is_replayed { "replayed " } else { "" };
            let text =
                format!("{by}{what}: {} → {}: {}", flight.from, flight.to, describe(&flight.packet, key));
            self.line(now_us, &text);
        }
    }

    pub(crate) fn into_text(self) -> String {
        self.0.unwrap_or_default().join("\n")
    }
}

fn describe(packet: &[u8], key: &Key) -> String {
    if let Ok(question) = open_question(key, packet) {
        let header = question.header;
        let said = match question.body {
            Question::Request(request) => format!(
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
            header.number, header.epoch, header.client.id, header.client.epoch, header.ticket.issued_us
        );
    }
    let Ok(answer) = open_answer(key, packet) else { return format!("{} bytes of damage", packet.len()) };
    let header = answer.header;
    let said = match answer.body {
        Answer::Reply { sequence, fragment } => {
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
