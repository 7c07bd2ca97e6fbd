//! Surroundings that a set-group-id program must not take over from its caller.
//!
//! The caller chooses environment, open descriptors, umask, signals and limits, and may choose them
//! to harm. So the first step of `sendmail` and `postdrop` is [`Caller::take_over`]: copy the two
//! environment variables that mean something, then drop the rest of the environment and every
//! descriptor above standard error, and open `/dev/null` for those up to it that are missing.
//! Limits stay the caller's: what they make impossible fails, see [`crate::death`]. (glibc has
//! dropped variables that are dangerous to itself before `main`.)
//!
//! Whether to *trust* the caller is another question: see [`is_privileged`].

use std::ffi::OsString;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{getegid, geteuid, getgid, getuid, setresgid, setresuid};

use crate::death::Program;
use crate::exit::Failure;
use crate::sys;

/// Things that are kept of the caller.
#[derive(Debug)]
pub struct Caller {
    /// The real user.
    pub uid: u32,
    /// `MAIL_CONFIG`.
    pub mail_config: Option<OsString>,
    /// `NAME`, which `sendmail` takes for the full name.
    pub name: Option<OsString>,
    /// Whether the program was started with set-user-id root, which was given up.
    pub was_set_user_id_root: bool,
}

impl Caller {
    /// Call first, before anything is opened.
    pub fn take_over(program: Program) -> Self {
        if is_privileged() {
            sys::keep_secrets();
        }
        if !sys::open_missing_standard_descriptors() {
            program.die(
                "standard input, output or error is missing, and /dev/null can't be opened in its \
                    place",
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

/// Some sites install `sendmail` set-user-id root by mistake. The group is all that is needed.
fn give_up_set_user_id_root(program: Program) -> bool {
    let (real, effective) = (getuid(), geteuid());
    let mistaken = effective.is_root() && !real.is_root();
    if mistaken && setresuid(real, real, real).is_err() {
        // To go on as root is what must not happen.
        program.die("can't give up set-user-id root");
    }
    mistaken
}

/// Whether this process may do what its caller may not. Then the caller's choices need checking.
pub fn is_privileged() -> bool {
    let is_root = getuid().is_root() && geteuid().is_root();
    !is_root && (getuid() != geteuid() || getgid() != getegid())
}

/// Gives up the set-group-id for good, before another program runs in our place.
pub fn give_up_group() -> Result<(), Failure> {
    let real = getgid();
    setresgid(real, real, real).map_err(|error| Failure::temporary(format!("setresgid: {error}")))
}

/// From here on no signal that can be blocked ends the process: first it has a file that would be
/// left unfinished, and then something durable to tell of, which its caller would take for a
/// failure.
///
/// Those of a fault stay: blocked, they would end it without [`crate::death`].
pub fn block_signals() {
    let mut signals = SigSet::all();
    signals.remove(Signal::SIGSEGV);
    signals.remove(Signal::SIGBUS);
    let _ = signals.thread_block();
}
