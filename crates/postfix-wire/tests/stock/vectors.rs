//! Tests with files of stock Postfix: those kept in `tests/vectors`, and new ones from the
//! installed Postfix.
//!
//! With `OPTIMUS_MAKE_VECTORS` set, new files replace the kept ones.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use postfix_wire::attr::decode;
use postfix_wire::{
    CleanupFlags, CleanupStatus, QueueId, QueueLayout, QueueName, RecordType, Records,
};
use testbed::Postfix;

use crate::conversation::{converse, message};
use crate::{cleanup, maildrop};

const SUBMISSION: &[u8] = b"\
From: sender@example.org
To: first@example.org, second@example.org
Subject: caf\xc3\xa9

8-bit \xff, a carriage return \r in the line,
.
and no newline at the end";

const ARGUMENTS: [&str; 12] = [
    "-i",
    "-f",
    "sender@example.org",
    "-F",
    "Full Name",
    "-V",
    "envelope-id",
    "-N",
    "failure,delay",
    "-B8BITMIME",
    "first@example.org",
    "second@example.org",
];

const NAMES: [&str; 6] = [
    "maildrop",
    "queue-file",
    "queue-file-path",
    "cleanup-greeting",
    "cleanup-request",
    "cleanup-verdict",
];

/// Folder of files of stock Postfix.
struct Vectors(PathBuf);

impl Vectors {
    fn kept() -> Self {
        Self(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors"))
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.0.join(name);
        std::fs::read(&path).with_context(|| path.display().to_string())
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Result<()> {
        Ok(std::fs::write(self.0.join(name), content)?)
    }

    fn path_of_queue_file(&self) -> Result<String> {
        Ok(String::from_utf8(self.read("queue-file-path")?)?)
    }

    fn make(&self) -> Result<()> {
        let postfix = Postfix::builder()
            .main("enable_long_queue_ids = yes")
            .main("hash_queue_names = hold, deferred, defer")
            .main("hash_queue_depth = 3")
            .prepare()?;
        self.write(
            "maildrop",
            std::fs::read(maildrop::submit(&postfix, &ARGUMENTS, SUBMISSION)?)?,
        )?;
        postfix.queue_files("maildrop").iter().try_for_each(std::fs::remove_file)?;
        postfix.start()?;
        let flags = CleanupFlags::EXTERNAL | CleanupFlags::HOLD;
        let message = message(&["first@example.org"], &[b"Subject: vector", b"", b"body"]);
        let said = converse(&postfix, flags, &message)?;
        let path = postfix.queue_files("hold").pop().context("nothing in hold")?;
        self.write("queue-file", std::fs::read(&path)?)?;
        self.write(
            "queue-file-path",
            path.strip_prefix(postfix.queue_dir())?.display().to_string(),
        )?;
        self.write("cleanup-greeting", said.greeting)?;
        self.write("cleanup-request", said.request)?;
        self.write("cleanup-verdict", said.verdict)
    }

    fn check(&self) -> Result<()> {
        self.check_maildrop_file().context("maildrop file")?;
        self.check_queue_file().context("queue file")?;
        self.check_path_of_a_long_id().context("path of a long id")?;
        self.check_conversation_with_cleanup().context("conversation with cleanup")
    }

    fn check_maildrop_file(&self) -> Result<()> {
        let records = maildrop::check(&self.read("maildrop")?)?;
        for (kind, data) in [
            (RecordType::Full, "Full Name"),
            (RecordType::From, "sender@example.org"),
            (RecordType::Attr, "envelope_id=envelope-id"),
            (RecordType::Rcpt, "first@example.org"),
            (RecordType::Rcpt, "second@example.org"),
            (RecordType::Cont, "and no newline at the end"),
        ] {
            ensure!(
                records.contains(&(kind, data.as_bytes().to_vec())),
                "{kind:?} {data}: {records:?}"
            );
        }
        ensure!(records.contains(&(
            RecordType::Norm,
            b"8-bit \xff, a carriage return \r in the line,".to_vec()
        )));
        ensure!(records[0].0 == RecordType::Time);
        Ok(())
    }

    fn check_queue_file(&self) -> Result<()> {
        let records = cleanup::queue_file(&self.0.join("queue-file"))?;
        ensure!(records.first().map(|(kind, _)| *kind) == Some(RecordType::Size));
        ensure!(records.last().map(|(kind, _)| *kind) == Some(RecordType::End));
        let identity = (RecordType::Attr, b"optimus_id=01HF7YAT00AAAAAAAAAAAAAAAA".to_vec());
        ensure!(records.contains(&identity), "{records:?}");
        Ok(())
    }

    fn check_path_of_a_long_id(&self) -> Result<()> {
        let path = self.path_of_queue_file()?;
        let id: QueueId = path.rsplit('/').next().context("name")?.parse()?;
        let layout = QueueLayout::new([QueueName::Hold], 3);
        ensure!(id.is_long() && layout.path(QueueName::Hold, &id) == Path::new(&path), "{path}");
        Ok(())
    }

    fn check_conversation_with_cleanup(&self) -> Result<()> {
        let list = |name| -> Result<_> {
            let bytes = self.read(name)?;
            Ok((decode(&bytes)?.context("incomplete")?, bytes))
        };
        let ((greeting, length), bytes) = list("cleanup-greeting")?;
        ensure!(length == bytes.len() && greeting.get("protocol") == Some("cleanup_protocol"));
        let path = self.path_of_queue_file()?;
        ensure!(path.ends_with(greeting.require("queue_id")?));

        let ((flags, length), bytes) = list("cleanup-request")?;
        ensure!(
            flags.require_u32("flags")? == (CleanupFlags::EXTERNAL | CleanupFlags::HOLD).bits()
        );
        let kinds: Vec<_> =
            Records::new(&bytes[length..]).map(|record| Ok(record?.kind)).collect::<Result<_>>()?;
        ensure!(kinds.first() == Some(&RecordType::Time) && kinds.last() == Some(&RecordType::End));

        let ((verdict, length), bytes) = list("cleanup-verdict")?;
        ensure!(length == bytes.len() && verdict.get("reason") == Some(""));
        ensure!(CleanupStatus::from_bits(verdict.require_u32("status")?) == CleanupStatus::OK);
        Ok(())
    }
}

#[test]
fn kept() -> Result<()> {
    Vectors::kept().check()
}

#[test]
fn made_now() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let made = Vectors(folder.path().to_owned());
    made.make()?;
    made.check()?;
    if std::env::var_os("OPTIMUS_MAKE_VECTORS").is_some() {
        NAMES.iter().try_for_each(|name| Vectors::kept().write(name, made.read(name)?))?;
    }
    Ok(())
}
