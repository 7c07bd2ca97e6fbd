//! Rights of the two Redis users of OPTIMUS. A submitter can do nothing but submit: the tests try
//! all other commands. An agent has the rights that a message's life needs (`life.rs` runs as that
//! user), on OPTIMUS's keys alone.

#![cfg(feature = "async")]
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use common::*;
use spool::acl::{self, Proof};
use spool::sync::Submitter;
use spool::{Cut, Server, Spool};
use testbed::Redis;

const INBOX: &str = "optimus:{0}:inbox";
const NOTICES: &str = "optimus:{0}:notices";
const SECRET: Proof<'_> = Proof::Password("secret");

/// Commands that Redis allows to every user, without regard to the ACL. The commands concern the
/// caller's own connection.
const FOR_EVERYBODY: [&str; 4] = ["auth", "hello", "quit", "reset"];

/// Starts a Redis with a message in each place, whose users are as in the embedded one.
async fn redis() -> Redis {
    let users = [
        acl::NOBODY.to_owned(),
        acl::submitter("submit", Proof::None, 0),
        acl::agent("optimus", SECRET, 0),
        acl::submitter("mail", SECRET, 0),
        // This user is the test's own.
        "user admin on >secret ~* &* +@all".to_owned(),
    ];
    let redis = Redis::start_with(&users.each_ref().map(String::as_str)).unwrap();
    let (agent, a) = (as_user(&redis, "optimus").at(NOW_MS), node("a"));
    let lot = assigned_lot(&agent, &a, 3).await;
    agent.commit(&token(&a), &[commit_of(&lot, 1)]).await.unwrap();
    agent.refuse(&token(&a), id(2), (lot.lot, lot.epoch), "why").await.unwrap();
    submit(&agent, id(9)).await;
    redis
}

fn as_user(redis: &Redis, user: &str) -> Spool {
    Spool::new(Server::parse(&redis.url()).unwrap().with_credentials(Some(user), Some("secret")))
}

fn admin(redis: &Redis, words: &[&str]) -> String {
    let login = ["--no-auth-warning", "--user", "admin", "--pass", "secret"];
    redis.cli(&[&login[..], words].concat()).unwrap()
}

/// Returns every key as it is stored.
fn data(redis: &Redis) -> String {
    const DATA: &str = "local out = {} \
        for _, key in ipairs(redis.call('KEYS', '*')) do \
            out[#out + 1] = key .. '=' .. redis.sha1hex(redis.call('DUMP', key)) .. \
            redis.call('PTTL', key) end \
        table.sort(out) return table.concat(out, '\\n')";
    let data = admin(redis, &["EVAL", DATA, "0"]);
    let expires = |line: &str| line.contains(":done:") || line.contains(":agent");
    data.lines().filter(|line| !expires(line)).collect::<Vec<_>>().join("\n")
}

/// Returns all data and settings that a command could have changed.
fn everything(redis: &Redis) -> String {
    let looks: [&[&str]; 4] =
        [&["CONFIG", "GET", "*"], &["ACL", "LIST"], &["FUNCTION", "LIST"], &["ROLE"]];
    let rest: Vec<String> = looks.iter().map(|words| admin(redis, words)).collect();
    format!("{}\n{}", data(redis), rest.join("\n"))
}

/// A connection that sends any words.
struct Raw(UnixStream);

impl Raw {
    fn to(redis: &Redis, user: &str) -> Self {
        let stream = UnixStream::connect(redis.socket()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut raw = Self(stream);
        // The default user has no password, so Redis takes any.
        assert!(user == "default" || raw.say(&["AUTH", user, "secret"]) == "+OK");
        raw
    }

    fn send(&mut self, words: &[&str]) {
        let mut out = format!("*{}\r\n", words.len());
        words.iter().for_each(|word| out += &format!("${}\r\n{word}\r\n", word.len()));
        self.0.write_all(out.as_bytes()).unwrap();
    }

    /// Returns the first line of the answer.
    fn say(&mut self, words: &[&str]) -> String {
        self.send(words);
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\r\n") && self.0.read(&mut byte).unwrap() > 0 {
            line.push(byte[0]);
        }
        String::from_utf8_lossy(&line).trim_end().to_owned()
    }
}

/// Returns whether the answer is a refusal for missing rights, or for a reason that Redis checks
/// before the rights.
fn is_refused(answer: &str) -> bool {
    let words = [
        "NOPERM",
        "NOAUTH",
        "WRONGPASS",
        "ERR unknown subcommand",
        "ERR DEBUG command not allowed",
        "ERR MODULE command not allowed",
    ];
    answer.starts_with('-') && words.iter().any(|word| answer.contains(word))
}

