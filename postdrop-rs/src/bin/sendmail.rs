//! Submits mail: see `postdrop_rs::sendmail`.
//!
//! Entered straight from the C runtime: what Rust's own does before `main` (a stack guard and its
//! signal handlers, for which it reads `/proc/self/maps`) is of no use here and costs a tenth of a
//! millisecond. What is of use, open standard descriptors and no SIGPIPE, `postdrop_rs::privilege`
//! does. Arguments come from the loader and need no runtime.

#![no_main]
#![allow(unsafe_code, reason = "the name `main` must not be mangled; no other symbol has it")]

use postdrop_rs::death::Memory;

#[global_allocator]
static MEMORY: Memory = Memory(postdrop_rs::sendmail::PROGRAM);

/// The program.
#[unsafe(no_mangle)]
pub extern "C" fn main(_argc: i32, _argv: *const *const u8) -> i32 {
    postdrop_rs::sendmail::main().into()
}
