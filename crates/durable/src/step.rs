//! The steps that change a disk. The tests of this crate see them, and die before each of them.

use std::io;

/// A step of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(test), allow(dead_code, reason = "only tests ask which step it is"))]
pub(crate) enum FileStep {
    Create,
    Write,
    Sync,
    Rename,
    Link,
    Remove,
    SyncFolder,
}

/// Takes a step.
#[cfg(not(test))]
pub(crate) fn take<T>(_step: FileStep, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    act()
}

#[cfg(test)]
pub(crate) use testing::take;

#[cfg(test)]
pub(crate) mod testing {
    use std::cell::{Cell, RefCell};

    use super::*;

    thread_local! {
        static TAKEN: RefCell<Vec<FileStep>> = const { RefCell::new(Vec::new()) };
        /// Number of steps after which this process dies.
        static DEATH: Cell<usize> = const { Cell::new(usize::MAX) };
    }

    pub(crate) fn take<T>(step: FileStep, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        if TAKEN.with_borrow(Vec::len) == DEATH.get() {
            std::process::abort();
        }
        let done = act()?;
        TAKEN.with_borrow_mut(|taken| taken.push(step));
        Ok(done)
    }

    /// Has this thread kill its process instead of taking the step of this number.
    pub(crate) fn die_at(step: usize) {
        TAKEN.take();
        DEATH.set(step);
    }

    /// Returns the steps that have succeeded in `act`.
    pub(crate) fn of(act: impl FnOnce()) -> Vec<FileStep> {
        TAKEN.take();
        act();
        TAKEN.take()
    }
}
