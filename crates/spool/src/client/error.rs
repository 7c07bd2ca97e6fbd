//! What can go wrong with a call, and what to do about it.

use redis::RedisError;

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpoolError {
    /// Redis is away, starting, full, or can't write. Whether the call was carried out is not known. Repeat it later:
    /// every call may be repeated.
    #[error("Redis is not available: {0}")]
    Unavailable(String),
    /// Redis won't do this for us: no permission, wrong password, an impossible argument. Nothing was changed, unless
    /// the error arose inside a function, which does not undo what it did before; the call may still be repeated.
    /// Correct the configuration or the call.
    #[error("Redis refuses: {0}")]
    Refused(String),
    /// Redis holds the functions of a newer OPTIMUS, which this one doesn't know how to call. Nothing was changed.
    /// Upgrade this program.
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
    /// Redis has none of our functions, and a connection for looking doesn't load them. Nothing was changed. They are
    /// there as soon as an agent has connected.
    #[error("Redis does not have the functions of OPTIMUS; the first agent loads them")]
    NoLibrary,
    /// A key has another's type, or an answer makes no sense. Look at what else uses this Redis.
    #[error("Redis holds what OPTIMUS did not put there: {0}")]
    Corrupt(String),
}

impl SpoolError {
    /// May the same call succeed later, with nobody correcting anything?
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
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
                "NOPERM" | "NOAUTH" | "WRONGPASS" | "CALLER" | "ERR" | "CROSSSLOT" | "MOVED" | "NOPROTO",
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
