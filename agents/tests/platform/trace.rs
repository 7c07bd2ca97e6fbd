//! Tests of `optimus trace`, which shows where a message is or was.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use postfix_wire::CleanupStatus;
use postfix_wire::attr;
use postfix_wire::cleanup::PROTOCOL;
use serde_json::Value;
use testbed::{until, until_some};

use super::common::{LONG, Plan, Platform};

/// Returns whether `optimus trace` succeeds, and its object about a message.
fn trace(platform: &Platform, id: &str) -> (bool, Value) {
    let output = platform.command("optimus").args(["trace", "--json", id]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let object =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text:?} {said}"));
    (output.status.success(), object)
}

fn lines(traced: &Value) -> Vec<String> {
    let logs =
        traced["logs"].as_array().unwrap().iter().flat_map(|log| log["lines"].as_array().unwrap());
    logs.map(|line| line.as_str().unwrap().to_owned()).collect()
}

/// Returns the ids of the mail that waits in Redis.
fn waiting(platform: &Platform) -> Vec<String> {
    let (_, text) = platform.optimus(&["queue", "--json"]);
    let entries = text.lines().filter(|line| line.starts_with('{'));
    let entries = entries.map(|line| serde_json::from_str::<Value>(line).unwrap());
    entries.map(|entry| entry["queue_id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_name_that_is_no_id_has_the_exit_status_of_a_wrong_command_line() {
    let platform = Plan { redis: true, ..Plan::default() }.start();
    for word in ["trace", "delete"] {
        let output = platform.command("optimus").args([word, "nonsense"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{word}: {said}");
        assert!(said.contains("nonsense") && said.contains("not the id of a message"), "{said}");
    }
}

#[test]
fn a_message_is_followed_from_the_inbox_until_postfix_has_removed_it() {
    let mut platform = Plan { redis: true, ..Plan::default() }.start();
    platform.start("info-agent");
    platform.start("scheduler-agent");
    platform.submit(2);
    until(LONG, "both to wait", || waiting(&platform).len() == 2).unwrap();
    let ids = waiting(&platform);
    let (is_known, before) = trace(&platform, &ids[0]);
    assert!(
        is_known && ["inbox", "ready"].contains(&before["state"].as_str().unwrap()),
        "{before}"
    );
    assert_eq!(lines(&before), Vec::<String>::new());
    assert!(platform.optimus(&["hold", &ids[1]]).0);
    let held = trace(&platform, &ids[1]).1;
    assert!(
        held["state"] == "held"
            || (&held["state"], &held["order"]) == (&"inbox".into(), &"hold".into())
    );

    platform.start("mail-agent");
    until(LONG, "its end", || trace(&platform, &ids[0]).1["state"] == "settled").unwrap();
    let (_, after) = trace(&platform, &ids[0]);
    let told = lines(&after);
    for word in ["pickup[", "cleanup[", "qmgr[", "status=sent", "removed"] {
        assert!(told.iter().any(|line| line.contains(word)), "{word}: {told:#?}");
    }
    assert!(told.iter().all(|line| !line.contains(&ids[1])), "{told:#?}");

    // The name of the queue file finds the same lines.
    let pickup = told.iter().find(|line| line.contains("pickup[")).unwrap();
    let queue_id = pickup.split("]: ").nth(1).unwrap().split(':').next().unwrap();
    let (_, by_file) = trace(&platform, queue_id);
    assert_eq!((&by_file["id"], lines(&by_file)), (&Value::from(ids[0].as_str()), told));

    assert!(platform.optimus(&["delete", &ids[1]]).0);
    assert_eq!(trace(&platform, &ids[1]).1["state"], "deleted");
}

#[test]
fn an_id_that_nobody_knows_is_unknown_and_an_unreachable_redis_is_an_error() {
    let mut platform = Plan { redis: true, ..Plan::default() }.start();
    platform.start("info-agent");
    platform.until_status("an agent", |status| {
        status["agents"].as_array().is_some_and(|it| it.len() == 1)
    });
    let (is_known, traced) = trace(&platform, "01ARZ3NDEKTSV4RRFFQ69G5FAV");
    assert!(!is_known && traced["state"] == "unknown", "{traced}");
    let output = platform.command("optimus").args(["trace", "no such"]).output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stderr).matches("not the id of a message").count(),
        1
    );
    drop(platform.redis.take());
    let (is_known, traced) = trace(&platform, "01ARZ3NDEKTSV4RRFFQ69G5FAV");
    assert!(!is_known && traced["state"] == "unreachable", "{traced}");
}

/// Takes cleanup's place, and refuses each message for now after having all of it. The stock one is
/// back when the guard is dropped.
struct Refusing {
    socket: PathBuf,
    stock: PathBuf,
}

impl Refusing {
    fn start(platform: &Platform) -> Self {
        let socket = platform.postfix.queue_dir().join("public/cleanup");
        let stock = socket.with_extension("stock");
        std::fs::rename(&socket, &stock).unwrap();
        let listener = UnixListener::bind(&socket).unwrap();
        std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o666)).unwrap();
        std::thread::spawn(move || {
            for (n, stream) in listener.incoming().enumerate() {
                refuse(stream.unwrap(), n);
            }
        });
        Self { socket, stock }
    }
}

