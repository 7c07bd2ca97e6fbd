//! The maildrop's keeper, for hosts where no pickup-rs looks after it.
//!
//! A host that only submits runs neither agents nor Postfix. It still has submissions in doubt, and
//! mail that came to the maildrop while Redis was away. The keeper is pickup-rs's own resolver in a
//! process that needs neither.

use agents::daemon::Instance;
use anyhow::Result;
use maildrop::Maildrop;
use maildrop::in_doubt;
use tokio::sync::watch;

/// Resolves submissions in doubt and submits stranded mail until asked to drain.
pub(crate) async fn keep(instance: Instance, mut drain: watch::Receiver<bool>) -> Result<()> {
    let maildrop = Maildrop::of(&instance.main_cf)?;
    tokio::select! {
        () = in_doubt::run(maildrop, instance.spool(), || true) => (),
        _ = drain.wait_for(|drain| *drain) => (),
    }
    Ok(())
}
