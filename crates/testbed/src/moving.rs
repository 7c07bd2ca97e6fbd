//! An address that moves from one Redis to another, and a replica that follows its master.

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::redis::Redis;
use crate::wait::until;

/// Limit far above the time that a replica needs to be in step.
const LIMIT: Duration = Duration::from_secs(60);

/// An address that leads to one server and later to another, as a virtual address does. Open
/// connections stay with their server.
#[derive(Debug)]
pub struct MovingAddress {
    to: Arc<Mutex<SocketAddr>>,
    at: SocketAddr,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl MovingAddress {
    /// Makes an address that leads to this server, which must listen on TCP.
    pub fn to(redis: &Redis) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (at, to) = (listener.local_addr()?, Arc::new(Mutex::new(redis.address()?)));
        let (target, open) = (Arc::clone(&to), Arc::<Mutex<Vec<TcpStream>>>::default());
        let all = Arc::clone(&open);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let to = *target.lock().unwrap_or_else(PoisonError::into_inner);
                let Ok(server) = TcpStream::connect(to) else { continue };
                all.lock().unwrap_or_else(PoisonError::into_inner).extend(client.try_clone());
                let _ = join(client, server);
            }
        });
        Ok(Self { to, at, open })
    }

    /// Leads new connections to this server, which must listen on TCP.
    pub fn move_to(&self, redis: &Redis) -> Result<()> {
        *self.to.lock().unwrap_or_else(PoisonError::into_inner) = redis.address()?;
        Ok(())
    }

    /// Breaks all connections that were made.
    pub fn cut(&self) {
        for client in self.open.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = client.shutdown(Shutdown::Both);
        }
    }

    /// Returns the address that clients connect to.
    pub fn at(&self) -> SocketAddr {
        self.at
    }
}

fn join(client: TcpStream, server: TcpStream) -> std::io::Result<()> {
    pass(client.try_clone()?, server.try_clone()?);
    pass(server, client);
    Ok(())
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
}

impl Redis {
    /// Returns the address on TCP.
    pub fn address(&self) -> Result<SocketAddr> {
        let url =
            self.tcp_url().context("Redis: does not listen on TCP; use Redis::start_with_tcp")?;
        let address = url.strip_prefix("redis://").and_then(|it| it.strip_suffix("/0"));
        Ok(address.with_context(|| format!("{url}: no address"))?.parse()?)
    }

    /// Makes this server a replica, and waits until it has all data of the master.
    pub fn follow(&self, master: &Self) -> Result<()> {
        self.cli(&["REPLICAOF", "127.0.0.1", &master.address()?.port().to_string()])?;
        self.wait_for_step(master)
    }

    /// Waits until this replica has all data of its master.
    pub fn wait_for_step(&self, master: &Self) -> Result<()> {
        until(LIMIT, "replica in step with its master", || {
            self.cli(&["INFO", "replication"]).is_ok_and(|it| it.contains("master_link_status:up"))
                && matches!((self.offset(), master.offset()), (Some(it), Some(all)) if it == all)
        })
    }

    /// Makes this replica a master. Its former master is left alone.
    pub fn promote(&self) -> Result<()> {
        self.cli(&["REPLICAOF", "NO", "ONE"]).map(drop)
    }

    /// Makes this replica follow an address where no master answers.
    pub fn lose_sight(&self) -> Result<()> {
        self.cli(&["REPLICAOF", "127.0.0.1", "1"]).map(drop)
    }

    fn offset(&self) -> Option<u64> {
        let info = self.cli(&["INFO", "replication"]).ok()?;
        info.lines().find_map(|it| it.strip_prefix("master_repl_offset:"))?.trim().parse().ok()
    }
}
