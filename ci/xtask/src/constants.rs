//! `constants`: Postfix's numbers and letters, from its own headers.
//!
//! Debian has no package with Postfix's headers, so the generated file is in the tree. This command
//! makes it again: it fetches Debian's source package with the machine's own apt, runs bindgen over
//! the headers, and writes the result. With `--check` it fails when the result differs from the
//! file in the tree.
//!
//! The system's apt configuration stays as it is. Source entries are derived from the machine's
//! binary entries, in a temporary directory with its own lists and caches. So a configured mirror
//! or proxy is used here too.
//!
//! Needs the Debian packages `dpkg-dev` (which `apt-get source` runs) and `libclang-dev` (which
//! bindgen loads).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// The file in the tree, from the workspace's root.
const GENERATED: &str = "crates/postfix-wire/src/constants.rs";

const BANNER: &str = "\
//! Postfix's constants, generated from its headers: don't edit, run `cargo xtask constants`.
#![allow(missing_docs, non_camel_case_types)]";

/// The headers, in Postfix's `src/`; all others expect `sys_defs.h` before them.
const HEADERS: [&str; 8] = [
    "util/sys_defs.h",
    "util/attr.h",
    "global/rec_type.h",
    "global/cleanup_user.h",
    "global/mail_proto.h",
    "global/mail_queue.h",
    "global/input_transp.h",
    "master/master_proto.h",
];

/// Patterns of the wanted names.
const WANTED: [&str; 13] = [
    "REC_TYPE_[A-Z0-9_]+",
    "CLEANUP_(FLAG|STAT)_[A-Z0-9_]+",
    "INPUT_TRANSP_[A-Z0-9_]+",
    "MASTER_(XPORT_NAME|STAT|FLOW)_[A-Z]+",
    "MASTER_(GEN_NAME|STATUS_FD|LISTEN_FD)",
    "MAIL_QUEUE_[A-Z_]+",
    "MAIL_CLASS_(PUBLIC|PRIVATE)",
    "MAIL_ATTR_(PROTO|FLAGS|QUEUEID|STATUS|WHY)",
    "MAIL_ATTR_PROTO_(CLEANUP|POSTDROP)",
    "MQID_[A-Z_]+",
    "ATTR_HASH_LIMIT",
    "QMGR_REQ_[A-Z_]+",
    "TRIGGER_REQ_WAKEUP",
];

/// Options of `constants`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Change nothing; fail if the file in the tree differs.
    #[arg(long)]
    check: bool,
    /// Use this unpacked source of Postfix instead of fetching Debian's.
    #[arg(long, value_name = "DIRECTORY")]
    source: Option<PathBuf>,
}

/// Generates the constants, and writes or compares them.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let scratch = tempfile::tempdir().context("temporary folder: not made")?;
    let source = match &arguments.source {
        Some(source) => source.clone(),
        None => fetch(scratch.path())?,
    };
    let fresh = generate(&source, &workspace)?;
    let path = workspace.join(GENERATED);
    if !arguments.check {
        return fs::write(&path, fresh).with_context(|| format!("{GENERATED}: not written"));
    }
    let committed = fs::read_to_string(&path).with_context(|| format!("{GENERATED}: not read"))?;
    compare(&committed, &fresh)
}

fn compare(committed: &str, fresh: &str) -> Result<()> {
    if committed == fresh {
        println!("{GENERATED} is what Postfix's headers say");
        return Ok(());
    }
    for line in committed.lines().filter(|line| !fresh.lines().any(|other| other == *line)) {
        eprintln!("-{line}");
    }
    for line in fresh.lines().filter(|line| !committed.lines().any(|other| other == *line)) {
        eprintln!("+{line}");
    }
    bail!(
        "{GENERATED}: differs from Postfix's headers; run `cargo xtask constants` and look at the \
            difference"
    )
}

/// Runs bindgen over the headers of an unpacked source.
fn generate(source: &Path, workspace: &Path) -> Result<String> {
    let src = source.join("src");
    let mut builder = bindgen::Builder::default()
        .clang_args(["-DLINUX5", "-DMAIL_QUEUE_INTERNAL", "-Wno-comment"])
        .clang_args(
            ["util", "global", "master"].map(|folder| format!("-I{}", src.join(folder).display())),
        )
        .rustfmt_configuration_file(Some(workspace.join("rustfmt.toml")))
        .disable_header_comment()
        .raw_line(BANNER)
        .allowlist_type("MASTER_STATUS");
    for header in HEADERS {
        let header = src.join(header);
        ensure!(
            header.is_file(),
            "{}: missing, so this is no source of Postfix; see \
            --source",
            header.display()
        );
        builder = builder.header(header.display().to_string());
    }
    builder = WANTED.into_iter().fold(builder, bindgen::Builder::allowlist_var);
    Ok(builder
        .generate()
        .context("bindgen: constants not made from Postfix's headers")?
        .to_string())
}

