//! Hands lots of mail to one Postfix. See `agents::mail`.

use std::process::ExitCode;

use agents::programs::MAIL;

fn main() -> ExitCode {
    agents::daemon::main(MAIL.name, &MAIL.options(), agents::agents::mail)
}
