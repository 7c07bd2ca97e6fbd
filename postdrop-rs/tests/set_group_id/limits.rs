//! Tests of resource limits that a caller sets. The program must report an operation that a limit
//! forbids, and leave no file.

use std::process::Output;

use crate::support::installed::Installed;
use crate::support::{Site, code, run, stderr};

/// Returns a message that is large enough to need memory.
fn large_message() -> Vec<u8> {
    let line = format!("{}\n", "x".repeat(99));
    format!("Subject: x\n\n{}", line.repeat(10_000)).into_bytes()
}

fn limited(installed: &Installed, limit: &str, message: &[u8]) -> Output {
    let script = format!("ulimit -S -c 0; exec prlimit {limit} \"$1\" bob");
    run(&mut installed.script("sh", "-c", &script), message)
}

/// Checks that the exit code is 0 if the message is stored once, and not 0 if the message is not
/// stored.
fn assert_all_or_nothing(installed: &mut Installed, limit: &str, output: &Output) {
    let in_redis =
        if installed.site.redis.is_some() { installed.site.take_messages().len() } else { 0 };
    let files = installed.site.postfix.queue_files("maildrop").len();
    assert_eq!(files, installed.site.maildrop().len(), "{limit}: unfinished files");
    installed.site.empty_maildrop();
    let expected = usize::from(output.status.success());
    assert_eq!(in_redis + files, expected, "{limit}: {:?} {}", output.status, stderr(output));
}

fn assert_told(output: &Output, words: &str) {
    assert_eq!((code(output), stderr(output).contains(words)), (75, true), "{}", stderr(output));
}

#[test]
fn a_limit_of_descriptors_is_named_or_harmless() {
    for redis in [true, false] {
        let mut installed = installed(redis);
        for count in 3..=12 {
            let limit = format!("--nofile={count}");
            let output = limited(&installed, &limit, crate::MESSAGE);
            assert_all_or_nothing(&mut installed, &limit, &output);
            match count {
                // A dynamically linked program's loader ends with this code.
                3 if code(&output) == 127 => {}
                3 => assert_told(&output, "LimitNOFILE="),
                4..8 => assert!([0, 75].contains(&code(&output))),
                _ => assert_eq!(code(&output), 0, "{}", stderr(&output)),
            }
        }
    }
}

/// Sets a limit below the three standard descriptors, for which glibc ends a set-group-id program
/// before `main`.
#[test]
fn a_limit_below_the_standard_descriptors_stops_the_program() {
    let mut installed = installed(true);
    let perl = r#"
        use POSIX; my $path = $ARGV[0]; my $name = "bob";
        POSIX::close(0); POSIX::close(1);
        my $one = pack("QQ", 1, 1);
        syscall(RESOURCE, NOFILE, $one) == 0 or die $!;
        exec $path, $name;"#;
    let script = perl.replace("RESOURCE", &libc::SYS_setrlimit.to_string());
    let script = script.replace("NOFILE", &libc::RLIMIT_NOFILE.to_string());
    let output = run(&mut installed.script("perl", "-e", &script), crate::MESSAGE);
    assert!(!output.status.success());
    assert_all_or_nothing(&mut installed, "no descriptors", &output);
}

fn installed(redis: bool) -> Installed {
    if redis { Installed::with_redis() } else { Installed::new(Site::new(), 0o2755) }
}

/// Checks that the limit, which is on files, doesn't affect a submission to Redis.
#[test]
fn a_limit_of_file_size_stops_only_the_maildrop() {
    for bytes in [0, 1, 100, 4096] {
        for redis in [true, false] {
            let mut installed = installed(redis);
            let limit = format!("--fsize={bytes}");
            let output = limited(&installed, &limit, &large_message());
            assert_all_or_nothing(&mut installed, &limit, &output);
            match redis {
                true => assert_eq!(code(&output), 0, "{}", stderr(&output)),
                false => assert_told(&output, "RLIMIT_FSIZE"),
            }
        }
    }
}

/// Tries limits from too little memory for the start up to enough.
#[test]
fn too_little_memory_submits_all_or_nothing() {
    for redis in [true, false] {
        let mut installed = installed(redis);
        let (mut died, mut stored) = (0, 0);
        for kind in ["as", "data"] {
            for kilobytes in (256..12_288).step_by(384) {
                let limit = format!("--{kind}={}", kilobytes * 1024);
                let output = limited(&installed, &limit, &large_message());
                assert_all_or_nothing(&mut installed, &limit, &output);
                stored += usize::from(output.status.success());
                let ours = stderr(&output).contains("sendmail: fatal: out of memory");
                died += usize::from(ours);
                // Before `main`, the kernel and the loader end the program in their own way.
                assert!(!ours || code(&output) == 75, "{limit}: {:?}", output.status);
                let main_was_reached = stderr(&output).contains("sendmail:");
                assert!(
                    !main_was_reached || output.status.code().is_some(),
                    "{limit}: {}",
                    stderr(&output)
                );
                assert!(
                    !stderr(&output).contains("memory allocation of"),
                    "{limit}: {}",
                    stderr(&output)
                );
            }
        }
        assert!(died > 0 && stored > 0, "{died} died, {stored} stored");
    }
}

/// Runs the program many times: the kernel moves the stack, so the program ends at another point in
/// each run.
#[test]
fn too_small_a_stack_submits_all_or_nothing() {
    for redis in [true, false] {
        let mut installed = installed(redis);
        let (mut told, mut stored) = (0, 0);
        for kilobytes in (12..40).chain(40..=64).filter(|it| *it < 40 || it % 8 == 0) {
            for _ in 0..6 {
                let limit = format!("--stack={}", kilobytes * 1024);
                let output = limited(&installed, &limit, crate::MESSAGE);
                assert_all_or_nothing(&mut installed, &limit, &output);
                stored += usize::from(output.status.success());
                told += usize::from(stderr(&output).contains("sendmail: fatal: memory fault"));
            }
        }
        assert!(told > 0 && stored > 0, "{told} told, {stored} stored");
    }
}

/// Checks that the program itself works, and that the error about another process names the limit.
#[test]
fn a_limit_of_processes_is_named() {
    let mut installed = installed(true);
    let table = "authorized_submit_users = regexp:{{/unknown/ x}}, static:all";
    installed.site.postfix.set_main(&[table]).unwrap();
    let output = limited(&installed, "--nproc=0", crate::MESSAGE);
    assert_told(&output, "TasksMax=");
    assert_all_or_nothing(&mut installed, "--nproc=0", &output);
}

#[test]
fn further_limits_do_not_stop_a_submission() {
    for redis in [true, false] {
        let mut installed = installed(redis);
        for limit in [
            "--core=unlimited",
            "--cpu=1",
            "--nproc=0",
            "--memlock=0",
            "--sigpending=0",
            "--msgqueue=0",
            "--stack=65536",
            "--rttime=1",
        ] {
            let output = limited(&installed, limit, crate::MESSAGE);
            assert_all_or_nothing(&mut installed, limit, &output);
            assert_eq!(code(&output), 0, "{limit}: {}", stderr(&output));
        }
    }
}
