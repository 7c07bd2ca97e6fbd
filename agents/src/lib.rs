//! The agents share mail out over Postfix servers, watch each other, and finish the job when one of
//! them dies.
//!
//! ```text
//!  Redis ◀ notice ▶ Info Agent ─ assign ─▶ Scheduler ─ fetch ─▶ Mail Agent ─ feed ─▶ pickup-rs
//!                   lots to nodes          watches leases       feeds, commits,         │
//!                                                               releases                ▼ Postfix
//! ```
//!
//! Each agent is a pure state machine ([`machine::Machine`]): [`info::Info`],
//! [`scheduler::Scheduler`], [`mail::Mail`].

pub mod agents;
pub mod daemon;
pub mod driver;
pub mod info;
pub mod lease;
pub mod listing;
pub mod machine;
pub mod mail;
mod membership;
pub mod own_file;
pub mod peer;
mod probing;
pub mod programs;
mod quarantine;
pub mod scheduler;
pub mod showq;
mod supervision;
pub mod view;
