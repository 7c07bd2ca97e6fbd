//! The function library as text, and its version.

/// The library, to be loaded with `FUNCTION LOAD REPLACE`.
pub fn library() -> String {
    SOURCE.replace("@VERSION@", &library_version())
}

const SOURCE: &str = include_str!("optimus.lua");

/// Rises with every change that an older client can't work with. A client never replaces a library
/// of a higher number.
pub(crate) const SCHEMA: u32 = 5;

/// Rises with every other change of the text; a test holds it to that. Of two programs with one
/// schema and two texts, as in the middle of an upgrade, one is the later by this, and both know
/// it: so the library is replaced once, and not by whoever connected last.
pub(crate) const REVISION: u32 = 3;

/// What `optimus_version` answers: the schema's number, the revision, and a checksum of the text.
pub fn library_version() -> String {
    format!("{SCHEMA}.{REVISION}.{:08x}", crc32c::crc32c(SOURCE.as_bytes()))
}

/// Schema and revision of a library; 0 for what it doesn't say.
#[cfg(feature = "async")]
pub(crate) fn rank(version: &str) -> (u32, u32) {
    // Of three parts only: before there were revisions, the second one was the checksum.
    match version.split('.').collect::<Vec<_>>()[..] {
        [schema, revision, _] => (schema.parse().unwrap_or(0), revision.parse().unwrap_or(0)),
        [schema, ..] => (schema.parse().unwrap_or(0), 0),
        [] => (0, 0),
    }
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

#[cfg(all(test, feature = "async"))]
mod tests {
    use super::*;

    #[test]
    fn another_text_is_another_revision() {
        let hint = "optimus.lua has changed: raise REVISION (or SCHEMA, from revision 1 on), and \
            put the new version here";
        assert_eq!(library_version(), "5.3.bf05972b", "{hint}");
    }

    #[test]
    fn later_versions_rank_higher() {
        let ranks =
            ["nonsense", "2.99999999", "2.1.00000000", "2.10.00000000", "3.0.00000000"].map(rank);
        assert_eq!(ranks, [(0, 0), (2, 0), (2, 1), (2, 10), (3, 0)]);
    }
}
