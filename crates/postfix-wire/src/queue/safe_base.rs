//! Numbers in an alphabet without vowels, so that no queue id spells a word.

/// Digits of bases up to 52.
const ALPHABET: &[u8; 52] = b"0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz";

/// Returns `value` in `base`, with at least `width` digits. Without a width, zero has no digits.
pub(super) fn encode(mut value: u64, base: u64, width: usize) -> String {
    let mut digits = Vec::new();
    while value != 0 {
        digits.push(ALPHABET[(value % base) as usize]);
        value /= base;
    }
    digits.resize(digits.len().max(width), b'0');
    digits.iter().rev().map(|&digit| char::from(digit)).collect()
}

/// Returns the number that `digits` has in `base`. Returns `None` if the text is empty, a character
/// is no digit of `base`, or the number exceeds 64 bits.
pub(super) fn decode(digits: &str, base: u64) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.bytes().try_fold(0u64, |sum, byte| {
        let digit = ALPHABET.iter().position(|&letter| letter == byte)? as u64;
        (digit < base).then_some(())?;
        sum.checked_mul(base)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_encoded_number_is_decoded(
            value in any::<u64>(),
            base in 2u64..=52,
            width in 1usize..20,
        ) {
            let text = encode(value, base, width);
            prop_assert!(text.len() >= width);
            prop_assert_eq!(decode(&text, base), Some(value));
        }

        #[test]
        fn any_text_is_a_number_or_refused(text in ".{0,30}", base in 2u64..=52) {
            let _ = decode(&text, base);
        }
    }

    #[test]
    fn edges() {
        assert_eq!(encode(0, 51, 0), "");
        assert_eq!(encode(0, 52, 4), "0000");
        assert_eq!(encode(51, 52, 1), "z");
        assert_eq!(decode("z", 51), None);
        assert_eq!(decode("", 52), None);
        assert_eq!(decode(&encode(u64::MAX, 52, 1), 52), Some(u64::MAX));
        assert_eq!(decode(&"z".repeat(12), 52), None);
    }
}
