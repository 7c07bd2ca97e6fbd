//! Submits records: see `postdrop_rs::postdrop`.
//!
//! This program is entered straight from the C runtime. Rust's own runtime sets up a stack guard
//! and signal handlers before `main`, for which it reads `/proc/self/maps`. That is of no use here
//! and costs a tenth of a millisecond. `postdrop_rs::privilege` does the useful rest: open standard
//! descriptors and no SIGPIPE. Arguments come from the loader and need no runtime.

#![no_main]
#![allow(unsafe_code, reason = "the name `main` must not be mangled; no other symbol has it")]

use postdrop_rs::death::Memory;

#[global_allocator]
static MEMORY: Memory = Memory(postdrop_rs::postdrop::PROGRAM);

/// The program.
#[unsafe(no_mangle)]
pub extern "C" fn main(_argc: i32, _argv: *const *const u8) -> i32 {
    postdrop_rs::postdrop::main().into()
}
