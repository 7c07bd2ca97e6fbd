//! Several cases at once, because each spends most of its time waiting.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Result;

/// Runs all cases, `jobs` at once, and returns their results in the order of the cases.
pub(crate) fn run_all<C: Sync, R: Send>(
    cases: &[C],
    jobs: u16,
    run: impl Fn(&C) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let waiting = Mutex::new(cases.iter().enumerate());
    let results = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some((number, case)) = next(&waiting) {
                    let result = run(case);
                    lock(&results).insert(number, result);
                }
            });
        }
    });
    results.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect()
}

/// Takes the next one, without keeping the lock.
fn next<I: Iterator>(waiting: &Mutex<I>) -> Option<I::Item> {
    lock(waiting).next()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
