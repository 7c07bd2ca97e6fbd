//! The function library as text, and its version.

/// Returns the library, for `FUNCTION LOAD REPLACE`.
pub fn library() -> String {
    SOURCE.replace("@VERSION@", &library_version())
}

const SOURCE: &str = include_str!("optimus.lua");

/// Schema of the library, raised by every change with which an older client can't work. A client
/// never replaces a library of a higher schema.
pub(crate) const SCHEMA: u32 = 10;

/// Revision of the text, raised by every other change, as a test enforces. During an upgrade two
/// programs may have one schema and two texts. Both know from the revision which text is later, so
/// they replace the library once.
pub(crate) const REVISION: u32 = 2;

/// Returns the answer of `optimus_version`: schema, revision, and a checksum of the text.
pub fn library_version() -> String {
    format!("{SCHEMA}.{REVISION}.{:08x}", crc32c::crc32c(SOURCE.as_bytes()))
}

/// Returns schema and revision of a library; 0 for a part that the version lacks.
#[cfg(feature = "async")]
pub(crate) fn rank(version: &str) -> (u32, u32) {
    // Early versions had no revision: their second part was the checksum.
    match version.split('.').collect::<Vec<_>>()[..] {
        [schema, revision, _] => (schema.parse().unwrap_or(0), revision.parse().unwrap_or(0)),
        [schema, ..] => (schema.parse().unwrap_or(0), 0),
        [] => (0, 0),
    }
}

/// Notice that submitters send.
pub(crate) const NOTICE_OF_INBOX: &str = "inbox";

#[cfg(all(test, feature = "async"))]
mod tests {
    use super::*;

    #[test]
    fn another_text_is_another_revision() {
        let hint = "optimus.lua has changed: raise REVISION (or SCHEMA, from revision 1 on), and \
            put the new version here";
        assert_eq!(library_version(), "10.2.d6ee18fe", "{hint}");
    }

    #[test]
    fn later_versions_rank_higher() {
        let ranks =
            ["nonsense", "2.99999999", "2.1.00000000", "2.10.00000000", "3.0.00000000"].map(rank);
        assert_eq!(ranks, [(0, 0), (2, 0), (2, 1), (2, 10), (3, 0)]);
    }
}
