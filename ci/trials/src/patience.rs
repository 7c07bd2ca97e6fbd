//! A time limit that starts anew whenever something moves: a trial may take long, but it can't
//! hang.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Time limit without progress.
#[derive(Debug)]
pub struct Patience {
    limit: Duration,
    seen: u64,
    since: Instant,
}

impl Patience {
    /// Starts the time now.
    pub fn new(limit: Duration) -> Self {
        Self { limit, seen: 0, since: Instant::now() }
    }

    /// Notes a number that grows with progress. Fails when it has not changed for too long.
    pub fn look(&mut self, progress: u64) -> Result<()> {
        if progress != self.seen {
            (self.seen, self.since) = (progress, Instant::now());
        }
        if self.since.elapsed() > self.limit {
            bail!("platform: nothing moved for {} s", self.limit.as_secs());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_renews_the_limit_and_standstill_reaches_it() {
        let mut patience = Patience::new(Duration::ZERO);
        assert!(patience.look(0).is_err());
        let mut patience = Patience::new(Duration::from_secs(1000));
        assert!(patience.look(1).is_ok() && patience.look(1).is_ok());
    }
}
