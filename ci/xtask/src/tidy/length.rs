//! Source files of more than 500 lines, tests apart, that give no reason.
//!
//! A reason stands in the comment at the file's beginning: "One file, because ...".

use super::Offence;
use super::tree::{File, Language};

/// Limit of lines, without the tests at a file's end.
const LINES_MAX: usize = 500;

/// Finds files that are too long.
pub(super) fn check(files: &[File]) -> Vec<Offence> {
    files.iter().filter_map(of_file).collect()
}

fn of_file(file: &File) -> Option<Offence> {
    let is_source = matches!(file.language, Language::Rust | Language::Lua | Language::Shell);
    let length = length(file);
    let offends = is_source && length > LINES_MAX && !file.is_generated() && !has_reason(file);
    let remedy =
        || format!("{length} lines; split the file, or begin it with \"One file, because ...\"");
    offends.then(|| Offence::new(file, 1, remedy()))
}

fn length(file: &File) -> usize {
    let is_tests = |line: &str| line == "#[cfg(test)]";
    let all = file.text.lines().count();
    file.text.lines().position(is_tests).unwrap_or(all)
}

fn has_reason(file: &File) -> bool {
    let is_of_header = |line: &&str| match file.language {
        Language::Lua => !line.contains("]]"),
        Language::Shell => line.starts_with('#') || line.is_empty(),
        _ => line.starts_with("//!"),
    };
    let header = file.text.lines().take_while(is_of_header);
    let words: Vec<&str> =
        header.flat_map(str::split_whitespace).filter(|word| *word != "//!").collect();
    let text = words.join(" ").replace(" # ", " ").to_lowercase();
    text.find("one file").is_some_and(|at| text[at..].contains("because"))
}

#[cfg(test)]
mod tests {
    use super::super::testing::fires_at;
    use super::{LINES_MAX, check};

    fn long(header: &str) -> String {
        header.to_owned() + &"x\n".repeat(LINES_MAX)
    }

    #[test]
    fn a_long_file_is_found() {
        assert_eq!(fires_at(check, "a.rs", &long("//! A.\n")), [1]);
        assert_eq!(fires_at(check, "a.lua", &long("--[[ A.\n]]\n")), [1]);
        assert_eq!(fires_at(check, "a.rs", &long("")), []);
    }

    #[test]
    fn a_reason_in_the_header_is_enough() {
        assert_eq!(fires_at(check, "a.rs", &long("//! A. One\n//! file, because x.\n")), []);
        assert_eq!(fires_at(check, "a.lua", &long("--[[ A. One file,\nbecause x.\n]]\n")), []);
        assert_eq!(fires_at(check, "ci/a", &long("#!/bin/bash\n# One\n# file, because x.\n")), []);
        assert_eq!(
            fires_at(check, "a.rs", &long("//! A.\nuse b;\n//! One file, because x.\n")),
            [1]
        );
    }

    #[test]
    fn tests_and_prose_do_not_count() {
        assert_eq!(fires_at(check, "a.rs", &(long("") + "#[cfg(test)]\n" + &long(""))), []);
        assert_eq!(fires_at(check, "a.md", &long("a\n")), []);
    }
}
