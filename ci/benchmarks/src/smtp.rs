//! Submission by SMTP to stock smtpd, with a connection for each message, as applications'
//! libraries do.
//!
//! smtpd puts every message on hold. There it is as durable as in any queue, and the queue manager
//! leaves it alone, so that it stays there as with the other contestants.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};

use anyhow::{Context, Result, bail};
use testbed::Postfix;

/// A Postfix that takes mail by SMTP and keeps it.
pub(crate) struct Smtpd {
    postfix: Postfix,
    port: u16,
}

impl Smtpd {
    /// Starts a Postfix with smtpd on a port of the loopback interface.
    pub(crate) fn start() -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let postfix = Postfix::builder()
            .main("smtpd_client_restrictions = check_client_access static:HOLD")
            .service(&format!("127.0.0.1:{port} inet n - n - - smtpd"))
            .start()?;
        Ok(Self { postfix, port })
    }

    /// Submits one message; `content` has SMTP's line endings and no line that is a dot alone.
    pub(crate) fn submit(&self, content: &[u8]) -> Result<()> {
        let stream =
            TcpStream::connect(("127.0.0.1", self.port)).context("smtpd: no connection")?;
        stream.set_nodelay(true)?;
        let mut dialogue = Dialogue { answers: BufReader::new(&stream), stream: &stream };
        dialogue.expect("220")?;
        dialogue.say(b"EHLO client.example.org\r\n", "250")?;
        dialogue.say(b"MAIL FROM:<sender@example.org>\r\n", "250")?;
        dialogue.say(b"RCPT TO:<recipient@example.net>\r\n", "250")?;
        dialogue.say(b"DATA\r\n", "354")?;
        dialogue.say(&[content, b".\r\n"].concat(), "250")?;
        dialogue.say(b"QUIT\r\n", "221")
    }

    /// Returns the number of messages on hold.
    pub(crate) fn kept(&self) -> u64 {
        self.postfix.queue_files("hold").len() as u64
    }

    /// Removes all messages.
    pub(crate) fn empty(&self) -> Result<()> {
        self.postfix
            .queue_files("hold")
            .iter()
            .try_for_each(std::fs::remove_file)
            .context("hold queue: not emptied")
    }
}

struct Dialogue<'a> {
    stream: &'a TcpStream,
    answers: BufReader<&'a TcpStream>,
}

impl Dialogue<'_> {
    fn say(&mut self, words: &[u8], code: &str) -> Result<()> {
        self.stream.write_all(words)?;
        self.expect(code)
    }

    fn expect(&mut self, code: &str) -> Result<()> {
        let mut line = String::new();
        loop {
            line.clear();
            self.answers.read_line(&mut line)?;
            match line.get(..4) {
                Some(start) if start.starts_with(code) && start.ends_with('-') => {}
                Some(start) if start.starts_with(code) => return Ok(()),
                _ => bail!("smtpd: unexpected answer {line:?} instead of {code}"),
            }
        }
    }
}
