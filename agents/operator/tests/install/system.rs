//! This machine's own Postfix, package database and folders, in a mount namespace. Files that are
//! written there lie in overlays, which are gone afterwards. So an installation is a real one, and
//! the machine is never touched.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use testbed::Scratch;

/// Script that enters the namespace. `$1` is the folder for written files, on disk or, with `$2`,
/// in memory.
const ENTER: &str = r#"
[ -z "$2" ] || mount -t tmpfs tmpfs "$1" || exit 99
for folder in usr etc var; do
    mkdir -p "$1/$folder/upper" "$1/$folder/work" &&
    mount -t overlay overlay -o "lowerdir=/$folder,upperdir=$1/$folder/upper,workdir=$1/$folder/work" "/$folder" || exit 99
done
# Debian's package leaves it to whoever configures Postfix.
[ -e /etc/postfix/main.cf ] || cp /usr/share/postfix/main.cf.debian /etc/postfix/main.cf || exit 99
echo ready
exec cat
"#;

/// Script that prints all that installing may change, but the times of folders: names, modes,
/// owners, times, links; then contents.
const SNAPSHOT: &str = r#"
cd /
places="etc/postfix etc/systemd/system usr/sbin usr/bin/mailq usr/bin/newaliases usr/lib/postfix usr/lib/sendmail"
places="$places usr/local/share/man usr/share/man/man1 var/lib/optimus var/lib/postfix"
find $places -name failpoints -prune -o -type d -printf '%p %m %U:%G\n' -o -printf '%p %m %U:%G %T@ %s %l\n' 2>/dev/null | sort
find etc/postfix usr/lib/postfix usr/sbin/*sendmail* usr/sbin/*postdrop* -type f -path '*/failpoints/*' -prune -o -type f -print0 |
    sort -z | xargs -0 sha256sum
dpkg-divert --list | sort
"#;

pub(crate) const PROGRAMS: [&str; 7] =
    ["sendmail", "postdrop", "pickup-rs", "optimus", "info-agent", "scheduler-agent", "mail-agent"];

pub(crate) struct System {
    namespace: Child,
    /// A process in the namespace, by its number outside.
    pid: u32,
    pub(crate) scratch: Scratch,
}

impl System {
    #[allow(dead_code, reason = "each test program needs one of them")]
    pub(crate) fn new() -> Self {
        Self::with("")
    }

    /// Makes a system whose written files are in memory, for small tests that run hundreds of
    /// times.
    #[allow(dead_code, reason = "each test program needs one of them")]
    pub(crate) fn in_memory() -> Self {
        Self::with("memory")
    }

    fn with(memory: &str) -> Self {
        let scratch = Scratch::new().unwrap();
        let mut command = Command::new("unshare");
        command.args([
            "-m",
            "-p",
            "--fork",
            "--mount-proc",
            "--kill-child",
            "--propagation",
            "private",
        ]);
        command.args(["sh", "-c", ENTER, "sh"]).arg(scratch.folder("written").unwrap()).arg(memory);
        command.current_dir(scratch.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut namespace = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(namespace.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "needs root, and a kernel with overlayfs");
        let unshare = namespace.id();
        let children =
            fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children")).unwrap();
        let system = Self { namespace, pid: children.trim().parse().unwrap(), scratch };
        system.refuse_the_real_one();
        system
    }

    /// Fails unless commands see the folders that lie over this machine's, before anything is
    /// touched.
    fn refuse_the_real_one(&self) {
        for folder in ["/usr", "/etc", "/var"] {
            assert_eq!(
                self.sh(&format!("stat -f -c %T {folder}")),
                "overlayfs\n",
                "{folder} is the machine's own"
            );
        }
    }

    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.pid.to_string(), "-m", "-p", "-r", "-w", "--"]).arg(program);
        command.current_dir(self.scratch.path()).env_remove("MAIL_CONFIG").stdin(Stdio::null());
        command
    }

    pub(crate) fn output(&self, words: &[&str]) -> Output {
        self.command(words[0]).args(&words[1..]).output().unwrap()
    }

    /// Returns the output of a shell in the namespace.
    pub(crate) fn sh(&self, script: &str) -> String {
        let output = self.output(&["sh", "-c", script]);
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs this build's `optimus`. Returns whether it succeeds, and its output.
    pub(crate) fn optimus(&self, words: &[&str]) -> (bool, String) {
        let output = self.command(testbed::bin("optimus")).args(words).output().unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        )
    }

    pub(crate) fn expect_optimus(&self, words: &[&str]) -> String {
        let (is_fine, text) = self.optimus(words);
        assert!(is_fine, "{words:?}: {text}");
        text
    }

    /// Returns the lines of [`SNAPSHOT`]; those that differ name the place.
    pub(crate) fn snapshot(&self) -> BTreeMap<String, ()> {
        let output = self.output(&["sh", "-c", SNAPSHOT]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.lines().count() > 100, "{text}");
        text.lines().map(|line| (line.to_owned(), ())).collect()
    }

    pub(crate) fn expect_as(&self, before: &BTreeMap<String, ()>, what: &str) {
        let after = self.snapshot();
        let gone: Vec<_> = before.keys().filter(|it| !after.contains_key(*it)).collect();
        let new: Vec<_> = after.keys().filter(|it| !before.contains_key(*it)).collect();
        assert!(gone.is_empty() && new.is_empty(), "{what}:\ngone {gone:#?}\nnew {new:#?}");
    }

    /// Makes small scripts that count as programs of OPTIMUS, told apart by `version`.
    pub(crate) fn fakes(&self, version: &str) -> PathBuf {
        let folder = self.scratch.folder(&format!("fakes-{version}")).unwrap();
        for name in PROGRAMS {
            let path = folder.join(name);
            let mut file = fs::File::create(&path).unwrap();
            writeln!(file, "#!/bin/sh\necho {name} {version} # optimus.toml").unwrap();
            fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        }
        folder
    }
}

impl Drop for System {
    fn drop(&mut self) {
        // The end of its input ends the first process, and with it all others of the namespace.
        drop(self.namespace.stdin.take());
        let _ = self.namespace.wait();
    }
}
