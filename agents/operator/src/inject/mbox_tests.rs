use super::*;

const LIMIT: usize = 200;
const DATE: &str = "Sat Nov 21 09:20:13 2026";

fn rules(dialect: Dialect) -> MboxRules {
    MboxRules { dialect, doubtful_is_text: false, message_bytes_max: LIMIT }
}

/// Makes an mbox of a text in which `@a` at the start of a line stands for a separator.
fn mbox(text: &str) -> String {
    let line = |line: &str| match line.strip_prefix('@') {
        Some(rest) => format!("From {} {DATE}{}", rest.trim_end(), &rest[rest.trim_end().len()..]),
        None => line.to_owned(),
    };
    text.split_inclusive('\n').map(line).collect()
}

fn read_by(text: &str, rules: MboxRules) -> Vec<Result<String, Unusable>> {
    let text = mbox(text);
    let mut mbox = Mbox::new(text.as_bytes(), rules);
    let mut entries = Vec::new();
    while let Some(entry) = mbox.next_entry().unwrap() {
        entries.push(entry.message.map(|it| String::from_utf8(it).unwrap()));
    }
    entries
}

fn read(text: &str, dialect: Dialect) -> Vec<Result<String, Unusable>> {
    read_by(text, rules(dialect))
}

fn good(messages: &[&str]) -> Vec<Result<String, Unusable>> {
    messages.iter().map(|it| Ok((*it).to_owned())).collect()
}

#[test]
fn messages_are_between_separators_after_empty_lines() {
    for dialect in [Dialect::Mboxo, Dialect::Mboxrd, Dialect::Mboxcl, Dialect::Mboxcl2] {
        assert_eq!(read("@a\nA: 1\n\n@b\nB: 2\n\nx\n", dialect), good(&["A: 1\n", "B: 2\n\nx\n"]));
        assert_eq!(
            read("@a\r\nA: 1\r\n\r\n@b\r\nB: 1\r\n", dialect),
            good(&["A: 1\r\n", "B: 1\r\n"])
        );
        assert_eq!(read("@a\nA: 1\n\n@b\n", dialect), good(&["A: 1\n", ""]));
        assert_eq!(read("", dialect), []);
    }
}

/// Otherwise a message would be cut in two, and its first part sent as if it were whole.
#[test]
fn prose_after_an_empty_line_is_text() {
    for line in [
        "From here on",
        "From ann@example.org",
        "From bob",
        "From Sat Nov 21 09:20:13 2026",
        "From ",
    ] {
        let message = format!("A: 1\n\nx\n\n{line}\nall is text\n");
        assert_eq!(
            read(&format!("@a\n{message}\n@b\nB: 1\n"), Dialect::Mboxo),
            good(&[&message, "B: 1\n"])
        );
    }
}

#[test]
fn a_line_that_may_be_a_separator_or_text_makes_a_message_unusable() {
    let first = mbox("@a\n").len() as u64;
    for (text, before) in [
        // No header follows.
        ("A: 1\n\n@x\nas he wrote\n", 6),
        // No empty line before.
        ("A: 1\n\nx\n@x\nB: 2\n", 8),
        // No date, but a header follows.
        ("A: 1\n\nFrom x\nB: 2\n", 6),
        ("A: 1\n\nFrom x@y 2026-11-21\nB: 2\n", 6),
    ] {
        let whole = format!("@a\n{text}\n@b\nC: 3\n");
        let doubtful = Err(Unusable::Doubtful { at: first + before });
        assert_eq!(read(&whole, Dialect::Mboxrd), [doubtful, Ok("C: 3\n".to_owned())], "{text}");
        let as_text = MboxRules { doubtful_is_text: true, ..rules(Dialect::Mboxrd) };
        assert_eq!(read_by(&whole, as_text), good(&[&mbox(text), "C: 3\n"]), "{text}");
    }
}

#[test]
fn quoting_is_undone_as_it_was_done() {
    let text = "@a\n\n>From x\n>>From y\n> From z\n";
    let plain = ["\nFrom x\n>>From y\n> From z\n"];
    assert_eq!(read(text, Dialect::Mboxrd), good(&["\nFrom x\n>From y\n> From z\n"]));
    assert_eq!(read(text, Dialect::Mboxo), good(&plain));
    assert_eq!(read(text, Dialect::Mboxcl), good(&plain));
    assert_eq!(read(text, Dialect::Mboxcl2), good(&["\n>From x\n>>From y\n> From z\n"]));
}

