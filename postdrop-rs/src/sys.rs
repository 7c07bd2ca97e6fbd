//! System calls without a safe wrapper. No other module of this crate is `unsafe`.
//!
//! Each program has one thread and calls these functions from it.

#![allow(unsafe_code)]

use std::io::{self, Read};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Fewest descriptors that are closed one by one, where one call can't close them all. The number
/// is the usual hard limit.
const DESCRIPTORS_MIN: libc::c_long = 4_096;
/// Most descriptors that are closed one by one, since each takes a system call.
const DESCRIPTORS_MAX: libc::c_long = 1_048_576;

/// Removes the file of this name, unless the pointer is null. Needs no memory.
pub(crate) fn remove(name: *const libc::c_char) {
    if !name.is_null() {
        // SAFETY: each such pointer in this crate was made of a C string.
        unsafe { libc::unlink(name) };
    }
}

/// Writes `words` to standard error and ends the process. Needs no memory.
pub(crate) fn end(words: &[&str], code: u8) -> ! {
    words.iter().for_each(|word| host::stderr::write_now(word.as_bytes()));
    // SAFETY: `_exit` takes a plain number.
    unsafe { libc::_exit(code.into()) }
}

/// Bytes of the stack for the handler of a fault: for itself, and for the processor's state that
/// the kernel saves.
const FAULT_STACK_BYTES: usize = 64 * 1024;

/// Runs `handler`, on a stack of its own, at a fault: when the stack is used up, or missing memory
/// is touched.
///
/// The signals are unblocked, because the caller may have blocked them. Then the kernel would end
/// the process without the handler.
pub(crate) fn on_fault(
    handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void),
) {
    static mut STACK: [u8; FAULT_STACK_BYTES] = [0; FAULT_STACK_BYTES];
    // SAFETY: nobody else uses `STACK`; the structures are plain data, filled in before they are
    // read; there is one thread.
    unsafe {
        let mut stack: libc::stack_t = std::mem::zeroed();
        stack.ss_sp = (&raw mut STACK).cast();
        stack.ss_size = FAULT_STACK_BYTES;
        libc::sigaltstack(&raw const stack, std::ptr::null_mut());
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as libc::sighandler_t;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        let mut signals: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut signals);
        for signal in FAULTS {
            libc::sigaction(signal, &raw const action, std::ptr::null_mut());
            libc::sigaddset(&raw mut signals, signal);
        }
        libc::sigprocmask(libc::SIG_UNBLOCK, &raw const signals, std::ptr::null_mut());
    }
}

/// Signals of a fault.
const FAULTS: [libc::c_int; 2] = [libc::SIGSEGV, libc::SIGBUS];

/// Returns whether a fault of this process caused the signal, and not another process.
pub(crate) fn is_own_fault(about: *const libc::siginfo_t) -> bool {
    // SAFETY: the kernel gives the handler a valid pointer, and only the handler calls this.
    !about.is_null() && unsafe { (*about).si_code } > 0
}

/// Forbids core files of this process. Only root may then read the process's memory, whatever
/// `fs.suid_dumpable` says.
pub(crate) fn keep_secrets() {
    // SAFETY: plain numbers.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0) };
}

/// Opens `/dev/null` for standard descriptors that the caller has closed. Otherwise a later file
/// would get such a number and be written to as if it were standard error. Returns false on
/// failure.
///
/// In set-group-id programs glibc has opened them already, but has opened standard input so that it
/// can't be read.
pub(crate) fn open_missing_standard_descriptors() -> bool {
    // SAFETY: plain numbers and a constant string; the lowest free number is the missing one.
    (0..3).all(|descriptor| unsafe {
        let flags = libc::fcntl(descriptor, libc::F_GETFL);
        if flags != -1
            && descriptor == 0
            && flags & libc::O_ACCMODE == libc::O_WRONLY
            && is_dev_full(0)
        {
            libc::close(descriptor);
        } else if flags != -1 {
            return true;
        }
        libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) == descriptor
    })
}

