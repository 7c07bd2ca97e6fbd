//! Names of Rust files, and of items in them, that documents mention and that don't exist.
//!
//! A document writes `src/mail.rs` or, with an item, `src/mail.rs::Mail::handle`. The path may lack
//! its beginning. Dated records keep the names of their day.

use super::Offence;
use super::source::is_of_name;
use super::tree::{File, Language};

const HISTORY: &str = "docs/decisions/";
const ITEMS: [&str; 7] = ["fn", "struct", "enum", "trait", "type", "const", "mod"];

/// Finds dead names in documents.
pub(super) fn check(files: &[File]) -> Vec<Offence> {
    let is_document =
        |file: &&File| file.language == Language::Markdown && !file.path.starts_with(HISTORY);
    files.iter().filter(is_document).flat_map(|file| of_document(file, files)).collect()
}

fn of_document(document: &File, files: &[File]) -> Vec<Offence> {
    let lines = document.text.lines().enumerate();
    let names = lines.flat_map(|(index, line)| spans(line).map(move |span| (index, span)));
    let dead = names.filter_map(|(index, span)| Some((index, fault(span, files)?)));
    dead.map(|(index, fault)| Offence::new(document, index + 1, fault)).collect()
}

/// Returns the code spans of a line.
fn spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// Returns the reason for which a span is a dead name; `None` for others.
fn fault(span: &str, files: &[File]) -> Option<String> {
    let (path, item) = span.split_once(".rs")?;
    if !path.chars().all(|it| is_of_name(it) || "/-".contains(it)) {
        return None;
    }
    let path = format!("{path}.rs");
    let is_it = |file: &&File| {
        file.path
            .strip_suffix(&path)
            .is_some_and(|before| before.is_empty() || before.ends_with('/'))
    };
    let found: Vec<&File> = files.iter().filter(is_it).collect();
    let item = item.rsplit("::").next().unwrap_or_default();
    if found.is_empty() {
        return Some(format!("no file {path}; name the right one"));
    }
    let is_there = item.is_empty() || found.iter().any(|file| has(file, item));
    (!is_there).then(|| format!("{path} has no item {item}; name the right one"))
}

fn has(file: &File, item: &str) -> bool {
    let words = |code: &str| {
        code.split(|it| !is_of_name(it)).filter(|it| !it.is_empty()).map(str::to_owned).collect()
    };
    file.lines.iter().any(|line| {
        let words: Vec<String> = words(&line.code);
        words.windows(2).any(|pair| ITEMS.contains(&pair[0].as_str()) && pair[1] == item)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<String> {
        let code = "impl Mail {\n    pub fn handle(&self) {}\n}\npub struct Mail;\n";
        let files = [File::new("docs/a.md", text), File::new("agents/src/mail.rs", code)];
        check(&files).into_iter().map(|offence| offence.remedy).collect()
    }

    #[test]
    fn dead_names_are_found() {
        assert_eq!(faults("`src/post.rs`"), ["no file src/post.rs; name the right one"]);
        assert_eq!(faults("`ail.rs`"), ["no file ail.rs; name the right one"]);
        let missing = "mail.rs has no item send; name the right one";
        assert_eq!(faults("is `mail.rs::Mail::send`"), [missing]);
    }

    #[test]
    fn names_that_exist_pass_and_so_do_patterns() {
        assert_eq!(faults("`src/mail.rs`, `mail.rs::Mail`, `mail.rs::Mail::handle`"), [""; 0]);
        assert_eq!(faults("`src/{a,b}.rs`, `*.rs`, src/none.rs, `none.md`"), [""; 0]);
    }
}
