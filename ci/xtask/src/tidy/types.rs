//! Names of types that say too little.
//!
//! A word with a general meaning is no name of a type, and no name stands for three things in three
//! files. Tests apart, each file is a module. Associated types, and types within functions, don't
//! count: their surroundings tell what they are.

use std::collections::{BTreeMap, BTreeSet};

use super::Offence;
use super::modules::Modules;
use super::tree::File;

/// Words that say nothing about a type.
const GENERAL: [&str; 5] = ["Answer", "News", "Place", "Report", "State"];

/// Number of files from which on one name is too many things.
const FILES_MAX: usize = 3;

/// Names with one meaning wherever they are defined, and that meaning.
const STANDARD: [(&str, &str); 6] = [
    ("Arguments", "the command line of one command, as clap reads it"),
    ("Client", "in rpc: the calling end, as a core, behind a socket, and with types"),
    ("Reply", "the answer to a request of a protocol"),
    ("Request", "a client's demand in a protocol"),
    ("Server", "in rpc: the serving end, as a core, behind a socket, and with types"),
    ("Session", "one client's conversation with a server, at the server"),
];

/// Finds types with a general name, and names that too many files define.
pub(super) fn check(files: &[File]) -> Vec<Offence> {
    let mut defined: BTreeMap<String, BTreeSet<(usize, usize)>> = BTreeMap::new();
    let is_test = |file: usize| files[file].path.split('/').any(|folder| folder == "tests");
    for modules in Modules::of_all(files) {
        for module in modules.0.iter().filter(|module| !is_test(module.file)) {
            for (line, name) in &module.types {
                defined.entry(name.clone()).or_default().insert((module.file, *line));
            }
        }
    }
    let offending = defined.iter().filter_map(|(name, at)| Some((at, remedy(name, at)?)));
    let offences = offending.flat_map(|(at, remedy)| {
        at.iter().map(move |(file, line)| Offence::new(&files[*file], *line, remedy.clone()))
    });
    offences.collect()
}

fn remedy(name: &str, at: &BTreeSet<(usize, usize)>) -> Option<String> {
    if GENERAL.contains(&name) {
        return Some(format!("{name} is the name of a type; name what this one is"));
    }
    let files = at.iter().map(|(file, _)| file).collect::<BTreeSet<_>>().len();
    let is_standard = STANDARD.iter().any(|(standard, _)| *standard == name);
    let too_many = files >= FILES_MAX && !is_standard;
    too_many.then(|| format!("{files} files define a type {name}; name what each one is"))
}

#[cfg(test)]
mod tests {
    use super::super::testing::fires_at;
    use super::*;

    const ROOT: &str = "mod a;\nmod b;\nmod c;\n";

    /// Returns the paths at which the rule fires, when these files define `Step`.
    fn fires_in(paths: &[&str]) -> Vec<String> {
        let step = |path: &&str| File::new(path, "\npub(crate) struct Step<T>(T);\n");
        let mut files: Vec<File> = paths.iter().map(step).collect();
        files.push(File::new("crates/p/src/lib.rs", ROOT));
        check(&files).into_iter().map(|offence| offence.path).collect()
    }

    #[test]
    fn a_general_word_is_found_in_one_file() {
        assert_eq!(fires_at(check, "a/src/lib.rs", "struct A;\n\nenum State {}\n"), [3]);
        assert_eq!(fires_at(check, "a/src/lib.rs", "type Place = u8;"), [1]);
    }

    #[test]
    fn one_name_in_three_files_is_found_in_each() {
        let paths = ["crates/p/src/a.rs", "crates/p/src/b.rs", "crates/p/src/c.rs"];
        assert_eq!(fires_in(&paths), paths);
        assert_eq!(fires_in(&paths[..2]), [""; 0]);
    }

    #[test]
    fn tests_count_for_nothing() {
        let paths = ["crates/p/src/a.rs", "crates/p/src/b.rs", "crates/p/tests/c.rs"];
        assert_eq!(fires_in(&paths), [""; 0]);
        let text = "#[cfg(test)]\nmod tests {\n    struct State;\n}\n";
        assert_eq!(fires_at(check, "a/src/lib.rs", text), [0; 0]);
    }

    #[test]
    fn associated_and_local_types_pass() {
        let text = "impl A for B {\n    type Answer = C;\n}\nfn f() {\n    struct State;\n}\n";
        assert_eq!(fires_at(check, "a/src/lib.rs", text), [0; 0]);
    }

    #[test]
    fn standard_words_pass() {
        let arguments = |path: &&str| File::new(path, "struct Arguments;\n");
        let paths = ["a/src/lib.rs", "b/src/lib.rs", "c/src/main.rs"];
        assert_eq!(check(&paths.iter().map(arguments).collect::<Vec<_>>()), []);
    }
}
