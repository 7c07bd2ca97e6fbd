//! A crate's files, and the names by which each one uses another.
//!
//! Names are resolved as far as files go. A name that a module takes from elsewhere leads to the
//! file that defines it, so a facade (`pub use child::Thing`) is no detour. Names of other crates,
//! and names in `#[cfg(test)]`, are left out.

use std::collections::{BTreeMap, BTreeSet};

use super::references::{Declared, Reference, ReferenceReader};
use super::tree::File;

/// Most re-exports through which a name is followed.
const DETOURS_MAX: usize = 16;

/// One file of a crate.
#[derive(Debug, Default)]
pub(super) struct Module {
    /// Index in the slice of files.
    pub(super) file: usize,
    pub(super) parent: Option<usize>,
    pub(super) references: Vec<Reference>,
    /// Types that the file defines, each with its line.
    pub(super) types: Vec<(usize, String)>,
    children: BTreeMap<String, usize>,
    items: BTreeSet<String>,
    imports: BTreeMap<String, Reference>,
    globs: Vec<Reference>,
}

/// The modules of one target; the first is its root.
#[derive(Debug, Default)]
pub(super) struct Modules(pub(super) Vec<Module>);

impl Modules {
    /// Reads the modules of each target of each package.
    pub(super) fn of_all(files: &[File]) -> Vec<Self> {
        let roots = (0..files.len()).filter(|file| is_root(&files[*file].path));
        let of_root = |root| {
            let mut modules = Self::default();
            modules.add(files, root, None);
            modules
        };
        roots.map(of_root).collect()
    }

    fn add(&mut self, files: &[File], file: usize, parent: Option<usize>) -> usize {
        let read = ReferenceReader::read(&files[file]);
        let this = self.0.len();
        let ReferenceReader { references, types, items, imports, globs, declared, .. } = read;
        let children = BTreeMap::new();
        self.0.push(Module { file, parent, references, types, children, items, imports, globs });
        for Declared { name, path } in declared {
            let candidates = places(&files[file].path, parent.is_none(), &name, path.as_deref());
            let found = files.iter().position(|file| candidates.contains(&file.path));
            if let Some(child) = found {
                let child = self.add(files, child, Some(this));
                self.0[this].children.insert(name, child);
            }
        }
        this
    }

    /// Returns the module that defines what a path names, `None` outside this crate.
    pub(super) fn resolve(&self, from: usize, reference: &Reference) -> Option<usize> {
        self.follow(from, reference, &[], DETOURS_MAX)
    }

    fn follow(
        &self,
        from: usize,
        reference: &Reference,
        more: &[String],
        detours: usize,
    ) -> Option<usize> {
        let mut module = from;
        let mut surrounding = reference.depth;
        let mut names = reference.names.iter().chain(more).cloned().collect::<Vec<_>>();
        let mut is_anchored = false;
        while let Some(first) = names.first() {
            match first.as_str() {
                "crate" => module = 0,
                "self" => (),
                "super" if surrounding > 0 => surrounding -= 1,
                "super" => module = self.0[module].parent?,
                _ => break,
            }
            is_anchored = true;
            names.remove(0);
        }
        if is_anchored && surrounding > 0 && module == from {
            return Some(from);
        }
        self.find(module, &names, is_anchored, detours.checked_sub(1)?)
    }

    /// Descends from a module; `None` if the first name is not known there and may be a crate.
    fn find(
        &self,
        module: usize,
        names: &[String],
        is_known: bool,
        detours: usize,
    ) -> Option<usize> {
        let here = &self.0[module];
        let Some((first, rest)) = names.split_first() else { return Some(module) };
        if let Some(child) = here.children.get(first) {
            return self.find(*child, rest, true, detours);
        }
        if here.items.contains(first) {
            return Some(module);
        }
        if let Some(import) = here.imports.get(first).filter(|import| import.names != names) {
            return self.follow(module, import, rest, detours);
        }
        let through = |glob: &Reference| {
            let target = self.follow(module, glob, &[], detours)?;
            let is_there = target != module && self.0[target].has(first);
            is_there.then(|| self.find(target, names, true, detours))?
        };
        here.globs.iter().find_map(through).or(is_known.then_some(module))
    }

    /// Whether a module lies below another one.
    pub(super) fn is_below(&self, module: usize, ancestor: usize) -> bool {
        let mut parents =
            std::iter::successors(self.0[module].parent, |above| self.0[*above].parent);
        parents.any(|above| above == ancestor)
    }
}

impl Module {
    fn has(&self, name: &str) -> bool {
        self.items.contains(name)
            || self.children.contains_key(name)
            || self.imports.contains_key(name)
    }
}

