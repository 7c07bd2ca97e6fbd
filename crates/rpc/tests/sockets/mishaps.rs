//! Mishaps around the driver: the runtime ends, the directory panics, a caller has no runtime.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake};
use std::thread::{self, Thread};
use std::time::Duration;

use rpc::driver::{Client, LookupError, Table};
use rpc::{Address, CallError, Key, Port, Progress};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use crate::world::{LONG, address, client, echo, server, unix, v4};

const PORT: Port = Port(7);

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn a_waiter_ends_with_the_runtime() {
    let (other, folder) = (runtime(), tempfile::tempdir().unwrap());
    for place in [v4(), unix(folder.path())] {
        let own = runtime();
        let (server, client, call) = own.block_on(async {
            let server = server(PORT, place);
            let client = client(&[(PORT, &server)]);
            let call = client.send(PORT, "hello", LONG).await.unwrap();
            let _kept_by_nobody = server.recv().await.unwrap().detach();
            (server, client, call)
        });
        let receiver = server.clone();
        let waits = other.spawn(async move { receiver.recv().await.is_none() });
        own.shutdown_background();
        other.block_on(async {
            let ended = timeout(LONG, call).await.unwrap();
            assert!(matches!(ended, Err(CallError::Cancelled(_))), "{ended:?}");
            assert!(timeout(LONG, waits).await.unwrap().unwrap());
            let late = timeout(LONG, client.call(PORT, "hello", LONG)).await.unwrap();
            assert_eq!(late, Err(CallError::Cancelled(Progress::Unsent)));
        });
    }
}

#[tokio::test]
async fn a_directory_that_panics_is_asked_again() {
    let server = server(PORT, v4());
    echo(&server);
    let (to, asked) = (address(&server), AtomicU64::new(0));
    let directory = move |_port: Port| {
        let (to, before) = (to.clone(), asked.fetch_add(1, Ordering::Relaxed));
        assert!(before != 0, "on purpose, without a future");
        async move {
            assert!(before != 1, "on purpose, in the future");
            Ok::<_, LookupError>(Some::<Address>(to))
        }
    };
    let config = Client::config(Key::none()).unwrap();
    let client = Client::bind(config, &[v4()], directory).unwrap();
    let reply = client.call(PORT, "hello", LONG).await.unwrap();
    assert_eq!(reply, "hello");
}

#[test]
fn a_caller_outside_of_the_runtime_waits_for_room() {
    let own = runtime();
    let (_server, client) = own.block_on(async {
        let server = server(PORT, v4());
        let mut config = Client::config(Key::none()).unwrap();
        config.limits.calls = 1;
        let table = Table::from_iter([(PORT, address(&server))]);
        (server, Client::bind(config, &[v4()], table).unwrap())
    });
    let first = client.try_send(PORT, "takes the room", LONG).unwrap();
    let wait = |limit| {
        thread::scope(|scope| scope.spawn(|| poll_alone(client.send(PORT, "", limit))).join())
    };
    let second = wait(Duration::from_millis(20)).unwrap();
    assert!(matches!(second, Err(CallError::TimedOut(Progress::Unsent))), "{second:?}");
    drop(first);
    assert!(wait(LONG).unwrap().is_ok());
}

/// Polls on a thread that belongs to no runtime.
fn poll_alone<T>(future: impl Future<Output = T>) -> T {
    let waker = Arc::new(Unpark(thread::current())).into();
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(ended) => return ended,
            Poll::Pending => thread::park(),
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
