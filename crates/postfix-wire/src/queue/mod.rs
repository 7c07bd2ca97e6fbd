//! Queue files: their names and paths.
//!
//! Source: `mail_queue(3)`, `safe_ultostr(3)`, `dir_forest(3)`.

mod id;
mod layout;
mod safe_base;

pub use id::{MAX_ID_BYTES, QueueId, QueueIdError};
pub use layout::{QueueLayout, QueueName, UnknownQueue};
