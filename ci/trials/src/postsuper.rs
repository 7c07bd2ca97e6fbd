//! `postsuper` on random queue files, and its effect on each message.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result};
use simulation::Random;

use crate::away::stay_away;
use crate::notes::Notes;
use crate::platform::Platform;
use crate::test_ids::test_ids;

/// Rounds of choosing files in one strike, and most files in a round.
const ROUNDS: usize = 6;
const FILES: usize = 4;

/// Folders of a message on its way through Postfix. `postsuper` must not reach the second one.
const QUEUES: [&str; 5] = ["hold", "optimus/prepared", "incoming", "active", "deferred"];

/// Mode bit by which pickup-rs marks released files (`docs/decisions/0024-*`).
const RELEASED_MODE: u32 = 0o001;

/// A queue file that stays open, so that its last state can be read when its name is gone.
struct QueueFile {
    queue_id: String,
    test_id: String,
    is_ours: bool,
    file: File,
}

impl QueueFile {
    /// Opens a queue file; `None` when it has moved on, or cleanup still writes it.
    fn open(path: &Path) -> Option<Self> {
        let queue_id = path.file_name()?.to_str()?.to_owned();
        let mut file = File::open(path).ok()?;
        let mut content = Vec::new();
        file.read_to_end(&mut content).ok()?;
        let test_id = test_ids(&content).next()?;
        // A requeued file carries the name of the file from which it was made.
        let attribute = format!("optimus_queue_id={queue_id}");
        let is_ours = content.windows(attribute.len()).any(|it| it == attribute.as_bytes());
        Some(Self { queue_id, test_id, is_ours, file })
    }

    /// Whether OPTIMUS has not released the file to the queue manager.
    fn is_undecided(&self) -> bool {
        self.is_ours && self.file.metadata().is_ok_and(|it| it.mode() & RELEASED_MODE == 0)
    }
}

/// Deletes random files, and all mail on hold, which OPTIMUS never puts there.
pub(crate) fn delete(
    platform: &mut Platform,
    random: &mut Random,
    notes: &mut Notes,
) -> Result<()> {
    for _ in 0..ROUNDS {
        let files = choose(platform, random);
        let deleted = postsuper(platform, &each("-d", &files))?;
        let released =
            files.iter().filter(|it| deleted.contains(&it.queue_id) && !it.is_undecided());
        notes.deleted.extend(released.map(|it| (it.test_id.clone(), it.queue_id.clone())));
        postsuper(platform, &["-d", "ALL", "hold"])?;
    }
    Ok(())
}

/// Requeues random files.
pub(crate) fn requeue(
    platform: &mut Platform,
    random: &mut Random,
    notes: &mut Notes,
) -> Result<()> {
    for _ in 0..ROUNDS {
        let files = choose(platform, random);
        let undecided = files.iter().filter(|it| it.is_undecided()).map(|it| it.queue_id.clone());
        let undecided: HashSet<String> = undecided.collect();
        let requeued = postsuper(platform, &each("-r", &files))?;
        notes.early.extend(requeued.into_iter().filter(|id| undecided.contains(id)));
    }
    Ok(())
}

/// Puts random files on hold, and releases all mail on hold after a while.
pub(crate) fn hold(platform: &mut Platform, random: &mut Random, notes: &mut Notes) -> Result<()> {
    let mut held = HashSet::new();
    for _ in 0..ROUNDS {
        let files = choose(platform, random);
        let now_held = postsuper(platform, &each("-h", &files))?;
        let noted = files.into_iter().filter(|it| now_held.contains(&it.queue_id));
        notes.held.extend(noted.map(|it| (it.test_id, it.queue_id)));
        held.extend(now_held);
    }
    stay_away(random);
    let released = postsuper(platform, &["-H", "ALL"])?;
    notes.early.extend(released.into_iter().filter(|id| !held.contains(id)));
    Ok(())
}

fn choose(platform: &Platform, random: &mut Random) -> Vec<QueueFile> {
    let mut files: Vec<_> =
        QUEUES.iter().flat_map(|queue| platform.postfix.queue_files(queue)).collect();
    let mut chosen = Vec::new();
    while chosen.len() < FILES && !files.is_empty() {
        let at = random.between(0, files.len() as u64);
        chosen.extend(QueueFile::open(&files.swap_remove(usize::try_from(at).unwrap_or_default())));
    }
    chosen
}

fn each<'a>(option: &'a str, files: &'a [QueueFile]) -> Vec<&'a str> {
    files.iter().flat_map(|it| [option, it.queue_id.as_str()]).collect()
}

/// Runs postsuper. Returns the queue ids of the files that it reports.
fn postsuper(platform: &Platform, words: &[&str]) -> Result<HashSet<String>> {
    if words.is_empty() {
        return Ok(HashSet::new());
    }
    let mut command = platform.postfix.command("timeout");
    let output = command
        .args(["60", "/usr/sbin/postsuper"])
        .args(words)
        .output()
        .context("postsuper: not started")?;
    let said = String::from_utf8_lossy(&output.stderr);
    // postsuper: 4C1B21A0: removed
    Ok(said.lines().filter_map(|line| line.split(": ").nth(1).map(str::to_owned)).collect())
}
