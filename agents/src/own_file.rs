//! A file of this instance's own, such as its name among agents or its password. The file is made
//! once, by the first process that needs it.

use std::fs;
use std::io::{ErrorKind, Result};
use std::path::Path;

use durable::TextFile;

const MODE: u32 = 0o600;

/// Returns the text of this file, which only its owner may read. `make` gives the text of a file
/// that is missing, or not `good` after a power failure.
pub fn text_of(
    path: &Path,
    good: impl Fn(&str) -> bool,
    make: impl Fn() -> Result<String>,
) -> Result<String> {
    let file = TextFile::at(path, MODE);
    match file.read()? {
        Some(text) if good(text.trim()) => return Ok(text.trim().to_owned()),
        Some(_) => fs::remove_file(path)?,
        None => (),
    }
    file.make_once(&make()?)?;
    let text = file.read()?.ok_or(ErrorKind::NotFound)?;
    Ok(text.trim().to_owned())
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
