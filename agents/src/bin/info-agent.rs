//! Shares lots of mail out over Postfix servers. See `agents::info`.

use std::process::ExitCode;

use agents::programs::INFO;

fn main() -> ExitCode {
    agents::daemon::main(INFO.name, &INFO.options(), agents::agents::info)
}
