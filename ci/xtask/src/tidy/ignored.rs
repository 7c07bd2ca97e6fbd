//! Tests that are left out without a reason.

use super::Offence;
use super::tree::File;

/// Finds `#[ignore]` without a text.
pub(super) fn check(files: &[File]) -> Vec<Offence> {
    files.iter().flat_map(of_file).collect()
}

fn of_file(file: &File) -> Vec<Offence> {
    let lines = file.lines.iter().enumerate().filter(|(_, line)| is_bare(&line.code));
    let remedy = "a test is ignored; say why: #[ignore = \"...\"]";
    lines.map(|(index, _)| Offence::new(file, index + 1, remedy)).collect()
}

fn is_bare(code: &str) -> bool {
    let code: String = code.chars().filter(|character| !character.is_whitespace()).collect();
    code.contains("#[ignore]") || (code.contains("#[cfg_attr(") && code.contains(",ignore)"))
}

#[cfg(test)]
mod tests {
    use super::super::testing::fires_at;
    use super::check;

    #[test]
    fn a_test_ignored_without_a_reason_is_found() {
        assert_eq!(fires_at(check, "a.rs", "#[test]\n#[ignore]\nfn a() {}\n"), [2]);
        assert_eq!(fires_at(check, "a.rs", "#[cfg_attr(miri, ignore)]\nfn a() {}\n"), [1]);
    }

    #[test]
    fn a_reason_is_enough() {
        assert_eq!(
            fires_at(check, "a.rs", "#[ignore = \"takes hours\"]\nfn a() {}\n// #[ignore]\n"),
            []
        );
    }
}
