//! Services: replying, abandoning and draining.

use std::sync::Arc;
use std::time::Duration;

use rpc::driver::{Client, Request, Server, Table};
use rpc::{Address, CallError, Execution, Key, Port};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::process::{Process, folder};
use crate::world::{LONG, client, echo, server, unix, until, v4};

const PORT: Port = Port(7);
const RECEIVERS: usize = 4;
const ROUNDS: usize = 3_000;

/// Time that counts as "at once": far less than any limit in these tests.
const SOON: Duration = Duration::from_secs(30);

/// The receivers reply only when each has a request. So a round never ends if a receiver sleeps
/// while a request waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_of_several_receivers_is_woken() {
    let server = server(PORT, v4());
    let together = Arc::new(Barrier::new(RECEIVERS));
    let mut receivers = JoinSet::new();
    for _ in 0..RECEIVERS {
        receivers.spawn(receive(server.clone(), together.clone()));
    }
    let client = client(&[(PORT, &server)]);
    for round in 0..ROUNDS {
        let calls: Vec<_> = (0..RECEIVERS)
            .map(|_| tokio::spawn(client.try_send(PORT, "together", LONG).unwrap()))
            .collect();
        for call in calls {
            let reply = tokio::time::timeout(SOON, call).await;
            reply
                .unwrap_or_else(|_| panic!("a receiver sleeps in round {round}"))
                .unwrap()
                .unwrap();
        }
    }
}

async fn receive(server: Server, together: Arc<Barrier>) {
    while let Some(request) = server.recv().await {
        together.wait().await;
        let body = request.body.clone();
        request.reply(body).unwrap();
    }
}

/// Makes a call. Returns the call with its request.
async fn call(server: &Server, client: &Client) -> (rpc::driver::Pending, Request) {
    let pending = client.send(PORT, "do it", LONG).await.unwrap();
    (pending, server.recv().await.unwrap())
}

async fn assert_abandoned(pending: rpc::driver::Pending) {
    let error = tokio::time::timeout(SOON, pending).await.unwrap().unwrap_err();
    assert_eq!((&error, error.execution()), (&CallError::Abandoned, Execution::Unknown));
}

#[tokio::test]
async fn a_request_that_is_dropped_is_abandoned_at_once() {
    let server = server(PORT, v4());
    let client = client(&[(PORT, &server)]);
    let (pending, request) = call(&server, &client).await;
    let another = request.clone();
    drop(request);
    assert!(!another.is_cancelled() && client.usage().calls == 1, "a clone is left");
    drop(another);
    assert_abandoned(pending).await;

    let (pending, request) = call(&server, &client).await;
    let service = tokio::spawn(async move {
        let _request = request;
        panic!("on purpose");
    });
    assert!(service.await.unwrap_err().is_panic());
    assert_abandoned(pending).await;

    let (pending, request) = call(&server, &client).await;
    let (id, _) = request.detach();
    server.abandon(id);
    assert_abandoned(pending).await;
    assert!(server.reply(id, "too late").is_err());
}

#[tokio::test]
async fn a_request_is_replied_to_by_itself_or_by_its_name() {
    let server = server(PORT, v4());
    let client = client(&[(PORT, &server)]);
    let (pending, request) = call(&server, &client).await;
    request.reply("by itself").unwrap();
    assert_eq!(pending.await.unwrap(), "by itself");

    let (pending, request) = call(&server, &client).await;
    let (id, body) = request.detach();
    assert_eq!(body, "do it");
    let elsewhere = server.clone();
    std::thread::spawn(move || elsewhere.reply(id, "by its name").unwrap()).join().unwrap();
    assert_eq!(pending.await.unwrap(), "by its name");
    assert!(server.reply(id, "twice").is_err());
    assert_eq!(client.counters().calls, 2);
}

#[tokio::test]
async fn a_server_that_shuts_down_abandons_what_arrived_and_what_is_executed() {
    let server = server(PORT, v4());
    let client = client(&[(PORT, &server)]);
    let (executed, request) = call(&server, &client).await;
    let arrived = client.send(PORT, "nobody takes it", LONG).await.unwrap();
    until("it has arrived", || server.counters().executed == 2).await;
    server.shutdown();
    request.cancelled().await;
    for pending in [executed, arrived] {
        assert_abandoned(pending).await;
    }
}

#[tokio::test]
async fn a_server_that_drains_replies_to_what_is_open_and_takes_nothing_new() {
    let server = server(PORT, v4());
    let client = client(&[(PORT, &server)]);
    let (executed, request) = call(&server, &client).await;
    let arrived = client.send(PORT, "arrived", LONG).await.unwrap();
    until("it has arrived", || server.counters().executed == 2).await;
    let drained = tokio::spawn({
        let server = server.clone();
        async move { server.drain(LONG).await }
    });
    tokio::task::yield_now().await;
    assert_abandoned(client.send(PORT, "new", LONG).await.unwrap()).await;
    echo(&server);
    assert_eq!(arrived.await.unwrap(), "arrived");
    assert!(!drained.is_finished());
    request.reply("done").unwrap();
    assert_eq!(executed.await.unwrap(), "done");
    assert_eq!(tokio::time::timeout(SOON, drained).await.unwrap().unwrap(), 0);
    assert!(server.recv().await.is_none());
}

#[tokio::test]
async fn draining_ends_at_its_limit() {
    let server = server(PORT, v4());
    let client = client(&[(PORT, &server)]);
    let (pending, request) = call(&server, &client).await;
    assert_eq!(server.drain(Duration::from_millis(50)).await, 1);
    request.cancelled().await;
    assert_abandoned(pending).await;
}

/// The client dies at once and silently, so only the request's own limit can cancel it.
#[tokio::test]
async fn a_request_ends_at_its_limit_though_its_client_says_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(PORT, unix(folder.path()));
    let client = Process::begin("services::one_that_will_be_killed", folder.path());
    let request = server.recv().await.unwrap();
    client.kill();
    tokio::time::timeout(SOON, request.cancelled()).await.unwrap();
    assert!(request.is_cancelled() && request.left().is_zero());
    assert_eq!(server.counters().cancelled, 0, "by the client");
}

#[tokio::test]
#[ignore = "a part of a_request_ends_at_its_limit, in a process of its own"]
async fn one_that_will_be_killed() {
    let Some(folder) = folder() else { return };
    let mut config = Client::config(Key::none()).unwrap();
    // Heartbeats so far apart make the server wait very long for the next one.
    config.limits.heartbeat = LONG;
    let table = Table::from_iter([(PORT, Address::Unix(folder.join("server")))]);
    let client = Client::bind(config, &[], table).unwrap();
    let _pending = client.try_send(PORT, "long work", Duration::from_secs(3)).unwrap();
    std::future::pending::<()>().await;
}
