//! Case: program, user, standard input and configuration of one run.

use super::differences::Difference;

/// Configuration: a `main.cf`, and the files that it names.
#[derive(Debug)]
pub struct Configuration {
    /// Lines of `main.cf` beyond the testbed's; `-name` removes one of those.
    pub main: &'static [&'static str],
    /// Files beside `main.cf`: name, content, and whether all users or only root and the group may
    /// read them.
    pub files: &'static [(&'static str, &'static str, Readable)],
    /// Names of files that are made into `hash:` databases.
    pub databases: &'static [&'static str],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readable {
    ByAll,
    ByGroup,
}

/// Configuration of the testbed alone.
pub static PLAIN: Configuration = Configuration { main: &[], files: &[], databases: &[] };

/// Returns a configuration with these settings and no files.
pub const fn main_cf(main: &'static [&'static str]) -> Configuration {
    Configuration { main, files: &[], databases: &[] }
}

/// User who runs the programs. All except root run them set-group-id, with the configuration as
/// `/etc/postfix`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    /// Line in `/etc/passwd`.
    pub passwd: Option<&'static str>,
}

pub const ROOT: User = User { uid: 0, passwd: Some("root:x:0:0:root:/root:/bin/sh") };
/// User with everything that a comment field can have.
pub const ANN: User =
    User { uid: 7001, passwd: Some("ann:x:7001:7001:&a of & & Co,Room 1,555:/:/bin/sh") };
/// User without a comment.
pub const BOB: User = User { uid: 7002, passwd: Some("bob:x:7002:7002::/:/bin/sh") };
/// User with letters that are not ASCII, and with upper case.
pub const EVE: User =
    User { uid: 7003, passwd: Some("Eve:x:7003:7003:\u{c9}ve \"the\" (Adv) <e@x>;x:/:/bin/sh") };
/// User without a name, as in a container.
pub const NUMBER: User = User { uid: 7999, passwd: None };

pub const USERS: [User; 5] = [ROOT, ANN, BOB, EVE, NUMBER];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    Sendmail,
    Postdrop,
}

#[derive(Debug, Clone)]
pub struct Case {
    pub program: Program,
    pub arguments: Vec<Vec<u8>>,
    pub input: Vec<u8>,
    pub user: User,
    pub configuration: &'static Configuration,
    /// Name by which root starts the program, if it differs from the program's own.
    pub called: Option<&'static str>,
    pub environment: Vec<(&'static str, &'static str)>,
    /// Host name, if it differs from the testbed's.
    pub machine: Option<&'static str>,
    /// Intended difference between stock's programs and OPTIMUS's.
    pub difference: Option<Difference>,
}

/// Returns a case of `sendmail`, run by root, with the testbed's configuration.
pub fn sendmail<A: AsRef<[u8]>>(arguments: &[A], input: impl AsRef<[u8]>) -> Case {
    Case {
        program: Program::Sendmail,
        arguments: arguments.iter().map(|argument| argument.as_ref().to_vec()).collect(),
        input: input.as_ref().to_vec(),
        user: ROOT,
        configuration: &PLAIN,
        called: None,
        environment: Vec::new(),
        machine: None,
        difference: None,
    }
}

/// Returns a case of `postdrop -r`, run by root, with the testbed's configuration.
pub fn postdrop(stream: impl AsRef<[u8]>) -> Case {
    Case { program: Program::Postdrop, ..sendmail(&["-r"], stream) }
}

impl Case {
    pub fn by(self, user: User) -> Self {
        Self { user, ..self }
    }

    pub fn under(self, configuration: &'static Configuration) -> Self {
        Self { configuration, ..self }
    }

    pub fn called(self, name: &'static str) -> Self {
        Self { called: Some(name), ..self }
    }

    pub fn environment(mut self, name: &'static str, value: &'static str) -> Self {
        self.environment.push((name, value));
        self
    }

    pub fn on_machine(self, name: &'static str) -> Self {
        Self { machine: Some(name), ..self }
    }

    pub fn differs(self, difference: Difference) -> Self {
        Self { difference: Some(difference), ..self }
    }
}
