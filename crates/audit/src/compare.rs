//! What a node says is on it, beside what is placed there.
//!
//! A node and the store are looked at one after the other, and a work changes first the one and then the other: whatever a
//! work has in hand is told apart as under way. Who wants to be sure of the rest looks twice.

use std::collections::BTreeSet;

use coordinator::record::{busy_key, id_in, next_key};
use driver::{GuestId, Observed, PortId, Stock};
use networks::{Holder as Behind, Network, Port};
use placement::{Claim, Holder as HeldBy, Provider};
use servers::Server;
use store::{DecodeError, Reader, Record};

use crate::account::{Finding, Kind};

/// How one node compares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// What differs, and nobody is at it.
    pub findings: Vec<Finding>,
    /// What differs because a work has it in hand.
    pub under_way: Vec<String>,
}

struct Compare<'a> {
    reader: &'a Reader<'a>,
    node: &'a str,
    out: Comparison,
}

/// Sets the stock of `node` beside the records.
///
/// # Errors
/// If a record cannot be read, which [`crate::balance`] names.
pub fn compare(reader: &Reader<'_>, node: &str, stock: &Stock) -> Result<Comparison, DecodeError> {
    let mut compare = Compare { reader, node, out: Comparison::default() };
    let there: BTreeSet<GuestId> = stock.guests.iter().map(|found| found.guest).collect();
    let disks: BTreeSet<GuestId> = stock.disks.iter().copied().collect();
    for guest in there.union(&disks) {
        compare.is_placed(*guest)?;
    }
    let taps: Option<BTreeSet<PortId>> = stock.taps.as_ref().map(|taps| taps.iter().copied().collect());
    for port in taps.iter().flatten() {
        compare.is_bound(*port)?;
    }
    for network in &stock.networks {
        if reader.entry(&Network::key_of(network)).is_none() {
            compare.finding(Kind::Leftover, format!("network {network}"), "it is made here and does not exist", vec![]);
        }
    }
    // Every server and every port, since an auditor may have no index.
    for found in reader.all::<Server>() {
        let (server, _) = found?;
        if server.node.as_deref() == Some(node) {
            let guest = server.id.guest();
            compare.has(guest, there.contains(&guest), "guest");
            compare.has(guest, disks.contains(&guest), "disk");
        }
    }
    let up = |guest: GuestId| {
        let found = stock.guests.iter().find(|found| found.guest == guest);
        found.is_some_and(|found| matches!(found.observed, Observed::Running(_) | Observed::Paused(_)))
    };
    for found in reader.all::<Port>() {
        let (port, _) = found?;
        // A guest that does not run has its taps only until its machine is booted.
        let here = port.server().filter(|guest| port.node() == Some(node) && up(*guest));
        if let (Some(guest), Some(taps)) = (here, &taps) {
            compare.has(guest, taps.contains(&port.id), &format!("tap for the port {}", port.id));
        }
    }
    Ok(compare.out)
}

impl Compare<'_> {
    /// Whether a guest of which something is here is placed here.
    fn is_placed(&mut self, guest: GuestId) -> Result<(), DecodeError> {
        let server = self.reader.get::<Server>(&guest)?.map(|(server, _)| server);
        let place = server.as_ref().and_then(|server| server.node.as_deref());
        if place == Some(self.node) {
            return Ok(());
        }
        let text = match (place, &server) {
            (Some(other), _) => format!("it is here, and its server is placed on {other}"),
            (None, Some(_)) => "it is here, and its server is placed nowhere".to_owned(),
            (None, None) => "it is here, and there is no such server".to_owned(),
        };
        self.differs(guest, Kind::Leftover, format!("guest {guest}"), text);
        Ok(())
    }

    /// Whether a port that has a tap here is bound here.
    fn is_bound(&mut self, id: PortId) -> Result<(), DecodeError> {
        let port = self.reader.get::<Port>(&id)?.map(|(port, _)| port);
        let about = format!("tap of the port {id}");
        match &port {
            Some(port) if port.node() == Some(self.node) => {}
            Some(Port { holder: Behind::Server { server, node, .. }, .. }) => {
                let text = format!("it is here, and the port is bound to {}", node.as_deref().unwrap_or("no node"));
                self.differs(*server, Kind::Leftover, about, text);
            }
            Some(_) => self.finding(Kind::Leftover, about, "it is here, and the port is no server's", vec![]),
            None => self.finding(Kind::Leftover, about, "it is here, and there is no such port", vec![]),
        }
        Ok(())
    }

    fn has(&mut self, guest: GuestId, has: bool, what: &str) {
        if !has {
            let text = format!("it is placed here, and there is no {what} of it");
            self.differs(guest, Kind::Missing, format!("server {guest}"), text);
        }
    }

    /// Something of a guest differs: a finding, unless a work has the guest in hand.
    fn differs(&mut self, guest: GuestId, kind: Kind, about: String, text: String) {
        let subject = guest.to_string();
        let works = [busy_key(&subject), next_key(&subject)];
        let work = works.iter().find_map(|key| self.reader.entry(key).and_then(id_in));
        match work {
            Some(work) => {
                self.out.under_way.push(format!("{}: {about}: {text}; the work {work} has it in hand", self.node));
            }
            None => {
                let behind = vec![self.holder(guest)];
                self.finding(kind, about, &text, behind);
            }
        }
    }

    /// Who holds what is taken for a guest, and where.
    fn holder(&self, guest: GuestId) -> String {
        let Ok(Some((claim, _))) = self.reader.get::<Claim>(&guest) else {
            return format!("nothing is taken for the server {guest}");
        };
        let node = self.reader.get::<Provider>(&claim.provider).ok().flatten();
        let node = node.map_or_else(|| claim.provider.to_string(), |(provider, _)| provider.name);
        match claim.holder {
            HeldBy::Work(work) => format!("the work {work} holds its claim on {node}"),
            HeldBy::Consumer => format!("the server {guest} holds its claim on {node}"),
        }
    }

    fn finding(&mut self, kind: Kind, about: String, text: &str, behind: Vec<String>) {
        let about = format!("{}: {about}", self.node);
        self.out.findings.push(Finding { kind, about, text: text.to_owned(), behind });
    }
}
