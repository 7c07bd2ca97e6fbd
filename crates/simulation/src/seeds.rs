//! Seeds to run, and the replay of one that failed.

use std::panic::{RefUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::Random;

/// Variable of a single seed.
const SEED: &str = "OPTIMUS_SEED";
/// Variable of a number of seeds.
const SEEDS: &str = "OPTIMUS_SEEDS";
/// Variable of the seconds that new seeds run.
const SECONDS: &str = "FUZZ_SECONDS";

/// Runs `run` for `default` seeds, or for those that the environment asks for. The first seed that
/// fails is named, and goes to `explain`, which may run it again to print its events.
///
/// # Panics
///
/// With the panic of the first run that fails.
pub fn for_each_seed(default: u64, run: impl Fn(u64) + RefUnwindSafe, explain: impl Fn(u64)) {
    let mut count = 0_u64;
    for seed in seeds(default) {
        count += 1;
        if let Err(panic) = catch_unwind(|| run(seed)) {
            explain(seed);
            eprintln!("{SEED}={seed} brings this back");
            resume_unwind(panic);
        }
    }
    if number(SECONDS).is_some() {
        eprintln!("schedules: {count}");
    }
}

/// Returns the seed that the environment asks for alone, if there is one.
pub fn given_seed() -> Option<u64> {
    number(SEED)
}

fn seeds(default: u64) -> Box<dyn Iterator<Item = u64>> {
    if let Some(seconds) = number(SECONDS) {
        let until = Instant::now() + Duration::from_secs(seconds);
        return Box::new((fresh_seed()..).take_while(move |_| Instant::now() < until));
    }
    match given_seed() {
        Some(seed) => Box::new(std::iter::once(seed)),
        None => Box::new(0..number(SEEDS).unwrap_or(default)),
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Returns a seed that has hardly been run before. Those after it are never out of range.
fn fresh_seed() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Random::new(since_1970.as_nanos() as u64).number() >> 1
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Whether the environment asks for other seeds than these tests do.
    fn is_asked_for_others() -> bool {
        [SEED, SEEDS, SECONDS].iter().any(|name| std::env::var_os(name).is_some())
    }

    #[test]
    fn the_first_seed_that_fails_is_explained_and_the_last_that_runs() {
        if is_asked_for_others() {
            return;
        }
        let (run, explained) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
        let push = |list: &Mutex<Vec<u64>>, seed| list.lock().expect("no panic before").push(seed);
        let failed = catch_unwind(|| {
            let check = |seed| {
                push(&run, seed);
                assert!(seed < 3);
            };
            for_each_seed(10, check, |seed| push(&explained, seed));
        });
        assert!(failed.is_err());
        assert_eq!(run.into_inner().expect("no panic before"), [0, 1, 2, 3]);
        assert_eq!(explained.into_inner().expect("no panic before"), [3]);
    }

    #[test]
    fn new_seeds_leave_room_for_more() {
        assert!(fresh_seed() < 1 << 63);
    }
}
