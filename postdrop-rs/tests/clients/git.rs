//! Test with `git send-email`, which finds `sendmail` by itself.

use crate::machine::{Machine, needs};

#[test]
fn git_send_email_submits_patches() {
    needs("git-email", "/usr/lib/git-core/git-send-email");
    let mut machine = Machine::new();
    let git = |words: &[&str]| {
        let identity =
            ["-c", "user.name=Ann", "-c", "user.email=ann@example.org", "-C", "repository"];
        machine.run(&[&["git"][..], &identity, words].concat(), b"")
    };
    machine.run(&["git", "init", "-q", "repository"], b"");
    machine.run(&["sh", "-c", "printf 'From here\\n.\\nlong\\n' > repository/file"], b"");
    git(&["add", "file"]);
    git(&["commit", "-q", "-s", "-m", "file: lines that mail could hurt"]);
    git(&["send-email", "--quiet", "--confirm=never", "--to=bob@example.org", "--root", "HEAD"]);
    let mail = machine.take_one();
    assert_eq!(mail.sender, "nobody");
    assert_eq!(mail.recipients, ["bob@example.org", "ann@example.org"]);
    assert_eq!(mail.header("Subject"), Some("[PATCH] file: lines that mail could hurt"));
    assert!(mail.body().contains("\n+From here\n+.\n+long\n"), "{}", mail.content);
}
