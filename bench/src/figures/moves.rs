//! A process moves to another endpoint while a thousand clients call it without pause: how long until the last of them
//! is answered by the new one, and how many calls fail.
//!
//! Both sides get the same news in the same form: the new endpoint is named, the old one is not any more, and the process
//! there is told to finish and end. Ours is told by a change of the directory that names are resolved from, tonic by a
//! change of its balancing channel. Clients are tasks of this process, so most of the time is their own queue: each has a
//! call under way when the news comes, and the new endpoint has a handshake before its first.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use futures_util::future::join_all;
use names::{Balanced, Change, Directory, Here, Listing, Speaks, Status, Version};
use pki::Role;
use proto::agent::v1::PerformResponse;
use proto::agent::v1::agent_service_client::AgentServiceClient;
use rpc::tls::TlsPeers;
use rpc::{Peers as _, Target};
use telemetry::{Cx, Ring};
use tonic::transport::channel::Change as TonicChange;
use tonic::transport::{Channel, Endpoint};
use world::World;

use super::rpc::order;
use crate::peers;
use crate::serve::{self, Certificates, Pem, Served, Which};
use crate::stats::quantile;
use crate::table::{Aim, Row};

const CLIENTS: usize = 1000;
const MOVES: u64 = 20;
/// How long clients call before their endpoint moves, and afterwards.
const SETTLE: Duration = Duration::from_millis(300);
const MOVED_WITHIN: Duration = Duration::from_secs(20);
const CALL_WITHIN: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(5);

pub async fn measure() -> anyhow::Result<Vec<Row>> {
    let certificates = Certificates::new()?;
    let dir = certificates.dir.path();
    let (mut ours, mut bare) = (Ours::new(dir)?, Bare::new(dir)?);
    let (mut of_ours, mut of_bare) = (Moved::default(), Moved::default());
    for _ in 0..MOVES {
        ours.one(&mut of_ours).await?;
        bare.one(&mut of_bare).await?;
    }
    let how = format!(
        "bare tonic's balance_channel told the same: {CLIENTS} clients on one connection, {MOVES} moves in turns; \
         {} and {} calls",
        of_ours.calls, of_bare.calls
    );
    let quantiles = |q| (quantile(&mut of_ours.took_ms.clone(), q), quantile(&mut of_bare.took_ms.clone(), q));
    let ((ours_50, bare_50), (ours_99, bare_99)) = (quantiles(0.5), quantiles(0.99));
    Ok(vec![
        Row::new("an endpoint moves, last client on the new one, p50", ours_50, "ms")
            .peer(&[ours_50], &[bare_50])
            .against(how),
        Row::new("an endpoint moves, last client on the new one, p99", ours_99, "ms")
            .aim(Aim::AtMost(200.0))
            .peer(&[ours_99], &[bare_99]),
        Row::new("an endpoint moves, failed calls", of_ours.failed as f64, "")
            .aim(Aim::AtMost(0.0))
            .against(format!("bare tonic: {}", of_bare.failed)),
    ])
}

/// What the moves of one side came to.
#[derive(Default)]
struct Moved {
    took_ms: Vec<f64>,
    calls: u64,
    failed: u64,
}

impl Moved {
    /// Lets clients `call`, and while they do, moves from `old` to `new` by `tell`.
    async fn once<F>(&mut self, call: F, old: &mut Served, new: &Served, tell: impl AsyncFn()) -> anyhow::Result<()>
    where
        F: AsyncFn() -> Result<PerformResponse, String>,
    {
        let (stop, told) = (Cell::new(false), Cell::new(None));
        let (calls, failures) = (Cell::new(0), RefCell::new(Vec::new()));
        // Of each client, when the new one first answered it.
        let arrived = RefCell::new(vec![None; CLIENTS]);
        let client = async |index: usize| {
            while !stop.get() {
                calls.set(calls.get() + 1);
                match call().await {
                    Ok(answer) if answer.run == u64::from(new.address.port()) => {
                        arrived.borrow_mut()[index].get_or_insert_with(Instant::now);
                    }
                    Ok(_of_the_old) => {}
                    Err(error) => failures.borrow_mut().push(error),
                }
            }
        };
        let all_arrived = || arrived.borrow().iter().all(Option::is_some);
        let moving = async {
            tokio::time::sleep(SETTLE).await;
            told.set(Some(Instant::now()));
            tell().await;
            old.leave();
            let begun = Instant::now();
            while begun.elapsed() < MOVED_WITHIN && !(all_arrived() && old.has_ended()?) {
                tokio::time::sleep(PAUSE).await;
            }
            tokio::time::sleep(SETTLE).await;
            stop.set(true);
            anyhow::Ok(())
        };
        let (moved, _all) = tokio::join!(moving, join_all((0..CLIENTS).map(client)));
        moved?;
        ensure!(all_arrived(), "not every client has reached the new endpoint within {MOVED_WITHIN:?}");
        let last = arrived.borrow().iter().flatten().max().copied();
        let took = last.zip(told.get()).map_or(Duration::ZERO, |(last, told)| last.duration_since(told));
        self.took_ms.push(took.as_secs_f64() * 1000.0);
        self.calls += calls.get();
        let failures = failures.into_inner();
        failures.first().iter().for_each(|first| eprintln!("    {} failed, the first: {first}", failures.len()));
        self.failed += failures.len() as u64;
        Ok(())
    }
}

