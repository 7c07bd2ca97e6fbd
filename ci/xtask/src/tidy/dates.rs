//! Man pages with another date than the others.

use super::Offence;
use super::tree::File;

/// The macro that begins a man page, before its title, its section and its date.
const HEADER: &str = ".TH ";

/// Finds pages that are older than the latest one. All pages describe one state of the tree.
pub(super) fn check(files: &[File]) -> Vec<Offence> {
    let headers = || files.iter().flat_map(of_file);
    let Some(latest) = headers().map(|(_, _, date)| date).max() else { return Vec::new() };
    let remedy = |date| format!("man page of {date}; the latest one is of {latest}");
    let older = headers().filter(|(_, _, date)| *date != latest);
    older.map(|(file, line, date)| Offence::new(file, line, remedy(date))).collect()
}

/// Returns the line numbers and dates of the headers in a man page, or in a program that makes one.
fn of_file(file: &File) -> impl Iterator<Item = (&File, usize, &str)> {
    let lines = file.text.lines().enumerate();
    lines.filter_map(move |(index, line)| {
        let (_, header) = line.split_once(HEADER)?;
        Some((file, index + 1, header.split(' ').nth(2).filter(|it| is_date(it))?))
    })
}

fn is_date(word: &str) -> bool {
    word.len() == 10 && word.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::{File, check};

    fn pages(of_b: &str) -> Vec<usize> {
        let a = File::new("a.1", ".TH A 1 2026-11-30 OPTIMUS\n");
        let b =
            File::new("b.rs", &format!("// Header.\nlet text = \".TH {{title}} 8 {of_b} X\";\n"));
        check(&[a, b]).into_iter().map(|offence| offence.line).collect()
    }

    #[test]
    fn a_page_that_is_older_than_another_is_found() {
        assert_eq!(pages("2026-11-21"), [2]);
    }

    #[test]
    fn pages_of_one_date_pass() {
        assert_eq!(pages("2026-11-30"), []);
    }
}
