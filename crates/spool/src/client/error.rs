//! Errors of calls, each with its remedy.

use std::io;
use std::path::Path;

use host::folder::is_refusal;
use redis::RedisError;

use crate::SpoolId;

/// Error code of a function that was called for another spool.
const OTHER_SPOOL: &str = "OTHERSPOOL";

/// Reason of a failed call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpoolError {
    /// Redis is away, starting, full, or can't write. The call may or may not have been carried
    /// out. The caller may repeat the call later, as every call.
    #[error("Redis is not available: {0}")]
    Unavailable(String),
    /// The server is a replica: its data may be old, and a write to it would be lost. Nothing was
    /// changed. The next call resolves the name anew, and finds the master once the name leads to
    /// the master.
    #[error(
        "Redis at {server}: not used: the server is a {role}, not the master; make redis.url lead \
            to the master"
    )]
    NotMaster {
        /// Address of the server.
        server: String,
        /// Role that the server gives.
        role: String,
    },
    /// Redis holds another spool than the one that this instance serves: Redis was emptied or
    /// replaced, or `redis.url` leads elsewhere. The call changed nothing. The operator must bring
    /// the right Redis back, or accept this one.
    #[error(
        "Redis holds {}, and this instance serves spool {expected} ({file}); make redis.url lead \
            to that spool, or take the other one by `optimus accept-spool`",
        found.map_or_else(
            || "no spool (Redis was emptied, or is a new one)".to_owned(),
            |it| format!("spool {it}")
        )
    )]
    OtherSpool {
        /// The spool that this instance serves.
        expected: SpoolId,
        /// The spool in this Redis, if there is one.
        found: Option<SpoolId>,
        /// File that remembers the expected spool.
        file: String,
    },
    /// Redis refuses the call: no permission, a wrong password, an impossible argument. Nothing was
    /// changed, unless a function failed half way; the call may still be repeated. The
    /// configuration or the call must be corrected.
    #[error("Redis refuses: {0}")]
    Refused(String),
    /// A file of this host that the client needs can't be used, or the host has no random numbers.
    /// Nothing was changed. The text has object, failure, cause and remedy.
    #[error("{0}")]
    Host(String),
    /// Redis holds the functions of a newer OPTIMUS, which this program can't call. Nothing was
    /// changed. The operator must upgrade this program.
    #[error(
        "Redis holds the functions of a newer OPTIMUS ({loaded}, here {ours}); upgrade this program"
    )]
    Newer {
        /// Version in Redis.
        loaded: String,
        /// Version of this program.
        ours: String,
    },
    /// A later Mail Agent of this node has arrived. The call changed nothing. The caller must end.
    #[error("Mail Agent: superseded by a later one of this node; end this process")]
    Superseded,
    /// Redis has no functions of OPTIMUS, and this connection doesn't load them. Nothing was
    /// changed. The first agent that connects loads them.
    #[error("Redis: function library missing; start an agent, which loads the library")]
    NoLibrary,
    /// A key has a foreign type, or an answer makes no sense: another program probably writes to
    /// this Redis.
    #[error(
        "Redis holds data that OPTIMUS did not write: {0}; find the other program that uses this \
            Redis"
    )]
    Malformed(String),
}

impl SpoolError {
    /// Returns the error of a file on this host. A refusal of [`host::folder`] has its own failure
    /// and remedy.
    pub(super) fn of_file(file: &Path, failure: &str, error: &io::Error, remedy: &str) -> Self {
        let file = file.display();
        Self::Host(match is_refusal(error) {
            true => format!("{file}: {error}"),
            false => format!("{file}: {failure}: {error}; {remedy}"),
        })
    }

    /// Returns the error of a host without random numbers.
    pub fn of_random_numbers(error: impl std::fmt::Display) -> Self {
        Self::Host(format!("random numbers: not got: {error}; see why getrandom(2) fails here"))
    }

    /// Returns whether this Redis is the wrong one or wrongly set up, rather than away for now.
    pub fn is_of_this_redis(&self) -> bool {
        !matches!(self, Self::Unavailable(_))
    }

    /// Returns whether the same call may succeed later without a correction by the operator.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::NotMaster { .. } | Self::OtherSpool { .. })
    }
}

/// Part that an error concerns: the call, the connection, or the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blame {
    /// The call is at fault, or was answered: the connection is as good as before.
    Call,
    /// The connection is broken, or leads to something that doesn't speak Redis's protocol.
    Connection,
    /// The server has its own reasons to refuse, and would refuse the next call too.
    Server {
        /// Whether the name may by now lead to another server, which would accept the call.
        may_be_another: bool,
    },
}

impl Blame {
    pub(super) fn of(error: &RedisError) -> Self {
        match error.code() {
            Some("ERR") if error.to_string().contains("max number of clients") => Self::Connection,
            Some("SUPERSEDED" | "CALLER" | "WRONGTYPE" | "CROSSSLOT" | "ERR") => Self::Call,
            Some(code) => {
                let may_be_another =
                    matches!(code, "READONLY" | "MASTERDOWN" | "UNKILLABLE" | OTHER_SPOOL);
                Self::Server { may_be_another }
            }
            None if error.kind() == redis::ErrorKind::UnexpectedReturnType => Self::Call,
            None => Self::Connection,
        }
    }
}

impl From<RedisError> for SpoolError {
    fn from(error: RedisError) -> Self {
        let text = error.to_string();
        match error.code() {
            // No other error with the general code ERR passes by itself.
            Some("ERR") if text.contains("max number of clients") => Self::Unavailable(text),
            Some("SUPERSEDED") => Self::Superseded,
            Some("WRONGTYPE") => Self::Malformed(text),
            Some(
                "NOPERM" | "NOAUTH" | "WRONGPASS" | "CALLER" | "ERR" | "CROSSSLOT" | "MOVED"
                | "NOPROTO",
            ) => Self::Refused(text),
            Some(_) => Self::Unavailable(text),
            None => Self::without_code(&error, text),
        }
    }
}

impl SpoolError {
    fn without_code(error: &RedisError, text: String) -> Self {
        match error.kind() {
            redis::ErrorKind::AuthenticationFailed | redis::ErrorKind::InvalidClientConfig => {
                Self::Refused(text)
            }
            redis::ErrorKind::UnexpectedReturnType | redis::ErrorKind::Parse => {
                Self::Malformed(text)
            }
            _ => Self::Unavailable(text),
        }
    }
}
