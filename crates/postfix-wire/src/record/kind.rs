//! Types of records, and the segments that may have them.

use crate::constants as c;

macro_rules! record_types {
    ($($(#[$doc:meta])* $name:ident = $constant:ident,)*) => {
        /// Type of a record, named as in `rec_type.h`. No other byte begins a record.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum RecordType {
            $($(#[$doc])* $name = c::$constant,)*
        }

        impl RecordType {
            /// All types.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
        }

        impl TryFrom<u8> for RecordType {
            type Error = u8;

            /// Fails with the byte if it names no type. NUL names no type, though C's `strchr`
            /// would find NUL in any set.
            fn try_from(byte: u8) -> Result<Self, u8> {
                match byte {
                    $(c::$constant => Ok(Self::$name),)*
                    other => Err(other),
                }
            }
        }
    };
}

record_types! {
    /// Sizes and offsets; the first record of a queue file, made by cleanup.
    Size = REC_TYPE_SIZE,
    /// Arrival time: seconds, blank, microseconds.
    Time = REC_TYPE_TIME,
    /// Creation time of the queue file.
    Ctime = REC_TYPE_CTIME,
    /// Full name of the sender.
    Full = REC_TYPE_FULL,
    /// Inspection transport; historical.
    Insp = REC_TYPE_INSP,
    /// Envelope sender.
    From = REC_TYPE_FROM,
    /// Recipient that needs no more delivery.
    Done = REC_TYPE_DONE,
    /// A recipient.
    Rcpt = REC_TYPE_RCPT,
    /// Recipient before rewriting.
    Orcp = REC_TYPE_ORCP,
    /// Cancelled recipient.
    Drcp = REC_TYPE_DRCP,
    /// Time to warn the sender of a delay.
    Warn = REC_TYPE_WARN,
    /// A named attribute, `name=value`.
    Attr = REC_TYPE_ATTR,
    /// A record that was struck out in place.
    Kill = REC_TYPE_KILL,
    /// Redirection of all recipients.
    Rdr = REC_TYPE_RDR,
    /// Flags of the request to cleanup.
    Flgs = REC_TYPE_FLGS,
    /// Delay that cleanup must observe.
    Delay = REC_TYPE_DELAY,
    /// Start of the content.
    Mesg = REC_TYPE_MESG,
    /// In the content, a line that the next record continues. In the envelope the same letter is
    /// `REC_TYPE_FILT`, the content filter.
    Cont = REC_TYPE_CONT,
    /// In the content, a whole line or the end of one.
    Norm = REC_TYPE_NORM,
    /// Padding.
    Dtxt = REC_TYPE_DTXT,
    /// End of the content, and start of the parts extracted from its headers.
    Xtra = REC_TYPE_XTRA,
    /// Return-Receipt-To, from headers.
    Rrto = REC_TYPE_RRTO,
    /// Errors-To, from headers.
    Erto = REC_TYPE_ERTO,
    /// Priority.
    Prio = REC_TYPE_PRIO,
    /// Pointer: an offset in the same file where reading continues.
    Ptr = REC_TYPE_PTR,
    /// VERP delimiters.
    Verp = REC_TYPE_VERP,
    /// DSN: return headers or the full message.
    DsnRet = REC_TYPE_DSN_RET,
    /// DSN: envelope id.
    DsnEnvid = REC_TYPE_DSN_ENVID,
    /// DSN: original recipient.
    DsnOrcpt = REC_TYPE_DSN_ORCPT,
    /// DSN: events of which to notify.
    DsnNotify = REC_TYPE_DSN_NOTIFY,
    /// Number of Milters that have seen the message.
    MiltCount = REC_TYPE_MILT_COUNT,
    /// End of the message.
    End = REC_TYPE_END,
}

impl From<RecordType> for u8 {
    fn from(kind: RecordType) -> Self {
        kind as Self
    }
}

impl RecordType {
    /// Returns whether the data may have any byte. All other types have one line of text, where CR,
    /// LF or NUL would be an injection.
    pub fn is_content(self) -> bool {
        matches!(self, Self::Norm | Self::Cont | Self::Dtxt)
    }
}

/// Segment of a message; there are three, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Segment {
    /// Records from the start to `M`.
    Envelope,
    /// Records from `M` to `X`.
    Content,
    /// Records from `X` to `E`.
    Extracted,
}

impl Segment {
    /// Returns the record type that ends the segment.
    pub fn end(self) -> RecordType {
        match self {
            Self::Envelope => RecordType::Mesg,
            Self::Content => RecordType::Xtra,
            Self::Extracted => RecordType::End,
        }
    }

    /// Returns the segment after this one.
    pub fn next(self) -> Option<Self> {
        match self {
            Self::Envelope => Some(Self::Content),
            Self::Content => Some(Self::Extracted),
            Self::Extracted => None,
        }
    }

    /// Returns whether Postfix expects `kind` in the segment, which includes its end.
    pub fn accepts(self, kind: RecordType) -> bool {
        let set: &[u8] = match self {
            Self::Envelope => c::REC_TYPE_ENVELOPE,
            Self::Content => c::REC_TYPE_CONTENT,
            Self::Extracted => c::REC_TYPE_EXTRACT,
        };
        set.contains(&kind.into())
    }

    /// Returns whether postdrop accepts `kind` from a local user in the segment, which includes its
    /// end.
    pub fn accepts_from_user(self, kind: RecordType) -> bool {
        let set: &[u8] = match self {
            Self::Envelope => c::REC_TYPE_POST_ENVELOPE,
            Self::Content => c::REC_TYPE_POST_CONTENT,
            Self::Extracted => c::REC_TYPE_POST_EXTRACT,
        };
        set.contains(&kind.into())
    }
}
