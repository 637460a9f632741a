//! The table of hosts: what each has, and what of it is claimed.

use std::collections::BTreeMap;

use placement::{Inventory, Node, Provider, ProviderId};
use store::{Entry, Key, Record};

/// All keys that the table is fed from begin with it.
pub const PREFIX: &str = "p/";

/// One host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// Its availability zone.
    pub zone: String,
    /// Why no new servers may be placed on it, if so.
    pub disabled: Option<String>,
    /// What it has.
    pub inventories: BTreeMap<String, Inventory>,
    /// What is claimed.
    pub used: BTreeMap<String, u64>,
}

impl Host {
    /// What is left of `class`.
    pub fn free(&self, class: &str) -> u64 {
        let capacity = self.inventories.get(class).map_or(0, Inventory::capacity);
        capacity.saturating_sub(self.used.get(class).copied().unwrap_or(0))
    }
}

/// All hosts, by provider.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts {
    by_provider: BTreeMap<ProviderId, Host>,
    nodes: BTreeMap<String, ProviderId>,
}

impl Hosts {
    /// Takes over one change of the store; keys that mean nothing here are passed over.
    pub fn apply(&mut self, key: &Key, entry: Option<&Entry>) {
        let text = key.to_text();
        if let Some(id) = text.strip_prefix(Provider::TABLE) {
            let Ok(id) = id.parse() else { return };
            match entry.map(Provider::decode_entry) {
                Some(Ok((provider, _))) => {
                    let host = self.by_provider.entry(id).or_default();
                    host.inventories = provider.inventories;
                    if host.name.is_empty() {
                        host.name = provider.name;
                    }
                }
                Some(Err(_)) | None => {
                    self.by_provider.remove(&id);
                }
            }
        } else if let Some(name) = text.strip_prefix(Node::TABLE) {
            match entry.map(Node::decode_entry) {
                Some(Ok((node, _))) => {
                    let host = self.by_provider.entry(node.provider).or_default();
                    (host.name, host.zone, host.disabled) = (node.name.clone(), node.zone, node.disabled);
                    self.nodes.insert(node.name, node.provider);
                }
                Some(Err(_)) | None => {
                    if let Some(provider) = self.nodes.remove(name) {
                        self.by_provider.remove(&provider);
                    }
                }
            }
        } else if let Some((id, class)) = text.strip_prefix("p/used/").and_then(|rest| rest.split_once('/')) {
            let Ok(id) = id.parse() else { return };
            let used = entry.map_or(0, Entry::counter);
            self.by_provider.entry(id).or_default().used.insert(class.to_owned(), used);
        }
    }

    /// Every host that is a node.
    pub fn iter(&self) -> impl Iterator<Item = &Host> {
        self.nodes.values().filter_map(|provider| self.by_provider.get(provider))
    }
}
