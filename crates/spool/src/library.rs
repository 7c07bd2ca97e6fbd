//! The function library as text, and its version.

/// The library, to be loaded with `FUNCTION LOAD REPLACE`.
pub fn library() -> String {
    SOURCE.replace("@VERSION@", &library_version())
}

const SOURCE: &str = include_str!("optimus.lua");

/// Rises with every change that an older client can't work with. A client never replaces a library of a higher number.
pub(crate) const SCHEMA: u32 = 2;

/// What `optimus_version` answers: the schema's number and a checksum of the text.
pub fn library_version() -> String {
    format!("{SCHEMA}.{:08x}", crc32c::crc32c(SOURCE.as_bytes()))
}

/// All of shard 0's keys start with this; the braces are Redis Cluster's hash tag.
#[cfg(feature = "async")]
pub(crate) const SHARD: &str = "optimus:{0}:";

/// What is submitted waits here for a lot.
pub(crate) const INBOX: &str = "optimus:{0}:inbox";

/// Where news are told.
pub(crate) const NEWS: &str = "optimus:{0}:news";

/// What submitters tell there.
pub(crate) const NEWS_OF_INBOX: &str = "inbox";

/// All keys of the directory start with this.
#[cfg(feature = "async")]
pub(crate) const DIRECTORY: &str = "optimus:{dir}:";
