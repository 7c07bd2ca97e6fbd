//! Runner of the installed Postfix's `postconf`, with whose output the tests compare.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::UNIX_EPOCH;

use crate::{main_cf, master_cf};

const POSTCONF: &str = "/usr/sbin/postconf";

/// Runs postconf on the configuration in `folder`. Returns the values by name, or the error that
/// postconf prints.
pub(crate) fn postconf<'a>(
    folder: &Path,
    arguments: impl IntoIterator<Item = &'a str>,
) -> Result<HashMap<String, String>, String> {
    let output = Command::new(POSTCONF).arg("-c").arg(folder).args(arguments).output().unwrap();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let pair =
        |line: &str| line.split_once(" =").map(|(name, value)| (name.to_owned(), words(value)));
    Ok(text.lines().filter_map(pair).collect())
}

pub(crate) fn words(text: &str) -> String {
    text.split([' ', '\t', '\r', '\n'])
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Makes a configuration directory. The time of its `main.cf` is set back, because Postfix waits
/// before it reads a file that changed in this very second.
pub(crate) fn folder_with(main_cf: &str, master_cf: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [(main_cf::FILE_NAME, main_cf), (master_cf::FILE_NAME, master_cf)] {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(UNIX_EPOCH).unwrap();
    }
    folder
}
