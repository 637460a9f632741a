//! Nodes, as operators see them.

use names::Listing;
use pki::Role;
use placement::provider::used_key;
use placement::{Node, Provider};
use proto::operator::v1 as wire;
use store::Reader;

use super::Inner;

/// All nodes, by name.
pub(super) fn all(inner: &Inner, reader: &Reader<'_>) -> Vec<wire::Node> {
    let nodes = reader.all::<Node>().filter_map(Result::ok);
    nodes.map(|(node, _)| describe(inner, reader, node)).collect()
}

fn describe(inner: &Inner, reader: &Reader<'_>, node: Node) -> wire::Node {
    let provider = reader.get::<Provider>(&node.provider).ok().flatten();
    let amounts = provider.map(|(provider, _)| {
        let amount = |(class, inventory): (&String, &placement::Inventory)| wire::Amount {
            class: class.clone(),
            used: reader.counter(&used_key(provider.id, class)),
            capacity: inventory.capacity(),
        };
        provider.inventories.iter().map(amount).collect()
    });
    let servers = reader.keys_by(servers::BY_NODE, &node.name).count();
    let unknown = inner.attendance.unknown_guests(&node.name);
    let listing = inner.directory.get(Role::Agent, &node.name);
    let status = listing.as_ref().map(|listing| &listing.status);
    let endpoint = listing.as_ref().and_then(|listing| listing.endpoints.get(Listing::RPC).cloned());
    wire::Node {
        up: status.is_some_and(|status| *status == names::Status::Alive),
        status: status.map(|status| status.name().to_owned()).unwrap_or_default(),
        evidence: status.map(names::Status::evidence).unwrap_or_default(),
        since_us: status.and_then(names::Status::since).map_or(0, |since| since.as_micros()),
        machine: listing.as_ref().map(|listing| listing.machine.clone()).unwrap_or_default(),
        // Where it was when it last said what it has, unless it is known where it is.
        endpoint: endpoint.unwrap_or(node.endpoint),
        hypervisor: node.hypervisor,
        zone: node.zone,
        disabled: node.disabled.unwrap_or_default(),
        servers: u32::try_from(servers).unwrap_or(u32::MAX),
        amounts: amounts.unwrap_or_default(),
        unknown_guests: unknown.into_iter().map(|guest| format!("{} {}", guest.guest, guest.state)).collect(),
        release: node.release,
        name: node.name,
    }
}
