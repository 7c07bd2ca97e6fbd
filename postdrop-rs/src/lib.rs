//! Submission of mail: the modules that `sendmail`, `postdrop` and postdropd share.
//!
//! ```text
//! sendmail   options ─ content ─ headers ─ address ─ compose ──┐
//!                                                              ▼
//!                                                           filter ── submission ──▶ Redis, or
//!                                                              ▲                     the maildrop
//! postdrop   records from standard input ──────────────────────┘
//! ```
//!
//! `sendmail` and `postdrop` are installed set-group-id `postdrop`: any user may run them, and they
//! may reach Redis's socket and write to the maildrop. So all input of the caller passes three
//! checks, and each check is one module: [`privilege`] (the process's surroundings), [`instance`]
//! (the configuration), [`filter`] (the content of a submission).
//!
//! Where set-group-id has no effect, [`relay`] takes the message to [`postdropd`], a small server,
//! which runs postdrop as the caller.
//!
//! Both programs start once per message, so most of their cost is the start. They have one thread
//! and no async runtime, and they read only the files that the message needs.

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
pub mod stamp;
pub mod submission;
mod sys;
pub mod table;
