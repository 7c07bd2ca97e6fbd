//! Waiting for conditions, never for time.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Time between two looks at a condition: a test hardly notices this pause, and looks cost little.
const INTERVAL: Duration = Duration::from_millis(5);

/// Waits until `condition` holds. Fails after `limit`, with `what` in the error.
pub fn until(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) -> Result<()> {
    until_some(limit, what, || condition().then_some(()))
}

/// Waits until `look` finds a value, and returns that value. Fails after `limit`, with `what` in
/// the error.
pub fn until_some<T>(
    limit: Duration,
    what: &str,
    mut look: impl FnMut() -> Option<T>,
) -> Result<T> {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if started.elapsed() > limit {
            bail!("{what}: waited {} s in vain", limit.as_secs_f32());
        }
        std::thread::sleep(INTERVAL);
    }
}
