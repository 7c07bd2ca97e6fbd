//! One case: what is run, by whom, with what on standard input, under which configuration.

use super::differences::Difference;

/// A `main.cf` and the files it names.
#[derive(Debug)]
pub struct Configuration {
    /// Lines of `main.cf` over the testbed's; `-name` takes one of those away.
    pub main: &'static [&'static str],
    /// Files beside it: name, content, and whether others than root and the group may read them.
    pub files: &'static [(&'static str, &'static str, Readable)],
    /// Of these, which are made into `hash:` databases.
    pub databases: &'static [&'static str],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readable {
    ByAll,
    ByGroup,
}

/// Nothing beyond the testbed's.
pub static PLAIN: Configuration = Configuration { main: &[], files: &[], databases: &[] };

/// A configuration of settings alone.
pub const fn main_cf(main: &'static [&'static str]) -> Configuration {
    Configuration { main, files: &[], databases: &[] }
}

/// Who runs the programs. All but root have them set-group-id, with the configuration as
/// `/etc/postfix`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    /// The line in `/etc/passwd`.
    pub passwd: Option<&'static str>,
}

pub const ROOT: User = User { uid: 0, passwd: Some("root:x:0:0:root:/root:/bin/sh") };
/// With all that a comment field can have.
pub const ANN: User =
    User { uid: 7001, passwd: Some("ann:x:7001:7001:&a of & & Co,Room 1,555:/:/bin/sh") };
/// Without a comment.
pub const BOB: User = User { uid: 7002, passwd: Some("bob:x:7002:7002::/:/bin/sh") };
/// With letters that are not ASCII, and upper case.
pub const EVE: User =
    User { uid: 7003, passwd: Some("Eve:x:7003:7003:\u{c9}ve \"the\" (Adv) <e@x>;x:/:/bin/sh") };
/// Of a container, say: known by number alone.
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
    /// The name it is started by, if that is another. Only for root.
    pub called: Option<&'static str>,
    pub environment: Vec<(&'static str, &'static str)>,
    /// The machine's name, if that is another.
    pub machine: Option<&'static str>,
    /// How ours is known to differ.
    pub difference: Option<Difference>,
}

/// `sendmail`, run by root, with the plain configuration.
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

/// `postdrop -r`, the same.
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
