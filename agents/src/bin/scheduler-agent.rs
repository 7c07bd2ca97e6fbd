//! Looks after Mail Agents. See `agents::scheduler`.

use std::process::ExitCode;

use agents::programs::SCHEDULER;

fn main() -> ExitCode {
    agents::daemon::main(SCHEDULER.name, &SCHEDULER.options(), agents::agents::scheduler)
}
