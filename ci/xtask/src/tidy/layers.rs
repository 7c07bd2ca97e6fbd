//! Layers of packages: a package depends only on packages of lower layers.
//!
//! So a lower package can be read, tested and changed without knowing who uses it. The table names
//! every package of the workspace. Packages for fuzzing are workspaces of their own, on top of all.

use super::Offence;
use super::tree::File;

/// The layers, the lowest first. Packages of one layer don't depend on each other.
const LAYERS: [&[&str]; 11] = [
    &["host", "sansio", "simulation", "spans"],
    &["durable", "testbed"],
    &["names", "postfix-wire", "rpc"],
    &["settings"],
    &["spool"],
    &["handoff", "maildrop", "notices"],
    &["queue", "status"],
    &["agents", "postdrop-rs"],
    &["optimus", "pickup-rs"],
    &["trials", "xtask"],
    &["bench"],
];

/// Finds arrows that don't point down, and packages without a layer.
pub(super) fn check(files: &[File]) -> Vec<Offence> {
    let is_manifest = |file: &&File| file.path.rsplit('/').next() == Some("Cargo.toml");
    files.iter().filter(is_manifest).flat_map(of_manifest).collect()
}

fn of_manifest(file: &File) -> Vec<Offence> {
    let manifest = Manifest::read(&file.text);
    let Some((line, name)) = manifest.name.filter(|_| !manifest.is_workspace) else {
        return Vec::new();
    };
    let Some(layer) = layer(name) else {
        let remedy = format!("package {name} has no layer; give it one in tidy/layers.rs");
        return vec![Offence::new(file, line, remedy)];
    };
    let offence = |(line, used): &(usize, &str)| {
        let remedy =
            format!("{name} depends on {used}, which is not below it; move down what both need");
        Offence::new(file, *line, remedy)
    };
    let is_up = |(_, used): &&(usize, &str)| self::layer(used).is_some_and(|it| it >= layer);
    manifest.dependencies.iter().filter(is_up).map(offence).collect()
}

fn layer(package: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&package))
}

/// A package's manifest, as far as layers go. Line numbers begin at 1.
#[derive(Debug, Default)]
struct Manifest<'a> {
    name: Option<(usize, &'a str)>,
    /// Whether the manifest begins a workspace.
    is_workspace: bool,
    /// Dependencies of all kinds.
    dependencies: Vec<(usize, &'a str)>,
}

impl<'a> Manifest<'a> {
    fn read(text: &'a str) -> Self {
        let mut manifest = Self::default();
        let mut section = "";
        for (index, line) in text.lines().enumerate() {
            if let Some(name) = line.strip_prefix('[') {
                section = name.split(']').next().unwrap_or_default();
                manifest.is_workspace |= section == "workspace";
                let own = section.rsplit_once("dependencies.").map(|(_, package)| package);
                manifest.dependencies.extend(own.map(|package| (index + 1, package)));
            } else if let Some((key, value)) = line.split_once('=') {
                manifest.key(section, index + 1, key.trim(), value.trim());
            }
        }
        manifest
    }

    fn key(&mut self, section: &str, line: usize, key: &'a str, value: &'a str) {
        let package = key.split('.').next().unwrap_or(key);
        match section {
            "package" if key == "name" => self.name = Some((line, value.trim_matches('"'))),
            _ if section.ends_with("dependencies") => self.dependencies.push((line, package)),
            _ => (),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::fires_at;
    use super::check;

    const PATH: &str = "crates/x/Cargo.toml";

    fn manifest(name: &str, rest: &str) -> String {
        format!("[package]\nname = \"{name}\"\n{rest}")
    }

    #[test]
    fn an_arrow_that_points_up_or_sideways_is_found() {
        let text = manifest("spool", "[dependencies]\nhost.workspace = true\nagents = \"1\"\n");
        assert_eq!(fires_at(check, PATH, &text), [5]);
        let text = manifest("names", "[dev-dependencies]\nrpc = { workspace = true }\n");
        assert_eq!(fires_at(check, PATH, &text), [4]);
        let text = manifest("optimus", "[dependencies]\npickup-rs.workspace = true\n");
        assert_eq!(fires_at(check, PATH, &text), [4]);
        let text = manifest("spool", "[target.x.dependencies.pickup-rs]\nworkspace = true\n");
        assert_eq!(fires_at(check, PATH, &text), [3]);
    }

    #[test]
    fn arrows_that_point_down_and_other_packages_pass() {
        let rest = "[dependencies]\nspool.workspace = true\nserde = \"1\"\n[features]\nx = []\n";
        assert_eq!(fires_at(check, PATH, &manifest("agents", rest)), []);
    }

    #[test]
    fn a_package_without_a_layer_is_found_unless_it_is_a_workspace_of_its_own() {
        let text = manifest("fuzz", "[dependencies]\nagents = { path = \"..\" }\n");
        assert_eq!(fires_at(check, PATH, &text), [2]);
        assert_eq!(fires_at(check, PATH, &format!("[workspace]\n{text}")), []);
        let table = "[workspace.dependencies]\nagents = { path = \"agents\" }\n";
        assert_eq!(fires_at(check, "Cargo.toml", table), []);
    }
}
