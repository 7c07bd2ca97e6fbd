//! Messages.

use rpc::Port;
use rpc::typed::{Client, Server, TypedError};
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
            let answer = match request.message {
                Question::Add { a, b } => Answer::Sum(u64::from(a) + u64::from(b)),
                Question::Name => Answer::Name("adder".into()),
            };
            server.reply(request.raw.id, answer).unwrap();
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
    assert_eq!(client.receive(pending).await.unwrap(), Answer::Name("adder".into()));
}

#[tokio::test]
async fn what_cant_be_read_is_answered_and_counted() {
    let raw = server(PORT, v4());
    let server = Server::new(raw.clone());
    serve(&server);
    let raw_client = client(&[(PORT, &raw)]);
    let client = Client::<(u8, u64, u64), Answer>::new(raw_client.clone());
    let error = client.call(PORT, &(200, 0, 0), LONG).await.unwrap_err();
    assert!(matches!(error, TypedError::NotUnderstood(_)), "{error}");
    assert_eq!(error.execution(), Some(rpc::Execution::Never));
    // Bytes behind a message.
    let error = client.call(PORT, &(1, 0, 0), LONG).await.unwrap_err();
    assert!(matches!(error, TypedError::NotUnderstood(_)), "{error}");
    assert_eq!(server.not_understood(), 2);
    let client = Client::<Question, (String, String)>::new(raw_client);
    let error = client.call(PORT, &Question::Name, LONG).await.unwrap_err();
    assert!(matches!(error, TypedError::Reply(_)) && error.execution().is_none(), "{error}");
}
