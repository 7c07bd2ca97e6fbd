//! Tests of how calls, clients and servers end, of permits, and of lookups.

use rpc::driver::Client;
use rpc::{CallError, Execution, Key, Port, Progress};

use crate::world::{
    LONG, address, client, client_of, echo, server, table, until, until_answered, v4,
};

const PORT: Port = Port(7);

#[tokio::test]
async fn dropping_a_pending_call_cancels_it_at_the_server() {
    let server = server(PORT, v4());
    let client = client(&[(PORT, &server)]);
    let pending = client.send(PORT, "long work", LONG).await.unwrap();
    let request = server.recv().await.unwrap();
    assert!(!request.is_cancelled());
    drop(pending);
    request.cancelled().await;
    assert!(request.reply("too late").is_err());
    assert_eq!(client.usage().calls, 0);
}

#[tokio::test]
async fn dropping_the_last_client_ends_its_calls_and_tells_the_server() {
    let server = server(PORT, v4());
    let client = client(&[(PORT, &server)]);
    let pending = client.clone().send(PORT, "long work", LONG).await.unwrap();
    let request = server.recv().await.unwrap();
    drop(client);
    assert!(matches!(pending.await, Err(CallError::Cancelled(_))));
    request.cancelled().await;
}

#[tokio::test]
async fn a_closed_client_makes_no_calls() {
    let server = server(PORT, v4());
    let client = client(&[(PORT, &server)]);
    client.shutdown();
    let error = client.call(PORT, "late", LONG).await.unwrap_err();
    assert_eq!(error, CallError::Cancelled(Progress::Unsent));
    assert_eq!(error.execution(), Execution::Never);
}

#[tokio::test]
async fn a_server_that_shuts_down_cancels_and_wakes_all_waiters() {
    let server = server(PORT, v4());
    let client = client(&[(PORT, &server)]);
    let _pending = client.send(PORT, "long work", LONG).await.unwrap();
    let request = server.recv().await.unwrap();
    let waiting: Vec<_> = (0..3)
        .map(|_| server.clone())
        .map(|server| tokio::spawn(async move { server.recv().await.is_none() }))
        .collect();
    tokio::task::yield_now().await;
    server.shutdown();
    for waiting in waiting {
        assert!(waiting.await.unwrap());
    }
    request.cancelled().await;
}

#[tokio::test]
async fn a_caller_without_room_waits_or_is_refused() {
    let server = server(PORT, v4());
    let mut config = Client::config(Key::none()).unwrap();
    config.limits.calls = 2;
    let client = Client::bind(config, &[v4()], table(&[(PORT, &server)])).unwrap();
    let held =
        [client.try_send(PORT, "1", LONG).unwrap(), client.try_send(PORT, "2", LONG).unwrap()];
    assert_eq!(client.try_send(PORT, "3", LONG).unwrap_err(), CallError::TooManyCalls { open: 2 });
    let soon = std::time::Duration::from_millis(50);
    let error = client.call(PORT, "3", soon).await.unwrap_err();
    assert_eq!(error, CallError::TimedOut(Progress::Unsent));
    let waits = tokio::spawn({
        let client = client.clone();
        async move { client.call(PORT, "3", LONG).await }
    });
    echo(&server);
    for held in held {
        held.await.unwrap();
    }
    assert_eq!(waits.await.unwrap().unwrap(), "3");
}

#[tokio::test]
async fn a_port_without_a_server_is_named() {
    let error = client(&[]).call(PORT, "anybody?", LONG).await.unwrap_err();
    assert_eq!(error, CallError::NoSuchPort(PORT));
}

#[tokio::test]
async fn a_lookup_that_fails_is_tried_again() {
    let server = server(PORT, v4());
    echo(&server);
    let at = address(&server);
    let tries = std::sync::atomic::AtomicU32::new(0);
    let directory = move |_| {
        let tried = tries.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let answer =
            if tried < 2 { Err("the directory is away".into()) } else { Ok(Some(at.clone())) };
        std::future::ready(answer)
    };
    let client = Client::bind(Client::config(Key::none()).unwrap(), &[v4()], directory).unwrap();
    assert_eq!(client.call(PORT, "found", LONG).await.unwrap(), "found");
}

/// Calls begin and end while the directory fails, so that some lookups give up just as a call needs
/// them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_fails_never_denies_a_server() {
    let lookups = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let asked = lookups.clone();
    let directory = move |_| {
        asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        std::future::ready(Err("the directory is away".into()))
    };
    let client = Client::bind(Client::config(Key::none()).unwrap(), &[v4()], directory).unwrap();
    while lookups.load(std::sync::atomic::Ordering::Relaxed) < 40 {
        let pending = client.try_send(PORT, "anybody?", LONG).unwrap();
        tokio::task::yield_now().await;
        pending.cancel();
        assert_eq!(pending.await.unwrap_err(), CallError::Cancelled(Progress::Unsent));
        // For the time of this turn the client has no call.
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_lookup_that_hangs_delays_no_other_call() {
    let server = server(PORT, v4());
    echo(&server);
    let at = address(&server);
    let directory = move |port| {
        let at = at.clone();
        async move {
            match port {
                PORT => Ok(Some(at)),
                _ => std::future::pending().await,
            }
        }
    };
    let client = Client::bind(Client::config(Key::none()).unwrap(), &[v4()], directory).unwrap();
    let hangs = client.send(Port(8), "hangs", LONG).await.unwrap();
    assert_eq!(client.call(PORT, "answered", LONG).await.unwrap(), "answered");
    client.shutdown();
    assert_eq!(hangs.await, Err(CallError::Cancelled(Progress::Unsent)));
}

#[tokio::test]
async fn a_server_that_moved_is_found_again() {
    let first = server(PORT, v4());
    echo(&first);
    let table = table(&[(PORT, &first)]);
    let client = client_of(table.clone());
    client.call(PORT, "here", LONG).await.unwrap();
    first.shutdown();
    let config = rpc::driver::Server::config(PORT, rpc::Epoch(2), Key::none()).unwrap();
    let second = rpc::driver::Server::bind(config, &[v4()]).unwrap();
    echo(&second);
    table.set(PORT, address(&second));
    until_answered(&client, PORT, "there").await;
    until("the calls to its first generation have ended", || client.usage().calls == 0).await;
}
