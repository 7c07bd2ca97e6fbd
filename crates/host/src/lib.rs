//! What programs need of the machine they run on, and how little they trust it.
//!
//! | module | what |
//! |---|---|
//! | [`stderr`] | standard error that never waits |
//! | [`local_time`] | times as people read them |

pub mod local_time;
pub mod stderr;