#[test]
fn content_length_keeps_separators_in_the_body() {
    let body = mbox("x\n\n@c\nC: 3\n");
    let head = format!("A: 1\nContent-Length: {}\n\n", body.len());
    let text = format!("@a\n{head}{body}\n@b\nB: 2\n");
    let whole = format!("{head}{body}");
    for dialect in [Dialect::Mboxcl, Dialect::Mboxcl2] {
        assert_eq!(read(&text, dialect), good(&[&whole, "B: 2\n"]));
        let open = format!(
            "@a\n{}{body}\n@b\nB: 2\n",
            head.replace(&body.len().to_string(), &(body.len() - 1).to_string())
        );
        assert_eq!(read(&open, dialect).len(), 2, "the last line break is not counted");
    }
    assert_eq!(read(&text, Dialect::Mboxrd).len(), 3);
}

#[test]
fn a_content_length_that_points_nowhere_makes_a_message_unusable() {
    for (length, count) in [(1, 3), (20, 2), (100_000, 1)] {
        let text = format!("@a\nContent-Length: {length}\n\nxxx\nyyy\n\n@b\nB: 2\n\n@c\nC: 3\n");
        let entries = read(&text, Dialect::Mboxcl2);
        assert!(matches!(entries[0], Err(Unusable::WrongLength { .. })), "{length}: {entries:?}");
        assert_eq!(entries.len(), count, "{length}: {entries:?}");
    }
}

#[test]
fn text_before_the_first_separator_is_no_message() {
    let entries = read("junk\nmore\n\n@a\nA: 1\n", Dialect::Mboxrd);
    assert_eq!(entries, [Err(Unusable::NoSeparator), Ok("A: 1\n".to_owned())]);
}

#[test]
fn reading_can_go_on_at_any_entry_of_the_same_input() {
    let text = mbox("@a\nA: 1\n\n@b\nB: 2\n\n@c\nC: 3\n");
    let of = |text: &'static str| Mbox::new(text.as_bytes(), rules(Dialect::Mboxrd));
    let text: &'static str = text.leak();
    let mut whole = of(text);
    let (mut marks, mut offsets) = (vec![whole.mark()], Vec::new());
    while let Some(entry) = whole.next_entry().unwrap() {
        offsets.push(entry.offset);
        marks.push(whole.mark());
    }
    assert_eq!(marks.len(), 4);
    // From the beginning, or from where an earlier entry has been read.
    for (from, to) in [(0, 1), (0, 2), (1, 2), (1, 1), (0, 3)] {
        let mut rest = of(text);
        (0..from).for_each(|_| drop(rest.next_entry().unwrap()));
        rest.skip_to(marks[to]).unwrap();
        assert_eq!(rest.next_entry().unwrap().map(|it| it.offset), offsets.get(to).copied());
    }
    let words =
        format!("the first {} bytes are not those that were read the last time", marks[1].offset);
    for other in [text.replace("A: 1", "A: 9"), "From a\n".to_owned(), String::new()] {
        assert_eq!(of(other.leak()).skip_to(marks[1]).unwrap_err().to_string(), words);
    }
}

#[test]
fn a_message_that_is_too_large_is_not_kept_and_the_next_is_found() {
    let large =
        [format!("{}\n", "x".repeat(300_000)), "short\n\n".repeat(50), "x".repeat(LIMIT + 1)];
    for large in large {
        let text = mbox(&format!("@a\n{large}\n\n@b\nB: 2\n\n@{}\nC: 3\n", "c".repeat(60_000)));
        let mut mbox = Mbox::new(text.as_bytes(), rules(Dialect::Mboxrd));
        let entry = mbox.next_entry().unwrap().unwrap();
        assert_eq!((entry.offset, entry.message), (0, Err(Unusable::TooLarge)));
        assert_eq!(mbox.next_entry().unwrap().unwrap().message, Ok(b"B: 2\n".to_vec()));
        assert_eq!(mbox.next_entry().unwrap().unwrap().message, Ok(b"C: 3\n".to_vec()));
        assert!(mbox.line.capacity() < 300_000 && mbox.next.capacity() < 300_000);
    }
    let whole = "x".repeat(LIMIT - 1) + "\n";
    assert_eq!(read(&format!("@a\n{whole}\n@b\n"), Dialect::Mboxrd)[0], Ok(whole));
}
