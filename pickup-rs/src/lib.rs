//! Hand-off of mail from Redis to stock Postfix cleanup

pub mod client;
mod lines;
mod local_time;
mod message;
pub mod protocol;
