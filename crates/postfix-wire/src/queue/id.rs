//! Queue ids: names of queue files, made of the time and the file's inode.
//!
//! | form | seconds | microseconds | separator | inode |
//! |---|---|---|---|---|
//! | short | - | 5 hexadecimal digits | - | hexadecimal |
//! | long (`enable_long_queue_ids`) | base 52, 6 digits or more | base 52, 4 digits | `z` | base 51, so without `z` |
//!
//! The inode makes an id unique while the file exists. A short id comes again later, a long one
//! does not. Only names of these two forms are ids. Names of temporary files and flush logs, and
//! names with a slash or a dot, are no ids. So a path made from an id stays in its queue.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::safe_base;
use crate::constants as c;

/// Most bytes of an id: those of a long id with the largest numbers.
pub const MAX_ID_BYTES: usize = 64;

const SHORT_USEC_DIGITS: usize = c::MQID_SH_USEC_PAD as usize;
const SHORT_INODE_DIGITS_MAX: usize = 16;
const LONG_SECONDS_DIGITS: usize = c::MQID_LG_SEC_PAD as usize;
const LONG_USEC_DIGITS: usize = c::MQID_LG_USEC_PAD as usize;
const LONG_TIME_BASE: u64 = c::MQID_LG_SEC_BASE as u64;
const LONG_INODE_BASE: u64 = c::MQID_LG_INUM_BASE as u64;
const LONG_SEPARATOR: char = c::MQID_LG_INUM_SEP as char;

/// Well-formed queue id.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct QueueId(String);

/// Error: the text is no queue id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a queue id: {0:?}")]
pub struct QueueIdError(pub String);

impl QueueId {
    /// Returns the short form for a file's inode and `time` since the epoch, of which only the
    /// microseconds count.
    pub fn short(time: Duration, inode: u64) -> Self {
        Self(format!("{:05X}{inode:X}", time.subsec_micros()))
    }

    /// Returns the long form for a file's inode and `time` since the epoch.
    pub fn long(time: Duration, inode: u64) -> Self {
        let seconds = safe_base::encode(time.as_secs(), LONG_TIME_BASE, LONG_SECONDS_DIGITS);
        let micros =
            safe_base::encode(time.subsec_micros().into(), LONG_TIME_BASE, LONG_USEC_DIGITS);
        let inode = safe_base::encode(inode, LONG_INODE_BASE, 0);
        Self(format!("{seconds}{micros}{LONG_SEPARATOR}{inode}"))
    }

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether the id has the long form.
    pub fn is_long(&self) -> bool {
        self.0.contains(LONG_SEPARATOR) && !is_short(&self.0)
    }

    /// Returns the inode in the id. Postfix takes a file with another inode for a stray copy.
    pub fn inode(&self) -> Option<u64> {
        if self.is_long() {
            let (_, inode) = self.0.rsplit_once(LONG_SEPARATOR)?;
            safe_base::decode(inode, LONG_INODE_BASE)
        } else {
            u64::from_str_radix(&self.0[SHORT_USEC_DIGITS..], 16).ok()
        }
    }

    /// Returns the time in the id, since the epoch, if it has the long form.
    pub fn time(&self) -> Option<Duration> {
        let (time, _) = self.0.rsplit_once(LONG_SEPARATOR).filter(|_| self.is_long())?;
        let (seconds, micros) = time.split_at(time.len() - LONG_USEC_DIGITS);
        let seconds = Duration::from_secs(safe_base::decode(seconds, LONG_TIME_BASE)?);
        seconds.checked_add(Duration::from_micros(safe_base::decode(micros, LONG_TIME_BASE)?))
    }

    /// Returns the text whose first characters name the subdirectories of a hashed queue. For a
    /// short id, the text is the id. For a long id, the text is the microseconds as in a short id,
    /// because a long id's first characters hardly ever change.
    pub(super) fn hash_text(&self) -> String {
        match self.time() {
            Some(time) => format!("{:05X}", time.subsec_micros()),
            None => self.0.clone(),
        }
    }
}

