//! Measures how many small messages per second Redis takes, by the size of a batch. Redis calls
//! fsync before every answer.
//!
//! ```text
//! cargo run --release -p spool --features async --example batches
//! ```

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use spool::{MessageId, Server, Spool, Submission};
use testbed::Redis;

const RECORDS: [u8; 500] = [b'x'; 500];
const ROUND: Duration = Duration::from_secs(2);

fn submission() -> Submission<'static> {
    let id = MessageId::new().unwrap();
    Submission { id, uid: 1000, arrival_ms: 1, host: "mx.example.org", records: &RECORDS }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let redis = Redis::start().unwrap();
    let spool = Spool::looking(Server::parse(&redis.url()).unwrap());
    for batch in [1, 10, 100, 1_000] {
        let (started, mut count) = (Instant::now(), 0);
        while started.elapsed() < ROUND {
            let messages: Vec<_> = (0..batch).map(|_| submission()).collect();
            spool.submit_many(&messages).await.unwrap();
            count += batch;
        }
        println!(
            "{batch} at once: {:.0} messages/s",
            f64::from(count) / started.elapsed().as_secs_f64()
        );
    }
}
