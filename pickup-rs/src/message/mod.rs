//! From a stored message to what cleanup is told, as stock pickup would tell it.
//!
//! A stored message is the record stream that stock postdrop would have written into maildrop.
//! Stock pickup copies such a stream to cleanup segment by segment with a few changes (`pickup.c`);
//! the same changes are made here, and ours:
//!
//! | where | stock pickup | pickup-rs, as well |
//! |---|---|---|
//! | before the envelope | `L` with `content_filter` | first of all `A` records that tell who we are |
//! | envelope | drops `L` and `>`; adds `T` if there is none | drops `A optimus_…`, which only we may write |
//! | before the content | `Received:` | `Message-Id:` or `Resent-Message-Id:` if missing, made of the message's id |
//! | content | an empty line before leading white space | |
//! | extracted | drops `L`, `>`, `r`, `e`, and `A` unless about DSN | drops `A optimus_…` |
//!
//! Cleanup would add a missing Message-Id too, but made of the queue id, which differs from node to
//! node and from attempt to attempt; ours is the same whichever node sends the message. Cleanup
//! leaves the headers of mail from elsewhere (`sendmail -G`) as they are, unless
//! `remote_header_rewrite_domain` or `always_add_missing_headers` is set.
//!
//! Everything here is pure: the same input gives the same records.

mod destinations;
mod draft;
mod fault;
mod headers;
mod origin;
mod received;
mod sender;

pub(crate) use draft::{Draft, ForCleanup, Malformed, Site, Stored, TOO_LONG};
pub(crate) use fault::Fault;
pub(crate) use origin::{Origin, READ_BYTES, Whose};
pub(crate) use sender::for_log;