fn is_dev_full(descriptor: libc::c_int) -> bool {
    // SAFETY: `fstat` fills in the plain data that it is given.
    unsafe {
        let mut about: libc::stat = std::mem::zeroed();
        libc::fstat(descriptor, &raw mut about) == 0 && about.st_rdev == libc::makedev(1, 7)
    }
}

/// Closes every descriptor except standard input, output and error.
pub(crate) fn close_inherited_descriptors() {
    // SAFETY: called first thing in `main`, before this process has opened a descriptor of its own,
    // so nothing loses one that it believes to have. `sysconf` takes and gives plain numbers.
    unsafe {
        if libc::close_range(3, libc::c_uint::MAX, 0) == 0 {
            return;
        }
        // The call is missing in an old kernel, or forbidden by a filter of system calls. The limit
        // may have been lowered below the descriptors that are open.
        let limit = libc::sysconf(libc::_SC_OPEN_MAX).clamp(DESCRIPTORS_MIN, DESCRIPTORS_MAX);
        for descriptor in 3..libc::c_int::try_from(limit).unwrap_or(libc::c_int::MAX) {
            libc::close(descriptor);
        }
    }
}

/// Marks inherited descriptors to close in programs that this one runs: all except standard input,
/// output and error.
pub(crate) fn keep_inherited_descriptors() -> io::Result<()> {
    // SAFETY: plain numbers; no owner loses a descriptor.
    let kept = unsafe {
        libc::close_range(3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC as libc::c_int)
    };
    if kept == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Standard input. std's own type takes an unreadable standard input for an empty one.
#[derive(Debug)]
pub(crate) struct StandardInput;

impl Read for StandardInput {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(nix::unistd::read(io::stdin(), buffer)?)
    }
}

/// Empties the environment.
pub(crate) fn clear_environment() {
    // SAFETY: there is one thread, and nobody holds a pointer into the environment: what is needed
    // of it has been copied.
    unsafe { libc::clearenv() };
}

/// Makes two kinds of writes fail instead of ending the process: beyond the caller's file size
/// limit, and to a client that has gone. Also has the system report the end of children, even if
/// the caller had it ignore them.
pub(crate) fn settle_signals() {
    for (signal, action) in [
        (libc::SIGXFSZ, libc::SIG_IGN),
        (libc::SIGPIPE, libc::SIG_IGN),
        (libc::SIGCHLD, libc::SIG_DFL),
    ] {
        // SAFETY: neither action runs code of this program.
        unsafe { libc::signal(signal, action) };
    }
}

/// Returns the socket that a service manager has opened for this process, if any: the first of its
/// descriptors.
///
/// Source: `sd_listen_fds(3)`.
pub(crate) fn socket_of_service_manager() -> Option<OwnedFd> {
    /// Number of the first descriptor.
    const FIRST: libc::c_int = 3;
    let is = |name, value: &str| std::env::var(name).is_ok_and(|text| text == value);
    let ours = is("LISTEN_PID", &std::process::id().to_string()) && is("LISTEN_FDS", "1");
    // SAFETY: the service manager says that the descriptor is open and meant for this process. No
    // other code here has taken it, since this is called once.
    ours.then(|| unsafe { OwnedFd::from_raw_fd(FIRST) })
}

/// Makes `command` start its program with no signal blocked. Signals that this process ignores stay
/// ignored, except SIGPIPE, which std resets.
pub(crate) fn with_no_signal_blocked(command: &mut Command) {
    let prepare = || {
        // SAFETY: both calls are async-signal-safe, as is wanted between fork and exec, and read
        // what they are given.
        unsafe {
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        }
        Ok(())
    };
    // SAFETY: `prepare` may run between fork and exec, as it says.
    unsafe { command.pre_exec(prepare) };
}
