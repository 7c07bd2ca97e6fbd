//! The tree's files, as the rules see them.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::source::{self, SourceLine};

/// The language of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Language {
    Rust,
    Lua,
    Shell,
    Toml,
    Markdown,
    /// Man pages, recorded bytes, figures: checked for retired words only.
    Other,
}

/// A file with its path from the tree's root.
#[derive(Debug)]
pub(super) struct File {
    pub(super) path: String,
    pub(super) text: String,
    pub(super) language: Language,
    /// The lines of a Rust file; empty for other languages.
    pub(super) lines: Vec<SourceLine>,
}

impl File {
    pub(super) fn new(path: &str, text: &str) -> Self {
        let language = language(path, text);
        let lines = if language == Language::Rust { source::lines(text) } else { Vec::new() };
        Self { path: path.to_owned(), text: text.to_owned(), language, lines }
    }

    /// Whether this is a Rust file that a tool has written.
    pub(super) fn is_generated(&self) -> bool {
        self.text.lines().next().is_some_and(|line| line.contains("generated from"))
    }
}

fn language(path: &str, text: &str) -> Language {
    match path.rsplit_once('.').map(|(_, extension)| extension) {
        Some("rs") => Language::Rust,
        Some("lua") => Language::Lua,
        Some("toml") => Language::Toml,
        Some("md") => Language::Markdown,
        _ if text.starts_with("#!/bin/") => Language::Shell,
        _ => Language::Other,
    }
}

/// Reads the files that git tracks or would add. Files that aren't text are left out.
pub(super) fn read(root: &Path) -> Result<Vec<File>> {
    let listing = Command::new("git")
        .current_dir(root)
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate"])
        .output()
        .context("git ls-files: not started")?;
    ensure!(listing.status.success(), "git ls-files: failed in {}", root.display());
    let paths = String::from_utf8(listing.stdout).context("git ls-files: a path is not UTF-8")?;
    let file = |path: &str| {
        let bytes = std::fs::read(root.join(path)).ok()?;
        Some(File::new(path, &String::from_utf8(bytes).ok()?))
    };
    Ok(paths.split_terminator('\0').filter_map(file).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_follows_from_name_or_first_line() {
        assert_eq!(language("a/b.rs", ""), Language::Rust);
        assert_eq!(language("ci/test", "#!/bin/bash\n"), Language::Shell);
        assert_eq!(language("LICENSE", "Apache"), Language::Other);
    }

    #[test]
    fn this_tree_is_read() {
        let files = read(&super::super::workspace()).unwrap();
        assert!(files.iter().any(|file| file.path == "ci/xtask/src/tidy/tree.rs"));
    }
}
