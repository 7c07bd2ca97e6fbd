//! Surroundings that a set-group-id program must not inherit from its caller.
//!
//! The caller chooses environment, open descriptors, umask, signals and limits, and may mean harm.
//! So `sendmail` and `postdrop` first call [`Caller::take_over`]. This function copies the two
//! environment variables that matter, and drops the rest of the environment and every descriptor
//! above standard error. It also opens `/dev/null` for missing standard descriptors. Limits stay
//! the caller's: an operation that they forbid fails, see [`crate::death`]. glibc has dropped
//! variables that are dangerous to itself before `main`.
//!
//! [`is_privileged`] says whether the caller could gain by harmful choices.

use std::ffi::OsString;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{getegid, geteuid, getgid, getuid, setresgid, setresuid};

use crate::death::Program;
use crate::exit::Failure;
use crate::sys;

/// Facts about the caller that the program keeps.
#[derive(Debug)]
pub struct Caller {
    /// Real user id.
    pub uid: u32,
    /// Value of `MAIL_CONFIG`.
    pub mail_config: Option<OsString>,
    /// Value of `NAME`, which `sendmail` takes for the full name.
    pub name: Option<OsString>,
    /// Whether the program was started set-user-id root, which it has given up.
    pub was_set_user_id_root: bool,
}

impl Caller {
    /// Takes over from the caller. Must be called before any other code opens a file.
    pub fn take_over(program: Program) -> Self {
        if is_privileged() {
            sys::keep_secrets();
        }
        if !sys::open_missing_standard_descriptors() {
            program.die(
                "standard input, output or error: missing, and /dev/null can't be opened instead; \
                    open all three",
            );
        }
        sys::close_inherited_descriptors();
        program.die_of_faults();
        program.die_of_panics();
        let caller = Self {
            uid: getuid().as_raw(),
            mail_config: std::env::var_os("MAIL_CONFIG"),
            name: std::env::var_os("NAME"),
            was_set_user_id_root: give_up_set_user_id_root(program),
        };
        sys::clear_environment();
        sys::settle_signals();
        umask(Mode::from_bits_truncate(0o022));
        caller
    }
}

/// Gives up set-user-id root, which some sites set on `sendmail` by mistake. The programs need only
/// the group. Returns whether there was such a right.
fn give_up_set_user_id_root(program: Program) -> bool {
    let (real, effective) = (getuid(), geteuid());
    let mistaken = effective.is_root() && !real.is_root();
    if mistaken && setresuid(real, real, real).is_err() {
        // The program must never go on as root.
        program.die("set-user-id root: not given up; remove this bit (chmod u-s)");
    }
    mistaken
}

/// Returns whether this process has rights that its caller lacks. The caller's choices must then be
/// checked.
pub fn is_privileged() -> bool {
    let is_root = getuid().is_root() && geteuid().is_root();
    !is_root && (getuid() != geteuid() || getgid() != getegid())
}

/// Gives up the set-group-id for good, before this process becomes another program.
pub fn give_up_group() -> Result<(), Failure> {
    let real = getgid();
    setresgid(real, real, real)
        .map_err(|error| Failure::temporary(format!("set-group-id: not given up: {error}")))
}

/// Blocks all signals that can be blocked. Otherwise a signal could leave an unfinished file. A
/// later signal could end the process when the message is durable, and the caller would take that
/// for a failure.
///
/// Signals of a fault stay unblocked. If they were blocked, a fault would end the process without
/// [`crate::death`].
pub fn block_signals() {
    let mut signals = SigSet::all();
    signals.remove(Signal::SIGSEGV);
    signals.remove(Signal::SIGBUS);
    let _ = signals.thread_block();
}
