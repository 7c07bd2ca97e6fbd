//! `optimus run`: all in one process, each agent with its own connections, as if they were apart.

use agents::agents::{info, mail, scheduler};
use agents::daemon::Instance;
use agents::embedded::Embedded;
use anyhow::Result;
use tokio::sync::watch;

pub(crate) async fn run(instance: Instance, drain: watch::Receiver<bool>) -> Result<()> {
    if instance.settings.redis.url.is_some() {
        return agents(instance, drain).await;
    }
    let embedded = Embedded {
        socket: instance.places.redis_socket(),
        directory: instance.places.redis_directory(),
        group: instance.setgid_group()?.gid,
        program: "redis-server".into(),
    };
    // Redis ends last: until then the agents have something to say to it.
    let (end_redis, redis_drain) = watch::channel(false);
    let agents = async {
        let result = agents(instance, drain).await;
        end_redis.send_replace(true);
        result
    };
    tokio::try_join!(embedded.run(redis_drain), agents).map(|_| ())
}

async fn agents(instance: Instance, drain: watch::Receiver<bool>) -> Result<()> {
    tokio::try_join!(
        info(instance.clone(), drain.clone()),
        scheduler(instance.clone(), drain.clone()),
        mail(instance, drain),
    )
    .map(|_| ())
}
