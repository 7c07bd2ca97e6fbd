//! Requests that make calls.

use rpc::CallError;
use rpc::Port;

use crate::world::{LONG, client, server, unix, v4, v6};

const PORTS: [Port; 3] = [Port(1), Port(2), Port(3)];

#[tokio::test]
async fn cancellation_reaches_all_levels() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second, third] =
        [server(PORTS[0], v4()), server(PORTS[1], unix(folder.path())), server(PORTS[2], v6())];
    let servers = [(PORTS[0], &first), (PORTS[1], &second), (PORTS[2], &third)];
    let pending = client(&servers[..1]).send(PORTS[0], "dropped", LONG).await;
    drop(pending);
    let caller = client(&servers);
    let pending = caller.send(PORTS[0], "deep", LONG).await.unwrap();
    let one = next_of(&first, "deep").await;
    let passed_on = tokio::spawn({
        let (client, one) = (client(&servers), one.clone());
        async move { client.call_for(&one, PORTS[1], one.body.clone(), LONG).await }
    });
    let two = second.recv().await.unwrap();
    assert!(two.limit <= one.limit && two.limit > LONG / 2, "{:?} of {:?}", two.limit, one.limit);
    let passed_on_again = tokio::spawn({
        let (client, two) = (client(&servers), two.clone());
        async move { client.call_for(&two, PORTS[2], two.body.clone(), LONG * 2).await }
    });
    let three = third.recv().await.unwrap();
    assert_eq!(three.body, "deep");
    drop(pending);
    for request in [one, two, three] {
        request.cancelled().await;
    }
    for passed_on in [passed_on, passed_on_again] {
        assert!(matches!(passed_on.await.unwrap(), Err(CallError::Cancelled(_))));
    }
}

/// Returns the next request with this body.
async fn next_of(server: &rpc::driver::Server, body: &str) -> rpc::driver::Request {
    loop {
        let request = server.recv().await.unwrap();
        if request.body == body {
            return request;
        }
    }
}

#[tokio::test]
async fn a_request_that_is_over_makes_no_calls() {
    let [first, second] = [server(PORTS[0], v4()), server(PORTS[1], v4())];
    let client = client(&[(PORTS[0], &first), (PORTS[1], &second)]);
    let pending = client.send(PORTS[0], "over", LONG).await.unwrap();
    let request = first.recv().await.unwrap();
    drop(pending);
    request.cancelled().await;
    let error = client.call_for(&request, PORTS[1], "more", LONG).await.unwrap_err();
    assert_eq!(error.execution(), rpc::Execution::Never);
    assert_eq!(second.counters().received, 0);
}
