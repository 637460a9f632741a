//! `mainstay names`: who is there, asked of a liveness instance, any one that answers.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use anyhow::Context;
use liveness::NoInstance;
use names::Listing;
use pki::Role;
use proto::liveness::v1::liveness_service_client::LivenessServiceClient;
use proto::liveness::v1::{Names, WatchRequest};
use rpc::Peers;
use rpc::tls::TlsPeers;
use serde_json::{Value, json};
use telemetry::{Cx, Ring};
use tonic::Streaming;
use world::World;
use world::os::OsHost;

use super::table::{columns, evidence};
use crate::args::{Names as Asked, NamesCommand, Output};
use crate::home::Home;
use crate::membership;

/// How long an instance may take to begin its answer.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(5);
/// The largest message.
const NAMES_BYTES_MAX: usize = 64 << 20;

type Known = BTreeMap<(String, String), Listing>;

/// Asks and prints. Fails if the role that was asked for is played by nobody who takes calls.
pub fn run(asked: &Asked) -> anyhow::Result<()> {
    let dir = asked.ask.home.as_deref().context("which cell? give --home DIR or set MAINSTAY_HOME")?;
    let home = Home::open(dir)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let world = OsHost::world(tokio::runtime::Handle::current(), &home.path("run"));
        let role = match &asked.question {
            NamesCommand::List { role } | NamesCommand::Watch { role } => *role,
            NamesCommand::Resolve { role } => Some(*role),
        };
        let mut stream = open(&world, &home, role).await?;
        let mut known = Known::new();
        gather(&mut stream, &home.cell.name, &mut known).await?;
        match &asked.question {
            NamesCommand::List { .. } => print(asked.ask.output, known.values().collect(), &world),
            NamesCommand::Resolve { role } => {
                let takes = known.values().filter(|listing| listing.takes_calls()).collect::<Vec<_>>();
                if takes.is_empty() {
                    let said = known.values().map(|listing| format!("{} is {}", listing.who, listing.status));
                    let said = said.collect::<Vec<_>>().join(", ");
                    anyhow::bail!("nobody who plays {role} takes calls now; known: {said}");
                }
                print(asked.ask.output, takes, &world)
            }
            NamesCommand::Watch { .. } => {
                print(asked.ask.output, known.values().collect(), &world)?;
                loop {
                    let before = known.clone();
                    gather(&mut stream, &home.cell.name, &mut known).await?;
                    changes(asked.ask.output, &before, &known)?;
                }
            }
        }
    })
}

/// The names of those who play `role`, from the first instance that answers.
async fn open(
    world: &World,
    home: &Home,
    role: Option<Role>,
) -> anyhow::Result<Streaming<proto::liveness::v1::WatchResponse>> {
    let credentials = home.credentials(world, Role::Operator, "admin")?;
    let peers = TlsPeers::new(world, home.identity(Role::Operator, "admin"), &credentials)?;
    let ring = Ring::new(world, "operator/admin");
    let mut said = BTreeMap::new();
    for target in membership::bootstrap(home, &[])? {
        let cx = Cx::root(&ring, None, world.now() + ANSWER_WAIT_MAX);
        let client = LivenessServiceClient::new(peers.channel(&target, &cx));
        let mut client = client.max_decoding_message_size(NAMES_BYTES_MAX);
        let roles = role.iter().map(Role::to_string).collect();
        match client.watch(WatchRequest { roles, seen: None }).await {
            Ok(answer) => return Ok(answer.into_inner()),
            Err(status) => drop(said.insert(target.endpoint, rpc::Error::from(status).reason)),
        }
    }
    Err(NoInstance(said).into())
}

/// Takes what comes next, to its last part.
async fn gather(
    stream: &mut Streaming<proto::liveness::v1::WatchResponse>,
    cell: &str,
    known: &mut Known,
) -> anyhow::Result<()> {
    let mut first = true;
    loop {
        let told = stream.message().await.map_err(rpc::Error::from)?.context("the instance has ended; ask again")?;
        let Names { whole, listings, forgotten, more, .. } = told.names.unwrap_or_default();
        if whole && first {
            known.clear();
        }
        first = false;
        for gone in forgotten {
            known.remove(&(gone.role, gone.name));
        }
        let listings = listings.into_iter().filter_map(|told| liveness::from_wire(cell, told));
        known.extend(listings.map(|listing| ((listing.who.role.to_string(), listing.who.name.clone()), listing)));
        if !more {
            return Ok(());
        }
    }
}

fn print(output: Output, listings: Vec<&Listing>, world: &World) -> anyhow::Result<()> {
    let text = match output {
        Output::Json => serde_json::to_string_pretty(&listings.into_iter().map(value).collect::<Vec<_>>())? + "\n",
        Output::Table => {
            let row = |listing: &Listing| {
                let roles = listing.roles.iter().map(Role::to_string).collect::<Vec<_>>();
                let since = listing.status.since().map_or(0, |since| since.as_micros());
                vec![
                    listing.who.to_string(),
                    listing.status.to_string(),
                    roles.join(","),
                    listing.endpoints.get(Listing::RPC).cloned().unwrap_or_default(),
                    listing.zone.clone(),
                    listing.machine.clone(),
                    if listing.serving { "yes" } else { "no" }.to_owned(),
                    format!("{}.{}", listing.load / 10, listing.load % 10),
                    listing.session.to_string(),
                    evidence(&listing.status.evidence(), since, world.wall()),
                ]
            };
            let head = [
                "PROCESS", "STATUS", "ROLES", "ENDPOINT", "ZONE", "MACHINE", "SERVES", "LOAD %", "SESSION", "EVIDENCE",
            ];
            columns(&head, &listings.into_iter().map(row).collect::<Vec<_>>())
        }
    };
    say(&text)
}

/// One line for each process of which something has changed.
fn changes(output: Output, before: &Known, now: &Known) -> anyhow::Result<()> {
    let gone = before.iter().filter(|(key, _)| !now.contains_key(*key)).map(|(_, listing)| (listing, true));
    let new =
        now.iter().filter(|(key, listing)| before.get(*key) != Some(listing)).map(|(_, listing)| (listing, false));
    for (listing, gone) in gone.chain(new) {
        let line = match (output, gone) {
            (Output::Json, true) => json!({ "who": listing.who.to_string(), "forgotten": true }).to_string(),
            (Output::Json, false) => value(listing).to_string(),
            (Output::Table, true) => format!("{} is not spoken of any more", listing.who),
            (Output::Table, false) => {
                let endpoint = listing.endpoints.get(Listing::RPC).cloned().unwrap_or_default();
                let serves = if listing.serving { "" } else { ", takes no calls" };
                let why = listing.status.evidence();
                let why = if why.is_empty() { why } else { format!(": {why}") };
                format!("{} is {} at {endpoint}{serves}{why}", listing.who, listing.status)
            }
        };
        say(&format!("{line}\n"))?;
    }
    Ok(())
}

fn value(listing: &Listing) -> Value {
    json!({
        "who": listing.who.to_string(), "session": listing.session, "status": listing.status.name(),
        "evidence": listing.status.evidence(), "since_us": listing.status.since().map(|since| since.as_micros()),
        "roles": listing.roles.iter().map(Role::to_string).collect::<Vec<_>>(), "endpoints": listing.endpoints,
        "zone": listing.zone, "machine": listing.machine, "release": listing.release, "load": listing.load,
        "speaks": [listing.speaks.least, listing.speaks.most], "serving": listing.serving, "config": listing.config,
    })
}

/// At once, also into a pipe: somebody may be waiting for this line.
fn say(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}