struct Ours<'a> {
    dir: &'a Path,
    world: World,
    ring: Arc<Ring>,
    directory: Arc<Directory>,
    peers: Arc<Balanced>,
    served: Served,
    number: u64,
}

impl<'a> Ours<'a> {
    fn new(dir: &'a Path) -> anyhow::Result<Ours<'a>> {
        let world = serve::world();
        let inner = TlsPeers::new(&world, serve::client(), &Pem::read(dir, "client")?.credentials()?)?;
        let directory = Directory::new();
        let here = Here { who: serve::client(), roles: BTreeSet::from([Role::Coordinator]), zone: String::new() };
        let peers = Balanced::new(inner, &directory, here);
        let served = Served::start(Which::Rpc, dir)?;
        directory.replace(Version { instance: 1, number: 0 }, [listing(served.address, 0)]);
        let ring = Ring::new(&world, "bench");
        Ok(Ours { dir, world, ring, directory, peers, served, number: 0 })
    }

    async fn one(&mut self, moved: &mut Moved) -> anyhow::Result<()> {
        let new = Served::start(Which::Rpc, self.dir)?;
        let (after, number) = (self.number, self.number + 1);
        let Ours { world, ring, directory, peers, served, .. } = self;
        let call = async || {
            let cx = Cx::root(ring, Some("req-bench".into()), world.now() + CALL_WITHIN);
            let (cx, _span) = cx.span("order");
            let channel = peers.channel(&Target::any(Role::Agent), &cx);
            let answer = AgentServiceClient::new(channel).perform(order()).await;
            answer.map(tonic::Response::into_inner).map_err(|status| rpc::Error::from(status).to_string())
        };
        let change = Change::Put(listing(new.address, number));
        let tell = async || {
            let told = directory.apply(after, Version { instance: 1, number }, [change.clone()]);
            told.unwrap_or_else(|error| eprintln!("    {error}"));
        };
        moved.once(call, served, &new, tell).await?;
        (self.served, self.number) = (new, number);
        Ok(())
    }
}

fn listing(address: SocketAddr, session: u64) -> Arc<Listing> {
    Arc::new(Listing {
        who: serve::server(),
        session,
        roles: BTreeSet::from([Role::Agent]),
        endpoints: BTreeMap::from([(Listing::RPC.into(), address.to_string())]),
        zone: String::new(),
        machine: "bench".into(),
        release: "bench".into(),
        speaks: Speaks::NOW,
        load: 0,
        serving: true,
        config: 0,
        status: Status::Alive,
    })
}

struct Bare<'a> {
    dir: &'a Path,
    client: AgentServiceClient<Channel>,
    changes: tokio::sync::mpsc::Sender<TonicChange<SocketAddr, Endpoint>>,
    served: Served,
}

impl<'a> Bare<'a> {
    fn new(dir: &'a Path) -> anyhow::Result<Bare<'a>> {
        let served = Served::start(Which::Tonic, dir)?;
        let (channel, changes) = Channel::balance_channel(16);
        changes.try_send(TonicChange::Insert(served.address, peers::tonic::endpoint(dir, served.address)?))?;
        Ok(Bare { dir, client: AgentServiceClient::new(channel), changes, served })
    }

    async fn one(&mut self, moved: &mut Moved) -> anyhow::Result<()> {
        let new = Served::start(Which::Tonic, self.dir)?;
        let endpoint = peers::tonic::endpoint(self.dir, new.address)?;
        let Bare { client, changes, served, .. } = self;
        let call = async || {
            let answer = client.clone().perform(order()).await;
            answer.map(tonic::Response::into_inner).map_err(|status| status.to_string())
        };
        let before = served.address;
        let tell = async || {
            for change in [TonicChange::Insert(new.address, endpoint.clone()), TonicChange::Remove(before)] {
                changes.send(change).await.unwrap_or_else(|error| eprintln!("    {error}"));
            }
        };
        moved.once(call, served, &new, tell).await?;
        self.served = new;
        Ok(())
    }
}
