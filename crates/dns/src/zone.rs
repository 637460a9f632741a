//! What a directory says, as names and records, and the answer to a question.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::ProtoError;
use hickory_proto::op::{Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, NS, SOA, SRV};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use names::{Listing, Status, Version};
use pki::Role;

/// Records of one type under one name; of more, the least loaded are told. So many always fit into a TCP answer, also
/// with the longest of names.
const SET_MAX: usize = 200;
/// Nodes move less often than roles do.
const NODE_LASTS: u32 = 5;
/// The largest TTL that there is (RFC 2181, section 8).
const TTL_MAX: u64 = (1 << 31) - 1;
/// Nobody has a copy of this zone that these could speak to.
const REFRESH_SECS: i32 = 3600;
const RETRY_SECS: i32 = 600;
const EXPIRE_SECS: i32 = 86_400;

/// The names under which the public API is found.
const OPENSTACK: &str = "openstack";

/// A cell's zone at one version of a directory.
pub(crate) struct Zone {
    apex: Name,
    version: Version,
    /// By labels from the apex down, with dots between: a name and what is below it stand side by side.
    names: BTreeMap<String, Entry>,
}

/// The records of one name. None has both kinds.
#[derive(Default)]
struct Entry {
    is_node: bool,
    addresses: BTreeSet<IpAddr>,
    services: Vec<Service>,
}

struct Service {
    /// As in [`Zone::names`].
    target: String,
    port: u16,
    weight: u16,
}

/// The answer to a question.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    /// Whether there is one.
    pub(crate) code: ResponseCode,
    /// What was asked for.
    pub(crate) answers: Vec<Record>,
    /// How long its absence may be remembered.
    pub(crate) authorities: Vec<Record>,
    /// What will be asked for next.
    pub(crate) additionals: Vec<Record>,
}

/// One process as a player of something.
struct Player {
    key: String,
    address: SocketAddr,
    load: u32,
}

impl Zone {
    /// The zone of the cell whose name is `apex`, with what `listings` say.
    pub(crate) fn new(apex: &Name, version: Version, listings: &[Arc<Listing>]) -> Zone {
        let mut zone = Zone { apex: apex.clone(), version, names: BTreeMap::new() };
        let there = || listings.iter().filter(|one| !one.status.is_final() && is_label(&one.who.name));
        for listing in there() {
            zone.add_process(listing);
        }
        for role in Role::ALL {
            let players: Vec<&Listing> =
                there().filter(|one| one.who.role == role || one.roles.contains(&role)).map(|one| &**one).collect();
            let chosen = if role == Role::Agent { players } else { callable(players) };
            let players = chosen.into_iter().filter_map(|one| player(one, Listing::RPC, process_key(one)));
            zone.add_group(role.as_str(), role == Role::Agent, players.collect());
        }
        let public = |one: &&Arc<Listing>| address(one, Listing::HTTPS).is_some();
        let public = callable(there().filter(public).map(|one| &**one).collect());
        let players = public.into_iter().filter_map(|one| player(one, Listing::HTTPS, public_key(one)));
        zone.add_group(OPENSTACK, false, players.collect());
        zone
    }

    /// What it was made of.
    pub(crate) fn version(&self) -> Version {
        self.version
    }

    fn add_process(&mut self, listing: &Listing) {
        let is_node = listing.who.role == Role::Agent;
        if let Some(address) = address(listing, Listing::RPC) {
            self.add_address(process_key(listing), is_node, address);
            if is_node {
                self.add_address(format!("node.{}", lower(&listing.who.name)), true, address);
            }
            if is_label(&listing.machine) {
                self.add_address(format!("machine.{}", lower(&listing.machine)), true, address);
            }
        }
        if let Some(address) = address(listing, Listing::HTTPS) {
            self.add_address(public_key(listing), false, address);
        }
    }

    fn add_address(&mut self, key: String, is_node: bool, address: SocketAddr) {
        let entry = self.names.entry(key).or_default();
        entry.is_node = is_node;
        if entry.addresses.len() < SET_MAX {
            entry.addresses.insert(address.ip());
        }
    }

