//! Hand-off of mail from Redis to stock Postfix cleanup

pub mod client;
mod lines;
pub mod protocol;
