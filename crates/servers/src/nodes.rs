//! Which nodes attend, and what they report.
//!
//! A node attends a coordinator as long as its stream stands; that is kept in memory only. What it can hold goes into
//! the store when it changes. Reports of guests change a server's record if they are about its newest run; a report that
//! changes nothing writes nothing.

mod enrol;
mod report;
mod servers;
mod service;

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use pki::Role;
use rpc::Target;
use tokio::sync::Notify;

pub use servers::{ServersContext, servers_service};
pub use service::{NodesContext, service};

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
    attending: BTreeMap<String, Attending>,
    /// Arrivals and departures so far.
    changes: u64,
}

#[derive(Clone, Debug)]
struct Attending {
    endpoint: String,
    /// Which stream: a stream that ends late must not take away what a newer one has brought.
    number: u64,
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
        let attending = nodes.attending.get(node)?;
        Some(Target { role: Role::Agent, name: node.to_owned(), endpoint: attending.endpoint.clone() })
    }

    /// All nodes that attend.
    pub fn all(&self) -> Vec<String> {
        self.nodes.lock().attending.keys().cloned().collect()
    }

    /// Guests on `node` that the cell does not know.
    pub fn unknown_guests(&self, node: &str) -> Vec<UnknownGuest> {
        self.nodes.lock().attending.get(node).map(|attending| attending.guests.clone()).unwrap_or_default()
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
        nodes.attending.insert(node.to_owned(), Attending { endpoint: endpoint.to_owned(), number, guests });
        drop(nodes);
        self.changed.notify_waiters();
        number
    }

    fn left(&self, node: &str, number: u64) {
        let mut nodes = self.nodes.lock();
        if nodes.attending.get(node).is_some_and(|attending| attending.number == number) {
            nodes.attending.remove(node);
            nodes.changes += 1;
            drop(nodes);
            self.changed.notify_waiters();
        }
    }
}
