//! Typed messages.

use rpc::typed::{Client, Server, TypedError};
use rpc::{CallError, Execution, Port};
use serde::{Deserialize, Serialize};

use crate::world::{LONG, client, server, v4};

const PORT: Port = Port(7);

#[derive(Debug, Serialize, Deserialize)]
enum Question {
    Add { a: u32, b: u32 },
    Name,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Answer {
    Sum(u64),
    Name(String),
}

fn serve(server: &Server<Question, Answer>) {
    let server = server.clone();
    tokio::spawn(async move {
        while let Some(request) = server.recv().await {
            let (question, reply) = request.into_parts();
            let answer = match question {
                Question::Add { a, b } => Answer::Sum(u64::from(a) + u64::from(b)),
                Question::Name => Answer::Name("adder".into()),
            };
            reply.send(answer).unwrap();
        }
    });
}

#[tokio::test]
async fn messages_are_answered() {
    let server = server(PORT, v4());
    serve(&Server::new(server.clone()));
    let client = Client::<Question, Answer>::new(client(&[(PORT, &server)]));
    let sum = client.call(PORT, &Question::Add { a: u32::MAX, b: 1 }, LONG).await.unwrap();
    assert_eq!(sum, Answer::Sum(1 << 32));
    let pending = client.send(PORT, &Question::Name, LONG).await.unwrap();
    assert_eq!(pending.await.unwrap(), Answer::Name("adder".into()));
    let pending = client.try_send(PORT, &Question::Add { a: 1, b: 2 }, LONG).unwrap();
    assert_eq!(tokio::spawn(pending).await.unwrap().unwrap(), Answer::Sum(3));
}

#[tokio::test]
async fn an_unreadable_request_is_answered_and_counted() {
    let raw = server(PORT, v4());
    let server = Server::new(raw.clone());
    serve(&server);
    let raw_client = client(&[(PORT, &raw)]);
    let client = Client::<(u8, u64, u64), Answer>::new(raw_client.clone());
    let error = client.call(PORT, &(200, 0, 0), LONG).await.unwrap_err();
    assert!(matches!(error, TypedError::NotUnderstood(_)), "{error}");
    assert_eq!(error.execution(), Execution::Never);
    // The request has surplus bytes behind the message.
    let error = client.call(PORT, &(1, 0, 0), LONG).await.unwrap_err();
    assert!(matches!(error, TypedError::NotUnderstood(_)), "{error}");
    assert_eq!(server.not_understood(), 2);
    let client = Client::<Question, (String, String)>::new(raw_client);
    let error = client.call(PORT, &Question::Name, LONG).await.unwrap_err();
    assert!(matches!(error, TypedError::Reply(_)), "{error}");
    assert_eq!(error.execution(), Execution::Once);
}

/// Some of these replies have the form of a typed server's refusal: a one, and a string.
#[tokio::test]
async fn another_servers_reply_is_no_refusal() {
    let server = server(PORT, v4());
    let client = Client::<Question, Answer>::new(client(&[(PORT, &server)]));
    for reply in [&[1, 0][..], &[1, 2, b'n', b'o'], &[0, 0, 1], &[]] {
        let pending = client.send(PORT, &Question::Name, LONG).await.unwrap();
        server.recv().await.unwrap().reply(reply).unwrap();
        let error = pending.await.unwrap_err();
        assert!(matches!(error, TypedError::Reply(_)), "{reply:?}: {error}");
        assert_eq!(error.execution(), Execution::Once);
    }
}

/// The service asks another server for the answer, in a task of its own.
#[tokio::test]
async fn a_call_for_a_request_is_cancelled_with_it() {
    let (first, second) = (server(PORT, v4()), server(Port(8), v4()));
    let outer = Server::<Question, Answer>::new(first.clone());
    let inner = Server::<Question, Answer>::new(second.clone());
    let caller = Client::<Question, Answer>::new(client(&[(PORT, &first)]));
    let between = Client::<Question, Answer>::new(client(&[(Port(8), &second)]));

    let pending = caller.send(PORT, &Question::Name, LONG).await.unwrap();
    let one = outer.recv().await.unwrap();
    let passed_on = between.send_for(&one, Port(8), &one.message, LONG).await.unwrap();
    inner.recv().await.unwrap().reply(Answer::Name("inner".into())).unwrap();
    one.reply(passed_on.await.unwrap()).unwrap();
    assert_eq!(pending.await.unwrap(), Answer::Name("inner".into()));

    let pending = caller.send(PORT, &Question::Name, LONG).await.unwrap();
    let (question, reply) = outer.recv().await.unwrap().into_parts();
    let passed_on = between.send_for(&reply, Port(8), &question, LONG).await.unwrap();
    let passed_on = tokio::spawn(passed_on);
    let two = inner.recv().await.unwrap();
    drop(pending);
    two.as_ref().cancelled().await;
    let error = passed_on.await.unwrap().unwrap_err();
    assert!(matches!(error, TypedError::Call(CallError::Cancelled(_))), "{error}");
}
