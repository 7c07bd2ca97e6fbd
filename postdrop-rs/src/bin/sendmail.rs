//! Submits mail: see `postdrop_rs::sendmail`.
//!
//! The C runtime calls this program's `main` directly. Rust's runtime would first set up a stack
//! guard and signal handlers, for which it reads `/proc/self/maps`. That work is of no use here and
//! costs a tenth of a millisecond. `postdrop_rs::privilege` does the useful rest: it opens missing
//! standard descriptors and ignores SIGPIPE. Arguments come from the loader and need no runtime.

#![no_main]
#![allow(unsafe_code, reason = "the name `main` must not be mangled; no other symbol has it")]

use postdrop_rs::death::Memory;

#[global_allocator]
static MEMORY: Memory = Memory(postdrop_rs::sendmail::PROGRAM);

/// Entry point for the C runtime. Returns the exit code.
#[unsafe(no_mangle)]
pub extern "C" fn main(_argc: i32, _argv: *const *const u8) -> i32 {
    postdrop_rs::sendmail::main().into()
}
