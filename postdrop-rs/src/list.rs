//! Lists in `main.cf`: items between commas and white space. Most lists don't split inside braces.
//!
//! Source: Postfix `mystrtok(3)`, `mystrtokq(3)`, `mail_parm_split(3)`.

/// Returns the items of a list in which braces have no meaning.
pub fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split(is_separator).filter(|word| !word.is_empty())
}

/// Returns the items of a list that doesn't split inside braces.
pub fn items(list: &str) -> impl Iterator<Item = &str> {
    let mut rest = list;
    std::iter::from_fn(move || {
        let start = rest.trim_start_matches(is_separator);
        if start.is_empty() {
            return None;
        }
        let (item, after) = start.split_at(end_of_item(start));
        rest = after;
        Some(item)
    })
}

/// Returns the text between the braces of an item, or the whole item if braces don't enclose it.
pub fn without_braces(item: &str) -> &str {
    item.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).map_or(item, str::trim)
}

fn end_of_item(text: &str) -> usize {
    let mut depth = 0_usize;
    text.find(|ch| {
        match ch {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && is_separator(ch)
    })
    .unwrap_or(text.len())
}

fn is_separator(ch: char) -> bool {
    matches!(ch, ',' | ' ' | '\t' | '\r' | '\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_split_inside_braces() {
        assert_eq!(words(", a\t{b,c}\r\nd").collect::<Vec<_>>(), ["a", "{b", "c}", "d"]);
        assert_eq!(words(" , ").count(), 0);
    }

    #[test]
    fn braces_keep_an_item_together() {
        let all = |list| items(list).collect::<Vec<_>>();
        assert_eq!(all(" a,b\t{ c, {d} e } f{,}g }h "), ["a", "b", "{ c, {d} e }", "f{,}g", "}h"]);
        assert_eq!(all("{a b"), ["{a b"]);
        assert_eq!(all(" , "), Vec::<&str>::new());
        assert_eq!(without_braces("{ A = b }"), "A = b");
        assert_eq!(without_braces("{a}b"), "{a}b");
    }
}
