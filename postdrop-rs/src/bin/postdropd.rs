//! Runs postdrop for users who can't: see `postdrop_rs::postdropd`.

use std::process::ExitCode;

fn main() -> ExitCode {
    postdrop_rs::postdropd::main().into()
}
