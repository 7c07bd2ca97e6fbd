//! A Redis server and the login to it, parsed once for both clients.

use std::fmt;
use std::path::PathBuf;

/// Reason for which a URL names no usable Redis. The operator must correct the setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Redis URL {url:?}: {rule}")]
pub struct ServerError {
    url: String,
    rule: &'static str,
}

/// Address at which a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket.
    Unix(PathBuf),
    /// Host name or address, and port.
    Tcp(String, u16),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "{}", path.display()),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

/// A Redis server, the database in it, and the login. `Debug` doesn't show the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Server {
    /// Address at which the server listens.
    pub address: Address,
    /// Number of the database.
    pub database: u32,
    /// ACL user; with a password alone, Redis's default user.
    pub user: Option<String>,
    /// Password of that user.
    pub password: Option<String>,
    /// File whose first line is the password, in place of `password`. The daemons' client reads the
    /// file for each connection, since the file may be made after the client.
    pub password_file: Option<PathBuf>,
    /// Whether only root and the owner of the socket's folder may answer at the address.
    pub expects_owner: bool,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut it = f.debug_struct("Server");
        it.field("address", &self.address)
            .field("database", &self.database)
            .field("user", &self.user);
        it.finish_non_exhaustive()
    }
}

const DEFAULT_PORT: u16 = 6379;
const FORMS: &str = "expected unix:///path[?db=N] or redis://[[user]:password@]host[:port][/db]";

impl Server {
    /// Parses `unix:///path[?db=N]` or `redis://[[user]:password@]host[:port][/db]`. User and
    /// password in a URL are percent-decoded.
    pub fn parse(url: &str) -> Result<Self, ServerError> {
        let wrong = |rule| ServerError { url: without_password(url), rule };
        if url.starts_with("rediss:") {
            return Err(wrong("TLS is not supported; use redis:// or unix://"));
        }
        let server = match url.split_once("://") {
            Some(("unix", rest)) => parse_unix(rest),
            Some(("redis", rest)) => parse_tcp(rest),
            _ => None,
        };
        server.ok_or_else(|| wrong(FORMS))
    }

    /// Returns the server with these credentials; an unset one stays as it was.
    pub fn with_credentials(mut self, user: Option<&str>, password: Option<&str>) -> Self {
        self.user = user.map(str::to_owned).or(self.user);
        self.password = password.map(str::to_owned).or(self.password);
        self
    }

    /// Returns the server, as the embedded one if `is_embedded`. An embedded server must be run by
    /// the owner of its socket's folder, and a client tells no other process anything.
    pub fn embedded(self, is_embedded: bool) -> Self {
        Self { expects_owner: is_embedded, ..self }
    }

    /// Returns the server, with this user and the password in this file.
    pub fn with_password_file(self, user: &str, file: PathBuf) -> Self {
        Self { user: Some(user.to_owned()), password: None, password_file: Some(file), ..self }
    }
}

fn parse_unix(rest: &str) -> Option<Server> {
    let (path, database) = match rest.split_once("?db=") {
        Some((path, number)) => (path, number.parse().ok()?),
        None => (rest, 0),
    };
    let address = path.starts_with('/').then(|| Address::Unix(PathBuf::from(path)))?;
    Some(Server {
        address,
        database,
        user: None,
        password: None,
        password_file: None,
        expects_owner: false,
    })
}

fn parse_tcp(rest: &str) -> Option<Server> {
    let (credentials, rest) =
        rest.rsplit_once('@').map_or((None, rest), |(it, rest)| (Some(it), rest));
    let (place, database) = rest.split_once('/').unwrap_or((rest, ""));
    let database = if database.is_empty() { 0 } else { database.parse().ok()? };
    let (user, password) = match credentials {
        Some(text) => parse_credentials(text)?,
        None => (None, None),
    };
    Some(Server {
        address: parse_place(place)?,
        database,
        user,
        password,
        password_file: None,
        expects_owner: false,
    })
}

fn parse_credentials(text: &str) -> Option<(Option<String>, Option<String>)> {
    let (user, password) = text.split_once(':')?;
    let user = percent_decoded(user)?;
    Some(((!user.is_empty()).then_some(user), Some(percent_decoded(password)?)))
}

/// Parses `host`, `host:port`, `[v6 address]` or `[v6 address]:port`.
fn parse_place(place: &str) -> Option<Address> {
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => place.find(':').map_or((place, ""), |colon| place.split_at(colon)),
    };
    let port = match port.strip_prefix(':') {
        Some(number) => number.parse().ok()?,
        None => port.is_empty().then_some(DEFAULT_PORT)?,
    };
    (!host.is_empty()).then(|| Address::Tcp(host.to_owned(), port))
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

/// Returns the URL without the part before the last `@`, which may hold a password even in a
/// misspelt URL.
fn without_password(url: &str) -> String {
    url.rsplit_once('@').map_or_else(|| url.to_owned(), |(_, place)| format!("...@{place}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp(host.to_owned(), port)
    }

    #[test]
    fn each_documented_form_of_a_url_works() {
        let parsed = |url| Server::parse(url).unwrap();
        assert_eq!(
            parsed("unix:///run/redis.sock").address,
            Address::Unix("/run/redis.sock".into())
        );
        assert_eq!(parsed("unix:///run/redis.sock?db=3").database, 3);
        assert_eq!(parsed("redis://mx").address, tcp("mx", 6379));
        assert_eq!(parsed("redis://[::1]:7/2").address, tcp("::1", 7));
        assert_eq!(parsed("redis://[::1]:7/2").database, 2);
        let server = parsed("redis://optimus:p%40ss:w@mx:6380/");
        assert_eq!((server.address, server.database), (tcp("mx", 6380), 0));
        assert_eq!(
            (server.user.as_deref(), server.password.as_deref()),
            (Some("optimus"), Some("p@ss:w"))
        );
        assert_eq!(parsed("redis://:secret@mx").user, None);
    }

    #[test]
    fn every_other_url_is_refused_with_the_forms_that_work() {
        for url in [
            "",
            "mx:6379",
            "unix://run/redis",
            "http://mx",
            "redis://",
            "redis://mx:port",
            "redis://mx/x",
            "redis://[::1",
            "redis://[::1]x",
            "redis://user@mx",
            "redis://u:%zz@mx",
            "unix:///x?db=",
            "rediss://mx",
        ] {
            assert!(Server::parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn neither_debug_nor_an_error_shows_a_password() {
        let server = Server::parse("redis://u:secret@mx").unwrap();
        assert!(!format!("{server:?}").contains("secret"));
        for url in [
            "redis://u:secret@mx:port",
            "redis://u:secr@et@mx:port",
            "redis:/u:secret@mx",
            "redis:u:secret@mx",
            "u:secret@mx",
            "://secret@",
            "secret@",
            "rediss://:secret@mx",
            "http://u:secret@mx://x",
        ] {
            let error = Server::parse(url).unwrap_err().to_string();
            assert!(!error.contains("secr"), "{error}");
        }
    }

    #[test]
    fn separate_credentials_override_those_of_the_url() {
        let server = Server::parse("redis://u:p@mx").unwrap().with_credentials(None, Some("q"));
        assert_eq!((server.user.as_deref(), server.password.as_deref()), (Some("u"), Some("q")));
    }
}
