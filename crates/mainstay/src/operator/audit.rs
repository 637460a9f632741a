//! The ledger of the cell, proven from one state of the store, and the nodes beside it.
//!
//! The store is one state at one revision; a node is looked at a moment earlier. So what differs on a node is looked at a
//! second time, and only what is found twice is told: no work leaves the same difference behind two times.

use std::collections::BTreeMap;

use audit::{Comparison, Finding};
use driver::{Found, GuestId, NetworkId, Observed, PortId, Run, Stock};
use futures_util::{StreamExt, stream};
use ids::uuid::Uuid;
use proto::agent::v1 as agent;
use proto::agent::v1::agent_service_client::AgentServiceClient;
use proto::operator::v1 as wire;
use store::{DecodeError, Record};
use telemetry::Cx;
use tonic::Status;

use super::trace::{ANSWER_WAIT_MAX, ASKED_AT_ONCE_MAX};
use super::{Inner, unavailable};

/// The largest report of a node.
const STOCK_BYTES_MAX: usize = 64 << 20;

/// What one look at everything comes to.
struct Look {
    revision: u64,
    accounts: usize,
    entries: usize,
    balance: Vec<Finding>,
    nodes: BTreeMap<String, Comparison>,
    silent: BTreeMap<String, String>,
}

pub(super) async fn hold(inner: &Inner) -> Result<wire::AuditResponse, Status> {
    let first = look(inner).await?;
    if first.nodes.values().all(|node| node.findings.is_empty()) {
        return Ok(told(first));
    }
    let mut second = look(inner).await?;
    for (name, node) in &mut second.nodes {
        let before = first.nodes.get(name);
        node.findings.retain(|finding| before.is_some_and(|before| before.findings.contains(finding)));
    }
    Ok(told(second))
}

async fn look(inner: &Inner) -> Result<Look, Status> {
    let known = inner.view.read(|reader| {
        let nodes = reader.range(placement::Node::all()).map(|(key, _)| key.to_text());
        nodes.filter_map(|key| key.strip_prefix(placement::Node::TABLE).map(str::to_owned)).collect::<Vec<_>>()
    });
    let asked = known.await.map_err(unavailable)?.into_iter().map(|node| async move {
        let stock = stock_of(inner, &node).await;
        (node, stock)
    });
    let stocks: Vec<_> = stream::iter(asked).buffer_unordered(ASKED_AT_ONCE_MAX).collect().await;
    let (mut there, mut silent) = (BTreeMap::new(), BTreeMap::new());
    for (node, stock) in stocks {
        match stock {
            Ok(stock) => drop(there.insert(node, stock)),
            Err(reason) => drop(silent.insert(node, reason)),
        }
    }
    let read = inner.view.read(|reader| {
        let accounts = audit::accounts(reader);
        let compared = there.iter().map(|(node, stock)| Ok((node.clone(), audit::compare(reader, node, stock)?)));
        let nodes = compared.collect::<Result<BTreeMap<_, _>, DecodeError>>();
        Look {
            revision: reader.revision().as_u64(),
            entries: accounts.iter().map(|account| account.entries.len()).sum(),
            accounts: accounts.len(),
            balance: audit::balance(reader),
            // A record that cannot be read is a finding of the balance; the nodes were not compared then.
            nodes: nodes.unwrap_or_default(),
            silent: BTreeMap::new(),
        }
    });
    let mut look = read.await.map_err(unavailable)?;
    for node in there.into_keys().filter(|node| !look.nodes.contains_key(node)) {
        silent.insert(node, "a record cannot be read".to_owned());
    }
    look.silent = silent;
    Ok(look)
}

fn told(look: Look) -> wire::AuditResponse {
    let compared = look.nodes.keys().cloned().collect();
    let (mut findings, mut under_way) = (look.balance, Vec::new());
    for node in look.nodes.into_values() {
        findings.extend(node.findings);
        under_way.extend(node.under_way);
    }
    let finding = |finding: Finding| wire::Finding {
        kind: finding.kind.name().to_owned(),
        next: finding.kind.next().to_owned(),
        about: finding.about,
        text: finding.text,
        behind: finding.behind,
    };
    wire::AuditResponse {
        revision: look.revision,
        accounts: look.accounts as u64,
        entries: look.entries as u64,
        compared,
        silent: look.silent.into_iter().map(|(node, reason)| wire::SilentNode { node, reason }).collect(),
        findings: findings.into_iter().map(finding).collect(),
        under_way,
    }
}

/// What is on a node; the reason if nobody can tell.
async fn stock_of(inner: &Inner, node: &str) -> Result<Stock, String> {
    let target = inner.attendance.target(node).ok_or_else(|| "it does not attend".to_owned())?;
    let cx = Cx::root(&inner.ring, None, inner.ring.world().now() + ANSWER_WAIT_MAX);
    let client = AgentServiceClient::new(inner.peers.channel(&target, &cx));
    let mut client = client.max_decoding_message_size(STOCK_BYTES_MAX);
    let told = client.take_stock(agent::TakeStockRequest {}).await.map_err(|status| rpc::Error::from(status).reason)?;
    stock(told.into_inner()).ok_or_else(|| "its answer makes no sense to this release".to_owned())
}

fn stock(told: agent::TakeStockResponse) -> Option<Stock> {
    let id = |bytes: &bytes::Bytes| Uuid::from_slice(bytes).ok();
    let guest = |guest: &agent::StockedGuest| {
        let run = Run(guest.run);
        let observed = match guest.state() {
            agent::GuestState::Running => Observed::Running(run),
            agent::GuestState::Paused => Observed::Paused(run),
            agent::GuestState::Stopped => Observed::Stopped,
            agent::GuestState::Absent | agent::GuestState::Unspecified => return None,
        };
        Some(Found { guest: GuestId::from_uuid(id(&guest.guest)?), observed })
    };
    let taps = told.taps.iter().map(|port| id(port).map(PortId::from_uuid)).collect::<Option<_>>()?;
    Some(Stock {
        guests: told.guests.iter().map(guest).collect::<Option<_>>()?,
        disks: told.disks.iter().map(|guest| id(guest).map(GuestId::from_uuid)).collect::<Option<_>>()?,
        taps: told.has_taps.then_some(taps),
        networks: told.networks.iter().map(|network| id(network).map(NetworkId::from_uuid)).collect::<Option<_>>()?,
    })
}
