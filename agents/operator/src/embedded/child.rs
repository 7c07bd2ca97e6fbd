//! A child process that ends when its parent does.
#![allow(unsafe_code)]

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getpid, getppid};
use tokio::process::Command;

/// Has the kernel send SIGTERM to the child when the thread that started the child ends.
pub(super) fn end_with_parent(command: &mut Command) {
    let parent = getpid();
    // SAFETY: the closure runs in the child between fork and exec and calls only prctl and getppid,
    // which are async-signal-safe; it allocates nothing.
    unsafe { command.pre_exec(move || still_wanted(parent)) };
}

fn still_wanted(parent: Pid) -> std::io::Result<()> {
    set_pdeathsig(Signal::SIGTERM)?;
    // The parent may have ended before prctl was called; then the kernel sends no signal.
    if getppid() == parent { Ok(()) } else { Err(nix::errno::Errno::ESRCH.into()) }
}
