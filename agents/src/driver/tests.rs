//! Tests of the driver over real Redis servers, with a machine that asks when a test says so.

use std::cell::RefCell;
use std::path::PathBuf;
use std::time::Duration;

use spool::{Server, Spool};
use testbed::{MovingAddress, Redis};
use tokio::sync::mpsc;
use tokio::task::LocalSet;
use tokio::time::timeout;

use super::*;

/// Limit far above the time that any step takes.
const LIMIT: Duration = Duration::from_secs(60);

/// Short form of an input to the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Answer,
    Failed,
    OtherServer,
}

/// A machine that puts one question for each `Listening`, and puts a failed one again.
#[derive(Debug)]
struct Curious {
    questions: u64,
    asked: u64,
    told: mpsc::UnboundedSender<Told>,
    end: bool,
}

impl Machine for Curious {
    type Question = ();
    type Answer = ();
    type Event = Infallible;
    type Order = Infallible;

    fn handle(&mut self, _now: Instant, input: Input<()>) {
        let told = match input {
            Input::Answer(..) => Told::Answer,
            Input::Failed(_) => {
                self.questions += 1;
                Told::Failed
            }
            Input::OtherServer => Told::OtherServer,
            Input::Listening => return self.questions += 1,
            Input::Drain => return self.end = true,
            Input::Notice(_) | Input::Called(..) | Input::CallEnded(..) => return,
            Input::Link(event) => match event {},
        };
        let _ = self.told.send(told);
    }

    fn poll(&mut self, _now: Instant) -> Option<Action<(), Infallible>> {
        if self.end {
            return Some(Action::End(End::Drained));
        }
        (self.asked < self.questions).then(|| {
            self.asked += 1;
            Action::Ask(Ticket(self.asked), ())
        })
    }

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
}

impl Agent for Curious {
    fn ask(executor: Rc<SpoolExecutor>, (): ()) -> LocalBoxFuture<'static, Result<(), SpoolError>> {
        async move { executor.spool.ping().await }.boxed_local()
    }
}

/// A bus on which a test has the machine ask.
struct Bell(RefCell<mpsc::UnboundedReceiver<()>>);

impl NoticeBus for Bell {
    async fn next(&mut self) -> Heard {
        match self.0.get_mut().recv().await {
            Some(()) => Heard::Listening,
            None => pending().await,
        }
    }

    fn tell(&mut self, _notice: &notices::Notice) {}

    async fn finish(&mut self) {}
}

/// A running driver.
struct Running {
    bell: mpsc::UnboundedSender<()>,
    told: mpsc::UnboundedReceiver<Told>,
    _drain: watch::Sender<bool>,
}

impl Running {
    fn start(server: &str) -> Self {
        let (told_by, told) = mpsc::unbounded_channel();
        let (bell, rings) = mpsc::unbounded_channel();
        let (drain, is_drained) = watch::channel(false);
        let executor = SpoolExecutor {
            spool: Spool::new(Server::parse(server).unwrap()),
            term: Duration::from_secs(1),
            node_loss_grace: Duration::from_secs(1),
            window_shared: 1,
            lot_size: 1,
            address: None,
            config_directory: PathBuf::new(),
        };
        let machine = Curious { questions: 0, asked: 0, told: told_by, end: false };
        let bus = Bell(RefCell::new(rings));
        let driver = Driver::new(machine, NoWire, bus, Endpoint::closed(), Rc::new(executor));
        tokio::task::spawn_local(driver.run(is_drained));
        Self { bell, told, _drain: drain }
    }

    /// Has the machine ask. Returns its inputs up to the answer, without failures.
    async fn ask(&mut self) -> Vec<Told> {
        self.bell.send(()).unwrap();
        let mut all = Vec::new();
        loop {
            let told = timeout(LIMIT, self.told.recv()).await.unwrap().unwrap();
            if told != Told::Failed {
                all.push(told);
            }
            if told == Told::Answer {
                return all;
            }
        }
    }
}

fn server() -> Redis {
    Redis::start_with_tcp(&["repl-diskless-sync-delay 0"]).unwrap()
}

#[tokio::test]
async fn a_machine_hears_of_another_server_before_any_answer_that_comes_from_it() {
    let (mut old, new) = (server(), server());
    let name = MovingAddress::to(&old).unwrap();
    let test = async {
        let mut running = Running::start(&format!("redis://{}", name.at()));
        assert_eq!(running.ask().await, [Told::Answer], "the first server is no other one");
        new.follow(&old).unwrap();
        new.promote().unwrap();
        name.move_to(&new).unwrap();
        old.kill9();
        assert_eq!(running.ask().await, [Told::OtherServer, Told::Answer]);
        assert_eq!(running.ask().await, [Told::Answer], "told once");
    };
    LocalSet::new().run_until(test).await;
}

/// A server that was started again may have been restored from a copy meanwhile.
#[tokio::test]
async fn a_server_that_was_started_again_is_another_one_and_a_new_connection_to_one_is_not() {
    let mut redis = server();
    let url = redis.tcp_url().unwrap();
    let test = async {
        let mut running = Running::start(&url);
        assert_eq!(running.ask().await, [Told::Answer]);
        redis.cli(&["CLIENT", "KILL", "TYPE", "normal"]).unwrap();
        assert_eq!(running.ask().await, [Told::Answer], "the same server and its data");
        redis.restart().unwrap();
        assert_eq!(running.ask().await, [Told::OtherServer, Told::Answer]);
    };
    LocalSet::new().run_until(test).await;
}

/// A master that was demoted and promoted again has taken its data from another one meanwhile.
#[tokio::test]
async fn a_server_that_has_followed_another_one_meanwhile_is_another_one() {
    let (redis, other) = (server(), server());
    let url = redis.tcp_url().unwrap();
    let test = async {
        let mut running = Running::start(&url);
        assert_eq!(running.ask().await, [Told::Answer]);
        other.follow(&redis).unwrap();
        other.promote().unwrap();
        redis.follow(&other).unwrap();
        redis.promote().unwrap();
        redis.cli(&["CLIENT", "KILL", "TYPE", "normal"]).unwrap();
        assert_eq!(running.ask().await, [Told::OtherServer, Told::Answer]);
    };
    LocalSet::new().run_until(test).await;
}
