//! `dependencies`: rules for other people's packages.
//!
//! Each package that a build of the workspace uses must come from crates.io. Its licence must ask
//! for no more than a mention.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use spdx::{Expression, LicenseReq, ParseMode};

/// Permissive licences, by their SPDX identifiers.
const ALLOWED: [&str; 9] = [
    "0BSD",
    "MIT",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "ISC",
    "Unicode-3.0",
    "Zlib",
];

/// Platforms that OPTIMUS is built for; packages for others are never compiled.
const PLATFORMS: [&str; 2] = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"];

/// Options of `dependencies`.
#[derive(clap::Args)]
pub(crate) struct Arguments {}

/// Prints a line for each offence; fails when there is one.
pub(crate) fn run(_: &Arguments) -> Result<()> {
    let mut packages = BTreeSet::new();
    for platform in PLATFORMS {
        packages.extend(tree(platform)?.lines().filter(|line| !line.is_empty()).map(str::to_owned));
    }
    ensure!(
        !packages.is_empty(),
        "cargo tree: no package listed; run this command in the workspace"
    );
    let offences: Vec<String> = packages.iter().filter_map(|line| offence(line)).collect();
    offences.iter().for_each(|offence| println!("{offence}"));
    if !offences.is_empty() {
        bail!(
            "dependencies: {} packages above are not allowed; replace or remove them",
            offences.len()
        );
    }
    Ok(())
}

/// Returns a line for each package: its name, version and place, a bar, its licence.
fn tree(platform: &str) -> Result<String> {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--locked",
            "--workspace",
            "--all-features",
            "--edges",
            "normal,build,dev",
            "--target",
            platform,
        ])
        .args(["--prefix", "none", "--no-dedupe", "--format", "{p}|{l}"])
        .output()
        .context("cargo tree: not started")?;
    ensure!(
        output.status.success(),
        "cargo tree: failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).context("cargo tree: output not UTF-8")
}

/// Returns the fault of a package, by its line. A package with a place in parentheses isn't from
/// crates.io. Only OPTIMUS's own may be so, with a path.
fn offence(line: &str) -> Option<String> {
    let (package, text) = line.split_once('|').unwrap_or((line, ""));
    let mut places = package.split(" (").skip(1).filter(|it| *it != "proc-macro)");
    let wrong = match places.next() {
        Some(place) if place.starts_with('/') => None,
        Some(_) => Some("is not from crates.io".to_owned()),
        None => licence(text).err(),
    };
    wrong.map(|wrong| format!("{package}: {wrong}"))
}

/// Checks that the allowed licences suffice for an SPDX expression, also for an old one with a
/// slash.
fn licence(text: &str) -> Result<(), String> {
    let parsed = Expression::parse_mode(text, ParseMode::LAX);
    let parsed = parsed.map_err(|error| format!("licence {text:?}: {}", error.reason))?;
    let is_allowed =
        |wanted: &LicenseReq| wanted.license.id().is_some_and(|id| ALLOWED.contains(&id.name));
    if parsed.evaluate(is_allowed) {
        Ok(())
    } else {
        Err(format!("licence {text:?} is not allowed"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allowed_licences_suffice_and_others_are_named() {
        for good in
            ["MIT", "MIT OR GPL-3.0-only", "MIT/Apache-2.0", "(Apache-2.0 OR MIT) AND BSD-3-Clause"]
        {
            assert_eq!(offence(&format!("name v1.0.0 (proc-macro)|{good}")), None, "{good}");
        }
        for bad in
            ["GPL-3.0-only", "MIT AND GPL-2.0-or-later", "LicenseRef-own", "no such thing", ""]
        {
            let found = offence(&format!("name v1.0.0|{bad}")).unwrap();
            assert!(found.starts_with("name v1.0.0: licence "), "{found}");
        }
    }

    #[test]
    fn a_package_is_from_crates_io_or_ours() {
        assert_eq!(offence("ours v0.1.0 (/tree/crates/ours)|GPL-3.0-only"), None);
        for source in ["(https://example.org/git#0123)", "(registry `other`)"] {
            let found = offence(&format!("name v1.0.0 {source}|MIT")).unwrap();
            assert!(found.contains("not from crates.io"), "{found}");
        }
    }
}
