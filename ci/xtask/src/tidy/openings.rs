//! Doc comments whose first sentence has no noun or verb to begin with.
//!
//! "It", "Its", "Of", "To", "As" refer to a subject that the reader has not met. "What", "Who" and
//! the like open a clause in the place of a noun. "Whether" may open the comment of a condition.

use super::Offence;
use super::source::Comment;
use super::tree::File;

/// Words with which no doc comment may begin.
const WORDS: [&str; 20] = [
    "As",
    "How",
    "However",
    "It",
    "Its",
    "Of",
    "That",
    "To",
    "What",
    "Whatever",
    "When",
    "Whenever",
    "Where",
    "Wherever",
    "Which",
    "Whichever",
    "Who",
    "Whoever",
    "Whose",
    "Why",
];
const SAME: &str = "The same";

/// Finds doc comments that begin with one of these words.
pub(super) fn check(files: &[File]) -> Vec<Offence> {
    files.iter().filter(|file| !file.is_generated()).flat_map(of_file).collect()
}

fn of_file(file: &File) -> Vec<Offence> {
    let mut before = None;
    let mut offences = Vec::new();
    for (index, line) in file.lines.iter().enumerate() {
        let doc = line.comment.as_ref().filter(|(kind, _)| *kind != Comment::Plain);
        let opens = doc.filter(|(kind, _)| before != Some(*kind));
        if let Some(word) = opens.and_then(|(_, text)| forbidden(text)) {
            let remedy =
                format!("begins with \"{word}\"; begin with a noun, or a verb as \"Returns\"");
            offences.push(Offence::new(file, index + 1, remedy));
        }
        before = doc.map(|(kind, _)| *kind);
    }
    offences
}

fn forbidden(text: &str) -> Option<&'static str> {
    let text = text.trim_start();
    if text.starts_with(SAME) {
        return Some(SAME);
    }
    let first = text.split(|c: char| !c.is_alphanumeric() && c != '\'').next()?;
    let first = first.strip_suffix("'s").unwrap_or(first);
    WORDS.into_iter().find(|word| *word == first)
}

#[cfg(test)]
mod tests {
    use super::super::testing::fires_at;
    use super::{WORDS, check};

    #[test]
    fn each_word_is_found() {
        for word in WORDS.into_iter().chain(["The same", "What's", "Of:"]) {
            assert_eq!(
                fires_at(check, "a.rs", &format!("/// {word} x.\nfn f() {{}}\n")),
                [1],
                "{word}"
            );
            assert_eq!(fires_at(check, "a.rs", &format!("//! {word} x.\n")), [1], "{word}");
        }
    }

    #[test]
    fn later_lines_and_plain_comments_may_begin_so() {
        assert_eq!(
            fires_at(check, "a.rs", "/// Returns what\n/// It is.\n///\n/// To x.\nfn f() {}\n"),
            []
        );
        assert_eq!(fires_at(check, "a.rs", "// It is.\n"), []);
        assert_eq!(fires_at(check, "a.rs", "const A: &str = \"\n/// It\n\";\n"), []);
    }

    #[test]
    fn each_item_has_a_comment_of_its_own() {
        assert_eq!(
            fires_at(check, "a.rs", "//! A.\n\n/// It.\na: u8,\n/// B.\nb: u8,\n/// Its.\n"),
            [3, 7]
        );
    }

    #[test]
    fn longer_words_are_others() {
        assert_eq!(fires_at(check, "a.rs", "/// Items.\nfn f() {}\n/// Whether.\nfn g() {}\n"), []);
        assert_eq!(fires_at(check, "a.rs", "/// `It`.\nfn f() {}\n"), []);
    }
}
