//! Lists what is in Redis to whoever may see this host's queue, as showq(8) lists what is in Postfix.
//!
//! `mailq` runs as any user and can't read Redis: the user it logs in as may submit and nothing else. So it asks the Mail
//! Agent, over a socket in `public/`, where only Postfix's set-group-id programs come; they look at
//! `authorized_mailq_users`, as postqueue does. The protocol is showq's. A listing that breaks off has no end mark.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use postfix_wire::showq::{END, greeting};
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::daemon::Instance;
use crate::listing::Entries;

/// How many listings at once; others wait.
const AT_ONCE: usize = 4;
/// Who doesn't read a page within this time isn't there any more.
const PAGE_PATIENCE: Duration = Duration::from_secs(60);
/// After accept has failed.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Serves until it is dropped. Without a socket there is no listing, which is no reason to stop sending mail: that is logged.
#[derive(Debug)]
pub struct Service {
    // Aborts its tasks when it is dropped.
    _tasks: JoinSet<()>,
}

impl Service {
    /// Starts it. To be called in a `LocalSet`.
    pub fn start(instance: &Instance) -> Self {
        let mut tasks = JoinSet::new();
        let path = instance.places.showq_socket();
        match listen(&path) {
            Ok(listener) => {
                tasks.spawn_local(serve(listener, instance.clone()));
            }
            Err(error) => {
                tracing::warn!(socket = %path.display(), %error, "mailq can't show what is in Redis");
            }
        }
        Self { _tasks: tasks }
    }
}

/// Under another name first, then in place of whatever an earlier process has left: whoever connects finds either.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let draft = path.with_extension(format!("new.{}", std::process::id()));
    let listener = UnixListener::bind(&draft)?;
    std::fs::set_permissions(&draft, PermissionsExt::from_mode(0o666))?;
    std::fs::rename(&draft, path)?;
    Ok(listener)
}

async fn serve(listener: UnixListener, instance: Instance) {
    let (instance, mut listings) = (Rc::new(instance), JoinSet::new());
    loop {
        tokio::select! {
            Some(_) = listings.join_next() => (),
            accepted = listener.accept(), if listings.len() < AT_ONCE => match accepted {
                Ok((stream, _)) => drop(listings.spawn_local(listing(stream, Rc::clone(&instance)))),
                // No descriptors left, say. A moment later there may be some again.
                Err(error) => {
                    tracing::warn!(%error, "queue listing: accept");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

async fn listing(stream: UnixStream, instance: Rc<Instance>) {
    if let Err(error) = list(stream, &instance).await {
        tracing::info!(%error, "queue listing broken off");
    }
}

async fn list(mut stream: UnixStream, instance: &Instance) -> anyhow::Result<()> {
    let mut entries = Entries::of(&instance.looking(), &instance.main_cf, &instance.places);
    let mut out = greeting();
    while let Some(page) = entries.next_page().await? {
        page.iter().for_each(|entry| entry.encode(&mut out));
        timeout(PAGE_PATIENCE, stream.write_all(&out)).await??;
        out.clear();
    }
    timeout(PAGE_PATIENCE, stream.write_all(END)).await??;
    Ok(())
}
