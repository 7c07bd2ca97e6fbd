//! Whether this instance's Redis holds the spool that the instance serves, and `optimus
//! accept-spool`.

use agents::daemon::Instance;
use anyhow::{Context, Result};
use spool::{Spool, SpoolError};

use crate::say;

/// Returns the reason why this Redis can't be used, if there is one: object, cause and remedy.
/// Changes nothing.
pub(crate) async fn mismatch(
    instance: &Instance,
    looking: &Spool,
) -> Result<Option<String>, SpoolError> {
    let file = instance.places.spool_file();
    let (found, expected) = (looking.identity().await?, spool::remembered(&file)?);
    Ok(match expected {
        Some(expected) if found != Some(expected) => {
            let file = file.display().to_string();
            Some(SpoolError::OtherSpool { expected, found, file }.to_string())
        }
        Some(_) | None => None,
    })
}

/// Has this instance serve the spool that is in its Redis from now on, whichever it served before.
pub(crate) async fn accept(instance: Instance) -> Result<()> {
    let file = instance.places.spool_file();
    let before = spool::remembered(&file).ok().flatten();
    let spool = Spool::new(instance.server.clone());
    let accepted = spool
        .accept(&file)
        .await
        .with_context(|| format!("redis at {}", instance.server.address))?;
    match before {
        Some(before) if before == accepted => say(format!("spool {accepted} is served already")),
        Some(before) => {
            say(format!("spool {accepted} is served from now on, instead of {before}"));
        }
        None => say(format!("spool {accepted} is served from now on")),
    }
    Ok(())
}
