//! Test ids: by them, a message is known in a queue file and in Redis.

/// Header that names a message.
const HEADER: &[u8] = b"X-Test-Id: ";

/// Returns the test ids in a queue file or in Redis's data. Each ends with a number.
pub(crate) fn test_ids(content: &[u8]) -> impl Iterator<Item = String> {
    let starts = content.windows(HEADER.len()).enumerate().filter(|(_, it)| *it == HEADER);
    starts.map(|(at, _)| {
        let text = content[at + HEADER.len()..].iter().map(|byte| char::from(*byte));
        let id: String = text.take_while(|it| it.is_ascii_alphanumeric() || *it == '-').collect();
        // The next letter is the type of the next record.
        id.trim_end_matches(|it: char| !it.is_ascii_digit()).to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_id_ends_with_its_number() {
        let content = b"N\x11X-Test-Id: a-b-12N\x05Hello\x00X-Test-Id: a-b-3\n";
        assert_eq!(test_ids(content).collect::<Vec<_>>(), ["a-b-12", "a-b-3"]);
    }
}