/// Whether Cargo takes this file for the root of a target, by its usual places.
fn is_root(path: &str) -> bool {
    let parts: Vec<&str> = path.rsplit('/').collect();
    match parts[..] {
        ["lib.rs" | "main.rs", "src", ..] | ["main.rs", _, "bin", "src", ..] => true,
        [name, "bin", "src", ..] => name.ends_with(".rs"),
        ["main.rs", _, "tests" | "examples" | "benches", ..] => true,
        [name, "tests" | "examples" | "benches" | "fuzz_targets", ..] => name.ends_with(".rs"),
        _ => false,
    }
}

/// Returns the places where a declared module may lie.
fn places(parent: &str, is_root: bool, name: &str, path: Option<&str>) -> Vec<String> {
    let (folder, file) = parent.rsplit_once('/').unwrap_or(("", parent));
    if let Some(path) = path {
        return vec![normal(&format!("{folder}/{path}"))];
    }
    let folder = match file.strip_suffix(".rs") {
        Some("mod") => folder.to_owned(),
        Some(_) if is_root => folder.to_owned(),
        stem => format!("{folder}/{}", stem.unwrap_or(file)),
    };
    vec![format!("{folder}/{name}.rs"), format!("{folder}/{name}/mod.rs")]
}

/// Returns the path without `..`.
fn normal(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/').filter(|part| *part != ".") {
        match part {
            ".." => drop(parts.pop()),
            other => parts.push(other),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the files that each file of a crate uses.
    fn uses(texts: &[(&str, &str)]) -> Vec<(String, String)> {
        let files: Vec<File> = texts.iter().map(|(path, text)| File::new(path, text)).collect();
        let mut found = BTreeSet::new();
        for modules in Modules::of_all(&files) {
            for (index, module) in modules.0.iter().enumerate() {
                let targets = module.references.iter().filter_map(|it| modules.resolve(index, it));
                let targets =
                    targets.filter(|target| *target != index).map(|target| modules.0[target].file);
                let pair =
                    |target: usize| (files[module.file].path.clone(), files[target].path.clone());
                found.extend(targets.map(pair));
            }
        }
        let short = |path: String| path.trim_start_matches("p/src/").to_owned();
        found.into_iter().map(|(from, to)| (short(from), short(to))).collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    #[test]
    fn paths_lead_to_the_file_that_defines_the_name() {
        let root = ("p/src/lib.rs", "mod a;\nmod b;\n");
        let a = ("p/src/a.rs", "use crate::b::{self, c::{Deep, Other as O}};\nuse std::fmt;");
        let b = ("p/src/b/mod.rs", "mod c;\npub(crate) use c::Facade;\nfn f() { super::a::g(); }");
        let c = ("p/src/b/c.rs", "pub struct Deep;\nstruct Facade;\n");
        let expected = [
            ("a.rs", "b/c.rs"),
            ("a.rs", "b/mod.rs"),
            ("b/mod.rs", "a.rs"),
            ("b/mod.rs", "b/c.rs"),
        ];
        assert_eq!(uses(&[root, a, b, c]), pairs(&expected));
    }

    #[test]
    fn a_facade_is_no_detour() {
        let root = ("p/src/lib.rs", "mod a;\nmod b;\n");
        let a = ("p/src/a.rs", "use crate::b::{Facade, Glob};");
        let b = ("p/src/b.rs", "mod c;\nmod d;\npub use c::Facade;\npub use d::*;");
        let c = ("p/src/b/c.rs", "pub struct Facade;");
        let d = ("p/src/b/d.rs", "pub struct Glob;");
        let from_a: Vec<_> =
            uses(&[root, a, b, c, d]).into_iter().filter(|(from, _)| from == "a.rs").collect();
        assert_eq!(from_a, pairs(&[("a.rs", "b/c.rs"), ("a.rs", "b/d.rs")]));
    }

    #[test]
    fn tests_and_modules_within_the_file_use_nothing_else() {
        let root = ("p/src/lib.rs", "mod a;\nmod b;\n");
        let a = (
            "p/src/a.rs",
            "mod inner { use super::X; }\n#[cfg(test)]\nmod tests { use crate::b::Y; }",
        );
        assert_eq!(uses(&[root, a, ("p/src/b.rs", "")]), []);
        let a = ("p/src/a.rs", "mod inner { fn f() { super::super::b::f() } }");
        assert_eq!(uses(&[root, a, ("p/src/b.rs", "")]), pairs(&[("a.rs", "b.rs")]));
    }

    #[test]
    fn declared_paths_are_followed() {
        let root = ("p/tests/all.rs", "#[path = \"../src/a.rs\"]\nmod other;\nuse other::X;");
        let found = uses(&[root, ("p/src/a.rs", "pub struct X;")]);
        assert_eq!(found, pairs(&[("p/tests/all.rs", "a.rs")]));
    }
}
