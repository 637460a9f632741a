//! The public API of a process: HTTPS, the families, and what they share.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use api::{Platform, Site};
use config::{Settings, keys};
use identity::{Identity, Passwords};
use images::Images;
use pki::Role;
use rpc::Target;
use servers::Servers;
use tokio::net::TcpListener;
use world::World;

use super::base::Base;
use super::{Process, count, seed};
use crate::home::REGION;
use crate::observe::Observer;
use crate::renew;

/// Threads that hash passwords.
const PASSWORD_THREADS: usize = 2;

/// Serves it until `stop`; its URL, and what completes when it has ended.
pub(super) async fn start(
    process: &Process,
    images: Arc<Images>,
    stop: Arc<tokio::sync::Notify>,
) -> anyhow::Result<(String, tokio::sync::oneshot::Receiver<()>)> {
    let Process { base, view, networks } = process;
    let Base { world, plan, ring, membership, metrics, settings, .. } = base;
    let listen = plan.home.cell.listen;
    let listener = TcpListener::bind(listen).await.with_context(|| {
        format!("cannot listen on {listen}: is another cell running? (--listen ADDRESS:PORT chooses another address)")
    })?;
    let address = listener.local_addr()?;
    let public_url = format!("https://{address}");
    let passwords = Passwords::start(PASSWORD_THREADS)?;
    let hanging_on_users = &[servers::keypair::remove_of_user as identity::HangingOnUser];
    let identity = Identity::with(world, Arc::clone(view), passwords, hanging_on_users, settings);
    seed::seed(process, &identity, networks, &images, &public_url).await?;

    let platform = Platform {
        world: world.clone(),
        auth: Arc::clone(&identity) as Arc<dyn api::Authenticator>,
        observer: Observer::new(metrics),
        region: REGION.into(),
        public_url: public_url.clone(),
    };
    let compute = Arc::new(api_compute::Compute {
        servers: Servers::new(view, &process.owners()),
        images: Arc::clone(&images),
        networks: networks.clone(),
        view: Arc::clone(view),
        world: world.clone(),
        ring: Arc::clone(ring),
        peers: Arc::clone(&membership.peers),
        coordinator: Target::any(Role::Coordinator),
        directory: Arc::clone(&membership.directory),
        identity: Arc::clone(&identity),
    });
    let (router, table) = Site::new(&platform)
        .nest("/identity", api_identity::discovery(), Arc::clone(&identity))
        .nest("/identity/v3", api_identity::routes(), identity)
        .nest("/compute", api_compute::discovery(), Arc::clone(&compute))
        .nest("/compute/v2.1", api_compute::routes(), compute)
        .nest("/image", api_image::routes(), images)
        .nest("/network", api_network::routes(), networks.clone())
        .nest("/placement", api_placement::routes(), Arc::clone(view))
        .build();
    plan.home.note_routes(&table)?;
    let tls = public_tls(process, address)?;
    let (ended, api_ended) = tokio::sync::oneshot::channel();
    let (serving, limits) = (world.clone(), limits(world, settings));
    world.spawn("public api", async move {
        api::serve(listener, tls, router, serving, limits, async move { stop.notified().await }).await;
        let _nobody_waits = ended.send(());
    });
    plan.home.write_client_files(&public_url)?;
    Ok((public_url, api_ended))
}

/// How the public API shows itself: with a certificate that is renewed while it runs.
fn public_tls(process: &Process, address: SocketAddr) -> anyhow::Result<tokio_rustls::rustls::ServerConfig> {
    let (world, home) = (process.base.world.clone(), process.base.plan.home.clone());
    let issued = move || home.public_certificate(&world, &hosts(address));
    // Its clients show no certificate: nobody is verified.
    let credentials = rpc::tls::Credentials::new(&issued()?, "")?;
    renew::keep_fresh(&process.base.world, "public API".to_owned(), &credentials, issued);
    Ok(credentials.public_server_config()?)
}

/// What clients of the public API may hold: never so many connections that nothing is left to open files with.
fn limits(world: &World, settings: &Arc<Settings>) -> api::serve::Limits {
    let limits = api::serve::Limits::default();
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    let connections = limits.connections.clone();
    settings.follow(world, move |settings| {
        connections.resize(count(settings.get(&keys::API_CONNECTIONS_MAX).min(files / 2)));
    });
    limits
}

/// The names and addresses under which clients may reach the public API.
fn hosts(address: SocketAddr) -> Vec<String> {
    let mut hosts = vec![address.ip().to_string()];
    if address.ip().is_loopback() || address.ip().is_unspecified() {
        hosts.extend(["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()]);
    }
    hosts.sort();
    hosts.dedup();
    hosts
}
