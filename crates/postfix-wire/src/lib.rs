//! Postfix's formats and protocols for a submitter, a feeder of cleanup, and a service of master.
//!
//! | module | content | source in Postfix |
//! |---|---|---|
//! | [`record`] | the typed records of queue files and of the conversation with cleanup | `record(3)`, `rec_type.h` |
//! | [`attr`] | the `name\0value\0…\0` lists of internal sockets | `attr_print0(3)`, `attr_scan0(3)` |
//! | [`cleanup`] | requests to cleanup, and its answers | `cleanup_user.h` |
//! | [`queue`] | queue ids, queue names, paths of queue files | `mail_queue(3)` |
//! | [`main_cf`] | `main.cf`: reading, `$name` expansion, defaults | `dict(3)`, `mac_expand(3)`, `mail_conf(3)` |
//! | [`master_cf`] | `master.cf` entries | `master_ent.c` |
//! | [`maillog`] | lines to syslog or postlogd, without waiting | `maillog_client(3)` |
//! | [`address`] | quoting of local parts | `quote_822_local(3)` |
//! | [`showq`] | listings of a queue | `showq(8)`, `postqueue(1)` |
//! | [`master`] | being a service that master(8) starts | `multi_server.c`, `master_proto.h` |
//!
//! Parsers read foreign bytes and never panic on them. Each parser has a named limit, a property
//! test and a fuzz target. Postfix's numbers and letters come from its headers, in [`constants`].

pub mod address;
pub mod attr;
pub mod cleanup;
pub mod constants;
mod lines;
pub mod maillog;
pub mod main_cf;
pub mod master;
pub mod master_cf;
#[cfg(test)]
mod postconf;
pub mod queue;
pub mod record;
pub mod showq;

pub use attr::{AttrError, Attributes};
pub use cleanup::{CleanupFlags, CleanupStatus};
pub use main_cf::{MainCf, MainCfError};
pub use master::{MasterArgs, MasterLink};
pub use master_cf::{MasterCf, MasterCfError};
pub use queue::{QueueId, QueueIdError, QueueLayout, QueueName};
pub use record::{Record, RecordError, RecordReader, RecordType, Records};
