//! Orderly end of a program that can't go on: it removes its unfinished file, prints a reason, and
//! exits with the code of any other failure.
//!
//! The caller's limits may leave the program without memory or descriptors at any point, and a bug
//! may show at any point. Rust would then end the program by a signal. Such an end would tell the
//! caller nothing, might leave a core file, and would leave an unfinished file in the maildrop. So
//! both programs die in this module only, and dying needs no memory. From the offer of a message to
//! Redis until a refusal, the message may or may not be submitted, and the printed reason says so.
//!
//! ```text
//! allocation fails ── Memory ──┐
//! stack used up ────── fault ──┤
//! panic ────────────── hook ───┼──▶ die: remove the unfinished file, say why, _exit(code)
//! no standard descriptors ─────┘
//! ```

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use crate::log::{Log, Severity};
use crate::sys;

/// Path of the file to remove: a C string that is never freed, or null for no file.
static UNFINISHED: AtomicPtr<libc::c_char> = AtomicPtr::new(std::ptr::null_mut());

/// Whether Redis may have the message.
static OFFERED: AtomicBool = AtomicBool::new(false);

/// Text of errors about a message that Redis may have.
pub const IN_DOUBT: &str = "the message may or may not be submitted";

/// Sets whether Redis may have the message from now on.
pub fn redis_may_have_it(may: bool) {
    OFFERED.store(may, Ordering::SeqCst);
}

fn doubt() -> [&'static str; 2] {
    if OFFERED.load(Ordering::SeqCst) { [IN_DOUBT, ": "] } else { ["", ""] }
}

/// Name of a program, and its exit code for failures.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// Name of the program in its own messages.
    pub name: &'static str,
    /// Exit code that tells the caller that nothing is durable.
    pub failed: u8,
}

impl Program {
    /// Ends the program, with `reason` on standard error. Prints no part of the message.
    pub fn die(self, reason: &str) -> ! {
        remove_unfinished();
        let [doubt, colon] = doubt();
        sys::end(&[self.name, ": fatal: ", doubt, colon, reason, "\n"], self.failed)
    }

    /// Ends the program by [`Self::die`] at every fault of the processor. The caller may leave so
    /// little stack (`ulimit -s`) that a fault comes anywhere, even while a file is unfinished.
    pub fn die_of_faults(self) {
        FAULTY.get_or_init(|| self);
        sys::on_fault(fault);
    }

    /// Ends the program by [`Self::die`] at every panic.
    pub fn die_of_panics(self) {
        std::panic::set_hook(Box::new(move |panic| {
            // The file is removed first, because a second panic would end the program.
            remove_unfinished();
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            Log::new(self.name).say(
                Severity::Fatal,
                &format!("{}internal error at {place}; report this bug", doubt().concat()),
            );
            sys::end(&[], self.failed)
        }));
    }
}

/// Program that a fault ends; empty until [`Program::die_of_faults`].
static FAULTY: OnceLock<Program> = OnceLock::new();

/// Handles a fault. Only async-signal-safe functions may be called here. A signal from another
/// process is ignored, because it could end the program after the message is durable.
extern "C" fn fault(_: libc::c_int, about: *mut libc::siginfo_t, _: *mut libc::c_void) {
    if let Some(program) = FAULTY.get().filter(|_| sys::is_own_fault(about)) {
        program.die("memory fault: the stack may be too small; raise its limit (ulimit -s)");
    }
}

fn remove_unfinished() {
    sys::remove(UNFINISHED.swap(std::ptr::null_mut(), Ordering::SeqCst));
}

/// Order to remove a file if the program dies. Must be made before the file, because the order
/// takes memory.
#[derive(Debug)]
pub struct Removal(*mut libc::c_char);

impl Removal {
    /// Prepares the removal of this file.
    pub fn of(path: &Path) -> Self {
        let path = CString::new(path.as_os_str().as_bytes());
        Self(path.map_or(std::ptr::null_mut(), CString::into_raw))
    }

    /// Prepares the removal of no file.
    pub fn of_nothing() -> Self {
        Self(std::ptr::null_mut())
    }

    /// Removes this file, and no other, if the program dies from now on.
    pub fn arm(self) {
        UNFINISHED.store(self.0, Ordering::SeqCst);
    }
}

/// Allocator of the system. The program dies when no memory is left.
#[derive(Debug)]
pub struct Memory(pub Program);

impl Memory {
    fn there(&self, memory: *mut u8) -> *mut u8 {
        if memory.is_null() {
            self.0.die("out of memory; raise the limit (ulimit -v, MemoryMax=)")
        } else {
            memory
        }
    }
}

#[allow(unsafe_code, reason = "GlobalAlloc is unsafe; all of it is System's")]
// SAFETY: each method passes its arguments to `System` unchanged.
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the promises that `System` needs.
        self.there(unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the promises that `System` needs.
        self.there(unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller keeps the promises that `System` needs.
        self.there(unsafe { System.realloc(memory, layout, size) })
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the promises that `System` needs.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Output};

    const PROGRAM: Program = Program { name: "x", failed: 75 };
    const HOW: &str = "OPTIMUS_TEST_DEATH";
    const FILE: &str = "OPTIMUS_TEST_FILE";

    /// Dies as the environment says. The next test runs this one as its child process.
    #[test]
    fn a_child_process_dies() {
        let (Ok(how), Ok(file)) = (std::env::var(HOW), std::env::var(FILE)) else { return };
        PROGRAM.die_of_panics();
        let removal = Removal::of(Path::new(&file));
        std::fs::write(&file, "half").unwrap();
        removal.arm();
        match how.as_str() {
            "panic" => panic!("hunter2"),
            "memory" => drop(Memory(PROGRAM).there(std::ptr::null_mut())),
            _ => {
                Removal::of_nothing().arm();
                PROGRAM.die("no reason");
            }
        }
    }

    fn died(how: &str, file: &Path) -> Output {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "death::tests::a_child_process_dies", "--nocapture"])
            .env(HOW, how)
            .env(FILE, file);
        command.output().unwrap()
    }

    #[test]
    fn a_dying_program_gives_the_reason_and_removes_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        for (how, words, left) in [
            ("panic", "x: fatal: internal error at ", false),
            ("memory", "x: fatal: out of memory; raise ", false),
            ("else", "x: fatal: no reason\n", true),
        ] {
            let output = died(how, &file);
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!((output.status.code(), file.exists()), (Some(75), left), "{how}: {told}");
            assert!(told.contains(words) && !told.contains("hunter2"), "{told}");
        }
    }
}
