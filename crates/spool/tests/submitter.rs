//! The client of the set-group-id programs against a real redis-server: the stored messages, and
//! the certainty of the outcomes.

#![allow(clippy::unwrap_used)]

mod proxy;

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};
use nix::unistd::Pid;
use proxy::{Proxy, Treatment};
use spool::sync::{SubmitError, Submitter};
use spool::{MessageId, Server, Submission};
use testbed::Redis;

fn message(records: &[u8]) -> Submission<'_> {
    Submission {
        id: MessageId::new().unwrap(),
        uid: 1000,
        arrival_ms: 1,
        host: "mx.example.org",
        records,
    }
}

fn within(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

fn submitter_at(url: &str) -> Submitter {
    Submitter::new(Server::parse(url).unwrap())
}

fn submitter(redis: &Redis) -> Submitter {
    submitter_at(&redis.url())
}

/// Returns the number of copies in the inbox.
fn copies(redis: &Redis, message: &Submission<'_>) -> usize {
    let inbox = redis.cli(&["LRANGE", "optimus:{0}:inbox", "0", "-1"]).unwrap();
    inbox.matches(&message.id.to_string()).count()
}

fn is_stored(redis: &Redis, message: &Submission<'_>) -> bool {
    copies(redis, message) > 0
}

/// Checks that a submission is refused at once, certainly and for this reason, and isn't stored.
#[track_caller]
fn assert_refused(redis: &Redis, submitter: &mut Submitter, reason: &str) {
    let message = message(b"records");
    let started = Instant::now();
    match submitter.submit(&message, within(60)) {
        Err(SubmitError::NotSubmitted { reason: said }) => assert!(said.contains(reason), "{said}"),
        other => panic!("{other:?}"),
    }
    assert!(started.elapsed() < Duration::from_secs(30), "it was tried again in vain");
    assert!(!is_stored(redis, &message));
}

#[test]
fn one_connection_serves_one_message_after_the_other() {
    let redis = Redis::start().unwrap();
    let mut submitter = submitter(&redis);
    for _ in 0..20 {
        assert_eq!(submitter.submit(&message(b"records"), within(20)), Ok(()));
    }
    assert_eq!(redis.cli(&["LLEN", "optimus:{0}:inbox"]).unwrap(), "20");
    let made = redis.cli(&["INFO", "stats"]).unwrap();
    let made =
        made.lines().find_map(|line| line.strip_prefix("total_connections_received:")).unwrap();
    // The count includes the connections of redis-cli and of the wait for the server.
    assert!(made.trim().parse::<u32>().unwrap() < 20, "{made}");
}

#[test]
fn the_notice_comes_when_the_message_is_there() {
    let redis = Redis::start().unwrap();
    let mut listener = UnixStream::connect(redis.socket()).unwrap();
    listener.write_all(b"SUBSCRIBE optimus:{0}:notices\r\n").unwrap();
    listener.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut heard = Vec::new();
    submitter(&redis).submit(&message(b"records"), within(20)).unwrap();
    let mut bytes = [0; 512];
    while !heard.ends_with(b"$5\r\ninbox\r\n") {
        let count = listener.read(&mut bytes).unwrap();
        heard.extend_from_slice(&bytes[..count]);
    }
    assert_eq!(redis.cli(&["LLEN", "optimus:{0}:inbox"]).unwrap(), "1");
}

#[test]
fn a_user_that_may_not_publish_submits_all_the_same() {
    let redis = Redis::start().unwrap();
    redis.cli(&["ACL", "SETUSER", "mail", "on", ">pw", "~optimus:*", "+rpush"]).unwrap();
    let server = Server::parse(&redis.url()).unwrap().with_credentials(Some("mail"), Some("pw"));
    let mut submitter = Submitter::new(server);
    for _ in 0..2 {
        let message = message(b"records");
        assert_eq!(submitter.submit(&message, within(20)), Ok(()));
        assert_eq!(copies(&redis, &message), 1);
    }
}

#[test]
fn a_large_message_of_any_bytes_is_stored_as_it_is() {
    let redis = Redis::start().unwrap();
    let records: Vec<u8> = (0..20_000_000_u32).map(|n| (n % 251) as u8).collect();
    let message = message(&records);
    assert_eq!(submitter(&redis).submit(&message, within(60)), Ok(()));
    let rank = redis.cli(&["EVAL", CHECKSUM_OF_HEAD, "0", &records.len().to_string()]).unwrap();
    let expected =
        redis.cli(&["EVAL", CHECKSUM_OF_PATTERN, "0", &records.len().to_string()]).unwrap();
    assert_eq!(rank, expected);
}

const CHECKSUM_OF_HEAD: &str = "local head = redis.call('LINDEX', 'optimus:{0}:inbox', 0) \
    return redis.sha1hex(head:sub(-tonumber(ARGV[1])))";
const CHECKSUM_OF_PATTERN: &str = "local pattern = {} for n = 0, 250 do pattern[n + 1] = \
    string.char(n) end local all = table.concat(pattern):rep(math.ceil(ARGV[1] / 251)) \
    return redis.sha1hex(all:sub(1, tonumber(ARGV[1])))";

#[test]
fn tcp_a_password_and_a_database_work() {
    let redis = Redis::start_with_tcp(&["requirepass secret"]).unwrap();
    let url = redis.tcp_url().unwrap().replace("//", "//:secret@").replace("/0", "/2");
    assert_eq!(submitter_at(&url).submit(&message(b"x"), within(20)), Ok(()));
    let inbox = ["--no-auth-warning", "-a", "secret", "-n", "2", "LLEN", "optimus:{0}:inbox"];
    assert_eq!(redis.cli(&inbox).unwrap(), "1");
}

#[test]
fn a_wrong_password_or_database_lets_nothing_through() {
    let redis = Redis::start_with(&["user mail on >pw allcommands allkeys allchannels"]).unwrap();
    for (user, password, reason) in [("mail", "wrong", "WRONGPASS"), ("nobody", "pw", "WRONGPASS")]
    {
        let server =
            Server::parse(&redis.url()).unwrap().with_credentials(Some(user), Some(password));
        assert_refused(&redis, &mut Submitter::new(server), reason);
    }
    assert_refused(
        &redis,
        &mut submitter_at(&format!("{}?db=99", redis.url())),
        "DB index is out of range",
    );
    assert_eq!(redis.cli(&["DBSIZE"]).unwrap(), "0");
}

#[test]
fn full_memory_is_a_certain_refusal() {
    let redis = Redis::start_with(&["maxmemory-policy noeviction"]).unwrap();
    let mut submitter = submitter(&redis);
    submitter.submit(&message(b"x"), within(20)).unwrap();
    redis.cli(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    assert_refused(&redis, &mut submitter, "OOM");
}

/// A server may become a replica under an open connection, or be one from the start. Neither kind
/// of server gets a message, even if it would take one.
#[test]
fn a_replica_gets_no_message() {
    for option in ["replica-read-only yes", "replica-read-only no"] {
        let redis = Redis::start_with(&[option]).unwrap();
        let mut connected = submitter(&redis);
        connected.submit(&message(b"x"), within(20)).unwrap();
        redis.cli(&["REPLICAOF", "127.0.0.1", "1"]).unwrap();
        let message = message(b"records");
        let new = submitter(&redis).submit(&message, within(5));
        let Err(SubmitError::NotSubmitted { reason }) = new else { panic!("{new:?}") };
        assert!(reason.contains("not the master"), "{reason}");
        assert!(!is_stored(&redis, &message));
        if option.ends_with("yes") {
            let old = connected.submit(&message, within(5));
            assert!(matches!(old, Err(SubmitError::NotSubmitted { .. })), "{old:?}");
            redis.cli(&["REPLICAOF", "NO", "ONE"]).unwrap();
            connected.submit(&message, within(20)).unwrap();
        }
    }
}

#[test]
fn a_disk_that_failed_is_a_certain_refusal() {
    let redis = Redis::start().unwrap();
    let mut submitter = submitter(&redis);
    submitter.submit(&message(b"x"), within(20)).unwrap();
    // A folder in the place of its snapshot makes saving fail. With a snapshot configured, Redis
    // then refuses to write.
    std::fs::create_dir(redis.socket().with_file_name("dump.rdb")).unwrap();
    redis.cli(&["CONFIG", "SET", "save", "3600 1"]).unwrap();
    let _ = redis.cli(&["SAVE"]);
    redis.cli(&["BGSAVE"]).unwrap();
    let failed =
        || redis.cli(&["INFO", "persistence"]).unwrap().contains("rdb_last_bgsave_status:err");
    testbed::until(Duration::from_secs(20), "the failed save is noticed", failed).unwrap();
    assert_refused(&redis, &mut submitter, "MISCONF");
}

#[test]
fn a_user_without_rights_is_a_certain_refusal() {
    let redis = Redis::start().unwrap();
    redis.cli(&["ACL", "SETUSER", "guest", "on", ">pw", "+ping"]).unwrap();
    let server = Server::parse(&redis.url()).unwrap().with_credentials(Some("guest"), Some("pw"));
    assert_refused(&redis, &mut Submitter::new(server), "NOPERM");
}

#[test]
fn a_key_of_a_wrong_type_is_a_certain_refusal() {
    let redis = Redis::start().unwrap();
    redis.cli(&["SADD", "optimus:{0}:inbox", "x"]).unwrap();
    let outcome = submitter(&redis).submit(&message(b"x"), within(60));
    let Err(SubmitError::NotSubmitted { reason }) = outcome else { panic!("{outcome:?}") };
    assert!(reason.contains("WRONGTYPE"), "{reason}");
}

#[test]
fn a_submission_without_a_server_is_soon_and_certainly_refused() {
    let mut redis = Redis::start().unwrap();
    let mut submitter = submitter(&redis);
    redis.kill9();
    let started = Instant::now();
    let error = submitter.submit(&message(b"x"), within(60)).unwrap_err();
    assert!(matches!(error, SubmitError::NotSubmitted { .. }), "{error}");
    assert!(started.elapsed() < Duration::from_secs(30));
}

#[test]
fn a_server_that_is_away_is_waited_for_as_long_as_told() {
    let mut redis = Redis::start().unwrap();
    let mut submitter = submitter(&redis).with_restart_grace(Duration::from_secs(60));
    redis.kill9();
    let submitted = std::thread::spawn(move || submitter.submit(&message(b"x"), within(60)));
    redis.restart().unwrap();
    assert_eq!(submitted.join().unwrap(), Ok(()));
}

#[test]
fn a_server_that_is_away_is_not_waited_for_when_there_is_no_grace() {
    let mut redis = Redis::start().unwrap();
    let mut submitter = submitter(&redis).with_restart_grace(Duration::ZERO);
    redis.kill9();
    let started = Instant::now();
    for _ in 0..200 {
        assert!(submitter.submit(&message(b"x"), within(60)).is_err());
    }
    // With the default grace, the same number of submissions would take longer on any machine.
    assert!(started.elapsed() < 200 * spool::sync::RESTART_GRACE);
}

#[test]
fn a_server_that_is_loading_is_waited_for() {
    let slowly = ["key-load-delay 2000", "loading-process-events-interval-bytes 1024"];
    let mut redis = Redis::start_with(&slowly).unwrap();
    let mut submitter = submitter(&redis);
    let fill = "for n = 1, 200 do redis.call('SET', 'key' .. n, string.rep('x', 1000)) end";
    redis.cli(&["EVAL", fill, "0"]).unwrap();
    redis.cli(&["BGREWRITEAOF"]).unwrap();
    let rewritten = || redis.log().contains("AOF rewrite finished successfully");
    testbed::until(Duration::from_secs(20), "data that takes long to load", rewritten).unwrap();
    redis.start_loading().unwrap();
    let is_loading =
        || redis.cli(&["PING"]).is_err_and(|error| error.to_string().contains("LOADING"));
    testbed::until(Duration::from_secs(20), "it is loading", is_loading).unwrap();
    assert_eq!(submitter.submit(&message(b"x"), within(60)), Ok(()));
}

#[test]
fn a_server_that_hangs_leaves_the_message_in_doubt() {
    let redis = Redis::start().unwrap();
    let mut submitter = submitter(&redis);
    submitter.submit(&message(b"x"), within(20)).unwrap();
    let pid = Pid::from_raw(redis.pid().unwrap() as i32);
    let message = message(b"records");
    kill(pid, Signal::SIGSTOP).unwrap();
    let outcome = submitter.submit(&message, within(3));
    kill(pid, Signal::SIGCONT).unwrap();
    assert!(matches!(outcome, Err(SubmitError::Unknown { .. })), "{outcome:?}");
    // The request lay in the socket all the time.
    testbed::until(Duration::from_secs(20), "it is stored after all", || {
        is_stored(&redis, &message)
    })
    .unwrap();
    assert_eq!(submitter.submit(&message, within(20)), Ok(()));
}

#[test]
fn a_lost_answer_is_asked_for_again() {
    let redis = Redis::start().unwrap();
    let proxy = Proxy::start(
        &redis,
        vec![Treatment::SwallowAnswer, Treatment::SwallowAnswer, Treatment::Pass],
    );
    let message = message(b"records");
    assert_eq!(submitter_at(&proxy.url()).submit(&message, within(20)), Ok(()));
    assert_eq!(
        copies(&redis, &message),
        3,
        "one for each attempt: all but one are dropped when a lot is cut"
    );
}

#[test]
fn a_refusal_after_a_lost_answer_leaves_the_message_in_doubt() {
    let redis = Redis::start().unwrap();
    let refusal = Treatment::Answer("-OOM command not allowed when used memory > 'maxmemory'.\r\n");
    let proxy = Proxy::start(&redis, vec![Treatment::SwallowAnswer, refusal]);
    let message = message(b"records");
    match submitter_at(&proxy.url()).submit(&message, within(20)) {
        Err(SubmitError::Unknown { reason }) => assert!(reason.contains("OOM"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert!(is_stored(&redis, &message));
}

#[test]
fn a_request_that_could_not_be_sent_whole_is_certainly_not_run() {
    let redis = Redis::start().unwrap();
    let proxy = Proxy::start(&redis, vec![Treatment::HangUp]);
    let large = vec![b'x'; 20_000_000];
    let message = message(&large);
    let outcome =
        submitter_at(&proxy.url()).submit(&message, Instant::now() + Duration::from_millis(500));
    assert!(matches!(outcome, Err(SubmitError::NotSubmitted { .. })), "{outcome:?}");
    assert!(!is_stored(&redis, &message));
}

#[test]
fn a_server_that_never_accepts_does_not_hold_a_submitter_up() {
    let folder = testbed::Scratch::new().unwrap();
    let path = folder.path().join("socket");
    let listener =
        socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(listener.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
    listen(&listener, Backlog::new(1).unwrap()).unwrap();
    let mut submitter = submitter_at(&format!("unix://{}", path.display()));
    let mut attempt = || submitter.submit(&message(b"x"), within(1)).unwrap_err();
    // Each attempt leaves one more unaccepted connection, until the backlog is full.
    let outcomes: Vec<SubmitError> = (0..5).map(|_| attempt()).collect();
    // No message is pushed before the greeting is answered.
    assert!(matches!(outcomes[0], SubmitError::NotSubmitted { .. }), "{outcomes:?}");
    assert!(matches!(outcomes[4], SubmitError::NotSubmitted { .. }), "{outcomes:?}");
}

#[test]
fn a_server_that_is_not_redis_is_named() {
    let folder = testbed::Scratch::new().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"220 mx.example.org ESMTP\r\n").unwrap();
        std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
    });
    let url = format!("unix://{}", path.display());
    let outcome = submitter_at(&url).submit(&message(b"x"), within(3));
    let Err(SubmitError::NotSubmitted { reason }) = outcome else { panic!("{outcome:?}") };
    assert!(reason.contains("is not Redis"), "{reason}");
    server.join().unwrap();
}

#[test]
fn a_submitter_without_time_left_sends_no_message() {
    let redis = Redis::start().unwrap();
    let message = message(b"x");
    let outcome = submitter(&redis).submit(&message, Instant::now());
    assert!(matches!(outcome, Err(SubmitError::NotSubmitted { .. })), "{outcome:?}");
    assert!(!is_stored(&redis, &message));
}
