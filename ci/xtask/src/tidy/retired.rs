//! Words that the glossary retired.
//!
//! The last column of the table in `docs/glossary.md` lists them in backquotes. A word of small
//! letters is found everywhere, also as a part of a name (`census` in `CensusEntry`). A word with a
//! capital letter, or with `()`, is a name in code, and only that exact name is found.

use std::collections::BTreeSet;

use super::Offence;
use super::source::is_of_name;
use super::tree::{File, Language};

const GLOSSARY: &str = "docs/glossary.md";

/// Paths where any word may stay: the glossary itself, and dated records.
const HISTORY: [&str; 3] = [GLOSSARY, "docs/decisions/", "ci/xtask/src/tidy/"];

/// Words that mean something else below certain paths, which must exist.
const ALLOWED: [(&str, &str); 1] = [("strange", "crates/spool/src/keys.rs")];

/// A retired word, and the term in its place.
#[derive(Debug, PartialEq, Eq)]
struct Retired {
    word: String,
    term: String,
}

/// Finds retired words in all files but the dated ones.
pub(super) fn check(files: &[File]) -> Vec<Offence> {
    let glossary = files.iter().find(|file| file.path == GLOSSARY);
    let retired = glossary.map(|file| words_of(&file.text)).unwrap_or_default();
    let is_history = |file: &&File| HISTORY.iter().any(|path| file.path.starts_with(path));
    let current = files.iter().filter(|file| !is_history(file) && !file.path.ends_with(".lock"));
    current.flat_map(|file| of_file(file, &retired)).collect()
}

/// Returns the retired words of a glossary's table: those in backquotes in its last column.
fn words_of(glossary: &str) -> Vec<Retired> {
    let mut retired = Vec::new();
    for row in glossary.lines().filter_map(|line| line.trim().strip_prefix('|')?.strip_suffix('|'))
    {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [term, _, _, replaced] = cells[..] else { continue };
        let words = replaced.split('`').skip(1).step_by(2);
        let term = term.replace(['*', '`'], "");
        retired.extend(words.map(|word| Retired { word: word.to_owned(), term: term.clone() }));
    }
    retired
}

fn of_file(file: &File, retired: &[Retired]) -> Vec<Offence> {
    let is_allowed =
        |word: &str| ALLOWED.iter().any(|(it, path)| *it == word && file.path.starts_with(path));
    let retired: Vec<&Retired> =
        retired.iter().filter(|retired| !is_allowed(&retired.word)).collect();
    let mut offences = named(file, &retired);
    for (index, line) in file.text.lines().enumerate() {
        let code = file.lines.get(index).map_or("", |line| line.code.as_str());
        let code = if file.language == Language::Lua { before_comment(line) } else { code };
        let (parts, names) = (Words::of(line), names(code));
        let here = retired.iter().filter(|retired| parts.has(retired) || is_name(retired, &names));
        offences.extend(here.map(|retired| Offence::new(file, index + 1, remedy(retired))));
    }
    offences
}

/// Returns the code of a line of Lua, whose strings hold no two hyphens here.
fn before_comment(line: &str) -> &str {
    line.split("--").next().unwrap_or_default()
}

/// Returns offences in the file's own name.
fn named(file: &File, retired: &[&Retired]) -> Vec<Offence> {
    let path = Words::of(&file.path);
    let here = retired.iter().filter(|retired| path.has(retired));
    here.map(|retired| Offence::new(file, 1, format!("the path: {}", remedy(retired)))).collect()
}

fn remedy(Retired { word, term }: &Retired) -> String {
    format!("{word} is retired; the glossary's word is {term}")
}

fn names(code: &str) -> BTreeSet<&str> {
    code.split(|character| !is_of_name(character)).collect()
}

fn is_name(Retired { word, .. }: &Retired, names: &BTreeSet<&str>) -> bool {
    match word.strip_suffix("()") {
        Some(function) => names.contains(function),
        None => word.starts_with(char::is_uppercase) && names.contains(word.as_str()),
    }
}

/// The words of a line, in small letters, names taken apart: `" redis census entry "`.
struct Words(String);

impl Words {
    fn of(line: &str) -> Self {
        let mut words = " ".to_owned();
        let mut before = ' ';
        for character in line.chars() {
            let begins = character.is_uppercase() && !before.is_uppercase();
            if (begins || !character.is_alphanumeric()) && !words.ends_with(' ') {
                words.push(' ');
            }
            if character.is_alphanumeric() {
                words.extend(character.to_lowercase());
            }
            before = character;
        }
        Self(words + " ")
    }

    fn has(&self, Retired { word, .. }: &Retired) -> bool {
        let is_word = !word.ends_with("()") && !word.starts_with(char::is_uppercase);
        is_word && self.0.contains(&format!(" {word} "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
| term | meaning | where | replaces |
|---|---|---|---|
| **scan** | looking through | `queue/` | `census`, `set aside`, counting |
| fencing token | a number | `ids.rs` | `Seat`, `sift()` |
";

    fn lines(path: &str, text: &str) -> Vec<usize> {
        let files = [File::new(GLOSSARY, TABLE), File::new(path, text)];
        check(&files).into_iter().map(|offence| offence.line).collect()
    }

    #[test]
    fn a_word_is_found_in_prose_in_names_and_in_paths() {
        assert_eq!(lines("a.md", "a\nThe Census ends.\n"), [2]);
        assert_eq!(
            lines("a.rs", "struct CensusEntry;\nlet a = the_census;\n// counting\n"),
            [1, 2]
        );
        assert_eq!(lines("a.lua", "-- Set aside.\n"), [1]);
        assert_eq!(lines("src/census/mod.rs", "a"), [1]);
    }

    #[test]
    fn a_name_is_found_in_code_only() {
        assert_eq!(
            lines("a.rs", "let seat = Seat::new();\n// Seat\nlet s = \"Seat\";\nSeats"),
            [1]
        );
        assert_eq!(lines("a.lua", "-- Seat\nSeat() -- Seats\n"), [2]);
        assert_eq!(lines("a.rs", "fn sift() {}\n// sift\nsifted();\n"), [1]);
    }

    #[test]
    fn history_keeps_its_words() {
        assert_eq!(lines("docs/decisions/0001-a.md", "census\n"), []);
    }

    #[test]
    fn remedies_name_the_term() {
        let files = [File::new(GLOSSARY, TABLE), File::new("a.md", "census")];
        assert_eq!(check(&files)[0].remedy, "census is retired; the glossary's word is scan");
    }

    #[test]
    fn this_tree_s_glossary_is_read() {
        let root = super::super::workspace();
        let words = words_of(&std::fs::read_to_string(root.join(GLOSSARY)).unwrap());
        let is_limbo = |it: &Retired| it.word == "limbo" && it.term == "in doubt";
        assert!(words.iter().any(is_limbo), "{words:?}");
        let is_used = |(word, path): &(&str, &str)| {
            words.iter().any(|it| it.word == *word) && root.join(path).exists()
        };
        assert!(ALLOWED.iter().all(is_used), "an allowance for no word, or for no path");
    }
}
