//! Trials of the whole platform with real programs: the parts that `ci/quickstart` and `ci/faults`
//! share. `ci/bench` (`ci/benchmarks`) measures the same platform.
//!
//! A trial has a [`Platform`] (a private Postfix with pickup-rs, a Redis, the agents, a sink), and
//! a [`Mailer`] that pipes messages into `sendmail` from a shell loop. In the end a
//! [`testbed::Tally`] compares the messages that `sendmail` accepted with those at the sink.
//! A fleet has many nodes, each in a network namespace, and a [`NodesCase`] strikes one of them.
//! Nothing is inferred: only exit codes of `sendmail` and SMTP transactions count.

mod administrator;
mod agents;
mod away;
mod case;
mod fleet;
mod mailer;
mod nodes;
mod notes;
mod patience;
mod platform;
mod postsuper;
mod report;
mod rewind;
mod test_ids;
mod victim;
mod window;

pub use agents::Agents;
pub use case::Case;
pub use fleet::require_namespaces;
pub use mailer::{Mailer, Outcome};
pub use nodes::{Measured, NodesCase, Scene};
pub use notes::Notes;
pub use patience::Patience;
pub use platform::{AGENTS, Platform, PlatformBuilder, require_root};
pub use report::{Output, Progress, end, seconds, table};
pub use rewind::{may_lose, may_repeat};
pub use victim::{Aftermath, Victim};
pub use window::{InWindow, Strike};