    fn add_group(&mut self, label: &str, is_node: bool, mut players: Vec<Player>) {
        players.sort_by(|a, b| (a.load, &a.key).cmp(&(b.load, &b.key)));
        players.truncate(SET_MAX);
        for player in players {
            self.add_address(label.to_owned(), is_node, player.address);
            let entry = self.names.entry(format!("_tcp._{label}")).or_default();
            entry.is_node = is_node;
            let port = player.address.port();
            entry.services.push(Service { target: player.key, port, weight: weight(player.load) });
        }
    }

    /// Answers `question`; what belongs to roles may be remembered for `ttl`.
    pub(crate) fn answer(&self, question: &Query, ttl: Duration) -> Reply {
        let refused = Reply::of(ResponseCode::Refused);
        let kind = question.query_type;
        if question.query_class != DNSClass::IN || !self.apex.zone_of(&question.name) {
            return refused;
        }
        if matches!(kind, RecordType::AXFR | RecordType::IXFR) {
            return refused;
        }
        let mut reply = match self.key(&question.name) {
            Some(key) if key.is_empty() => self.about_itself(question, ttl),
            Some(key) => self.about(&key, question, ttl),
            None => Reply::of(ResponseCode::NXDomain),
        };
        if reply.answers.is_empty() {
            // How long an absence is remembered is the lesser of the SOA's TTL and its minimum (RFC 2308, section 5).
            reply.authorities.extend(self.soa(self.apex.clone(), ttl));
        }
        reply
    }

    fn about_itself(&self, question: &Query, ttl: Duration) -> Reply {
        let mut reply = Reply::of(ResponseCode::NoError);
        let asked = |kind| question.query_type == kind || question.query_type == RecordType::ANY;
        if asked(RecordType::SOA) {
            reply.answers.extend(self.soa(question.name.clone(), ttl));
        }
        if asked(RecordType::NS) {
            let names = self.server();
            reply.answers.extend(names.map(|names| {
                let data = RData::NS(NS(names));
                Record::from_rdata(question.name.clone(), seconds(ttl), data)
            }));
            reply.additionals = self.addresses(Role::Names.as_str(), ttl);
        }
        reply
    }

    fn about(&self, key: &str, question: &Query, ttl: Duration) -> Reply {
        let Some(entry) = self.names.get(key) else {
            // A name that only has names below it is there, and has nothing to say (RFC 8020).
            let exists = self.has_below(key);
            return Reply::of(if exists { ResponseCode::NoError } else { ResponseCode::NXDomain });
        };
        let mut reply = Reply::of(ResponseCode::NoError);
        let asked = |kind| question.query_type == kind || question.query_type == RecordType::ANY;
        let lasts = entry.lasts(ttl);
        let addresses = entry.addresses.iter().map(|ip| address_data(*ip)).filter(|data| asked(data.record_type()));
        reply.answers.extend(addresses.map(|data| Record::from_rdata(question.name.clone(), lasts, data)));
        if asked(RecordType::SRV) {
            for service in &entry.services {
                let Ok(target) = self.name(&service.target) else { continue };
                let data = RData::SRV(SRV::new(0, service.weight, service.port, target));
                reply.answers.push(Record::from_rdata(question.name.clone(), lasts, data));
                reply.additionals.extend(self.addresses(&service.target, ttl));
            }
        }
        reply
    }

    /// The addresses of a name, for those who will ask for them next.
    fn addresses(&self, key: &str, ttl: Duration) -> Vec<Record> {
        let (Some(entry), Ok(name)) = (self.names.get(key), self.name(key)) else { return Vec::new() };
        let lasts = entry.lasts(ttl);
        entry.addresses.iter().map(|ip| Record::from_rdata(name.clone(), lasts, address_data(*ip))).collect()
    }

    fn has_below(&self, key: &str) -> bool {
        let below = format!("{key}.");
        let mut after = self.names.range::<str, _>((Bound::Included(below.as_str()), Bound::Unbounded));
        after.next().is_some_and(|(found, _)| found.starts_with(&below))
    }

