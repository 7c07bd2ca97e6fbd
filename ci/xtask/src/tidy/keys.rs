//! Keys of Redis outside `crates/spool`, which alone may know them.

use super::Offence;
use super::tree::{File, Language};

/// Folder of the crate that owns all keys.
const SPOOL: &str = "crates/spool/";

/// Beginning of every key. The source has it in two parts, so this line isn't an offence.
const PREFIX: &str = concat!("optimus", ":{");

/// Finds keys in programs and scripts.
pub(super) fn check(files: &[File]) -> Vec<Offence> {
    files.iter().filter(|file| !file.path.starts_with(SPOOL)).flat_map(of_file).collect()
}

fn of_file(file: &File) -> Vec<Offence> {
    let quoted: Vec<&str> = match file.language {
        Language::Rust => file.lines.iter().map(|line| line.quoted.as_str()).collect(),
        Language::Shell | Language::Lua => file.text.lines().collect(),
        _ => Vec::new(),
    };
    let is_key = |line: &&str| line.contains(PREFIX);
    let numbers = quoted.iter().enumerate().filter(|(_, line)| is_key(line));
    let remedy = "a key of Redis outside crates/spool; call a function of spool";
    numbers.map(|(index, _)| Offence::new(file, index + 1, remedy)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::fires_at;
    use super::{PREFIX, check};

    #[test]
    fn a_key_outside_spool_is_found() {
        let text = format!("let a = 1;\nlet key = \"{PREFIX}0}}:inbox\";\n");
        assert_eq!(fires_at(check, "agents/src/a.rs", &text), [2]);
        assert_eq!(
            fires_at(check, "ci/a", &format!("#!/bin/sh\nredis-cli get {PREFIX}0}}:x\n")),
            [2]
        );
        assert_eq!(fires_at(check, "crates/spool/src/a.rs", &text), []);
    }

    #[test]
    fn comments_and_prose_may_name_a_key() {
        assert_eq!(fires_at(check, "agents/src/a.rs", &format!("// {PREFIX}0}}:inbox\n")), []);
        assert_eq!(fires_at(check, "docs/a.md", &format!("{PREFIX}0}}:inbox\n")), []);
    }
}
