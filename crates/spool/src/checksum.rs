//! The checksum of a stored message, CRC-32C, for programs that start, compute one, and end.
//!
//! The `crc32c` crate uses the processor's own instruction where there is one. To learn whether the
//! processor has it, the crate runs `cpuid` ten times. On a virtual machine each run calls the
//! hypervisor. Ten runs took 45 µs, as long as a table takes for 20,000 bytes. So this module sends
//! small messages byte by byte through a table made at compile time, and large ones through the
//! crate.

use std::io;

use crate::Content;

/// The polynomial of Castagnoli (RFC 3720 appendix B.4), lowest bit first.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// Size above which the processor's instruction saves more time than `cpuid` costs.
const LARGE_BYTES: u64 = 16 * 1024;

/// The remainder after one byte, by the byte's value.
const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < table.len() {
        let mut remainder = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            remainder =
                if remainder & 1 == 1 { remainder >> 1 ^ POLYNOMIAL } else { remainder >> 1 };
            bit += 1;
        }
        table[byte] = remainder;
        byte += 1;
    }
    table
}

/// Returns the CRC-32C of `before` and the records. Fails only if the records can't be read.
pub(crate) fn checksum(before: &[u8], records: Content<'_>) -> io::Result<u32> {
    let bytes = before.len() as u64 + records.bytes();
    let append = if bytes < LARGE_BYTES { append_by_table } else { crc32c::crc32c_append };
    let mut checksum = append(0, before);
    let mut add = |piece: &[u8]| {
        checksum = append(checksum, piece);
        Ok(())
    };
    records.each(|error| error, &mut add)?;
    Ok(checksum)
}

fn append_by_table(checksum: u32, piece: &[u8]) -> u32 {
    !piece.iter().fold(!checksum, |remainder, byte| {
        remainder >> 8 ^ TABLE[usize::from(remainder.to_le_bytes()[0] ^ byte)]
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Example of RFC 3720 appendix B.4, and the usual check value.
    #[test]
    fn the_checksum_has_its_known_answers() {
        for checksum in [append_by_table, crc32c::crc32c_append] {
            assert_eq!(checksum(0, b"123456789"), 0xe306_9283);
            assert_eq!(checksum(0, &[0; 32]), 0x8a91_36aa);
            assert_eq!(checksum(0, &[0xff; 32]), 0x62a8_ab43);
        }
    }

    proptest! {
        #[test]
        fn both_ways_agree(head: Vec<u8>, tail: Vec<u8>) {
            let whole = crc32c::crc32c(&[head.as_slice(), &tail].concat());
            let checksum = |tail: &[u8]| checksum(&head, tail.into()).unwrap();
            prop_assert_eq!(checksum(&tail), whole);
            let large = vec![b'x'; LARGE_BYTES as usize];
            prop_assert_eq!(checksum(&large), append_by_table(append_by_table(0, &head), &large));
        }
    }
}
