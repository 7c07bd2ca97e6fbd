//! Paths of queue files below the queue directory.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::QueueId;
use crate::main_cf::{MainCf, MainCfError};

/// Queue, which is a directory in the queue directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "each is named as its directory")]
pub enum QueueName {
    Maildrop,
    Hold,
    Incoming,
    Active,
    Deferred,
    Trace,
    Defer,
    Bounce,
    Corrupt,
    Flush,
    Saved,
}

impl QueueName {
    /// All queues.
    pub const ALL: [Self; 11] = [
        Self::Maildrop,
        Self::Hold,
        Self::Incoming,
        Self::Active,
        Self::Deferred,
        Self::Trace,
        Self::Defer,
        Self::Bounce,
        Self::Corrupt,
        Self::Flush,
        Self::Saved,
    ];

    /// Returns the directory's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Maildrop => "maildrop",
            Self::Hold => "hold",
            Self::Incoming => "incoming",
            Self::Active => "active",
            Self::Deferred => "deferred",
            Self::Trace => "trace",
            Self::Defer => "defer",
            Self::Bounce => "bounce",
            Self::Corrupt => "corrupt",
            Self::Flush => "flush",
            Self::Saved => "saved",
        }
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Error: no queue of Postfix has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("queue name {0:?}: unknown")]
pub struct UnknownQueue(pub String);

impl FromStr for QueueName {
    type Err = UnknownQueue;

    fn from_str(text: &str) -> Result<Self, UnknownQueue> {
        let same = |queue: &Self| queue.as_str().eq_ignore_ascii_case(text);
        Self::ALL.into_iter().find(same).ok_or_else(|| UnknownQueue(text.to_owned()))
    }
}

/// Queues with subdirectories, and their depth: `hash_queue_names` and `hash_queue_depth`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueLayout {
    hashed: Vec<QueueName>,
    depth: usize,
}

impl QueueLayout {
    /// Deepest hashing that Postfix accepts.
    pub const MAX_DEPTH: usize = 255;

    /// Returns a layout with these queues hashed to this depth.
    pub fn new(hashed: impl IntoIterator<Item = QueueName>, depth: usize) -> Self {
        Self { hashed: hashed.into_iter().collect(), depth: depth.clamp(1, Self::MAX_DEPTH) }
    }

    /// Returns the layout of a configuration. Unknown queue names are ignored, as in Postfix. Fails
    /// if the depth is no number.
    pub fn of(main_cf: &MainCf) -> Result<Self, MainCfError> {
        let names = main_cf.get("hash_queue_names").unwrap_or_default();
        let depth = main_cf.get_int("hash_queue_depth")?;
        let hashed = names
            .split(|ch: char| ch == ',' || ch.is_ascii_whitespace())
            .filter_map(|name| name.parse().ok())
            .collect::<Vec<_>>();
        Ok(Self::new(hashed, usize::try_from(depth).unwrap_or(1)))
    }

    /// Returns the number of levels of subdirectories that `queue` has.
    pub fn depth(&self, queue: QueueName) -> usize {
        if self.hashed.contains(&queue) { self.depth } else { 0 }
    }

    /// Returns the file's path, relative to the queue directory.
    pub fn path(&self, queue: QueueName, id: &QueueId) -> PathBuf {
        id.path(queue, self.depth(queue))
    }
}

impl QueueId {
    /// Returns the file's path in `queue`, relative to the queue directory, below `hash_depth`
    /// levels of subdirectories.
    ///
    /// Each level is the next character of `hash_text`, or `_` when no character is left.
    pub fn path(&self, queue: QueueName, hash_depth: usize) -> PathBuf {
        let mut path = PathBuf::from(queue.as_str());
        let text = self.hash_text();
        let levels = text.chars().chain(std::iter::repeat('_')).take(hash_depth);
        path.extend(levels.map(String::from));
        path.push(self.as_str());
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::time::Duration;

    #[test]
    fn a_short_id_hashes_by_its_first_characters() {
        let layout = QueueLayout::new([QueueName::Deferred, QueueName::Defer], 2);
        let id: QueueId = "4C1B21A0".parse().unwrap();
        assert_eq!(layout.path(QueueName::Deferred, &id), Path::new("deferred/4/C/4C1B21A0"));
        assert_eq!(layout.path(QueueName::Active, &id), Path::new("active/4C1B21A0"));
    }

    #[test]
    fn a_long_id_hashes_by_its_microseconds_in_hexadecimal() {
        let id = QueueId::long(Duration::new(1_700_000_000, 0xABCDE * 1000), 77);
        let expected = format!("deferred/A/B/{id}");
        assert_eq!(id.path(QueueName::Deferred, 2), Path::new(&expected));
        let deep = format!("deferred/A/B/C/D/E/_/_/{id}");
        assert_eq!(id.path(QueueName::Deferred, 7), Path::new(&deep));
    }

    #[test]
    fn a_queue_has_the_name_of_its_directory() {
        for queue in QueueName::ALL {
            assert_eq!(queue.to_string().parse(), Ok(queue));
        }
        assert_eq!("DEFERRED".parse(), Ok(QueueName::Deferred));
        assert!("spool".parse::<QueueName>().is_err());
    }
}
