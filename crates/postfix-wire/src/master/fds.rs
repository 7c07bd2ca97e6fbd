//! Inherited descriptors as owned values.
#![allow(unsafe_code)]

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

static TAKEN: AtomicBool = AtomicBool::new(false);

/// Returns the descriptors `numbers` as owned values, closed on exec. Fails with the number of one
/// that is not open. Works once per process; later calls return `None`.
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
    // SAFETY: each descriptor was open a moment ago, and by master's protocol no other code of this
    // process owns it. `TAKEN` ensures that each is given out only once.
    Some(Ok(numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }).collect()))
}

fn close_on_exec(number: RawFd) -> nix::Result<i32> {
    // SAFETY: the borrow ends with this call, and fcntl on a closed descriptor only fails.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))
}
