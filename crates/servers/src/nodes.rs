//! Which nodes attend, and what they report.
//!
//! A node attends a coordinator as long as its stream stands; that is kept in memory only. What it can hold goes into
//! the store when it changes. Reports of guests change a server's record if they are about its newest run; a report that
//! changes nothing writes nothing.

mod enrol;
mod report;
mod servers;
mod service;
mod share;

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use pki::Role;
use rpc::Target;
use tokio::sync::Notify;

pub use servers::{ServersContext, servers_service};
pub use service::{NodesContext, service};
pub use share::follow;

/// The availability zone of nodes that are in no other.
pub const DEFAULT_ZONE: &str = "nova";

/// The nodes that attend this process.
#[derive(Default)]
pub struct Attendance {
    nodes: Mutex<Nodes>,
    changed: Notify,
}

#[derive(Default)]
struct Nodes {
    /// By node, every stream that stands, by the number of its arrival. A call of a life of the agent that is over may be
    /// served after one of its present life, and ends later: neither must hide the other.
    attending: BTreeMap<String, BTreeMap<u64, Attending>>,
    /// Arrivals and departures so far.
    changes: u64,
}

impl Nodes {
    /// The newest of the streams of `node`.
    fn newest(&self, node: &str) -> Option<&Attending> {
        self.attending.get(node)?.last_key_value().map(|(_, attending)| attending)
    }
}

#[derive(Clone, Debug)]
struct Attending {
    endpoint: String,
    guests: Vec<UnknownGuest>,
}

/// A guest that a node has and the cell does not know: kept and shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownGuest {
    /// Its id.
    pub guest: String,
    /// Its state, for people.
    pub state: String,
}

impl Attendance {
    /// Nobody yet.
    pub fn new() -> Arc<Attendance> {
        Arc::new(Attendance::default())
    }

    /// Where the agent of `node` answers, if the node attends.
    pub fn target(&self, node: &str) -> Option<Target> {
        let nodes = self.nodes.lock();
        let attending = nodes.newest(node)?;
        Some(Target { role: Role::Agent, name: node.to_owned(), endpoint: attending.endpoint.clone() })
    }

    /// Waits until `node` attends. Without end: whoever waits has a bound of its own.
    pub async fn arrival(&self, node: &str) -> Target {
        let mut seen = 0;
        loop {
            if let Some(target) = self.target(node) {
                return target;
            }
            seen = self.changed(seen).await;
        }
    }

    /// All nodes that attend.
    pub fn all(&self) -> Vec<String> {
        self.nodes.lock().attending.keys().cloned().collect()
    }

    /// Guests on `node` that the cell does not know.
    pub fn unknown_guests(&self, node: &str) -> Vec<UnknownGuest> {
        self.nodes.lock().newest(node).map(|attending| attending.guests.clone()).unwrap_or_default()
    }

    /// Waits until there have been more than `seen` arrivals and departures, and returns how many there were.
    pub async fn changed(&self, seen: u64) -> u64 {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let changes = self.nodes.lock().changes;
            if changes > seen {
                return changes;
            }
            changed.await;
        }
    }

    fn arrived(&self, node: &str, endpoint: &str, guests: Vec<UnknownGuest>) -> u64 {
        let mut nodes = self.nodes.lock();
        nodes.changes += 1;
        let number = nodes.changes;
        let attending = Attending { endpoint: endpoint.to_owned(), guests };
        nodes.attending.entry(node.to_owned()).or_default().insert(number, attending);
        drop(nodes);
        self.changed.notify_waiters();
        number
    }

    fn left(&self, node: &str, number: u64) {
        let mut nodes = self.nodes.lock();
        let Some(streams) = nodes.attending.get_mut(node) else { return };
        if streams.remove(&number).is_none() {
            return;
        }
        if streams.is_empty() {
            nodes.attending.remove(node);
        }
        nodes.changes += 1;
        drop(nodes);
        self.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_call_of_an_earlier_life_hides_nothing_when_it_ends() {
        let attendance = Attendance::new();
        let present = attendance.arrived("n1", "present:1", Vec::new());
        let late = attendance.arrived("n1", "earlier:1", Vec::new());
        attendance.left("n1", late);
        assert_eq!(attendance.target("n1").map(|target| target.endpoint), Some("present:1".into()));
        attendance.left("n1", present);
        assert_eq!(attendance.all(), Vec::<String>::new());
    }
}
