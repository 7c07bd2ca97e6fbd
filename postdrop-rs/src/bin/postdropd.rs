//! Serves processes that lack postdrop's rights: see `postdrop_rs::postdropd`.

use std::process::ExitCode;

fn main() -> ExitCode {
    postdrop_rs::postdropd::main().into()
}
