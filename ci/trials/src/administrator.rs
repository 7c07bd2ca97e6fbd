//! The administrator as a fault: deeds on a platform while mail flows.
//!
//! A deed has a name and one function. Postfix's own command stops and starts Postfix, and runs
//! `postsuper`. The effect of a deed on single messages goes into [`Notes`].

use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use simulation::Random;
use spool::keys;
use testbed::{Redis, processes_under, until};

use crate::away::{REACHED, stay_away};
use crate::notes::Notes;
use crate::platform::Platform;
use crate::postsuper::{delete, hold, requeue};
use crate::test_ids::test_ids;

/// Port at which no Redis listens.
const NOBODY: &str = "1";
/// Time limit of a command, seconds.
const COMMAND_LIMIT_S: &str = "60";

/// One deed of an administrator.
#[derive(Debug, Clone, Copy)]
pub struct Deed {
    pub(crate) name: &'static str,
    /// Whether the platform is `optimus run` with its embedded Redis.
    pub(crate) all_in_one: bool,
    /// Whether the deed takes Redis back to an earlier state.
    pub(crate) rewinds: bool,
    /// Whether the deed takes the queue directory back to an earlier state.
    pub(crate) puts_back: bool,
    /// Whether the deed takes a node's proof of delivery.
    pub(crate) disproves: bool,
    pub(crate) act: fn(&mut Platform, &mut Random, &mut Notes) -> Result<()>,
}

impl Deed {
    const fn new(
        name: &'static str,
        act: fn(&mut Platform, &mut Random, &mut Notes) -> Result<()>,
    ) -> Self {
        Self { name, all_in_one: false, rewinds: false, puts_back: false, disproves: false, act }
    }
}

/// Deeds, in the order of a campaign.
pub(crate) const DEEDS: [Deed; 14] = [
    Deed::new("postsuper -d", delete),
    Deed::new("postsuper -h, -H", hold),
    Deed::new("postsuper -r", requeue),
    Deed::new("postfix reload", |platform, _, _| postfix(platform, "reload")),
    Deed::new("postfix set-permissions", set_permissions),
    Deed::new("postfix stop, start", |platform, random, _| stopped(platform, random, &[])),
    Deed {
        all_in_one: true,
        ..Deed::new("sockets removed before start", |platform, random, _| {
            stopped(platform, random, &["private", "public"])
        })
    },
    Deed::new("identity removed before start", |platform, random, _| {
        stopped(platform, random, &["optimus/node/identity", "private", "public"])
    }),
    Deed {
        disproves: true,
        ..Deed::new("node folder emptied before start", |platform, random, _| {
            stopped(platform, random, &["optimus/node", "private", "public"])
        })
    },
    Deed { puts_back: true, ..Deed::new("queue directory put back", put_queue_back) },
    Deed::new("queue directory copied", copy_queue),
    Deed::new("Redis swapped", swap_redis),
    Deed::new("Redis demoted", demote_redis),
    Deed { rewinds: true, ..Deed::new("Redis restored", restore_redis) },
];

/// Runs Postfix's own command.
fn postfix(platform: &Platform, word: &str) -> Result<()> {
    let output = run_postfix(platform, word)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "postfix {word}: {}: {said}", output.status);
    Ok(())
}

fn run_postfix(platform: &Platform, word: &str) -> Result<Output> {
    let mut command = platform.postfix.command("timeout");
    command
        .args([COMMAND_LIMIT_S, "/usr/sbin/postfix", "-c"])
        .arg(platform.postfix.config_dir())
        .arg(word);
    command.output().context("postfix: not started")
}

/// Runs `postfix set-permissions`. Its `chown` may fail on a queue file that has moved on.
fn set_permissions(platform: &mut Platform, _: &mut Random, _: &mut Notes) -> Result<()> {
    let output = run_postfix(platform, "set-permissions")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let is_unexpected =
        |line: &&str| !(line.starts_with("ch") && line.ends_with("No such file or directory"));
    let is_explained = said.lines().find(is_unexpected).is_none() && !said.trim().is_empty();
    ensure!(
        output.status.success() || is_explained,
        "postfix set-permissions: {}: {said}",
        output.status
    );
    Ok(())
}

/// Stops Postfix and starts it again. Meanwhile removes files, or all files of folders, as scripts
/// do.
fn stopped(platform: &Platform, random: &mut Random, paths: &[&str]) -> Result<()> {
    stop_postfix(platform)?;
    for path in paths {
        remove(&platform.postfix.queue_dir().join(path))?;
    }
    stay_away(random);
    postfix(platform, "start")
}

