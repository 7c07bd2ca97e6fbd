//! A file of this instance's own, such as its name among agents or its password. The file is made
//! once, by the first process that needs it.

use std::fs::{self, OpenOptions};
use std::io::{Error, ErrorKind, Result, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use spool::Generation;

const MODE: u32 = 0o600;
/// Most bytes that are read; no name or password is longer.
const BYTES_MAX: u64 = 4_096;

/// Returns the text of this file, which only its owner may read. `make` gives the text of a file
/// that is missing, or not `good` after a power failure.
pub fn text_of(
    path: &Path,
    good: impl Fn(&str) -> bool,
    make: impl Fn() -> Result<String>,
) -> Result<String> {
    match read(path) {
        Ok(text) if good(&text) => return Ok(text),
        Ok(_) => fs::remove_file(path)?,
        Err(error) if error.kind() == ErrorKind::NotFound => (),
        Err(error) => return Err(error),
    }
    write(path, &make()?)?;
    read(path)
}

fn read(path: &Path) -> Result<String> {
    host::file::read_text(path, BYTES_MAX).map(|text| text.trim().to_owned())
}

/// Writes the file. Of two processes that do so at once, the first to link its draft wins.
fn write(path: &Path, text: &str) -> Result<()> {
    let draft = path.with_extension(Generation::new().map_err(Error::other)?.to_string());
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&draft)?;
    let linked = writeln!(file, "{text}")
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::hard_link(&draft, path));
    fs::remove_file(&draft)?;
    linked
        .or_else(|error| if error.kind() == ErrorKind::AlreadyExists { Ok(()) } else { Err(error) })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_file_is_made_once_for_its_owner_and_again_only_when_it_is_no_good() {
        let folder = testbed::Scratch::new().unwrap();
        let path = folder.path().join("file");
        let of = |text: &'static str| {
            text_of(&path, |it| it.len() == 3, || Ok(text.to_owned())).unwrap()
        };
        assert_eq!((of("one"), of("two")), ("one".to_owned(), "one".to_owned()));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, MODE);
        fs::write(&path, "").unwrap();
        assert_eq!(of("two"), "two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
