//! Submission: what `sendmail` and `postdrop` have in common, which is nearly everything.
//!
//! ```text
//! sendmail   options ─ content ─ headers ─ address ─ compose ──┐
//!                                                              ▼
//!                                                           filter ── submission ──▶ Redis, or
//!                                                              ▲                     the maildrop
//! postdrop   records from standard input ──────────────────────┘
//! ```
//!
//! Both are installed set-group-id `postdrop`: any user may run them, and they may reach Redis's
//! socket and write to the maildrop. So what they take from the caller passes three gates, and each
//! is one module: [`privilege`] (the process's surroundings), [`instance`] (which configuration),
//! [`filter`] (what may be submitted).
//!
//! Where their installation's rights have no effect, [`relay`] takes the message to [`postdropd`],
//! a small server, which runs postdrop as the user who asks.
//!
//! They start once per message, so start-up is most of what they cost: one thread, no async
//! runtime, nothing read that isn't needed.

pub mod address;
pub mod bulk;
pub mod collected;
pub mod compose;
pub mod content;
pub mod death;
pub mod delegate;
pub mod dsn;
pub mod exit;
pub mod filter;
pub mod getopt;
pub mod headers;
pub mod identity;
pub mod instance;
pub mod list;
pub mod log;
pub mod maildrop;
pub mod mailq;
mod offer;
pub mod options;
pub mod policy;
pub mod postdrop;
pub mod postdropd;
pub mod privilege;
pub mod relay;
pub mod report;
pub mod sender;
pub mod sendmail;
pub mod submission;
mod sys;
pub mod table;
pub mod ticket;
