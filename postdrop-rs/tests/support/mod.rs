//! Site for tests: a Postfix instance that doesn't run, a Redis if wanted, and the programs under
//! test beside stock's.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test program uses its part of this"
)]

pub mod installed;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

pub use postfix_wire::record::RecordType;
use postfix_wire::record::put;
use spool::{Message, MessageId, keys};
use testbed::{Postfix, Redis};

/// Program of this build, or the shipped one that a variable names at compile time.
pub const OUR_SENDMAIL: &str = match option_env!("OPTIMUS_SENDMAIL") {
    Some(program) => program,
    None => env!("CARGO_BIN_EXE_sendmail"),
};
pub const OUR_POSTDROP: &str = match option_env!("OPTIMUS_POSTDROP") {
    Some(program) => program,
    None => env!("CARGO_BIN_EXE_postdrop"),
};
pub const OUR_POSTDROPD: &str = match option_env!("OPTIMUS_POSTDROPD") {
    Some(program) => program,
    None => env!("CARGO_BIN_EXE_postdropd"),
};
pub const STOCK_SENDMAIL: &str = "/usr/sbin/sendmail";
pub const STOCK_POSTDROP: &str = "/usr/sbin/postdrop";

/// Setting for tests with a Redis: a timeout longer than a busy machine needs.
pub const PATIENT: &str = "[submit]\ntimeout_ms = 60000\n";

/// Script that runs a command with another `/dev`, mounted on `$1`, whose `log` is a link to `$2`.
pub const WITH_LOG: &str = r#"
dev=$1 log=$2; shift 2
mount -t tmpfs none "$dev" || exit 99
for name in null zero full random urandom; do
    touch "$dev/$name" && mount --bind "/dev/$name" "$dev/$name" || exit 99
done
ln -s "$log" "$dev/log" && ln -s /proc/self/fd "$dev/fd" && mount --move "$dev" /dev || exit 99
exec "$@"
"#;

/// Records as pairs that tests can compare and people can read.
pub type Said = Vec<(RecordType, String)>;

pub struct Site {
    pub postfix: Postfix,
    pub redis: Option<Redis>,
}

impl Site {
    /// Prepares a site without Redis: no process listens at its socket.
    pub fn new() -> Self {
        let postfix = Postfix::builder().prepare().unwrap();
        // A stopped pickup leaves this FIFO. Stock postdrop warns if the FIFO is missing.
        let fifo = postfix.queue_dir().join("public/pickup");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o622)).unwrap();
        Self { postfix, redis: None }
    }

    pub fn with_redis() -> Self {
        let mut site = Self::new();
        let redis = Redis::start_in(&site.folder("redis"), &[]).unwrap();
        site.settings(&format!("[redis]\nurl = \"{}\"\n{PATIENT}", redis.url()));
        site.redis = Some(redis);
        site
    }

    pub fn folder(&self, name: &str) -> PathBuf {
        let path = self.postfix.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    pub fn redis(&mut self) -> &mut Redis {
        self.redis.as_mut().unwrap()
    }

    /// Writes `optimus.toml`.
    pub fn settings(&self, text: &str) {
        std::fs::write(self.postfix.config_dir().join("optimus.toml"), text).unwrap();
    }

    pub fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = self.postfix.command(program);
        command.args(arguments).env_remove("NAME");
        command
    }

    pub fn sendmail(&self, arguments: &[&str], message: &[u8]) -> Output {
        run(&mut self.command(OUR_SENDMAIL, arguments), message)
    }

    pub fn postdrop(&self, arguments: &[&str], stream: &[u8]) -> Output {
        run(&mut self.command(OUR_POSTDROP, arguments), stream)
    }

    /// Has Redis cut all submitted messages into lots, as an Info Agent does. The lots have each
    /// message once, and no disowned message.
    pub fn cut_lots(&mut self) {
        let redis = self.redis();
        redis.cli(&["FUNCTION", "LOAD", "REPLACE", &spool::library()]).unwrap();
        while redis.cli(&["EXISTS", keys::INBOX]).unwrap() == "1" {
            let last: u64 = redis.cli(&["GET", keys::LAST_LOT]).unwrap().parse().unwrap_or(0);
            let next = (last + 1).to_string();
            redis.cli(&["FCALL", "optimus_cut", "1", keys::SHARD, "", &next, "10000", ""]).unwrap();
        }
    }

    /// Returns all messages in Redis, and empties it.
    pub fn take_messages(&mut self) -> Vec<Message> {
        self.cut_lots();
        let redis = self.redis();
        let keys = redis.cli(&["KEYS", keys::MESSAGES]).unwrap();
        let messages = keys.lines().map(|key| read_message(&redis.socket(), key)).collect();
        redis.cli(&["FLUSHALL"]).unwrap();
        messages
    }

    /// Returns the records of the only message in Redis, without the time.
    pub fn take_records(&mut self) -> Said {
        let mut messages = self.take_messages();
        assert_eq!(messages.len(), 1, "messages in Redis");
        without_time(&messages.remove(0).records)
    }

    /// Returns names and records of finished messages in the maildrop, without the time. Stock
    /// postdrop leaves unfinished files when it refuses a message.
    pub fn maildrop(&self) -> Vec<(PathBuf, Said)> {
        let mut files = self.postfix.queue_files("maildrop");
        files.retain(|path| std::fs::metadata(path).unwrap().mode() & 0o100 != 0);
        files
            .into_iter()
            .map(|path| (path.clone(), without_time(&std::fs::read(path).unwrap())))
            .collect()
    }

    /// Starts this site's Postfix.
    pub fn start_postfix(&self) {
        std::fs::remove_file(self.postfix.queue_dir().join("public/pickup")).unwrap();
        self.postfix.start().unwrap();
    }

    pub fn empty_maildrop(&self) {
        self.postfix
            .queue_files("maildrop")
            .iter()
            .for_each(|path| std::fs::remove_file(path).unwrap());
    }

    /// Returns the records that stock `sendmail` or `postdrop` left in the maildrop, and its
    /// output. Empties the maildrop.
    pub fn stock(&self, command: &mut Command, input: &[u8]) -> (Option<Said>, Output) {
        let output = run(command, input);
        let mut files = self.maildrop();
        self.empty_maildrop();
        assert!(files.len() <= 1, "{files:?}");
        (files.pop().map(|(_, records)| records), output)
    }
}

