//! A process among the others: its session with a liveness instance, the names of the others, and how it calls them.
//!
//! What a process must be given to find the cell is one good address of a liveness instance, and its certificate. Addresses
//! come from the command line, from the bootstrap file, and, on a machine with a control process of the same home, from
//! the note that it leaves. After that everything may move.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use config::Settings;
use http::{HeaderName, HeaderValue};
use liveness::core::Wanted;
use liveness::{ConfigDocument, Offer, Session};
use names::{Balanced, Directory, Here, Listing, Speaks, Status};
use pki::{Identity, Role};
use rpc::tls::{TcpProber, TlsPeers};
use rpc::{Peers, Seen, Server, Target};
use telemetry::Ring;
use world::World;

use crate::home::Home;
use crate::operator::RELEASE;

/// How long a process that starts looks for a liveness instance before it gives up and says what each address said.
const FIND_WAIT_MAX: Duration = Duration::from_secs(30);
/// How long a process that leaves gives the others to hear of it.
const HEARD_WAIT: Duration = Duration::from_millis(300);
const LEAVE_WAIT_MAX: Duration = Duration::from_secs(1);

/// What joins the cell.
pub struct Joining<'a> {
    pub world: &'a World,
    pub ring: &'a Arc<Ring>,
    pub own: Identity,
    pub roles: BTreeSet<Role>,
    /// Where it answers.
    pub address: SocketAddr,
    pub zone: String,
    /// The machine that it runs on.
    pub machine: String,
    pub tls: &'a Arc<TlsPeers>,
    pub bootstrap: Vec<Target>,
    /// Whose names it wants to know.
    pub watch: Wanted,
    /// What it runs, and what comes over the session is handed to.
    pub settings: &'a Arc<Settings>,
}

/// What a process has joined.
#[derive(Clone)]
pub struct Membership {
    pub own: Identity,
    pub session: Arc<Session>,
    pub directory: Arc<Directory>,
    /// Calls whoever plays a role, or has a name, now.
    pub peers: Arc<dyn Peers>,
}

/// Begins to attend. The process does not take calls of others yet.
pub fn join(joining: Joining<'_>) -> Membership {
    let Joining { world, ring, own, roles, address, zone, machine, tls, bootstrap, watch, settings } = joining;
    let local = roles.contains(&Role::Liveness);
    let listing = Listing {
        who: own.clone(),
        session: 0,
        roles: roles.clone(),
        endpoints: BTreeMap::from([(Listing::RPC.to_owned(), address.to_string())]),
        zone: zone.clone(),
        machine,
        release: RELEASE.to_owned(),
        speaks: Speaks::NOW,
        load: 0,
        serving: false,
        config: 0,
        status: Status::Alive,
    };
    let handed = Arc::clone(settings);
    let configured = move |told: ConfigDocument| match config::wire::decode(&told.document) {
        Ok(document) => drop(handed.take(document)),
        Err(error) => tracing::error!(%error, revision = told.revision, "the configuration cannot be read"),
    };
    let session = Session::start(
        world,
        Offer {
            listing,
            watch: Some(watch),
            local: local.then(|| Target { role: Role::Liveness, name: own.name.clone(), endpoint: String::new() }),
            bootstrap,
            peers: Arc::clone(tls) as Arc<dyn Peers>,
            prober: Arc::new(TcpProber::new(world)),
            ring: Arc::clone(ring),
            configured: Box::new(configured),
        },
    );
    let directory = Arc::clone(session.directory());
    let here = Here { who: own.clone(), roles, zone };
    let balanced: Arc<dyn Peers> = Balanced::new(Arc::clone(tls) as Arc<dyn Peers>, &directory, here);
    let peers: Arc<dyn Peers> = Seen::new(balanced, see(settings));
    keep_up(world, &session, settings);
    Membership { own, session, directory, peers }
}

/// Every answer says which configuration its sender runs.
const CONFIG: HeaderName = HeaderName::from_static("mainstay-config");
/// Who knows that it is behind asks for the newest after so long: mostly it is on its way.
const BEHIND_FOR: Duration = Duration::from_secs(1);

/// From now on every answer of `server` says what this process runs.
pub fn stamp(server: &Server, settings: &Arc<Settings>) {
    let settings = Arc::clone(settings);
    server.stamp(move |headers| {
        headers.insert(CONFIG, HeaderValue::from(settings.revision()));
    });
}

