//! Each operation, killed before each of its steps. A child process, which is this test program
//! again, takes the steps.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::step::testing;
use crate::{Sequence, TextFile};

const MODE: u32 = 0o600;
/// More steps than any operation has.
const STEPS_MAX: usize = 20;
/// Operation, path and step of a child.
const VARIABLE: &str = "DURABLE_DEATH";

fn operate(operation: &str, path: &Path, text: &str) {
    match operation {
        "make_once" => TextFile::at(path, MODE).make_once(text).unwrap(),
        "replace" => TextFile::at(path, MODE).replace(text).unwrap(),
        "sequence" => {
            let sequence = Sequence::at(path);
            let locked = sequence.lock().unwrap();
            locked.store(text).unwrap();
        }
        "rename" => crate::rename(&path.with_extension("other"), path).unwrap(),
        "remove" => crate::remove(path).unwrap(),
        other => panic!("{other}"),
    }
}

/// Is the child where the variable is set, and nothing otherwise.
#[test]
fn child() {
    let Ok(words) = std::env::var(VARIABLE) else { return };
    let [operation, path, step] = words.split(' ').collect::<Vec<_>>()[..] else { panic!() };
    testing::die_at(step.parse().unwrap());
    operate(operation, Path::new(path), "new");
}

/// Has a child die before the step of this number. Returns whether it died.
fn dies(operation: &str, path: &Path, step: usize) -> bool {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "deaths::child"]).stdout(Stdio::null()).stderr(Stdio::null());
    child.env(VARIABLE, format!("{operation} {} {step}", path.display()));
    // A program without the child's test would succeed at once.
    !child.status().unwrap().success()
}

fn text(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim_end().to_owned())
}

/// Returns the files beside `path` that are no locks.
fn others(path: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|it| it != path && it.extension().is_none_or(|it| it != "lock")).collect()
}

/// Kills the operation before each step, each time in a new folder where `prepare` has been.
/// Returns what the file then holds, step by step, and after the last one.
fn after_each_death(
    operation: &str,
    prepare: impl Fn(&Path),
    check: impl Fn(&Path),
) -> Vec<Option<String>> {
    let mut texts = Vec::new();
    for step in 0..STEPS_MAX {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        prepare(&path);
        let has_died = dies(operation, &path, step);
        texts.push(text(&path));
        check(&path);
        if !has_died {
            assert!(step > 0, "{operation}: no step was taken");
            return texts;
        }
    }
    panic!("{operation}: never ended");
}

fn some(texts: &[&str]) -> Vec<Option<String>> {
    texts.iter().map(|text| (!text.is_empty()).then(|| (*text).to_owned())).collect()
}

fn at_most_a_draft(path: &Path) {
    assert!(others(path).len() <= 1, "{:?}", others(path));
}

#[test]
fn a_file_that_is_replaced_is_the_old_one_or_the_new_one() {
    let old = |path: &Path| fs::write(path, "old\n").unwrap();
    let again = |path: &Path| {
        at_most_a_draft(path);
        operate("replace", path, "later");
        assert_eq!(text(path).as_deref(), Some("later"));
    };
    // Create, write, sync, rename; sync the folder; end.
    let texts = after_each_death("replace", old, again);
    assert_eq!(texts, some(&["old", "old", "old", "old", "new", "new"]));
}

#[test]
fn a_file_that_is_made_once_is_absent_or_whole_and_stays() {
    let again = |path: &Path| {
        at_most_a_draft(path);
        let made = text(path);
        operate("make_once", path, "later");
        assert_eq!(text(path), made.or(Some("later".to_owned())));
    };
    // Create, write, sync, link; remove the draft, sync the folder; end.
    let texts = after_each_death("make_once", |_| (), again);
    assert_eq!(texts, some(&["", "", "", "", "new", "new", "new"]));
}

#[test]
fn a_sequence_is_the_old_one_or_the_new_one_and_its_draft_and_lock_are_free() {
    let old = |path: &Path| fs::write(path, "old\n").unwrap();
    let again = |path: &Path| {
        at_most_a_draft(path);
        operate("sequence", path, "later");
        assert_eq!(text(path).as_deref(), Some("later"));
        assert_eq!(others(path), Vec::<PathBuf>::new(), "a draft that was left is removed");
    };
    let texts = after_each_death("sequence", old, again);
    assert_eq!(texts, some(&["old", "old", "old", "old", "new", "new"]));
}

#[test]
fn a_renamed_or_removed_file_is_there_or_not() {
    let two = |path: &Path| {
        fs::write(path, "old").unwrap();
        fs::write(path.with_extension("other"), "new").unwrap();
    };
    let texts = after_each_death("rename", two, |_| ());
    assert_eq!(texts, some(&["old", "new", "new"]));
    let texts = after_each_death("remove", two, |_| ());
    assert_eq!(texts, some(&["old", "", ""]));
}