    fn soa(&self, owner: Name, ttl: Duration) -> Option<Record> {
        let person = self.apex.prepend_label("hostmaster").ok()?;
        // Serials wrap around (RFC 1982).
        let serial = u32::try_from(self.version.number & u64::from(u32::MAX)).unwrap_or_default();
        let lasts = seconds(ttl);
        let data = SOA::new(self.server()?, person, serial, REFRESH_SECS, RETRY_SECS, EXPIRE_SECS, lasts);
        Some(Record::from_rdata(owner, lasts, RData::SOA(data)))
    }

    fn server(&self) -> Option<Name> {
        self.apex.prepend_label(Role::Names.as_str()).ok()
    }

    fn name(&self, key: &str) -> Result<Name, ProtoError> {
        key.split('.').try_fold(self.apex.clone(), |name, label| name.prepend_label(label))
    }

    /// Where a name of this zone would be; nothing if no name here can be like that.
    fn key(&self, name: &Name) -> Option<String> {
        let own = name.iter().count().checked_sub(self.apex.iter().count())?;
        let labels: Vec<&[u8]> = name.iter().take(own).collect();
        let mut key = String::new();
        for label in labels.into_iter().rev() {
            let label = std::str::from_utf8(label).ok()?;
            // A dot within a label is none between two.
            if !label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
                return None;
            }
            if !key.is_empty() {
                key.push('.');
            }
            key.push_str(&lower(label));
        }
        Some(key)
    }
}

impl Entry {
    fn lasts(&self, ttl: Duration) -> u32 {
        seconds(if self.is_node { ttl.saturating_mul(NODE_LASTS) } else { ttl })
    }
}

impl Reply {
    pub(crate) fn of(code: ResponseCode) -> Reply {
        Reply { code, answers: Vec::new(), authorities: Vec::new(), additionals: Vec::new() }
    }
}

/// Those that take calls; if nobody does, those that are suspected: a suspicion may be wrong, an empty answer is.
fn callable(players: Vec<&Listing>) -> Vec<&Listing> {
    let (able, others): (Vec<&Listing>, Vec<&Listing>) = players.into_iter().partition(|one| one.takes_calls());
    if !able.is_empty() {
        return able;
    }
    others.into_iter().filter(|one| one.serving && matches!(one.status, Status::Suspected { .. })).collect()
}

fn player(listing: &Listing, kind: &str, key: String) -> Option<Player> {
    Some(Player { key, address: address(listing, kind)?, load: listing.load })
}

fn process_key(listing: &Listing) -> String {
    format!("{}.{}", listing.who.role, lower(&listing.who.name))
}

fn public_key(listing: &Listing) -> String {
    format!("{OPENSTACK}.{}.{}", listing.who.role, lower(&listing.who.name))
}

/// An address that others can call: one that means "any of mine" says nothing to them.
fn address(listing: &Listing, kind: &str) -> Option<SocketAddr> {
    let stated = listing.endpoints.get(kind)?;
    let stated = stated.strip_prefix("https://").unwrap_or(stated).trim_end_matches('/');
    let address: SocketAddr = stated.parse().ok()?;
    (!address.ip().is_unspecified()).then(|| SocketAddr::new(address.ip().to_canonical(), address.port()))
}

fn address_data(ip: IpAddr) -> RData {
    match ip {
        IpAddr::V4(ip) => RData::A(A(ip)),
        IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
    }
}

/// 1000 for who has nothing to do, 1 for who is full: never 0, which would mean "hardly ever".
fn weight(load: u32) -> u16 {
    u16::try_from(1000_u32.saturating_sub(load).max(1)).unwrap_or(1)
}

/// Rounded down: what lasts for less than a second is not remembered.
fn seconds(ttl: Duration) -> u32 {
    u32::try_from(ttl.as_secs().min(TTL_MAX)).unwrap_or_default()
}

fn is_label(text: &str) -> bool {
    let fits = (1..=63).contains(&text.len()) && !text.starts_with('-') && !text.ends_with('-');
    fits && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn lower(label: &str) -> String {
    label.to_ascii_lowercase()
}
