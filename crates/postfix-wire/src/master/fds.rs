//! The inherited descriptors as owned values.
#![allow(unsafe_code)]

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

static TAKEN: AtomicBool = AtomicBool::new(false);

/// Gives the descriptors `numbers` to the caller, closed on exec. `Err` names the one that is not
/// open. Once per process; later calls get nothing.
pub(super) fn take(
    numbers: impl IntoIterator<Item = RawFd>,
) -> Option<Result<Vec<OwnedFd>, RawFd>> {
    if TAKEN.swap(true, Ordering::SeqCst) {
        return None;
    }
    let numbers: Vec<RawFd> = numbers.into_iter().collect();
    if let Some(&closed) = numbers.iter().find(|&&number| close_on_exec(number).is_err()) {
        return Some(Err(closed));
    }
    // SAFETY: each was open a moment ago; by master's protocol nothing else in this process owns
    // them, and `TAKEN` sees to it that nobody is given them twice.
    Some(Ok(numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }).collect()))
}

fn close_on_exec(number: RawFd) -> nix::Result<i32> {
    // SAFETY: the borrow ends with this call, and fcntl on a descriptor that is not open does no
    // harm: it says so.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))
}
