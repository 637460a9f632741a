//! Certificates of running processes, replaced before they end.
//!
//! A certificate is due when a third of its life is left: a month, in which somebody may bring back an authority's key
//! that is missing. Connections that stand are not touched; the next handshake shows the new certificate.

use std::time::Duration;

use pki::{Issued, Role};
use rpc::tls::Credentials;
use world::World;

use crate::home::Home;

/// The wall clock may be set at any time, so it is looked at now and then, whatever it said before.
const LOOK_EVERY: Duration = Duration::from_secs(12 * 3600);
/// Who watches over an agent renews its certificate; an agent that nobody watches over does so itself, this much later.
const AGENT_GRACE: Duration = Duration::from_secs(2 * 86_400);

/// Looks for a new certificate for `credentials` now and then: `issued` reads what there is, and renews what is due.
pub fn keep_fresh(
    world: &World,
    what: String,
    credentials: &Credentials,
    issued: impl Fn() -> anyhow::Result<Issued> + Send + 'static,
) {
    let (own, credentials) = (world.clone(), credentials.clone());
    world.spawn("certificate", async move {
        loop {
            own.sleep(LOOK_EVERY).await;
            match issued().and_then(|issued| Ok(credentials.replace(&issued)?)) {
                Ok(true) => tracing::info!(what, "a certificate was renewed"),
                Ok(false) => {}
                Err(error) => tracing::error!(what, error = format!("{error:#}"), "a certificate cannot be renewed"),
            }
        }
    });
}

/// The same for the agent of `node`, which leaves renewing to whoever watches over it.
pub fn keep_agent_fresh(world: &World, home: &Home, node: &str, credentials: &Credentials) {
    let (own, home, node) = (world.clone(), home.clone(), node.to_owned());
    let what = format!("{}/{node}", Role::Agent);
    keep_fresh(world, what, credentials, move || home.issued(&own, Role::Agent, &node, AGENT_GRACE));
}

/// Renews the certificates of agents that run in processes of their own; they read them again by themselves.
pub fn watch_over(world: &World, home: &Home, nodes: Vec<String>) {
    let (own, home) = (world.clone(), home.clone());
    world.spawn("certificates of agents", async move {
        loop {
            own.sleep(LOOK_EVERY).await;
            for node in &nodes {
                if let Err(error) = home.issued(&own, Role::Agent, node, Duration::ZERO) {
                    tracing::error!(node, error = format!("{error:#}"), "an agent's certificate cannot be renewed");
                }
            }
        }
    });
}
