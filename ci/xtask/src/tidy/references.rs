//! The names that one Rust file declares, imports and uses.
//!
//! This is a reader of tokens, not a parser. It knows `use`, `mod`, paths, attributes and braces,
//! and skips code for tests.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{self, SourceLine};
use super::tree::{File, Language};

/// A path in the code: its line, and its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference {
    /// Line number, from 1.
    pub(super) line: usize,
    /// Number of modules within this file that surround the path.
    pub(super) depth: usize,
    pub(super) names: Vec<String>,
}

/// A module that a file declares: `mod name;`.
#[derive(Debug)]
pub(super) struct Declared {
    pub(super) name: String,
    pub(super) path: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    line: usize,
    /// A name, or one other character.
    text: String,
}

/// Collects the declarations and uses of one file.
#[derive(Debug, Default)]
pub(super) struct ReferenceReader {
    tokens: Vec<Token>,
    at: usize,
    /// Numbers of open braces, and of those that open a module within the file.
    braces: usize,
    within: Vec<usize>,
    path: Option<String>,
    pub(super) references: Vec<Reference>,
    pub(super) items: BTreeSet<String>,
    /// Types among the items, each with its line.
    pub(super) types: Vec<(usize, String)>,
    pub(super) imports: BTreeMap<String, Reference>,
    pub(super) globs: Vec<Reference>,
    pub(super) declared: Vec<Declared>,
}

impl ReferenceReader {
    pub(super) fn read(file: &File) -> Self {
        debug_assert_eq!(file.language, Language::Rust);
        let mut reader = Self { tokens: tokens(&file.lines), ..Self::default() };
        while reader.at < reader.tokens.len() {
            reader.step(&file.lines);
        }
        reader
    }

    fn step(&mut self, lines: &[SourceLine]) {
        match self.text(0) {
            "#" if self.text(1) == "[" || self.text(2) == "[" => return self.attribute(lines),
            "{" => self.braces += 1,
            "}" => self.close(),
            "use" => return self.import(),
            "mod" => return self.module(),
            "struct" | "enum" | "union" | "trait" | "type" => {
                let item = self.item();
                self.types.extend(item);
            }
            "fn" | "const" | "static" => drop(self.item()),
            "macro_rules" => drop(self.items.insert(self.text(2).to_owned())),
            name if is_name(name) && self.text(1) == ":" && self.text(2) == ":" => {
                return self.inline();
            }
            _ => (),
        }
        self.at += 1;
    }

    fn text(&self, ahead: usize) -> &str {
        self.tokens.get(self.at + ahead).map_or("", |token| token.text.as_str())
    }

    fn line(&self) -> usize {
        self.tokens.get(self.at).map_or(0, |token| token.line)
    }

    fn close(&mut self) {
        self.braces = self.braces.saturating_sub(1);
        if self.within.last() == Some(&self.braces) {
            self.within.pop();
        }
    }

    /// Notes the item that begins here; `None` for one within another item.
    fn item(&mut self) -> Option<(usize, String)> {
        let name = self.text(1).to_owned();
        let is_item = is_name(&name) && self.braces == self.within.len();
        is_item.then(|| {
            self.items.insert(name.clone());
            (self.line(), name)
        })
    }

    /// Notes `path = "..."`, and skips an item for tests.
    fn attribute(&mut self, lines: &[SourceLine]) {
        let line = self.line();
        let begin = self.at;
        self.at += if self.text(1) == "!" { 2 } else { 1 };
        self.skip_group("[", "]");
        let words: Vec<&str> =
            self.tokens[begin..self.at].iter().map(|token| token.text.as_str()).collect();
        match words[..] {
            ["#", "[", "path", ..] => {
                self.path = lines.get(line - 1).map(|line| line.quoted.trim().to_owned());
            }
            ["#", "[", "cfg", "(", "test", ")", "]"] => self.skip_item(),
            _ => (),
        }
    }

    fn skip_group(&mut self, open: &str, close: &str) {
        let mut depth = 0_usize;
        while self.at < self.tokens.len() {
            let text = self.text(0);
            depth += usize::from(text == open);
            depth -= usize::from(text == close);
            self.at += 1;
            if depth == 0 {
                break;
            }
        }
    }

    fn skip_item(&mut self) {
        loop {
            match self.text(0) {
                "" => return,
                ";" => break self.at += 1,
                "{" => return self.skip_group("{", "}"),
                "[" => self.skip_group("[", "]"),
                _ => self.at += 1,
            }
        }
    }

