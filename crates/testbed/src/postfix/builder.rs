//! Description of an instance before its start.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Postfix;
use super::configuration::{MainCf, master_cf};
use super::layout::Layout;
use crate::namespace::Namespace;
use crate::scratch::Scratch;

/// Description of a Postfix instance.
#[derive(Debug, Clone, Default)]
pub struct PostfixBuilder {
    main: Vec<String>,
    services: Vec<String>,
    daemons: Vec<(String, PathBuf)>,
    files: Vec<(String, String)>,
    queue_bytes: Option<usize>,
    namespace: Option<Namespace>,
}

impl PostfixBuilder {
    /// Sets a parameter of `main.cf`, as `name = value`.
    #[must_use]
    pub fn main(mut self, line: &str) -> Self {
        self.main.push(line.to_owned());
        self
    }

    /// Adds a line to `master.cf`, or replaces the one with the same service name and type.
    #[must_use]
    pub fn service(mut self, line: &str) -> Self {
        self.services.push(line.to_owned());
        self
    }

    /// Puts a link to `program` into `daemon_directory` under `name`.
    #[must_use]
    pub fn daemon(mut self, name: &str, program: impl AsRef<Path>) -> Self {
        self.daemons.push((name.to_owned(), program.as_ref().to_owned()));
        self
    }

    /// Writes a file beside `main.cf`, where `$config_directory/name` finds it.
    #[must_use]
    pub fn file(mut self, name: &str, content: &str) -> Self {
        self.files.push((name.to_owned(), content.to_owned()));
        self
    }

    /// Puts the queue on a disk of its own, of `bytes` bytes. `prepare` fails where mounting is
    /// forbidden.
    #[must_use]
    pub fn queue_disk(mut self, bytes: usize) -> Self {
        self.queue_bytes = Some(bytes);
        self
    }

    /// Runs the instance and its commands in a network namespace, which must outlive it.
    #[must_use]
    pub fn within(mut self, namespace: &Namespace) -> Self {
        self.namespace = Some(namespace.clone());
        self
    }

    /// Sends all mail to this port of the loopback interface.
    #[must_use]
    pub fn relay_to(self, port: u16) -> Self {
        self.main(&format!("relayhost = [127.0.0.1]:{port}"))
    }

    /// Adds the service `optimus` with this build's pickup-rs.
    #[must_use]
    pub fn optimus(self) -> Self {
        let service = "optimus unix - - n - 1 pickup-rs";
        self.service(service).daemon("pickup-rs", crate::bin("pickup-rs"))
    }

    /// Makes the instance and waits until its master is ready.
    pub fn start(self) -> Result<Postfix> {
        let postfix = self.prepare()?;
        postfix.start()?;
        Ok(postfix)
    }

    /// Makes the instance without starting it.
    pub fn prepare(self) -> Result<Postfix> {
        let scratch = Scratch::new()?;
        let layout = Layout::create(scratch.path(), self.queue_bytes)
            .context("Postfix's directories: not made")?;
        let mut main = MainCf::standard(&layout);
        self.main.iter().try_for_each(|line| main.set(line))?;
        main.write(&layout.config)?;
        std::fs::write(layout.config.join("master.cf"), master_cf(&self.services)?)?;
        for (name, content) in &self.files {
            std::fs::write(layout.config.join(name), content)?;
        }
        for (name, program) in &self.daemons {
            layout.link_daemon(name, program)?;
        }
        Ok(Postfix { layout, namespace: self.namespace, scratch })
    }
}
