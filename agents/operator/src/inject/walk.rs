//! The messages of a list of files: first those that have failed before, then all from the reached
//! place on. Each part keeps the order of the files, so that a stream is read once.

use std::collections::VecDeque;
use std::io::{self, BufReader, Read};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::mbox::{Dialect, Mark, Mbox, MboxRules, Unusable};
use super::source::{Kind, Listed};

const INPUT_BYTES: usize = 256 * 1024;

/// Place in a list of files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct InputPlace {
    pub(super) file: usize,
    pub(super) mark: Mark,
    /// Number of messages before it, usable or not.
    pub(super) messages: u64,
}

impl InputPlace {
    fn of_next_file(self) -> Self {
        Self { file: self.file + 1, mark: Mark::default(), ..self }
    }

    /// Returns the number of the message at this place.
    pub(super) fn number(self) -> u64 {
        self.messages + 1
    }
}

/// A message, or the reason why there is none in its place.
pub(super) struct WalkedMessage {
    pub(super) place: InputPlace,
    /// File, and offset in an mbox, for display.
    pub(super) at: String,
    /// The message, or the reason why there is none.
    pub(super) message: Result<Vec<u8>, String>,
    /// Whether the message has failed before.
    pub(super) again: bool,
}

pub(super) struct Walk {
    files: Vec<Listed>,
    again: VecDeque<InputPlace>,
    place: InputPlace,
    message_bytes_max: usize,
    /// Whether a doubtful line is text; see [`MboxRules`].
    doubtful_is_text: bool,
    /// The open mbox, with the number of its file.
    mbox: Option<(usize, MboxReader)>,
}

type MboxReader = Mbox<BufReader<Box<dyn Read + Send>>>;

impl Walk {
    pub(super) fn new(
        files: Vec<Listed>,
        again: VecDeque<InputPlace>,
        place: InputPlace,
        bytes_max: usize,
    ) -> Self {
        Self {
            files,
            again,
            place,
            message_bytes_max: bytes_max,
            doubtful_is_text: false,
            mbox: None,
        }
    }

    /// Sets whether a line that may be a separator or text is text.
    pub(super) fn with_doubtful_as_text(self, doubtful_is_text: bool) -> Self {
        Self { doubtful_is_text, ..self }
    }

    /// Returns the place before which every message has been found once.
    pub(super) fn place(&self) -> InputPlace {
        self.place
    }

    /// Returns the next message; `None` at the end of the last file. A message file that can't be
    /// read is one unusable message. An mbox that can't be read is an error, since nobody knows how
    /// many messages that would be.
    pub(super) fn next_message(&mut self) -> Result<Option<WalkedMessage>> {
        if let Some(place) = self.again.pop_front() {
            let found = self.read(place)?.with_context(|| {
                format!(
                    "{}: shorter than before: a message is gone; put the former file back",
                    self.files[place.file].path.display()
                )
            })?;
            return Ok(Some(WalkedMessage { again: true, ..found.0 }));
        }
        while self.place.file < self.files.len() {
            if let Some((found, next)) = self.read(self.place)? {
                self.place = next;
                return Ok(Some(found));
            }
            self.place = self.place.of_next_file();
        }
        Ok(None)
    }

    /// Reads the message at a place. Also returns the place after it. `None`: the file ends there.
    fn read(&mut self, place: InputPlace) -> Result<Option<(WalkedMessage, InputPlace)>> {
        let file = self.files.get(place.file).with_context(|| {
            format!(
                "state file: not used: names file {}, more than there are; remove the state file",
                place.file + 1
            )
        })?;
        let path = file.path.display().to_string();
        if file.kind == Kind::Message {
            let message = whole(file, self.message_bytes_max).map_err(|error| error.to_string());
            let next = InputPlace { messages: place.number(), ..place.of_next_file() };
            return Ok(Some((WalkedMessage { place, at: path, message, again: false }, next)));
        }
        let mbox = self.mbox_at(place).with_context(|| path.clone())?;
        let Some(entry) = mbox.next_entry().with_context(|| path.clone())? else { return Ok(None) };
        let next = InputPlace { mark: mbox.mark(), messages: place.number(), ..place };
        let message = entry.message.map_err(|it| it.to_string());
        let at = format!("{path}: byte {}", entry.offset);
        Ok(Some((WalkedMessage { place, at, message, again: false }, next)))
    }

    fn mbox_at(&mut self, place: InputPlace) -> io::Result<&mut MboxReader> {
        let is_open = |(file, mbox): &(usize, MboxReader)| {
            *file == place.file && mbox.mark().offset <= place.mark.offset
        };
        let mbox = match self.mbox.take().filter(is_open) {
            Some((_, mbox)) => mbox,
            None => open(&self.files[place.file], self.message_bytes_max, self.doubtful_is_text)?,
        };
        let (_, mbox) = self.mbox.insert((place.file, mbox));
        mbox.skip_to(place.mark)?;
        Ok(mbox)
    }
}

fn open(file: &Listed, message_bytes_max: usize, doubtful_is_text: bool) -> io::Result<MboxReader> {
    let dialect = match file.kind {
        Kind::Mboxo => Dialect::Mboxo,
        Kind::Mboxcl => Dialect::Mboxcl,
        Kind::Mboxcl2 => Dialect::Mboxcl2,
        Kind::Mboxrd | Kind::Message => Dialect::Mboxrd,
    };
    let input = BufReader::with_capacity(INPUT_BYTES, file.open()?);
    Ok(Mbox::new(input, MboxRules { dialect, doubtful_is_text, message_bytes_max }))
}

fn whole(file: &Listed, message_bytes_max: usize) -> io::Result<Vec<u8>> {
    let (mut message, limit) = (Vec::new(), message_bytes_max as u64);
    file.open()?.take(limit.saturating_add(1)).read_to_end(&mut message)?;
    if message.len() > message_bytes_max {
        Err(io::Error::other(Unusable::TooLarge))
    } else {
        Ok(message)
    }
}
