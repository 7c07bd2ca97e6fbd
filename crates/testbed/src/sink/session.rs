//! One SMTP connection by RFC 5321, with PIPELINING, 8BITMIME, SIZE, SMTPUTF8 and enhanced status
//! codes.

use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::net::TcpStream;

use super::journal::Delivery;
use super::{Shared, SinkAnswer, content};

const GREETING: &str = "220 sink.example.org ESMTP";
const HELLO: &str = "250-sink.example.org\r\n250-PIPELINING\r\n250-SIZE\r\n250-8BITMIME\r\n\
                     250-SMTPUTF8\r\n250 ENHANCEDSTATUSCODES";

/// Length of the longest command, in bytes: far above that of any client that keeps to the
/// standard.
const LIMIT_COMMAND_BYTES: usize = 64 * 1024;

pub(super) struct Session<'a> {
    shared: &'a Shared,
    input: BufReader<TcpStream>,
    output: BufWriter<TcpStream>,
    envelope: Option<Delivery>,
}

/// Next step of the session after a command.
enum Next {
    Reply(&'static str),
    Content,
    Quit,
}

impl<'a> Session<'a> {
    pub(super) fn new(shared: &'a Shared, stream: TcpStream) -> io::Result<Self> {
        let output = BufWriter::new(stream.try_clone()?);
        Ok(Self { shared, input: BufReader::new(stream), output, envelope: None })
    }

    /// Serves until QUIT or the end of the connection.
    pub(super) fn run(mut self) -> io::Result<()> {
        self.reply(GREETING)?;
        let mut line = Vec::new();
        loop {
            line.clear();
            self.flush_before_reading()?;
            if self.input.read_until(b'\n', &mut line)? == 0 || line.len() > LIMIT_COMMAND_BYTES {
                return Ok(());
            }
            match self.command(String::from_utf8_lossy(&line).trim_end()) {
                Next::Reply(reply) => self.reply(reply)?,
                Next::Content => self.content()?,
                Next::Quit => return self.quit(),
            }
        }
    }

    fn command(&mut self, line: &str) -> Next {
        let (verb, rest) = line.split_at_checked(4).unwrap_or((line, ""));
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" | "LHLO" => self.reset(HELLO),
            "HELO" => self.reset("250 sink.example.org"),
            "MAIL" => self.mail(rest),
            "RCPT" => self.recipient(rest),
            "DATA" => self.data(),
            "RSET" => self.reset("250 2.0.0 Ok"),
            "NOOP" => Next::Reply("250 2.0.0 Ok"),
            "VRFY" => Next::Reply("252 2.0.0 Perhaps"),
            "QUIT" => Next::Quit,
            _ => Next::Reply("500 5.5.2 Unknown command"),
        }
    }

    fn reset(&mut self, reply: &'static str) -> Next {
        self.envelope = None;
        Next::Reply(reply)
    }

    fn mail(&mut self, rest: &str) -> Next {
        let Some(sender) = path(rest) else {
            return Next::Reply("501 5.5.4 Syntax: MAIL FROM:<address>");
        };
        self.envelope = Some(Delivery { sender, ..Delivery::default() });
        Next::Reply("250 2.1.0 Ok")
    }

    fn recipient(&mut self, rest: &str) -> Next {
        let Some(recipient) = path(rest) else {
            return Next::Reply("501 5.5.4 Syntax: RCPT TO:<address>");
        };
        let Some(envelope) = &mut self.envelope else { return Next::Reply("503 5.5.1 MAIL first") };
        match (self.shared.judge)(&recipient) {
            SinkAnswer::Accept => {
                envelope.rcpts.push(recipient);
                Next::Reply("250 2.1.5 Ok")
            }
            SinkAnswer::TempFail => Next::Reply("450 4.2.1 Try again later"),
            SinkAnswer::Reject => Next::Reply("550 5.1.1 No such recipient"),
        }
    }

    fn data(&self) -> Next {
        match &self.envelope {
            Some(envelope) if !envelope.rcpts.is_empty() => Next::Content,
            Some(_) => Next::Reply("554 5.5.1 No valid recipients"),
            None => Next::Reply("503 5.5.1 MAIL first"),
        }
    }

    fn content(&mut self) -> io::Result<()> {
        let Some(mut delivery) = self.envelope.take() else { return Ok(()) };
        self.reply("354 End data with <CR><LF>.<CR><LF>")?;
        self.output.flush()?;
        if !content::read(&mut self.input, self.shared.keep_content, &mut delivery)? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        std::thread::sleep(self.shared.delay);
        match self.shared.journal.record(delivery) {
            Ok(()) => self.reply("250 2.0.0 Ok"),
            Err(_) => self.reply("451 4.3.0 Could not be recorded"),
        }
    }

    fn quit(&mut self) -> io::Result<()> {
        self.reply("221 2.0.0 Bye")?;
        self.output.flush()
    }

    fn reply(&mut self, reply: &str) -> io::Result<()> {
        self.output.write_all(reply.as_bytes())?;
        self.output.write_all(b"\r\n")
    }

    /// Sends replies, unless the client's next commands are here already.
    fn flush_before_reading(&mut self) -> io::Result<()> {
        if self.input.buffer().is_empty() { self.output.flush() } else { Ok(()) }
    }
}

/// Returns the address between `<` and `>`.
fn path(rest: &str) -> Option<String> {
    let (_, address) = rest.split_once('<')?;
    let (address, _) = address.rsplit_once('>')?;
    Some(address.to_owned())
}
