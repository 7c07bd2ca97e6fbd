//! The baselines: TCP with a connection for each exchange, and TCP kept open.
//!
//! Both do as a competent server does. Nagle's algorithm is off. A body goes out in one system call
//! with its length, without being copied, and a small one comes in by one call. The listener's
//! backlog has room for every caller at once. The server closes each connection first, as in the
//! paper. So the server has the connections in TIME_WAIT, and the client doesn't run out of ports.

use std::io::{Error, ErrorKind, Result};
use std::net::{Ipv4Addr, SocketAddr};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Limit of connections not yet accepted.
const BACKLOG: u32 = 1024;
/// Size of the first read: a length, and a body if it is small.
const FIRST_READ: usize = 16 * 1024;
/// Limit of a body, bytes; a longer one is an error.
const MAX_BODY: usize = 16 << 20;
const PREFIX: usize = size_of::<u32>();

/// Listens at a free port.
pub(super) fn listen(address: Ipv4Addr) -> Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(address.into(), 0))?;
    socket.listen(BACKLOG)
}

/// Echoes one exchange per connection, or all that come.
pub(super) async fn serve(listener: TcpListener, kept_open: bool) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(answer(stream, kept_open));
    }
}

async fn answer(stream: TcpStream, kept_open: bool) -> Result<()> {
    let mut connection = Connection::new(stream)?;
    while let Some(body) = connection.read().await? {
        connection.write(&body).await?;
        if !kept_open {
            break;
        }
    }
    Ok(())
}

/// Connects, writes, reads to the end, closes.
pub(super) async fn exchange(server: SocketAddr, body: &Bytes) -> Result<Bytes> {
    let mut connection = Connection::open(server).await?;
    let reply = connection.exchange(body).await?;
    connection
        .read()
        .await?
        .map_or(Ok(reply), |_| Err(Error::new(ErrorKind::InvalidData, "two replies")))
}

/// A connection that carries bodies, each after its length.
pub(super) struct Connection {
    stream: TcpStream,
    read: BytesMut,
}

impl Connection {
    pub(super) async fn open(server: SocketAddr) -> Result<Self> {
        Self::new(TcpStream::connect(server).await?)
    }

    fn new(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, read: BytesMut::with_capacity(FIRST_READ) })
    }

    /// Makes the next exchange on the open connection.
    pub(super) async fn exchange(&mut self, body: &Bytes) -> Result<Bytes> {
        self.write(body).await?;
        self.read().await?.ok_or_else(|| ErrorKind::UnexpectedEof.into())
    }

    async fn write(&mut self, body: &Bytes) -> Result<()> {
        let length = u32::try_from(body.len()).map_err(Error::other)?.to_be_bytes();
        self.stream.write_all_buf(&mut Buf::chain(&length[..], &body[..])).await
    }

    /// Reads a body; `None` at the end.
    async fn read(&mut self) -> Result<Option<Bytes>> {
        loop {
            let missing =
                match self.read.first_chunk().map(|length| u32::from_be_bytes(*length) as usize) {
                    None => FIRST_READ,
                    Some(length) if length > MAX_BODY => {
                        return Err(Error::new(ErrorKind::InvalidData, "too long"));
                    }
                    Some(length) if self.read.len() >= PREFIX + length => {
                        self.read.advance(PREFIX);
                        return Ok(Some(self.read.split_to(length).freeze()));
                    }
                    Some(length) => PREFIX + length - self.read.len(),
                };
            self.read.reserve(missing);
            if self.stream.read_buf(&mut self.read).await? == 0 {
                return if self.read.is_empty() {
                    Ok(None)
                } else {
                    Err(ErrorKind::UnexpectedEof.into())
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(length: usize) -> Bytes {
        (0..length).map(|index| index.to_le_bytes()[0]).collect()
    }

    #[tokio::test]
    async fn bodies_of_all_sizes_come_back() {
        for kept_open in [false, true] {
            let listener = listen(Ipv4Addr::LOCALHOST).unwrap();
            let server = listener.local_addr().unwrap();
            tokio::spawn(serve(listener, kept_open));
            let mut connection = Connection::open(server).await.unwrap();
            for body in [0, 1, FIRST_READ - PREFIX, FIRST_READ, 1 << 20].map(body) {
                let reply = if kept_open {
                    connection.exchange(&body).await
                } else {
                    exchange(server, &body).await
                };
                assert_eq!(reply.unwrap(), body);
            }
        }
    }

    #[tokio::test]
    async fn an_end_in_the_middle_is_an_error() {
        let listener = listen(Ipv4Addr::LOCALHOST).unwrap();
        let server = listener.local_addr().unwrap();
        let call = tokio::spawn(async move { exchange(server, &body(100)).await });
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(&[0, 0, 0, 2, 1]).await.unwrap();
        // The whole request must be read, or the end would be a reset.
        stream.read_exact(&mut [0; PREFIX + 100]).await.unwrap();
        drop(stream);
        assert_eq!(call.await.unwrap().unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }
}
