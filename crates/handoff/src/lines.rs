//! Lines of a stream, none longer than a limit.
//!
//! Cancel-safe: a read that `select!` drops loses no byte, because all that has arrived stays in
//! the reader. A line beyond the limit is skipped to its end. So a line that is too long doesn't
//! end the connection.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// Outcome of one read.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// A line, without its newline.
    Text(Vec<u8>),
    /// A line beyond the limit, whose bytes are gone.
    TooLong,
}

/// Stream that is read line by line.
#[derive(Debug)]
pub struct Lines<R> {
    stream: R,
    partial: Partial,
}

#[derive(Debug)]
struct Partial {
    limit_bytes: usize,
    line: Vec<u8>,
    skipping: bool,
}

impl<R: AsyncBufRead + Unpin> Lines<R> {
    /// Splits `stream` into lines of at most `limit_bytes` bytes.
    pub fn new(stream: R, limit_bytes: usize) -> Self {
        Self { stream, partial: Partial { limit_bytes, line: Vec::new(), skipping: false } }
    }

    /// Returns the next line, or `None` at the end of the stream. A last line without a newline is
    /// dropped, since its writer died.
    pub async fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            let arrived = self.stream.fill_buf().await?;
            if arrived.is_empty() {
                return Ok(None);
            }
            let newline = arrived.iter().position(|&byte| byte == b'\n');
            self.partial.add(&arrived[..newline.unwrap_or(arrived.len())]);
            let used = newline.map_or(arrived.len(), |at| at + 1);
            self.stream.consume(used);
            if newline.is_some() {
                return Ok(Some(self.partial.take()));
            }
        }
    }
}

impl Partial {
    fn add(&mut self, arrived: &[u8]) {
        self.skipping |= self.line.len() + arrived.len() > self.limit_bytes;
        if !self.skipping {
            self.line.extend_from_slice(arrived);
        }
    }

    fn take(&mut self) -> Line {
        let line = std::mem::take(&mut self.line);
        match std::mem::take(&mut self.skipping) {
            true => Line::TooLong,
            false => Line::Text(line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncWriteExt, BufReader};

    async fn lines_of(bytes: &[u8], limit_bytes: usize) -> Vec<Line> {
        let mut lines = Lines::new(BufReader::with_capacity(3, bytes), limit_bytes);
        let mut all = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            all.push(line);
        }
        all
    }

    fn text(line: &str) -> Line {
        Line::Text(line.as_bytes().to_vec())
    }

    #[tokio::test]
    async fn a_stream_is_split_into_its_lines() {
        assert_eq!(lines_of(b"one\n\nthree\n", 5).await, [text("one"), text(""), text("three")]);
    }

    #[tokio::test]
    async fn a_line_beyond_the_limit_costs_only_itself() {
        assert_eq!(
            lines_of(b"12345\n123456\n1234567890\nok\n", 5).await,
            [text("12345"), Line::TooLong, Line::TooLong, text("ok")]
        );
    }

    #[tokio::test]
    async fn an_unfinished_last_line_is_not_a_line() {
        assert_eq!(lines_of(b"one\ntw", 5).await, [text("one")]);
    }

    #[tokio::test]
    async fn abandoned_reading_loses_nothing() {
        let (mut writer, reader) = tokio::io::duplex(64);
        let mut lines = Lines::new(BufReader::new(reader), 64);
        writer.write_all(b"first ha").await.unwrap();
        let abandoned =
            tokio::time::timeout(std::time::Duration::from_millis(1), lines.next()).await;
        assert!(abandoned.is_err(), "there was no whole line to return");
        writer.write_all(b"lf, second half\n").await.unwrap();
        assert_eq!(lines.next().await.unwrap(), Some(text("first half, second half")));
    }
}
