//! Servers: what they are, what may be asked of them, and the workflows that do it.
//!
//! - [`server`], [`flavor`], [`action`]: what is kept. [`stored`]: how.
//! - [`list`]: servers in the order of lists. [`keypair`], [`group`]: what servers refer to. [`aggregate`]: hosts put together. [`host`], [`limits`]: what an
//!   administrator sets for a host and for a project.
//! - [`accept`]: what a tenant asks becomes a record, a claim on quota and a work, in one commit.
//! - [`workflow`]: boot, delete, power, snapshot: lists of steps for the coordinator.
//! - [`guest`]: a server as its node must see it. [`metadata`]: the documents that a guest reads about itself.
//! - [`nodes`]: which nodes attend, and what they report.
//! - [`blobs`]: image content for the nodes of servers.
//! - [`push`]: keeps the networks on the nodes as the records say.
//!
//! Deliberately absent: HTTP and its words for errors; how a guest is run.

pub mod accept;
pub mod action;
pub mod aggregate;
pub mod blobs;
pub mod flavor;
pub mod group;
pub mod guest;
pub mod host;
pub mod keypair;
pub mod limits;
pub mod list;
pub mod metadata;
pub mod nodes;
pub mod push;
pub mod server;
mod stored;
pub mod workflow;

pub use accept::{AcceptError, NewServer, Owners, Servers};
pub use action::{Action, ActionStep};
pub use aggregate::{Aggregate, AggregateChange};
pub use flavor::{Flavor, bootstrap};
pub use group::{ServerGroup, ServerGroupId};
pub use keypair::KeyPair;
pub use server::{Access, Card, Content, Fault, Server, ServerId, Task, VmState};
pub use stored::UserData;

use bytes::Bytes;
use store::{Index, Key, Record};

/// Finds servers by node.
pub const BY_NODE: &str = "server by node";
/// Finds servers by server group.
pub const BY_GROUP: &str = "server by group";
/// Finds actions by request id.
pub const BY_REQUEST: &str = "action by request";

/// The indexes that a view needs for this crate.
pub fn indexes() -> Vec<Index> {
    fn server(bytes: &Bytes, term: impl Fn(Server) -> Option<String>) -> Vec<String> {
        Server::decode(bytes).ok().and_then(term).into_iter().collect()
    }
    fn node(_: &Key, bytes: &Bytes) -> Vec<String> {
        server(bytes, |server| server.node)
    }
    fn group(_: &Key, bytes: &Bytes) -> Vec<String> {
        server(bytes, |server| server.group)
    }
    fn request(key: &Key, _: &Bytes) -> Vec<String> {
        key.to_text().rsplit_once('/').map(|(_, request)| request.to_owned()).into_iter().collect()
    }
    vec![
        Index::new(list::BY_AGE, Server::TABLE, list::terms),
        Index::new(BY_NODE, Server::TABLE, node),
        Index::new(BY_GROUP, Server::TABLE, group),
        Index::new(BY_REQUEST, Action::TABLE, request),
    ]
}
