//! What can go wrong with a call, and what to do about it.

use redis::RedisError;

use crate::SpoolId;

/// What a function answers that is meant for another spool.
const OTHER_SPOOL: &str = "OTHERSPOOL";

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpoolError {
    /// Redis is away, starting, full, or can't write. Whether the call was carried out is not
    /// known. Repeat it later: every call may be repeated.
    #[error("Redis is not available: {0}")]
    Unavailable(String),
    /// The server is a replica, or was made one: what it has may be old, and what is written to it
    /// is lost. Nothing was changed. The name is resolved anew for the next call; the master is
    /// found as soon as the name leads to it.
    #[error(
        "Redis at {server}: is a {role}, not the master; waiting until redis.url leads to the \
            master"
    )]
    NotMaster {
        /// Its address.
        server: String,
        /// What it says that it is.
        role: String,
    },
    /// Redis holds another spool than the one that this instance serves: it was emptied or
    /// replaced, or `redis.url` leads elsewhere. Nothing was changed. The right Redis must come
    /// back, or the operator accept this one.
    #[error(
        "Redis holds {}, and this instance serves spool {expected} ({file}); nothing is done until \
            redis.url leads to that spool again, or `optimus accept-spool` takes this one",
        found.map_or_else(
            || "no spool (it was emptied, or is a new one)".to_owned(),
            |it| format!("spool {it}")
        )
    )]
    OtherSpool {
        /// The one that is served.
        expected: SpoolId,
        /// The one that is there, if one is.
        found: Option<SpoolId>,
        /// Where it is remembered.
        file: String,
    },
    /// Redis won't do this for us: no permission, wrong password, an impossible argument. Nothing
    /// was changed, unless the error arose inside a function, which does not undo what it did
    /// before; the call may still be repeated. Correct the configuration or the call.
    #[error("Redis refuses: {0}")]
    Refused(String),
    /// Redis holds the functions of a newer OPTIMUS, which this one doesn't know how to call.
    /// Nothing was changed. Upgrade this program.
    #[error("Redis holds the functions of a newer OPTIMUS ({loaded}, here {ours})")]
    Newer {
        /// The version in Redis.
        loaded: String,
        /// Ours.
        ours: String,
    },
    /// A later Mail Agent of this node has arrived. Nothing was changed. This one is to end.
    #[error("a later Mail Agent has taken this one's place")]
    Superseded,
    /// Redis has none of our functions, and a connection for looking doesn't load them. Nothing was
    /// changed. They are there as soon as an agent has connected.
    #[error("Redis does not have the functions of OPTIMUS; the first agent loads them")]
    NoLibrary,
    /// A key has another's type, or an answer makes no sense. Look at what else uses this Redis.
    #[error("Redis holds what OPTIMUS did not put there: {0}")]
    Corrupt(String),
}

impl SpoolError {
    /// Whether it is this Redis that is the wrong one, or wrongly set up, and not merely away for
    /// now.
    pub fn is_of_this_redis(&self) -> bool {
        !matches!(self, Self::Unavailable(_))
    }

    /// May the same call succeed later, with nobody correcting anything?
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::NotMaster { .. } | Self::OtherSpool { .. })
    }
}

/// What an error says about the connection that it came over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blame {
    /// The call is at fault, or was answered: the connection is as good as before.
    Call,
    /// The connection is broken, or leads to something that does not speak Redis's protocol.
    Connection,
    /// The server has reasons of its own to refuse, and would refuse the next call too.
    Server {
        /// Whether the name may lead to a server by now that does not refuse.
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
            // The one error under the general code that passes by itself.
            Some("ERR") if text.contains("max number of clients") => Self::Unavailable(text),
            Some("SUPERSEDED") => Self::Superseded,
            Some("WRONGTYPE") => Self::Corrupt(text),
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
            redis::ErrorKind::UnexpectedReturnType | redis::ErrorKind::Parse => Self::Corrupt(text),
            _ => Self::Unavailable(text),
        }
    }
}
