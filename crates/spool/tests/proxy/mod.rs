//! A proxy between a client and a real redis-server, with a treatment for each connection in turn.
//!
//! The greeting, which begins each connection, always passes. "The first request" means the request
//! after the greeting.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread;

use testbed::{Redis, Scratch};

/// Treatment of one connection.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Treatment {
    /// Everything passes, both ways.
    Pass,
    /// The first request reaches Redis, and its answer doesn't reach the client.
    SwallowAnswer,
    /// The first request doesn't reach Redis, and the client gets this answer.
    Answer(&'static str),
    /// The proxy closes the connection before it has read a byte.
    HangUp,
}

pub(crate) struct Proxy {
    socket: PathBuf,
    _scratch: Scratch,
}

impl Proxy {
    /// Starts a proxy. The last treatment also applies to all later connections.
    pub(crate) fn start(redis: &Redis, treatments: Vec<Treatment>) -> Self {
        let scratch = Scratch::new().unwrap();
        let socket = scratch.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let server = redis.socket();
        thread::spawn(move || {
            let last = *treatments.last().unwrap();
            let mut treatments = treatments.into_iter();
            for client in listener.incoming().flatten() {
                treat(
                    treatments.next().unwrap_or(last),
                    client,
                    UnixStream::connect(&server).unwrap(),
                );
            }
        });
        Self { socket, _scratch: scratch }
    }

    pub(crate) fn url(&self) -> String {
        format!("unix://{}", self.socket.display())
    }
}

fn treat(treatment: Treatment, mut client: UnixStream, mut server: UnixStream) {
    let mut request = vec![0; 64 * 1024];
    if !matches!(treatment, Treatment::Pass | Treatment::HangUp) {
        let length = client.read(&mut request).unwrap();
        server.write_all(&request[..length]).unwrap();
        let length = server.read(&mut request).unwrap();
        client.write_all(&request[..length]).unwrap();
    }
    match treatment {
        Treatment::HangUp => {}
        Treatment::Answer(answer) => {
            let _ = client.read(&mut request);
            let _ = client.write_all(answer.as_bytes());
        }
        Treatment::SwallowAnswer => {
            let length = client.read(&mut request).unwrap();
            server.write_all(&request[..length]).unwrap();
            let _ = server.read(&mut request);
        }
        Treatment::Pass => {
            let (mut from_client, mut to_server) =
                (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut from_client, &mut to_server));
            thread::spawn(move || std::io::copy(&mut server, &mut client));
        }
    }
}
