//! One connection of the hand-off socket: a task that reads requests, and one that writes replies.
//!
//! Both tasks only move lines. A peer that doesn't read its replies is cut off when too many wait.
//! A peer that connects again gets the whole state from an inventory.

use handoff::lines::{Line, Lines};
use handoff::protocol::{REQUEST_LINE_LIMIT_BYTES, Reply, Request};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::JoinHandle;

/// Most replies that may wait for a peer to read them.
const WAITING_REPLIES_LIMIT: usize = 100_000;

/// Approximate size of one write of waiting replies, in bytes.
const WRITE_BYTES: usize = 64 * 1024;

/// Message of the reading task to the service.
#[derive(Debug)]
pub(crate) enum Said {
    /// A request.
    Request(Request),
    /// A line that is no request, with the reason.
    Nonsense(String),
    /// The end of the connection.
    Left,
}

/// Number of a connection, unique in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SessionId(pub(crate) u64);

/// The service's end of a connection.
#[derive(Debug)]
pub(crate) struct Session {
    replies: Sender<Reply>,
    reading: JoinHandle<()>,
    writing: JoinHandle<()>,
    /// Whether the peer gets events, because it has sent a request other than a ping.
    pub(crate) is_agent: bool,
    /// Whether marks of the peer are not taken, until it sends none: a file that it named is gone.
    pub(crate) is_mark_doubted: bool,
}

/// Receiver of a peer's messages.
pub(crate) trait Listener: Send + 'static {
    /// Takes one message. Waits while too many are queued. Returns false if the service has ended.
    fn hear(&self, said: Said) -> impl Future<Output = bool> + Send;
}

impl Session {
    /// Starts the tasks of a connection.
    pub(crate) fn start(stream: UnixStream, listener: impl Listener) -> Self {
        let (reading, writing) = stream.into_split();
        let (replies, waiting) = mpsc::channel(WAITING_REPLIES_LIMIT);
        Self {
            replies,
            reading: tokio::spawn(read(reading, listener)),
            writing: tokio::spawn(write(writing, waiting)),
            is_agent: false,
            is_mark_doubted: false,
        }
    }

    /// Queues a reply. Returns false if too many replies wait; then the caller must end the
    /// session.
    pub(crate) fn say(&self, reply: Reply) -> bool {
        self.replies.try_send(reply).is_ok()
    }

    /// Stops reading, and waits until all queued replies are written.
    pub(crate) async fn finish(self) {
        self.reading.abort();
        drop(self.replies);
        let _ = self.writing.await;
    }

    /// Closes the connection at once.
    pub(crate) fn end(self) {
        self.reading.abort();
        self.writing.abort();
    }
}

async fn read(stream: OwnedReadHalf, listener: impl Listener) {
    let mut lines = Lines::new(BufReader::new(stream), REQUEST_LINE_LIMIT_BYTES);
    loop {
        let said = match lines.next().await {
            Ok(Some(line)) => understand(line),
            Ok(None) | Err(_) => Said::Left,
        };
        let last = matches!(said, Said::Left);
        if !listener.hear(said).await || last {
            return;
        }
    }
}

fn understand(line: Line) -> Said {
    match line {
        Line::TooLong => Said::Nonsense(format!(
            "request: not read: longer than {REQUEST_LINE_LIMIT_BYTES} bytes"
        )),
        Line::Text(text) => match serde_json::from_slice(&text) {
            Ok(request) => Said::Request(request),
            Err(error) => Said::Nonsense(format!("request: not understood: {error}")),
        },
    }
}

async fn write(mut stream: OwnedWriteHalf, mut waiting: Receiver<Reply>) {
    let mut lines = Vec::with_capacity(WRITE_BYTES);
    while let Some(reply) = waiting.recv().await {
        lines.clear();
        put_line(&mut lines, &reply);
        while lines.len() < WRITE_BYTES {
            let Ok(reply) = waiting.try_recv() else { break };
            put_line(&mut lines, &reply);
        }
        // The reading task notices a peer that is gone.
        if stream.write_all(&lines).await.is_err() {
            return;
        }
    }
}

fn put_line(lines: &mut Vec<u8>, reply: &Reply) {
    // A reply consists of strings and numbers, which always have a JSON form.
    if serde_json::to_writer(&mut *lines, reply).is_ok() {
        lines.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncBufReadExt, AsyncReadExt};

    struct Ear(Sender<Said>);

    impl Listener for Ear {
        async fn hear(&self, said: Said) -> bool {
            self.0.send(said).await.is_ok()
        }
    }

    fn start() -> (UnixStream, Session, Receiver<Said>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (sender, receiver) = mpsc::channel(8);
        (theirs, Session::start(ours, Ear(sender)), receiver)
    }

    #[tokio::test]
    async fn garbage_costs_only_its_line_and_not_the_connection() {
        let (mut peer, _session, mut said) = start();
        peer.write_all(b"hello\n\xff\xfe\n{\"feed\":{}}\n\"ping\"\n").await.unwrap();
        for _ in 0..3 {
            assert!(matches!(said.recv().await.unwrap(), Said::Nonsense(_)));
        }
        assert!(matches!(said.recv().await.unwrap(), Said::Request(Request::Ping)));
        peer.write_all(&vec![b'x'; REQUEST_LINE_LIMIT_BYTES + 1]).await.unwrap();
        peer.write_all(b"\n\"inventory\"\n").await.unwrap();
        let Said::Nonsense(reason) = said.recv().await.unwrap() else { panic!("too long a line") };
        assert!(reason.contains("longer than"), "{reason}");
        assert!(matches!(said.recv().await.unwrap(), Said::Request(Request::Inventory)));
        drop(peer);
        assert!(matches!(said.recv().await.unwrap(), Said::Left));
    }

    #[tokio::test]
    async fn waiting_replies_are_written_before_the_end() {
        let (peer, session, _said) = start();
        for number in 0..1000 {
            assert!(session.say(Reply::Error { reason: number.to_string() }));
        }
        session.finish().await;
        let mut lines = BufReader::new(peer).lines();
        for number in 0..1000 {
            assert_eq!(
                lines.next_line().await.unwrap().unwrap(),
                format!("{{\"error\":{{\"reason\":\"{number}\"}}}}")
            );
        }
        assert_eq!(lines.next_line().await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_peer_that_does_not_read_is_cut_off() {
        let (mut peer, session, _said) = start();
        let mut said = 0;
        while session.say(Reply::Error { reason: "x".to_owned() }) {
            said += 1;
            assert!(said <= WAITING_REPLIES_LIMIT);
        }
        session.end();
        // The writing task never ran, so no reply was written: the connection just ends.
        assert_eq!(peer.read(&mut [0]).await.unwrap(), 0);
    }
}