/// Returns every command of this Redis, subcommands too, with its least number of words.
fn all_commands(redis: &Redis) -> Vec<(String, usize)> {
    let categories = admin(redis, &["ACL", "CAT"]);
    let of = |category: &str| admin(redis, &["ACL", "CAT", category]);
    let names: BTreeSet<String> = categories
        .lines()
        .flat_map(|it| of(it).lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let arity = |name: &str| {
        let info = admin(redis, &["COMMAND", "INFO", name]);
        let number: i64 = info.lines().nth(1).and_then(|line| line.parse().ok()).unwrap_or(-2);
        (name.to_owned(), number.unsigned_abs() as usize)
    };
    names.iter().map(|name| arity(name)).collect()
}

#[tokio::test]
async fn a_submitter_may_use_no_command_but_two_and_not_on_other_keys() {
    let redis = redis().await;
    let commands = all_commands(&redis);
    assert!(commands.len() > 300, "{}", commands.len());
    let before = everything(&redis);
    for user in ["submit", "mail", "default"] {
        let mut tried = 0;
        for (name, arity) in &commands {
            if FOR_EVERYBODY.contains(&name.as_str()) || name == "rpush" || name == "publish" {
                continue;
            }
            // Without a subcommand, Redis refuses a command that needs one.
            for filler in [INBOX, "optimus:{0}:lots:next", "1"] {
                let mut words: Vec<&str> = name.split('|').collect();
                while words.len() < *arity {
                    words.push(filler);
                }
                let answer = Raw::to(&redis, user).say(&words);
                assert!(is_refused(&answer), "{user}: {words:?}: {answer}");
                tried += 1;
            }
        }
        println!("{user}: {tried} attempts, each refused");
    }
    assert_eq!(everything(&redis), before);
}

#[tokio::test]
async fn a_submitter_can_do_no_harm_with_plausible_commands_either() {
    let redis = redis().await;
    let message = format!("optimus:{{0}}:m:{}", id(3));
    let entry = format!("return redis.call('RPUSH', '{INBOX}', 'x')");
    let attempts: Vec<Vec<&str>> = vec![
        vec!["RPUSH", &message, "x"],
        vec!["RPUSH", "optimus:{0}:malformed", "x"],
        vec!["RPUSH", "optimus:{0}:inbox2", "x"],
        vec!["RPUSH", "optimus:{dir}:leases", "x"],
        vec!["RPUSH", "other", "x"],
        vec!["LPUSH", INBOX, "x"],
        vec!["RPUSHX", INBOX, "x"],
        vec!["LRANGE", INBOX, "0", "-1"],
        vec!["LLEN", INBOX],
        vec!["LPOP", INBOX],
        vec!["LTRIM", INBOX, "1", "0"],
        vec!["DEL", INBOX],
        vec!["RENAME", INBOX, "elsewhere"],
        vec!["EXPIRE", INBOX, "1"],
        vec!["COPY", INBOX, "elsewhere"],
        vec!["LMOVE", INBOX, INBOX, "LEFT", "RIGHT"],
        vec!["SORT", INBOX, "ALPHA", "STORE", INBOX],
        vec!["GET", &message],
        vec!["SET", &message, "x"],
        vec!["SET", "optimus:{0}:lots:next", "1000000"],
        vec!["KEYS", "*"],
        vec!["SCAN", "0"],
        vec!["EXISTS", &message],
        vec!["EVAL", &entry, "0"],
        vec!["EVAL", &entry, "1", INBOX],
        vec!["EVALSHA", "0123456789012345678901234567890123456789", "0"],
        vec!["SCRIPT", "LOAD", &entry],
        vec!["FCALL", "optimus_cut", "1", "optimus:{0}:", "", "2", "1", ""],
        vec!["FCALL_RO", "optimus_overview", "1", "optimus:{0}:", "", "1"],
        vec!["FUNCTION", "FLUSH"],
        vec![
            "FUNCTION",
            "LOAD",
            "REPLACE",
            "#!lua name=optimus\nredis.register_function('x', print)",
        ],
        vec!["MULTI"],
        vec!["EXEC"],
        vec!["WATCH", INBOX],
        vec!["SUBSCRIBE", NOTICES],
        vec!["PSUBSCRIBE", "*"],
        vec!["SSUBSCRIBE", NOTICES],
        vec!["SPUBLISH", NOTICES, "inbox"],
        vec!["PUBLISH", "other", "x"],
        vec!["PUBLISH", "optimus:{0}:news2", "x"],
        vec!["MONITOR"],
        vec!["CONFIG", "SET", "appendonly", "no"],
        vec!["CONFIG", "GET", "*"],
        vec!["ACL", "SETUSER", "default", "+@all"],
        vec!["ACL", "WHOAMI"],
        vec!["DEBUG", "SLEEP", "1"],
        vec!["SHUTDOWN", "NOSAVE"],
        vec!["FLUSHALL"],
        vec!["SELECT", "1"],
        vec!["SWAPDB", "0", "1"],
        vec!["REPLICAOF", "127.0.0.1", "1"],
        vec!["CLIENT", "KILL", "TYPE", "normal"],
        vec!["CLIENT", "PAUSE", "100000"],
        vec!["MODULE", "LOAD", "/x"],
        vec!["MIGRATE", "127.0.0.1", "1", INBOX, "0", "1"],
        vec!["RESTORE", "new", "0", "x"],
        vec!["BGREWRITEAOF"],
        vec!["INFO"],
        vec!["PING"],
        vec!["AUTH", "optimus", "wrong"],
        vec!["AUTH", "admin", ""],
        vec!["HELLO", "3", "AUTH", "admin", "wrong"],
    ];
    let before = everything(&redis);
    for user in ["submit", "mail", "default"] {
        for words in &attempts {
            let answer = Raw::to(&redis, user).say(words);
            assert!(is_refused(&answer), "{user}: {words:?}: {answer}");
        }
        // Commands that every user has change nothing either, and add no rights.
        for words in [
            &["HELLO", "3"][..],
            &["RESET"],
            &["AUTH", "default", "x"],
            &["HELLO", "2", "SETNAME", "x"],
        ] {
            let mut raw = Raw::to(&redis, user);
            raw.send(words);
            let mut raw = Raw::to(&redis, user);
            assert!(raw.say(&["FLUSHALL"]).starts_with("-NO"));
        }
        let mut raw = Raw::to(&redis, user);
        assert_eq!(raw.say(&["RESET"]), "+RESET");
        assert!(raw.say(&["GET", &message]).starts_with("-NOAUTH"));
    }
    assert_eq!(everything(&redis), before);
}

#[tokio::test]
async fn a_submitter_submits() {
    let redis = redis().await;
    let agent = as_user(&redis, "optimus").at(NOW_MS);
    let mut feed = agent.publications();
    feed.next().await;
    let lot = next_lot(&agent).await;
    for (n, user, password) in [(11, "submit", ""), (12, "mail", "secret")] {
        let server =
            Server::parse(&redis.url()).unwrap().with_credentials(Some(user), Some(password));
        let deadline = Instant::now() + Duration::from_secs(20);
        assert_eq!(Submitter::new(server.clone()).submit(&submission(id(n)), deadline), Ok(()));
        assert_eq!(feed.next().await, spool::Publication::Inbox);
        // The daemons' client submits as this user, too.
        Spool::looking(server)
            .submit_many(&[submission(id(n)), submission(id(n + 10))])
            .await
            .unwrap();
        assert_eq!(feed.next().await, spool::Publication::Inbox);
    }
    assert_eq!(agent.cut(lot, 99, None).await.unwrap(), Cut::Cut { messages: 5, left: 0 });
}

#[tokio::test]
async fn an_agent_may_touch_neither_foreign_keys_nor_the_server() {
    let redis = redis().await;
    let before = everything(&redis);
    let attempts: [&[&str]; 14] = [
        &["SET", "other", "x"],
        &["GET", "other"],
        &["RPUSH", "optimus:inbox", "x"],
        &["KEYS", "*"],
        &["SCAN", "0"],
        &["FLUSHALL"],
        &["CONFIG", "SET", "appendonly", "no"],
        &["ACL", "LIST"],
        &["FUNCTION", "FLUSH"],
        &["SHUTDOWN"],
        &["EVAL", "return 1", "0"],
        &["SUBSCRIBE", "other"],
        &["PUBLISH", "other", "x"],
        &["MONITOR"],
    ];
    for words in attempts {
        let answer = Raw::to(&redis, "optimus").say(words);
        assert!(answer.starts_with("-NOPERM"), "{words:?}: {answer}");
    }
    assert_eq!(everything(&redis), before);
}

/// With fewer rights for the default user, mail would be lost: see `acl::NOBODY`.
#[tokio::test]
async fn redis_has_all_data_after_a_restart() {
    let mut redis = redis().await;
    let before = data(&redis);
    redis.restart().unwrap();
    assert_eq!(data(&redis), before);
}