/// Fetches and unpacks Debian's source package of Postfix. Returns its directory.
fn fetch(scratch: &Path) -> Result<PathBuf> {
    let sources = scratch.join("sources.list.d");
    fs::create_dir(&sources)?;
    derive_source_entries(Path::new("/etc/apt"), &sources)?;
    fs::create_dir_all(scratch.join("lists/partial"))?;
    fs::create_dir_all(scratch.join("cache/archives/partial"))?;
    // An archive without sources must not hide one that has them.
    let updated = apt_get(scratch, &["update"]);
    apt_get(scratch, &["source", "postfix"]).or_else(|error| updated.and(Err(error)))?;
    let unpacked = |entry: &fs::DirEntry| {
        entry.file_name().to_string_lossy().starts_with("postfix-") && entry.path().is_dir()
    };
    let entry = fs::read_dir(scratch)?.filter_map(Result::ok).find(unpacked);
    Ok(entry.context("apt-get source: nothing unpacked")?.path())
}

/// Runs apt-get with configuration and state in `scratch`. An error has its output.
fn apt_get(scratch: &Path, arguments: &[&str]) -> Result<()> {
    let option = |name: &str, value: &Path| format!("-o{name}={}", value.display());
    let output = Command::new("apt-get")
        .current_dir(scratch)
        .args([
            "-qq".to_owned(),
            "-oAPT::Sandbox::User=".to_owned(),
            option("Dir::Etc::sourcelist", Path::new("/dev/null")),
            option("Dir::Etc::sourceparts", &scratch.join("sources.list.d")),
            option("Dir::State::lists", &scratch.join("lists")),
            option("Dir::Cache", &scratch.join("cache")),
        ])
        .args(arguments)
        .output()
        .context("apt-get: not started")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "apt-get {}: failed:\n{said}", arguments.join(" "));
    Ok(())
}

/// Writes source entries for the archives from which apt is configured to take packages.
fn derive_source_entries(apt: &Path, into: &Path) -> Result<()> {
    let mut files = vec![apt.join("sources.list")];
    if let Ok(folder) = fs::read_dir(apt.join("sources.list.d")) {
        files.extend(folder.filter_map(Result::ok).map(|entry| entry.path()));
    }
    for file in files {
        let (Some(name), Ok(text)) = (file.file_name(), fs::read_to_string(&file)) else {
            continue;
        };
        let entries = match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => source_lines(&text),
            Some("sources") => source_stanzas(&text),
            _ => continue,
        };
        fs::write(into.join(name), entries)?;
    }
    Ok(())
}

/// Converts the one-line format: `deb …` becomes `deb-src …`, and other lines are left out.
fn source_lines(text: &str) -> String {
    let entry =
        |line: &str| line.trim_start().strip_prefix("deb ").map(|rest| format!("deb-src {rest}\n"));
    text.lines().filter_map(entry).collect()
}

/// Converts the stanza format: in the types of stanzas, `deb` becomes `deb-src`; other stanzas are
/// left out.
fn source_stanzas(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let stanzas = lines.split(|line| line.trim().is_empty());
    stanzas.filter_map(source_stanza).collect::<Vec<_>>().join("\n")
}

fn source_stanza(lines: &[&str]) -> Option<String> {
    let types = |line: &str| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("types")
            .then(|| value.split_whitespace().any(|kind| kind == "deb"))
    };
    lines.iter().find_map(|line| types(line)).filter(|binary| *binary)?;
    let field = |line: &&str| {
        if types(line).is_some() { "Types: deb-src".to_owned() } else { (*line).to_owned() }
    };
    Some(lines.iter().map(field).map(|line| line + "\n").collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_source_lines() {
        let text = "# deb a\ndeb [signed-by=/k] http://m.example/debian stable main\n\
            deb-src http://x y z\n";
        assert_eq!(
            source_lines(text),
            "deb-src [signed-by=/k] http://m.example/debian stable main\n"
        );
    }

    #[test]
    fn stanzas_become_source_stanzas() {
        let text = "Types: deb deb-src\nURIs: http://m.example/debian\nSigned-By: /k\n\n\
            types: deb\n\nTypes: deb-src\n";
        let expected =
            "Types: deb-src\nURIs: http://m.example/debian\nSigned-By: /k\n\nTypes: deb-src\n";
        assert_eq!(source_stanzas(text), expected);
    }

    #[test]
    fn a_difference_is_an_error() {
        assert!(compare("a\nb\n", "a\nb\n").is_ok());
        assert!(compare("a\nb\n", "a\nc\n").is_err());
    }
}
