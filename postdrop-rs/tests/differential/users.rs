//! Cases of users: the user database and the environment name the sender.

use super::case::{ANN, BOB, Case, EVE, NUMBER, ROOT, USERS, postdrop, sendmail};
use super::differences::MALFORMED;
use super::support::{RecordType, stream};

const MESSAGE: &[u8] = b"Subject: x\n\nbody\n";

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for user in USERS {
        let command_lines: [&[&str]; 12] = [
            &["bob"],
            &["-F", "Given", "bob"],
            &["-F", "", "bob"],
            &["-f", "given@x", "bob"],
            &["-f", "", "bob"],
            &["-f", "given@x", "-F", "Given", "bob"],
            &["-t"],
            &["-t", "bob", "-f"],
            &["-v", "bob"],
            &["-bv", "bob"],
            &["-XV+=", "bob"],
            &["-Z"],
        ];
        cases.extend(command_lines.iter().map(|arguments| sendmail(arguments, MESSAGE).by(user)));
        cases.push(sendmail(&["-t"], "To: bob, eve@x\nFrom: somebody\n\nbody\n").by(user));
        for name in ["Ann of Env", "", "\u{c9}ve, (x) <y@z>"] {
            cases.push(sendmail(&["bob"], MESSAGE).by(user).environment("NAME", name));
        }
        cases.push(sendmail(&["-F", "Given", "bob"], MESSAGE).by(user).environment("NAME", "Env"));
        cases.push(
            sendmail(&["-f", "given", "bob"], MESSAGE).by(user).environment("LOGNAME", "other"),
        );
        use RecordType::{End, From, Mesg, Rcpt, Xtra};
        let records: [(_, &[u8]); 5] =
            [(From, b"a"), (Rcpt, b"b"), (Mesg, b""), (Xtra, b""), (End, b"")];
        cases.push(postdrop(stream(&records)).by(user));
        cases.push(postdrop(b"no records").by(user).differs(MALFORMED));
        cases.push(postdrop(b"").by(user));
    }
    for user in [ROOT, ANN, BOB, EVE, NUMBER] {
        cases.push(
            sendmail(&["bob"], MESSAGE)
                .by(user)
                .environment("TZ", "XYZ-13")
                .environment("LANG", "C"),
        );
    }
    cases
}
