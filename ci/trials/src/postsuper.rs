//! `postsuper` on random queue files, and what it did to which message.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result};

use crate::Random;
use crate::notes::{Notes, test_ids};
use crate::platform::Platform;
use crate::victim::stay_away;

/// How often files are chosen in one strike, and how many of them at most.
const ROUNDS: usize = 6;
const FILES: usize = 4;

/// Where a message can lie on its way through Postfix. `postsuper` must not reach the second one.
const QUEUES: [&str; 5] = ["hold", "optimus/prepared", "incoming", "active", "deferred"];

/// pickup-rs marks with it what it has released, or what was released without it
/// (`docs/decisions/0024-*`).
const RELEASED_MODE: u32 = 0o001;

/// A queue file that stays open, so that its last state can be read when its name is gone.
struct QueueFile {
    queue_id: String,
    test_id: String,
    is_ours: bool,
    file: File,
}

impl QueueFile {
    /// `None`: it has moved on, or cleanup still writes it.
    fn open(path: &Path) -> Option<Self> {
        let queue_id = path.file_name()?.to_str()?.to_owned();
        let mut file = File::open(path).ok()?;
        let mut content = Vec::new();
        file.read_to_end(&mut content).ok()?;
        let test_id = test_ids(&content).next()?;
        // A requeued file carries the name of the file that it was made of.
        let attribute = format!("optimus_queue_id={queue_id}");
        let is_ours = content.windows(attribute.len()).any(|it| it == attribute.as_bytes());
        Some(Self { queue_id, test_id, is_ours, file })
    }

    /// Whether OPTIMUS has not released it to the queue manager.
    fn is_undecided(&self) -> bool {
        self.is_ours && self.file.metadata().is_ok_and(|it| it.mode() & RELEASED_MODE == 0)
    }
}

/// Deletes random files.
pub(crate) fn delete(platform: &mut Platform, random: &mut Random, notes: &mut Notes) -> Result<()> {
    for _ in 0..ROUNDS {
        let files = choose(platform, random);
        let deleted = postsuper(platform, "-d", &files)?;
        let released = files.iter().filter(|it| deleted.contains(&it.queue_id) && !it.is_undecided());
        notes.deleted.extend(released.map(|it| (it.test_id.clone(), it.queue_id.clone())));
    }
    Ok(())
}

/// Requeues random files.
pub(crate) fn requeue(platform: &mut Platform, random: &mut Random, notes: &mut Notes) -> Result<()> {
    for _ in 0..ROUNDS {
        move_on(platform, "-r", &choose(platform, random), notes)?;
    }
    Ok(())
}

/// Puts random files on hold, and releases them after a while.
pub(crate) fn hold(platform: &mut Platform, random: &mut Random, notes: &mut Notes) -> Result<()> {
    let mut held = Vec::new();
    for _ in 0..ROUNDS {
        let files = choose(platform, random);
        postsuper(platform, "-h", &files)?;
        held.extend(files);
    }
    stay_away(random);
    move_on(platform, "-H", &held, notes)
}

/// Requeues files or releases them from hold, and notes what was undecided before.
fn move_on(platform: &Platform, option: &str, files: &[QueueFile], notes: &mut Notes) -> Result<()> {
    let undecided: Vec<&QueueFile> = files.iter().filter(|it| it.is_undecided()).collect();
    let moved = postsuper(platform, option, files)?;
    let early = undecided.into_iter().filter(|it| moved.contains(&it.queue_id));
    notes.early.extend(early.map(|it| it.test_id.clone()));
    Ok(())
}

fn choose(platform: &Platform, random: &mut Random) -> Vec<QueueFile> {
    let mut files: Vec<_> = QUEUES.iter().flat_map(|queue| platform.postfix.queue_files(queue)).collect();
    let mut chosen = Vec::new();
    while chosen.len() < FILES && !files.is_empty() {
        let at = random.within(0..files.len() as u64);
        chosen.extend(QueueFile::open(&files.swap_remove(usize::try_from(at).unwrap_or_default())));
    }
    chosen
}

/// Runs it on these files; the queue ids of those to which it did what it was told.
fn postsuper(platform: &Platform, option: &str, files: &[QueueFile]) -> Result<HashSet<String>> {
    if files.is_empty() {
        return Ok(HashSet::new());
    }
    let mut command = platform.postfix.command("timeout");
    command.args(["60", "/usr/sbin/postsuper"]);
    command.args(files.iter().flat_map(|it| [option, it.queue_id.as_str()]));
    let output = command.output().context("postsuper")?;
    let said = String::from_utf8_lossy(&output.stderr);
    // postsuper: 4C1B21A0: removed
    let named = |line: &str| line.split(": ").nth(1).map(str::to_owned);
    let names: HashSet<String> = said.lines().filter_map(named).collect();
    Ok(files.iter().map(|it| it.queue_id.clone()).filter(|id| names.contains(id)).collect())
}
