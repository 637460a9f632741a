//! What every control process has, whatever its roles: an address, a session, names, settings, and answers about itself.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use config::{Settings, keys};
use liveness::Instance;
use liveness::core::Wanted;
use names::Listing;
use pki::Role;
use rpc::tls::{Listener, TcpProber, TlsPeers};
use rpc::{Health, Peers, Server, Target};
use telemetry::Ring;
use telemetry::export::Outbox;
use telemetry::metrics::Metrics;
use tonic::service::Routes;
use world::World;

use super::{Plan, count};
use crate::membership::{self, Joining, Membership};
use crate::operator::RELEASE;
use crate::{metrics, otlp, renew};

/// A control process that has joined the cell and does nothing yet.
pub(super) struct Base {
    pub(super) world: World,
    pub(super) plan: Plan,
    /// Where it answers.
    pub(super) target: Target,
    pub(super) ring: Arc<Ring>,
    pub(super) metrics: Metrics,
    pub(super) outbox: Option<Outbox>,
    pub(super) health: Health,
    pub(super) settings: Arc<Settings>,
    /// The liveness instance, if it is one.
    pub(super) instance: Option<Arc<Instance>>,
    pub(super) membership: Membership,
    pub(super) server: Server,
    /// What it answers already.
    pub(super) routes: Routes,
    tls: Arc<TlsPeers>,
    metrics_at: String,
}

impl Base {
    /// Listens, joins, and finds the others.
    pub(super) async fn start(world: &World, plan: Plan) -> anyhow::Result<Base> {
        let role = match plan.roles.iter().collect::<Vec<_>>().as_slice() {
            [one] => **one,
            _ => Role::Control,
        };
        let credentials = plan.home.credentials(world, role, &plan.name)?;
        keep_fresh(world, &plan, role, &credentials);
        let own = plan.home.identity(role, &plan.name);
        let ring = Ring::new(world, own.to_string());
        let metrics = Metrics::default();
        ring.measure(&metrics);
        let outbox = otlp::start(world, &metrics, &plan.watched)?;
        outbox.iter().for_each(|outbox| ring.export(outbox.clone()));
        let tls = TlsPeers::new(world, own.clone(), &credentials)?;

        // Who asks how it is, or who is there, gets an answer before there is anything else to answer.
        let health = Health::new(world, RELEASE, plan.parts().map(|role| role.to_string()).collect());
        let metrics_at = metrics::serve(world, &metrics, plan.watched.metrics_listen).await?.to_string();
        health.metrics_at(metrics_at.clone());
        let settings = Settings::new(plan.place());
        plan.logs.follow(world, &settings);
        let instance = plan.has(Role::Liveness).then(|| start_instance(world, &plan, &own, &tls, &ring, &settings));
        let routes = Routes::new(health.service()).add_service(telemetry::service::service(&ring));
        let routes = instance.iter().fold(routes, |routes, instance| routes.add_service(instance.service()));
        let server = Server::starting(&ring, &metrics, rpc::Limits::default(), routes.clone().prepare());
        bound_calls(world, &settings, &server);
        membership::stamp(&server, &settings);
        let listener = Listener::bind(plan.rpc_listen).await?;
        let address = listener.address();
        listener.serve(world, server.clone(), &credentials)?;
        if instance.is_some() {
            tls.serve_here(Role::Liveness, &server);
        }
        let membership = membership::join(Joining {
            world,
            ring: &ring,
            own,
            roles: plan.parts().collect(),
            address,
            zone: plan.zone.clone(),
            machine: membership::machine(),
            tls: &tls,
            bootstrap: plan.bootstrap.clone(),
            watch: Wanted::All,
            settings: &settings,
        });
        if instance.is_none() {
            membership.found().await?;
        }
        membership::tell_load(world, &membership, &server);
        let target = Target { role, name: plan.name.clone(), endpoint: address.to_string() };
        let base = Base {
            world: world.clone(),
            plan,
            target,
            ring,
            metrics,
            outbox,
            health,
            settings,
            instance,
            membership,
            server,
            routes,
            tls,
            metrics_at,
        };
        base.start_dns().await?;
        Ok(base)
    }

    /// Answers names over DNS, where that was asked for.
    async fn start_dns(&self) -> anyhow::Result<()> {
        let at = if self.plan.has(Role::Names) { self.plan.dns_listen.as_slice() } else { &[] };
        for address in at {
            let listener = dns::Listener::bind(*address).await?;
            let (directory, settings) = (Arc::clone(&self.membership.directory), Arc::clone(&self.settings));
            let ttl = move || settings.get(&keys::DNS_TTL);
            let served = listener.serve(&self.world, &self.plan.home.cell.name, directory, ttl);
            served.context("cannot answer names over DNS")?;
        }
        Ok(())
    }

    /// From now on calls to the roles of this process stay within it.
    pub(super) fn serve_here(&self) {
        for served in Role::ALL.into_iter().filter(|served| self.plan.has(*served)) {
            self.tls.serve_here(served, &self.server);
        }
    }

    /// From now on the others may call this process; `api`: under this URL it answers tenants.
    pub(super) fn announce(&self, api: Option<&str>) -> anyhow::Result<()> {
        self.plan.home.note_process(&self.target)?;
        self.health.serving();
        let metrics = Some((Listing::METRICS, self.metrics_at.clone()));
        let https = api.and_then(|url| url.strip_prefix("https://")).map(|at| (Listing::HTTPS, at.to_owned()));
        self.membership.serving(metrics.into_iter().chain(https));
        Ok(())
    }
}

/// The liveness instance of this process.
fn start_instance(
    world: &World,
    plan: &Plan,
    own: &pki::Identity,
    tls: &Arc<TlsPeers>,
    ring: &Arc<Ring>,
    settings: &Arc<Settings>,
) -> Arc<Instance> {
    let options = liveness::Options {
        own: own.clone(),
        settings: liveness::core::Settings::default(),
        peers: Arc::clone(tls) as Arc<dyn Peers>,
        prober: Arc::new(TcpProber::new(world)),
        ring: Arc::clone(ring),
        bootstrap: plan.bootstrap.clone(),
    };
    let instance = Instance::start(world, options);
    let patient = Arc::clone(&instance);
    settings.follow(world, move |settings| {
        let grace = settings.get(&keys::LIVENESS_GRACE);
        patient.set(liveness::core::Settings { grace, ..patient.settings() });
    });
    instance
}

/// The calls that `server` takes on are as many as is configured.
pub fn bound_calls(world: &World, settings: &Arc<Settings>, server: &Server) {
    let calls = server.calls().clone();
    settings.follow(world, move |settings| calls.resize(count(settings.get(&keys::CALLS_MAX))));
}

/// Renews this process's certificate while it runs.
fn keep_fresh(world: &World, plan: &Plan, role: Role, credentials: &rpc::tls::Credentials) {
    let (own, home, name) = (world.clone(), plan.home.clone(), plan.name.clone());
    renew::keep_fresh(world, format!("{role}/{name}"), credentials, move || {
        home.issued(&own, role, &name, Duration::ZERO)
    });
}