/// How often it is looked at how much a process has in hand.
const LOAD_EVERY: Duration = Duration::from_secs(5);
/// Load is told in quarters, and only when it is well into another: what everybody is told must change seldom.
const LOAD_STEP: usize = 250;

/// Tells how much of what it may serve at a time `server` serves.
pub fn tell_load(world: &World, membership: &Membership, server: &Server) {
    let (own, session, calls) = (world.clone(), Arc::clone(&membership.session), server.calls().clone());
    world.spawn("load", async move {
        let mut told = 0;
        loop {
            own.sleep(LOAD_EVERY).await;
            told = step(told, calls.held().saturating_mul(1000) / calls.most().max(1));
            session.tell(|listing| listing.load = u32::try_from(told).unwrap_or(1000));
        }
    });
}

/// The quarter that is told while `load` thousandths are in hand, after `told` was.
fn step(told: usize, load: usize) -> usize {
    let nearest = (load + LOAD_STEP / 2) / LOAD_STEP * LOAD_STEP;
    if load.abs_diff(told) > LOAD_STEP * 3 / 4 { nearest.min(1000) } else { told }
}

/// Learns from answers that this process is behind.
fn see(settings: &Arc<Settings>) -> rpc::See {
    let settings = Arc::clone(settings);
    Arc::new(move |headers| {
        let told = headers.get(CONFIG).and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
        if let Some(revision) = told {
            settings.behind(revision);
        }
    })
}

/// Tells what this process runs, and asks again when something newer is known to exist and does not come.
fn keep_up(world: &World, session: &Arc<Session>, settings: &Arc<Settings>) {
    let telling = Arc::clone(session);
    settings.follow(world, move |settings| {
        let revision = settings.revision();
        telling.tell(|listing| listing.config = revision);
    });
    let (own, session, settings) = (world.clone(), Arc::clone(session), Arc::clone(settings));
    world.spawn("configuration", async move {
        loop {
            let wanted = settings.wanted().await;
            own.sleep(BEHIND_FOR).await;
            if settings.revision() < wanted {
                tracing::info!(
                    runs = settings.revision(),
                    wanted,
                    "the configuration is behind; it is asked for again"
                );
                session.renew();
            }
        }
    });
}

impl Membership {
    /// Completes when the process knows the others.
    pub async fn found(&self) -> anyhow::Result<()> {
        let hint = "name a liveness instance with --bootstrap ADDRESS:PORT, or in the bootstrap file of this home";
        self.session.ready(FIND_WAIT_MAX).await.context(hint)
    }

    /// From now on others may call this process; it also offers `endpoints`.
    pub fn serving(&self, endpoints: impl IntoIterator<Item = (&'static str, String)>) {
        self.session.tell(|listing| {
            listing.serving = true;
            listing.endpoints.extend(endpoints.into_iter().map(|(kind, endpoint)| (kind.to_owned(), endpoint)));
        });
    }

    /// Others send no new calls from now on; completes when they have had the time to hear of it.
    pub async fn stop_serving(&self, world: &World) {
        self.session.tell(|listing| listing.serving = false);
        if world.timeout(LEAVE_WAIT_MAX, self.session.told()).await.is_ok() {
            world.sleep(HEARD_WAIT).await;
        }
    }

    /// The process is about to end.
    pub async fn leave(&self) {
        self.session.leave(LEAVE_WAIT_MAX).await;
    }
}

/// Addresses of liveness instances: those that were `given`, and those that the home knows.
pub fn bootstrap(home: &Home, given: &[SocketAddr]) -> anyhow::Result<Vec<Target>> {
    let at = |endpoint: String| Target { role: Role::Liveness, name: String::new(), endpoint };
    let mut targets: Vec<Target> = given.iter().map(|address| at(address.to_string())).collect();
    targets.extend(home.bootstrap()?.liveness.into_iter().map(at));
    let noted = home.processes().unwrap_or_default().into_iter();
    targets.extend(noted.filter(|process| matches!(process.role, Role::Control | Role::Liveness)));
    let mut seen = BTreeSet::new();
    targets.retain(|target| seen.insert(target.endpoint.clone()));
    Ok(targets)
}

/// The name of this machine.
pub fn machine() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::step;

    #[test]
    fn a_load_that_wavers_is_told_once() {
        let told = [0, 120, 180, 190, 240, 120, 70, 60, 1000].into_iter().scan(0, |told, load| {
            *told = step(*told, load);
            Some(*told)
        });
        assert_eq!(told.collect::<Vec<_>>(), [0, 0, 0, 250, 250, 250, 250, 0, 1000]);
    }
}
