//! Conversion of a stored message to the records that stock pickup would send to cleanup.
//!
//! A stored message is the record stream that stock postdrop would have written into the maildrop.
//! Stock pickup copies such a stream to cleanup, segment by segment, with a few changes
//! (`pickup.c`). pickup-rs makes the same changes and some of its own:
//!
//! | where | stock pickup | pickup-rs, as well |
//! |---|---|---|
//! | before the envelope | `L` with `content_filter` | first of all `A` records that tell the file's origin |
//! | envelope | drops `L` and `>`; adds `T` if there is none | drops `A optimus_…`, reserved for pickup-rs |
//! | before the content | `Received:` | `Message-Id:` or `Resent-Message-Id:` if missing, of the message id |
//! | content | an empty line before leading white space | |
//! | extracted | drops `L`, `>`, `r`, `e`, and `A` unless about DSN | drops `A optimus_…` |
//!
//! Cleanup would add a missing Message-Id too, made of the queue id, which differs between nodes
//! and attempts. The header of pickup-rs is the same, whichever node sends the message. Cleanup
//! leaves the headers of mail from elsewhere (`sendmail -G`) as they are, unless
//! `remote_header_rewrite_domain` or `always_add_missing_headers` is set.
//!
//! All code here is pure: the same input gives the same records.

mod destinations;
mod draft;
mod fault;
mod headers;
mod received;
mod sender;

pub(crate) use draft::{Draft, ForCleanup, Malformed, Site, Stored};
pub(crate) use fault::Fault;
pub(crate) use sender::for_log;
