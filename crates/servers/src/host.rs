//! Hosts, as an administrator has a say in them.

use placement::Node;
use store::{Reader, Record, Revision};
use telemetry::Cx;

use crate::accept::{AcceptError, Servers};

/// The node with this name.
pub fn required(reader: &Reader<'_>, name: &str) -> Result<(Node, Revision), AcceptError> {
    let missing = || AcceptError::NotFound { kind: "Compute host", id: name.to_owned() };
    reader.get::<Node>(&name)?.ok_or_else(missing)
}

impl Servers {
    /// Says that no new servers may be placed on the node, and why; `None`: that they may.
    pub async fn disable_host(&self, cx: &Cx, name: &str, reason: Option<&str>) -> Result<Node, AcceptError> {
        self.decide(cx, |reader, txn| {
            let (mut node, revision) = required(reader, name)?;
            let wanted = reason.map(str::to_owned);
            if node.disabled != wanted {
                node.disabled = wanted;
                txn.replace(node.key(), revision, node.encode());
            }
            Ok(node)
        })
        .await
    }
}