fn stop_postfix(platform: &Platform) -> Result<()> {
    postfix(platform, "stop")?;
    until(REACHED, "end of Postfix", || !platform.postfix.is_running())
}

/// Copies a folder with modes, owners and times, as a backup does.
fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    let copied =
        Command::new("cp").arg("-a").args([from, to]).status().context("cp: not started")?;
    ensure!(copied.success(), "cp -a {} {}: {copied}", from.display(), to.display());
    Ok(())
}

/// Copies the queue directory, lets mail flow, and puts the copy back in its place.
fn put_queue_back(platform: &mut Platform, random: &mut Random, _: &mut Notes) -> Result<()> {
    let (queue, backup) = (platform.postfix.queue_dir(), platform.postfix.path().join("backup"));
    stop_postfix(platform)?;
    copy_folder(queue, &backup)?;
    postfix(platform, "start")?;
    stay_away(random);
    stop_postfix(platform)?;
    // `postfix stop` waits for master alone, and cleanup may still make a file.
    until(REACHED, "end of all daemons", || processes_under(queue).is_empty())?;
    fs::remove_dir_all(queue).with_context(|| queue.display().to_string())?;
    fs::rename(&backup, queue).with_context(|| backup.display().to_string())?;
    postfix(platform, "start")
}

/// Starts a second server from a copy of the queue directory, beside the original. That Postfix
/// sends the copies in its queue, under their queue ids, and nothing else.
fn copy_queue(platform: &mut Platform, random: &mut Random, _: &mut Notes) -> Result<()> {
    let beside = platform.beside()?;
    let recoveries = platform.recoveries();
    stop_postfix(platform)?;
    fs::remove_dir_all(beside.queue_dir())?;
    copy_folder(platform.postfix.queue_dir(), beside.queue_dir())?;
    postfix(platform, "start")?;
    // The first to start is the node.
    until(REACHED, "the original to serve", || platform.recoveries() > recoveries)?;
    beside.start()?;
    let pickup = UnixStream::connect(beside.queue_dir().join("private/optimus"));
    let _connection = pickup.context("pickup-rs of the copy: not connected")?;
    let is_told = || {
        let log = beside.log();
        REFUSED.iter().any(|words| log.contains(words))
    };
    until(REACHED, "the copy to be refused", is_told)
        .with_context(|| format!("log of the copy:\n{}", beside.log()))?;
    stay_away(random);
    beside.stop()
}

/// Words in the log of a copy, with mail and without.
const REFUSED: [&str; 2] = ["not served: a copy", "copy became a node of its own"];

/// Removes a file, or all files of a folder. Since the last time, Postfix may not have made it
/// again.
fn remove(path: &Path) -> Result<()> {
    let files = if path.is_dir() { files_of(path)? } else { vec![path.to_owned()] };
    for file in files {
        match fs::remove_file(&file) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            removed => removed.with_context(|| file.display().to_string())?,
        }
    }
    Ok(())
}

fn files_of(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    entries.map(|entry| Ok(entry?.path())).collect()
}

/// Puts an empty Redis in place of the right one, and the right one back. Messages submitted
/// meanwhile wait in the empty one's inbox.
fn swap_redis(platform: &mut Platform, random: &mut Random, notes: &mut Notes) -> Result<()> {
    let folder = platform.postfix.path().join("other-redis");
    fs::create_dir_all(&folder)?;
    let redis = platform.redis.as_mut().context("platform: has no redis-server of its own")?;
    redis.swap(&folder)?;
    stay_away(random);
    redis.swap(&folder)?;
    let inbox = Redis::start_in(&folder, &[])?.cli(&["LRANGE", keys::INBOX, "0", "-1"])?;
    notes.elsewhere.extend(test_ids(inbox.as_bytes()));
    Ok(())
}

/// Makes Redis a replica of an absent server, and a master again.
fn demote_redis(platform: &mut Platform, random: &mut Random, _: &mut Notes) -> Result<()> {
    platform.redis_cli(&["REPLICAOF", "127.0.0.1", NOBODY])?;
    stay_away(random);
    platform.redis_cli(&["REPLICAOF", "NO", "ONE"]).map(drop)
}

/// Copies Redis's files, lets some mail flow, and starts Redis again with the copy.
fn restore_redis(platform: &mut Platform, random: &mut Random, _: &mut Notes) -> Result<()> {
    let redis = platform.redis.as_mut().context("platform: has no redis-server of its own")?;
    let copy = redis.copy()?;
    stay_away(random);
    redis.restore(&copy)
}
