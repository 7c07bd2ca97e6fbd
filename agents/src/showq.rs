//! The listing of mail in Redis, for users who may see this host's queue. showq(8) does the same
//! for mail in Postfix.
//!
//! `mailq` runs as any user and can't read Redis: its login may submit and nothing else. So it asks
//! the Mail Agent, over a socket in `public/`. Only Postfix's set-group-id programs reach that
//! socket, and they check `authorized_mailq_users`, as postqueue does. The protocol is showq's. A
//! listing that breaks off has no end mark.
//!
//! A reader may be slow, or not read at all. So many listings may be open, each for a limited time,
//! but few of them ask Redis at once. A listing that waits for its reader holds up no other.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use postfix_wire::showq::{END, Entry, greeting};
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::daemon::Instance;
use crate::listing::Entries;

/// Most listings at once, each with a page in memory; others wait.
const AT_ONCE: usize = 64;
/// Most listings that ask Redis at once.
const ASKING_AT_ONCE: usize = 4;
/// Time within which a page must be read; else the reader counts as gone.
const PAGE_PATIENCE: Duration = Duration::from_secs(20);
/// Time within which a listing must be read; a slower reader must come again.
const LISTING_LIMIT: Duration = Duration::from_secs(600);
/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// The server of listings, which runs until it is dropped. A failure to make the socket is logged,
/// and mail is sent all the same.
#[derive(Debug)]
pub struct ListingService {
    // The set aborts its tasks when it is dropped.
    _tasks: JoinSet<()>,
}

impl ListingService {
    /// Starts the server. Must be called in a `LocalSet`.
    pub fn start(instance: &Instance) -> Self {
        let mut tasks = JoinSet::new();
        let path = instance.places.showq_socket();
        match listen(&path) {
            Ok(listener) => {
                tasks.spawn_local(serve(listener, instance.clone()));
            }
            Err(error) => {
                tracing::warn!(socket = %path.display(), %error, "socket for mailq's \
                    listings not made");
            }
        }
        Self { _tasks: tasks }
    }
}

/// Makes the socket under another name, and renames it over an earlier process's. So a client
/// always finds a socket.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let draft = path.with_extension(format!("new.{}", std::process::id()));
    // An earlier process of this process id may have died before it renamed its draft.
    match std::fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => (),
    }
    let listener = UnixListener::bind(&draft)?;
    std::fs::set_permissions(&draft, PermissionsExt::from_mode(0o666))?;
    std::fs::rename(&draft, path)?;
    Ok(listener)
}

async fn serve(listener: UnixListener, instance: Instance) {
    let (instance, mut listings) = (Rc::new(instance), JoinSet::new());
    let asking = Rc::new(Semaphore::new(ASKING_AT_ONCE));
    loop {
        tokio::select! {
            Some(_) = listings.join_next() => (),
            accepted = listener.accept(), if listings.len() < AT_ONCE => match accepted {
                Ok((stream, _)) => {
                    let (instance, asking) = (Rc::clone(&instance), Rc::clone(&asking));
                    drop(listings.spawn_local(listing(stream, instance, asking)));
                }
                // The process may have run out of descriptors, for a moment.
                Err(error) => {
                    tracing::warn!(%error, "connection for a queue listing not accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

async fn listing(stream: UnixStream, instance: Rc<Instance>, asking: Rc<Semaphore>) {
    let listed = timeout(LISTING_LIMIT, list(stream, &instance, &asking)).await;
    if let Err(error) = listed.unwrap_or_else(|limit| Err(limit.into())) {
        tracing::info!(%error, "queue listing for mailq broken off");
    }
}

async fn list(
    mut stream: UnixStream,
    instance: &Instance,
    asking: &Semaphore,
) -> anyhow::Result<()> {
    let mut entries = Entries::of(&instance.looking(), &instance.main_cf, &instance.places);
    let mut out = greeting();
    while let Some(page) = next_page(&mut entries, asking).await? {
        page.iter().for_each(|entry| entry.encode(&mut out));
        timeout(PAGE_PATIENCE, stream.write_all(&out)).await??;
        out.clear();
    }
    timeout(PAGE_PATIENCE, stream.write_all(END)).await??;
    Ok(())
}

async fn next_page(
    entries: &mut Entries,
    asking: &Semaphore,
) -> anyhow::Result<Option<Vec<Entry>>> {
    let _turn = asking.acquire().await?;
    Ok(entries.next_page().await?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn a_new_socket_takes_the_place_of_what_earlier_processes_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        drop(listen(&path).unwrap());
        fs::rename(&path, path.with_extension(format!("new.{}", std::process::id()))).unwrap();
        fs::write(&path, "").unwrap();
        let _listener = listen(&path).unwrap();
        UnixStream::connect(&path).await.unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