impl Drop for Refusing {
    fn drop(&mut self) {
        std::fs::rename(&self.stock, &self.socket).unwrap();
    }
}

fn refuse(mut stream: UnixStream, n: usize) {
    let (queue_id, mut bytes) = (format!("4C1B2{n:04X}"), Vec::new());
    attr::encode(&mut bytes, &[("protocol", PROTOCOL), ("queue_id", &queue_id)]);
    stream.write_all(&bytes).unwrap();
    let mut message = Vec::new();
    while !message.ends_with(b"E\0") {
        let mut some = [0; 4096];
        let count = stream.read(&mut some).unwrap();
        if count == 0 {
            return;
        }
        message.extend_from_slice(&some[..count]);
    }
    bytes.clear();
    let status = CleanupStatus::DEFER.bits().to_string();
    attr::encode(&mut bytes, &[("status", &status), ("reason", "")]);
    stream.write_all(&bytes).unwrap();
}

/// Words of the lines about a message that is refused for now. The function that logs the first of
/// them doesn't know the message's id.
const OF_REFUSAL: [&str; 2] = ["error writing", "refused for now"];

fn lines_of_refusal(log: &str) -> Vec<&str> {
    log.lines().filter(|line| OF_REFUSAL.iter().any(|word| line.contains(word))).collect()
}

#[test]
fn every_line_about_a_message_that_is_fed_again_and_again_has_its_id_once() {
    let settings = "[agents]\nlease_ms = 10000\n";
    let mut platform = Plan { redis: true, settings, ..Plan::default() }.start();
    platform.submit(1);
    ["info-agent", "scheduler-agent"].iter().for_each(|agent| platform.start(agent));
    let [id] = until_some(LONG, "a message", || waiting(&platform).try_into().ok()).unwrap();
    let refusing = Refusing::start(&platform);
    platform.start("mail-agent");
    let log_has = |platform: &Platform, what: &str, count: usize| {
        until(LONG, what, || platform.postfix.log().matches(what).count() >= count).unwrap();
    };
    log_has(&platform, "refused for now: cleanup", 2);
    // The next message that is fed finds no Redis.
    platform.redis.as_mut().unwrap().kill9();
    log_has(&platform, "refused for now: Redis", 1);
    platform.redis.as_mut().unwrap().restart().unwrap();
    drop(refusing);
    until(LONG, "its end", || trace(&platform, &id).1["state"] == "settled").unwrap();

    let (of_postfix, of_agent) = (platform.postfix.log(), platform.log("mail-agent"));
    let both = of_postfix + &of_agent;
    for word in OF_REFUSAL {
        assert!(both.matches(word).count() >= 2, "{word}: {both}");
    }
    let about = both.lines().filter(|line| line.contains("]: 4C1B2") || line.contains("uid="));
    for line in lines_of_refusal(&both).into_iter().chain(about) {
        assert_eq!(line.matches(&id).count(), 1, "{line}");
    }

    let logs = [platform.postfix.log_file(), platform.log_of("mail-agent")];
    let [mail_log, agent_log] = logs.map(|log| log.to_str().unwrap().to_owned());
    let words = ["trace", "--json", "--log", &mail_log, "--log", &agent_log, &id];
    let told = lines(&serde_json::from_str(&platform.optimus(&words).1).unwrap());
    for line in lines_of_refusal(&both) {
        assert!(told.iter().any(|it| it == line), "{line}: {told:#?}");
    }
    let hops =
        ["uid=", "error writing", "now: cleanup", "now: Redis", "sent", "removed", "for now "];
    let hop = |word: &&str| told.iter().position(|line| line.contains(word)).unwrap();
    assert!(hops.iter().map(hop).is_sorted(), "{told:#?}");
}
