//! List of intended differences between stock's programs and OPTIMUS's. `docs/differences.md` gives
//! the reasons, under the same names.

/// Aspect of an outcome that may differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aspect {
    Exit,
    Stdout,
    Stderr,
    Records,
}

/// Difference, and all aspects of an outcome that show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Difference {
    pub name: &'static str,
    pub aspects: &'static [Aspect],
}

const fn difference(name: &'static str, aspects: &'static [Aspect]) -> Difference {
    Difference { name, aspects }
}

use Aspect::{Exit, Records, Stderr, Stdout};

pub const LINE_BREAKS: Difference = difference("line-breaks-in-records", &[Records]);
pub const ONE_PROGRAM: Difference = difference("one-program-speaks-once", &[Stderr]);
pub const HIDDEN_TABLES: Difference =
    difference("tables-hidden-from-users", &[Exit, Stderr, Records]);
pub const UNOPENED: Difference =
    difference("postdrop-answers-without-a-table", &[Exit, Stdout, Stderr]);
pub const VERBOSE_LOG: Difference = difference("no-verbose-log", &[Stderr]);
pub const UNLISTED: Difference = difference("unlisted-configuration-in-one-line", &[Stderr]);
pub const BAD_PARAMETERS: Difference = difference("words-for-bad-parameters", &[Stderr]);
pub const UNUSED_PARAMETERS: Difference =
    difference("unused-parameters-are-not-checked", &[Exit, Stderr, Records]);
pub const CONTROL_CHARACTERS: Difference =
    difference("no-control-characters-in-records", &[Exit, Stdout, Stderr, Records]);
pub const TRACE_FLAGS: Difference = difference("trace-flags-of-users-only", &[Stderr, Records]);
pub const MALFORMED: Difference = difference("malformed-input-is-explained", &[Stderr]);
pub const REFUSED_EXIT: Difference = difference("postdrop-fails-when-it-refuses", &[Exit]);

/// List of all differences.
pub const ALL: &[Difference] = &[
    LINE_BREAKS,
    ONE_PROGRAM,
    HIDDEN_TABLES,
    UNOPENED,
    VERBOSE_LOG,
    UNLISTED,
    BAD_PARAMETERS,
    UNUSED_PARAMETERS,
    CONTROL_CHARACTERS,
    TRACE_FLAGS,
    MALFORMED,
    REFUSED_EXIT,
];
