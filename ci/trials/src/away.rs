//! Times of a campaign: absences of a part, and limits of a step.

use std::ops::Range;
use std::thread::sleep;
use std::time::Duration;

use simulation::Random;

/// Absences from less than a lease to more than two.
const AWAY_MS: Range<u64> = 0..2500;

/// Limit of a step: the next message reaches a failpoint, and Postfix ends within some seconds.
pub(crate) const REACHED: Duration = Duration::from_secs(60);

/// Waits before a part is started again, for a time that the seed chooses.
pub(crate) fn stay_away(random: &mut Random) {
    sleep(Duration::from_millis(random.between(AWAY_MS.start, AWAY_MS.end)));
}
