//! The login of the daemons, from the settings.

use settings::{EMBEDDED_USER, Places, Settings, SettingsError};

use crate::{Server, ServerError};

/// Reason for which the settings give no usable login. The operator must correct them.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The URL names no Redis.
    #[error("redis.url: not usable")]
    Url(#[from] ServerError),
    /// The password can't be read.
    #[error(transparent)]
    Password(#[from] SettingsError),
}

impl Server {
    /// Returns this instance's Redis and the daemons' login to it. The password of a configured
    /// Redis is read at once, while this process may still be root. The password of an embedded
    /// Redis is read when needed, since `optimus run` makes it.
    ///
    /// # Errors
    ///
    /// See [`LoginError`].
    pub fn of_daemons(places: &Places, settings: &Settings) -> Result<Self, LoginError> {
        let server = Self::parse(&places.redis_url(settings))?;
        let password = settings.redis.password()?;
        Ok(match settings.redis.url {
            Some(_) => server.with_credentials(settings.redis.user.as_deref(), password.as_deref()),
            None => server
                .with_password_file(EMBEDDED_USER, places.redis_password_file())
                .embedded(true),
        })
    }
}
