//! Calls, on each kind of socket.

use std::time::Duration;

use bytes::Bytes;
use rpc::Port;
use rpc::driver::{Local, Server};
use tokio::task::JoinSet;

use crate::world::{LONG, client, echo, server, unix, v4, v6};

const PORT: Port = Port(7);

/// Returns a server of each kind, with the folder that it may need.
fn each_kind() -> Vec<(Server, tempfile::TempDir)> {
    let with_folder = |local: fn(&std::path::Path) -> Local| {
        let folder = tempfile::tempdir().unwrap();
        (server(PORT, local(folder.path())), folder)
    };
    vec![with_folder(|_| v4()), with_folder(|_| v6()), with_folder(unix)]
}

#[tokio::test]
async fn a_call_is_answered() {
    for (server, _folder) in each_kind() {
        echo(&server);
        let client = client(&[(PORT, &server)]);
        for body in ["", "one", "another"] {
            assert_eq!(client.call(PORT, body, LONG).await.unwrap(), body);
        }
        assert_eq!((server.counters().executed, server.usage().requests <= 1), (3, true));
    }
}

#[tokio::test]
async fn a_call_is_sent_in_one_task_and_received_in_another() {
    for (server, _folder) in each_kind() {
        echo(&server);
        let client = client(&[(PORT, &server)]);
        let pending = client.send(PORT, "one", LONG).await.unwrap();
        let received = tokio::spawn(pending).await.unwrap();
        assert_eq!(received.unwrap(), "one");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_at_once_are_answered() {
    for (server, _folder) in each_kind() {
        echo(&server);
        let client = client(&[(PORT, &server)]);
        let mut calls = JoinSet::new();
        for number in 0..2_000_u32 {
            let client = client.clone();
            calls.spawn(async move {
                let body = Bytes::copy_from_slice(&number.to_be_bytes());
                assert_eq!(client.call(PORT, body.clone(), LONG).await.unwrap(), body);
            });
        }
        while let Some(call) = calls.join_next().await {
            call.unwrap();
        }
        assert_eq!(server.counters().executed, 2_000);
    }
}

#[tokio::test]
async fn replies_come_from_other_tasks_out_of_order() {
    for (server, _folder) in each_kind() {
        let client = client(&[(PORT, &server)]);
        let mut calls = Vec::new();
        for body in ["first", "second", "third"] {
            calls.push(client.send(PORT, body, LONG).await.unwrap());
        }
        let mut requests = Vec::new();
        for _ in 0..calls.len() {
            requests.push(server.recv().await.unwrap());
        }
        for request in requests.into_iter().rev() {
            let server = server.clone();
            let (id, body) = request.detach();
            tokio::task::spawn_blocking(move || server.reply(id, body)).await.unwrap().unwrap();
        }
        for (call, body) in calls.into_iter().zip(["first", "second", "third"]) {
            assert_eq!(call.await.unwrap(), body);
        }
    }
}

#[tokio::test]
async fn large_messages_go_both_ways() {
    for (server, _folder) in each_kind() {
        echo(&server);
        let client = client(&[(PORT, &server)]);
        for bytes in [1 << 10, 100_000, 16 << 20, 64 << 20] {
            let body: Bytes =
                (0..bytes).map(|i: u32| (i >> 3) as u8 ^ i as u8).collect::<Vec<_>>().into();
            let began = std::time::Instant::now();
            assert!(client.call(PORT, body.clone(), LONG).await.unwrap() == body, "{bytes}");
            eprintln!(
                "{bytes} bytes there and back: {:?} {:?}",
                began.elapsed(),
                client.counters()
            );
        }
    }
}

#[tokio::test]
async fn a_call_without_an_answer_ends_at_its_limit() {
    for (server, _folder) in each_kind() {
        let client = client(&[(PORT, &server)]);
        let pending = client.send(PORT, "unanswered", Duration::from_secs(1)).await.unwrap();
        let request = server.recv().await.unwrap();
        let error = pending.await.unwrap_err();
        assert!(matches!(error, rpc::CallError::TimedOut(_)), "{error}");
        request.cancelled().await;
    }
}
