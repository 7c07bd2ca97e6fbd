//! The pickup-rs daemon: see `pickup_rs::daemon`.

use std::process::ExitCode;

fn main() -> ExitCode {
    pickup_rs::daemon::main()
}