fn is_short(text: &str) -> bool {
    let digits = SHORT_USEC_DIGITS + 1..=SHORT_USEC_DIGITS + SHORT_INODE_DIGITS_MAX;
    digits.contains(&text.len())
        && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F'))
}

fn is_long(text: &str) -> bool {
    let Some((time, inode)) = text.rsplit_once(LONG_SEPARATOR) else { return false };
    let Some(micros_at) =
        time.len().checked_sub(LONG_USEC_DIGITS).filter(|at| *at >= LONG_SECONDS_DIGITS)
    else {
        return false;
    };
    time.is_char_boundary(micros_at)
        && safe_base::decode(&time[..micros_at], LONG_TIME_BASE).is_some()
        && safe_base::decode(&time[micros_at..], LONG_TIME_BASE)
            .is_some_and(|micros| micros < 1_000_000)
        && safe_base::decode(inode, LONG_INODE_BASE).is_some()
}

impl FromStr for QueueId {
    type Err = QueueIdError;

    fn from_str(text: &str) -> Result<Self, QueueIdError> {
        if text.len() <= MAX_ID_BYTES && (is_short(text) || is_long(text)) {
            Ok(Self(text.to_owned()))
        } else {
            Err(QueueIdError(text.chars().take(MAX_ID_BYTES).collect()))
        }
    }
}

impl TryFrom<String> for QueueId {
    type Error = QueueIdError;

    fn try_from(text: String) -> Result<Self, QueueIdError> {
        text.parse()
    }
}

impl From<QueueId> for String {
    fn from(id: QueueId) -> Self {
        id.0
    }
}

impl AsRef<str> for QueueId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_time() -> impl Strategy<Value = Duration> {
        (any::<u32>(), 0u32..1_000_000).prop_map(|(s, us)| Duration::new(s.into(), us * 1000))
    }

    proptest! {
        #[test]
        fn an_id_that_is_made_parses(time in any_time(), inode in 1u64..) {
            for id in [QueueId::short(time, inode), QueueId::long(time, inode)] {
                prop_assert_eq!(id.to_string().parse::<QueueId>(), Ok(id.clone()));
                prop_assert_eq!(id.inode(), Some(inode));
            }
            prop_assert_eq!(QueueId::long(time, inode).time(), Some(time));
            prop_assert!(!QueueId::short(time, inode).is_long());
            prop_assert!(QueueId::long(time, inode).is_long());
        }

        #[test]
        fn both_forms_hash_alike(time in any_time(), inode in 1u64..) {
            let (short, long) = (QueueId::short(time, inode), QueueId::long(time, inode));
            prop_assert_eq!(&short.hash_text()[..5], long.hash_text());
        }

        #[test]
        fn any_text_is_an_id_or_refused(text in ".{0,80}") {
            if let Ok(id) = text.parse::<QueueId>() {
                prop_assert!(id.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric()));
            }
        }

        #[test]
        fn any_letters_are_an_id_or_refused(text in "[0-9A-Za-z]{0,80}") {
            if let Ok(id) = text.parse::<QueueId>() {
                prop_assert!(id.inode().is_some() && !id.hash_text().is_empty());
            }
        }
    }

    #[test]
    fn other_names_are_no_ids() {
        for text in [
            "",
            "ABCDE",
            "4c1b21a0",
            "../../etc",
            "4C1B2/1A0",
            "4C1B21A0.x",
            "example_com",
            "é4C1B21A0",
        ] {
            assert!(text.parse::<QueueId>().is_err(), "{text}");
        }
        assert!("3".repeat(22).parse::<QueueId>().is_err());
        assert!("4C1B21A0".parse::<QueueId>().is_ok());
    }

    #[test]
    fn a_queue_id_in_json_is_a_checked_string() {
        let id: QueueId = serde_json::from_str("\"4C1B21A0\"").unwrap();
        assert_eq!(serde_json::to_string(&id).unwrap(), "\"4C1B21A0\"");
        assert!(serde_json::from_str::<QueueId>("\"../x\"").is_err());
    }
}
