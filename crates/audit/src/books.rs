//! All records that say who holds what, read once, and whose hands a server's things are in.

use std::collections::BTreeMap;

use coordinator::record::{busy_key, id_in};
use coordinator::{Work, WorkId};
use ids::uuid::Uuid;
use networks::{Network, NetworkId, Port, Router, SecurityGroup, Subnet, SubnetId};
use placement::{Claim, Provider, ProviderId};
use servers::workflow::BOOT;
use servers::{Aggregate, KeyPair, Server, ServerGroup, VmState};
use store::{Reader, Record};

use crate::account::{Finding, Holder, Kind};

/// The records. Servers and claims by the bits that name both.
pub(crate) struct Books {
    pub(crate) works: BTreeMap<WorkId, Work>,
    /// The boot that runs on a server.
    boots: BTreeMap<Uuid, WorkId>,
    pub(crate) servers: BTreeMap<Uuid, Server>,
    pub(crate) claims: BTreeMap<Uuid, Claim>,
    pub(crate) providers: BTreeMap<ProviderId, Provider>,
    pub(crate) ports: Vec<Port>,
    pub(crate) subnets: BTreeMap<SubnetId, Subnet>,
    pub(crate) networks: BTreeMap<NetworkId, Network>,
    pub(crate) groups: Vec<SecurityGroup>,
    pub(crate) routers: Vec<Router>,
    pub(crate) key_pairs: Vec<KeyPair>,
    pub(crate) server_groups: Vec<ServerGroup>,
    pub(crate) aggregates: Vec<Aggregate>,
}

/// A table; what cannot be read of it is a finding.
fn all<R: Record>(reader: &Reader<'_>, findings: &mut Vec<Finding>) -> Vec<R> {
    let mut records = Vec::new();
    for (key, entry) in reader.range(R::all()) {
        match R::decode_entry(entry) {
            Ok((record, _)) => records.push(record),
            Err(error) => findings.push(Finding {
                kind: Kind::Damaged,
                about: key.to_string(),
                text: error.to_string(),
                behind: Vec::new(),
            }),
        }
    }
    records
}

fn by<R: Record, K: Ord>(reader: &Reader<'_>, findings: &mut Vec<Finding>, id: impl Fn(&R) -> K) -> BTreeMap<K, R> {
    all::<R>(reader, findings).into_iter().map(|record| (id(&record), record)).collect()
}

impl Books {
    pub(crate) fn read(reader: &Reader<'_>, findings: &mut Vec<Finding>) -> Books {
        let works = by(reader, findings, |work: &Work| work.id);
        let runs = |work: &&Work| reader.entry(&busy_key(&work.subject)).and_then(id_in) == Some(work.id);
        let boots = works.values().filter(|work| work.kind == BOOT).filter(runs);
        let boots = boots.filter_map(|work| Some((Uuid::try_parse(&work.subject).ok()?, work.id))).collect();
        Books {
            boots,
            works,
            servers: by(reader, findings, |server: &Server| *server.id.as_uuid()),
            claims: by(reader, findings, |claim: &Claim| *claim.consumer.as_uuid()),
            providers: by(reader, findings, |provider: &Provider| provider.id),
            ports: all(reader, findings),
            subnets: by(reader, findings, |subnet: &Subnet| subnet.id),
            networks: by(reader, findings, |network: &Network| network.id),
            groups: all(reader, findings),
            routers: all(reader, findings),
            key_pairs: all(reader, findings),
            server_groups: all(reader, findings),
            aggregates: all(reader, findings),
        }
    }

    /// The boot that is still under way for a server, forward or back.
    pub(crate) fn boot(&self, server: &Server) -> Option<WorkId> {
        self.boots.get(server.id.as_uuid()).copied()
    }

    /// Whose hands a server's quota is in: its boot's until it is handed over, then its own.
    pub(crate) fn holder(&self, server: &Server) -> Holder {
        let boot = self.boot(server).filter(|_| server.node.is_none());
        boot.map_or_else(|| Holder::Consumer(format!("server {}", server.id)), Holder::Work)
    }

    /// Whether the ports that are made for a server are charged: not any more once its boot has failed and is undone.
    pub(crate) fn ports_charged(&self, server: &Server) -> bool {
        server.node.is_some() || self.boot(server).is_some() || server.state != VmState::Error
    }

    /// The name of a provider's node.
    pub(crate) fn node_of(&self, claim: &Claim) -> Option<&str> {
        self.providers.get(&claim.provider).map(|provider| provider.name.as_str())
    }
}