    fn module(&mut self) {
        let name = self.text(1).to_owned();
        match self.text(2) {
            ";" => self.declared.push(Declared { name, path: self.path.take() }),
            "{" => {
                self.items.insert(name);
                self.within.push(self.braces);
                self.braces += 1;
            }
            _ => (),
        }
        self.at += 3;
    }

    /// Reads a path within code, as `super::child::function`.
    fn inline(&mut self) {
        let line = self.line();
        let mut names = vec![self.text(0).to_owned()];
        while self.text(1) == ":" && self.text(2) == ":" && is_name(self.text(3)) {
            self.at += 3;
            names.push(self.text(0).to_owned());
        }
        self.at += 1;
        self.references.push(Reference { line, depth: self.within.len(), names });
    }

    fn import(&mut self) {
        self.at += 1;
        self.tree(&[]);
    }

    /// Reads one tree of a `use`, below the names of `prefix`.
    fn tree(&mut self, prefix: &[String]) {
        let mut names = prefix.to_vec();
        let line = self.line();
        loop {
            match self.text(0).to_owned().as_str() {
                ":" => self.at += 1,
                "{" => {
                    self.at += 1;
                    while !matches!(self.text(0), "}" | "") {
                        self.tree(&names);
                        self.at += usize::from(self.text(0) == ",");
                    }
                    return self.at += 1;
                }
                "*" => {
                    self.at += 1;
                    return self.note(line, names, None);
                }
                "as" => {
                    let alias = self.text(1).to_owned();
                    self.at += 2;
                    return self.note(line, names, Some(alias));
                }
                name if is_name(name) => {
                    names.push(name.to_owned());
                    self.at += 1;
                }
                _ => {
                    let name = names.last().cloned();
                    return self.note(line, names, name);
                }
            }
        }
    }

    fn note(&mut self, line: usize, mut names: Vec<String>, alias: Option<String>) {
        let mut alias = alias;
        if names.last().is_some_and(|last| last == "self") && names.len() > 1 {
            names.pop();
            alias = alias.filter(|alias| alias != "self").or(names.last().cloned());
        }
        let reference = Reference { line, depth: self.within.len(), names };
        match alias {
            Some(alias) => drop(self.imports.insert(alias, reference.clone())),
            None => self.globs.push(reference.clone()),
        }
        self.references.push(reference);
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(source::is_of_name)
}

fn tokens(lines: &[SourceLine]) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let mut in_name = false;
        for character in line.code.chars() {
            let of_name = source::is_of_name(character);
            match tokens.last_mut().filter(|_| of_name && in_name) {
                Some(last) => last.text.push(character),
                None if character.is_whitespace() => (),
                None => tokens.push(Token { line: index + 1, text: character.to_string() }),
            }
            in_name = of_name;
        }
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> ReferenceReader {
        ReferenceReader::read(&File::new("a.rs", text))
    }

    fn paths(text: &str) -> Vec<String> {
        read(text).references.into_iter().map(|reference| reference.names.join("::")).collect()
    }

    #[test]
    fn a_use_is_taken_apart() {
        let text = "pub(crate) use crate::a::{self, b::{C, D as E}, f::*};\nuse g;";
        assert_eq!(
            paths(text),
            ["crate::a", "crate::a::b::C", "crate::a::b::D", "crate::a::f", "g"]
        );
        let imports: Vec<_> = read(text).imports.into_keys().collect();
        assert_eq!(imports, ["C", "E", "a", "g"]);
        assert_eq!(read(text).globs.len(), 1);
    }

    #[test]
    fn paths_in_code_are_references() {
        assert_eq!(paths("fn f() { a::b::<C>(d); let x: &'a e::F = \"g::h\"; }"), ["a::b", "e::F"]);
    }

    #[test]
    fn items_of_the_file_itself_are_noted() {
        let items = read(
            "pub struct A; impl A { fn b() {} }\nmacro_rules! c { () => {} }\nmod d { fn e() {} }",
        )
        .items;
        assert_eq!(items.into_iter().collect::<Vec<_>>(), ["A", "c", "d", "e"]);
    }

    #[test]
    fn code_for_tests_alone_is_skipped() {
        assert_eq!(
            paths("#[cfg(test)]\nmod tests { use a::B; }\n#[cfg(test)]\nuse c::D;\nuse e::F;"),
            ["e::F"]
        );
        assert!(read("#[cfg(test)]\nmod tests;").declared.is_empty());
    }

    #[test]
    fn declared_modules_keep_their_path() {
        let declared = read("#[path = \"x/y.rs\"]\nmod a;\nmod b;").declared;
        let found: Vec<_> =
            declared.iter().map(|it| (it.name.as_str(), it.path.as_deref())).collect();
        assert_eq!(found, [("a", Some("x/y.rs")), ("b", None)]);
    }
}