/// Starts a program with pipes for its standard input, output and error.
pub fn spawn(command: &mut Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Runs a program with this standard input.
pub fn run(command: &mut Command, input: &[u8]) -> Output {
    let mut child = spawn(command);
    let mut pipe = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        // A program may end without reading everything. The test checks its outcome.
        scope.spawn(move || drop(pipe.write_all(input)));
        child.wait_with_output().unwrap()
    })
}

/// Returns the peak memory of a process in KiB; 0 if the process is gone.
pub fn peak_kib(pid: i32) -> u64 {
    of_process(pid, "status", "VmHWM:")
}

/// Returns a number that `/proc` has for a process; 0 if the process is gone.
pub fn of_process(pid: i32, file: &str, field: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix(field)).unwrap_or("0");
    value.trim().trim_end_matches(" kB").parse().unwrap()
}

pub fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("{:?}", output.status))
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Checks that the program succeeded and printed nothing.
pub fn assert_quiet_success(output: &Output) {
    assert_eq!((code(output), stderr(output).as_str()), (0, ""));
}

/// Reads records without checking them. Stock's records may have control characters, which the
/// decoder refuses.
pub fn said(mut stream: &[u8]) -> Said {
    let mut all = Vec::new();
    while let Some((kind, rest)) = stream.split_first() {
        let last = rest.iter().position(|byte| byte & 0x80 == 0).unwrap();
        let length =
            rest[..=last].iter().rfold(0, |length, byte| length << 7 | usize::from(byte & 0x7f));
        let (data, rest) = rest[last + 1..].split_at(length);
        all.push((RecordType::try_from(*kind).unwrap(), data.escape_ascii().to_string()));
        stream = rest;
    }
    all
}

pub fn without_time(stream: &[u8]) -> Said {
    let mut all = said(stream);
    assert_eq!(all.first().map(|(kind, _)| *kind), Some(RecordType::Time), "{all:?}");
    all.remove(0);
    all
}

/// Encodes a record stream.
pub fn stream(records: &[(RecordType, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    records.iter().for_each(|(kind, data)| put(&mut bytes, *kind, data));
    bytes
}

/// Record: its type and its data.
pub type Raw = (RecordType, &'static [u8]);

/// Encodes a message with further records in its envelope, its content and its extracted part.
pub fn message(envelope: &[Raw], content: &[Raw], extracted: &[Raw]) -> Vec<u8> {
    use RecordType::{End, From, Mesg, Rcpt, Xtra};
    let parts: [&[Raw]; 7] = [
        &[(From, b"ann@example.org"), (Rcpt, b"bob@example.org")],
        envelope,
        &[(Mesg, b"")],
        content,
        &[(Xtra, b"")],
        extracted,
        &[(End, b"")],
    ];
    stream(&parts.concat())
}

/// Reads a stored message byte for byte, which redis-cli can't show.
fn read_message(socket: &Path, key: &str) -> Message {
    let mut connection = UnixStream::connect(socket).unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(connection, "*2\r\n$3\r\nGET\r\n${}\r\n{key}\r\n", key.len()).unwrap();
    let mut reader = BufReader::new(connection);
    let mut length = String::new();
    reader.read_line(&mut length).unwrap();
    let mut value = vec![0; length.trim_start_matches('$').trim_end().parse().unwrap()];
    reader.read_exact(&mut value).unwrap();
    let id: MessageId = key.rsplit(':').next().unwrap().parse().unwrap();
    Message::decode(id, value).unwrap()
}
