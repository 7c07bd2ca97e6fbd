//! Circles between the files of a crate.
//!
//! Files that use each other can only be understood together. A child module is a part of its
//! parent, so it may use what the files above it define; all other uses must form no circle.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Offence;
use super::modules::Modules;
use super::tree::File;

/// For each file, the files it uses and the first line of each use.
type Uses = BTreeMap<usize, BTreeMap<usize, usize>>;

/// Finds circles; each group of files that use each other is named once, by its shortest circle.
pub(super) fn check(files: &[File]) -> Vec<Offence> {
    let mut circles = BTreeSet::new();
    for modules in Modules::of_all(files) {
        circles.extend(shortest_of_groups(&uses(&modules)));
    }
    circles.into_iter().map(|(line, circle)| offence(files, line, &circle)).collect()
}

fn offence(files: &[File], line: usize, circle: &[usize]) -> Offence {
    let names: Vec<&str> =
        circle.iter().chain(circle.first()).map(|file| files[*file].path.as_str()).collect();
    let remedy =
        format!("{} use each other; move what both need to a third file", names.join(" -> "));
    Offence::new(&files[circle[0]], line, remedy)
}

fn uses(modules: &Modules) -> Uses {
    let mut uses = Uses::new();
    for (index, module) in modules.0.iter().enumerate() {
        for reference in &module.references {
            let target = modules.resolve(index, reference).filter(|target| *target != index);
            let is_above = |target: &usize| modules.is_below(index, *target);
            let Some(target) = target.filter(|target| !is_above(target)) else { continue };
            let of_file = uses.entry(module.file).or_default();
            of_file.entry(modules.0[target].file).or_insert(reference.line);
        }
    }
    uses
}

/// Returns the shortest circle of each group of files that reach each other, with the line of its
/// first use.
fn shortest_of_groups(uses: &Uses) -> Vec<(usize, Vec<usize>)> {
    let mut circles: Vec<Vec<usize>> = uses.keys().filter_map(|file| circle(uses, *file)).collect();
    circles.sort_by_key(Vec::len);
    let mut found: Vec<(usize, Vec<usize>)> = Vec::new();
    for circle in circles {
        let first = circle[0];
        let is_known = |known: &Vec<usize>| {
            way(uses, first, known[0]).is_some() && way(uses, known[0], first).is_some()
        };
        if !found.iter().any(|(_, known)| is_known(known)) {
            let next = circle.get(1).unwrap_or(&first);
            found.push((uses[&first][next], circle));
        }
    }
    found
}

/// Returns the shortest circle through a file, which stands first.
fn circle(uses: &Uses, file: usize) -> Option<Vec<usize>> {
    let ways = uses[&file].keys().filter_map(|next| way(uses, *next, file));
    let mut shortest = ways.min_by_key(Vec::len)?;
    shortest.pop();
    shortest.insert(0, file);
    Some(shortest)
}

/// Returns the shortest way from one file to another, both included.
fn way(uses: &Uses, from: usize, to: usize) -> Option<Vec<usize>> {
    let mut before = BTreeMap::from([(from, None)]);
    let mut next = VecDeque::from([from]);
    while let Some(file) = next.pop_front() {
        if file == to {
            let mut way: Vec<usize> =
                std::iter::successors(Some(file), |file| before.get(file).copied().flatten())
                    .collect();
            way.reverse();
            return Some(way);
        }
        for used in uses.get(&file).into_iter().flat_map(BTreeMap::keys) {
            if !before.contains_key(used) {
                before.insert(*used, Some(file));
                next.push_back(*used);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(texts: &[(&str, &str)]) -> Vec<(String, usize)> {
        let files: Vec<File> = texts.iter().map(|(path, text)| File::new(path, text)).collect();
        check(&files).into_iter().map(|offence| (offence.path, offence.line)).collect()
    }

    const ROOT: (&str, &str) = ("p/src/lib.rs", "mod a;\nmod b;\nmod c;\n");

    #[test]
    fn a_circle_of_three_is_found_once() {
        let a = ("p/src/a.rs", "\nuse crate::b::B;\nstruct A;");
        let b = ("p/src/b.rs", "use super::c::C;\nstruct B;");
        let c = ("p/src/c.rs", "use crate::a::A;\nstruct C;");
        assert_eq!(of(&[ROOT, a, b, c]), [("p/src/a.rs".to_owned(), 2)]);
    }

    #[test]
    fn files_that_use_each_other_one_way_pass() {
        let a = ("p/src/a.rs", "use crate::{b::B, c::C};\nstruct A;");
        let b = ("p/src/b.rs", "use super::c::C;\nstruct B;");
        assert_eq!(of(&[ROOT, a, b, ("p/src/c.rs", "struct C;")]), []);
    }

    #[test]
    fn a_child_may_use_its_parent() {
        let root = ("p/src/lib.rs", "mod a;\npub use a::A;\nstruct X;\nfn f() { a::g() }\n");
        assert_eq!(of(&[root, ("p/src/a.rs", "use crate::X;\npub struct A;")]), []);
    }

    #[test]
    fn a_cousin_is_no_parent() {
        let a = ("p/src/a/mod.rs", "mod deep;\npub struct A;\nuse crate::b::B;");
        let deep = ("p/src/a/deep.rs", "pub struct Deep;");
        let b = ("p/src/b.rs", "pub struct B;\nuse crate::a::A;");
        assert_eq!(of(&[ROOT, a, deep, b]), [("p/src/a/mod.rs".to_owned(), 3)]);
    }
}
