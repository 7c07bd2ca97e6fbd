//! Lines of more than 100 columns. Tables, addresses, blocks of commands, and raw strings, which
//! hold text of other languages, may be wider.

use super::Offence;
use super::tree::{File, Language};

/// Limit of columns, counted in characters.
const WIDTH_MAX: usize = 100;

/// Languages of blocks in Markdown whose lines can't be broken.
const COMMANDS: [&str; 3] = ["sh", "bash", "console"];

/// Finds lines that are too long.
pub(super) fn check(files: &[File]) -> Vec<Offence> {
    files.iter().filter(|file| file.language != Language::Other).flat_map(of_file).collect()
}

fn of_file(file: &File) -> Vec<Offence> {
    let mut block = Block::None;
    let mut offences = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        block = block.after(comment_or_line(line));
        let is_table = comment_or_line(line).starts_with('|');
        let is_raw = file.lines.get(index).is_some_and(|line| line.has_raw);
        let width = width(line);
        if width > WIDTH_MAX && !is_table && !is_raw && block != Block::Commands {
            let remedy = format!("{width} columns; at most {WIDTH_MAX}, so break the line");
            offences.push(Offence::new(file, index + 1, remedy));
        }
    }
    offences
}

/// Kind of Markdown block that a line is in; documentation in Rust is Markdown, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    None,
    Commands,
    Other,
}

impl Block {
    fn after(self, line: &str) -> Self {
        match (self, line.strip_prefix("```")) {
            (Self::None, Some(language)) if COMMANDS.contains(&language.trim()) => Self::Commands,
            (Self::None, Some(_)) => Self::Other,
            (_, Some(_)) => Self::None,
            (block, None) => block,
        }
    }
}

/// Returns the line without indentation and the marks of a doc comment.
fn comment_or_line(line: &str) -> &str {
    let line = line.trim_start();
    ["//!", "///"].iter().find_map(|mark| line.strip_prefix(mark)).unwrap_or(line).trim_start()
}

/// Returns the columns of a line, without those of addresses, which can't be broken.
fn width(line: &str) -> usize {
    let whole = line.chars().count();
    if whole <= WIDTH_MAX {
        return whole;
    }
    let words = line.split(' ').filter(|word| word.contains("://") || word.contains("]("));
    whole - words.map(|word| word.chars().count()).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::super::testing::fires_at;
    use super::check;

    fn long(beginning: &str) -> String {
        format!("{beginning}{}\n", "word ".repeat(20))
    }

    #[test]
    fn a_long_line_is_found_in_each_language() {
        for path in ["a.rs", "a.lua", "a.md", "a.toml"] {
            assert_eq!(fires_at(check, path, &format!("x\n{}", long("// x"))), [2], "{path}");
        }
        assert_eq!(fires_at(check, "ci/test", &format!("#!/bin/bash\n{}", long("# "))), [2]);
    }

    #[test]
    fn columns_are_characters() {
        assert_eq!(fires_at(check, "a.md", &format!("{}\n", "ü".repeat(100))), []);
        assert_eq!(fires_at(check, "a.md", &format!("{}\n", "ü".repeat(101))), [1]);
    }

    #[test]
    fn tables_addresses_and_commands_may_be_wide() {
        assert_eq!(fires_at(check, "a.md", &long("| a | ")), []);
        assert_eq!(fires_at(check, "a.rs", &long("/// | a | ")), []);
        assert_eq!(fires_at(check, "a.rs", &format!("r#\"x\n{}\n\"#", long("x "))), []);
        assert_eq!(fires_at(check, "a.md", &format!("```sh\n{}```\n", long("# "))), []);
        let address = format!("see [this](https://example.com/{})\n", "a".repeat(90));
        assert_eq!(fires_at(check, "a.md", &address), []);
    }

    #[test]
    fn a_drawing_may_not_be_wide() {
        assert_eq!(
            fires_at(check, "a.md", &format!("```\n{}```\n{}", long("x "), long("x "))),
            [2, 4]
        );
        assert_eq!(
            fires_at(check, "a.rs", &format!("//! ```text\n{}//! ```\n", long("//! "))),
            [2]
        );
    }
}
