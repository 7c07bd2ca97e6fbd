//! The thread of a node's attendance.
//!
//! The service acts on files, and waits for the disk. So attendance has a thread, an event loop and
//! a connection to Redis of its own. However long a batch of renames or a look at the queue takes,
//! the node keeps its standing, and the Mail Agent its connection. Only the sync of the mark, which
//! comes before each call, needs the disk: one that takes more than 10 s costs the standing.
//!
//! | ends | then |
//! |---|---|
//! | the process | the thread is stopped; if the node is stopped as well, the node leaves |
//! | the thread, as the node takes another name | the process ends |
//! | the thread, otherwise | a fault of this program: the process ends, with an error |

use std::io;
use std::sync::Arc;
use std::thread;

use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::attendance::{Attendance, LEAVE_LIMIT};

/// Whether a node that ends leaves, so that another place may serve it at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Farewell {
    /// The node leaves.
    Leave,
    /// The next process on this host goes on.
    Stay,
}

/// The running thread; see the module.
#[derive(Debug)]
pub(crate) struct Attending {
    stop: oneshot::Sender<Farewell>,
    ended: oneshot::Receiver<()>,
}

impl Attending {
    /// Starts the thread.
    pub(crate) fn start(attendance: Arc<Attendance>) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (stop, mut stopped) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let run = move || {
            runtime.block_on(async {
                let farewell = tokio::select! {
                    () = attendance.attend() => Farewell::Stay,
                    // A service that is gone without a word has died.
                    farewell = &mut stopped => farewell.unwrap_or(Farewell::Stay),
                };
                if farewell == Farewell::Leave {
                    attendance.leave().await;
                }
            });
            // A sync that the disk hasn't answered is not waited for.
            runtime.shutdown_background();
            // A failure to send means that nobody waits any more.
            let _ = end.send(());
        };
        thread::Builder::new().name("attendance".to_owned()).spawn(run)?;
        Ok(Self { stop, ended })
    }

    /// Waits until the node takes another name. Cancel-safe.
    pub(crate) async fn ended(&mut self) -> io::Result<()> {
        let died = |_| io::Error::other("attendance: died; see the error before, and report it");
        (&mut self.ended).await.map_err(died)
    }

    /// Stops the thread. Doesn't wait for a disk that hangs.
    pub(crate) async fn stop(self, farewell: Farewell) {
        // A failure to send means that the thread has ended.
        if self.stop.send(farewell).is_ok() {
            let _ = timeout(2 * LEAVE_LIMIT, self.ended).await;
        }
    }
}
