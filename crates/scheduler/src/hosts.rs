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
    /// What it has and what of it is claimed, by resource class.
    pub stocks: BTreeMap<String, Stock>,
}

/// What a host has of one resource class.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stock {
    /// What it has; `None`: none, or it was taken away while some is claimed.
    pub inventory: Option<Inventory>,
    /// The inventory's capacity, which is asked for in every decision.
    pub capacity: u64,
    /// What is claimed.
    pub used: u64,
}

impl Stock {
    /// What is left.
    pub fn free(&self) -> u64 {
        self.capacity.saturating_sub(self.used)
    }

    /// Whether `amount` can be claimed.
    pub fn has(&self, amount: u64) -> bool {
        amount <= self.free() && self.inventory.as_ref().is_some_and(|inventory| inventory.allows(amount))
    }

    fn set(&mut self, inventory: Option<Inventory>) {
        self.capacity = inventory.as_ref().map_or(0, Inventory::capacity);
        self.inventory = inventory;
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
                    host.stocks.values_mut().for_each(|stock| stock.set(None));
                    for (class, inventory) in provider.inventories {
                        host.stocks.entry(class).or_default().set(Some(inventory));
                    }
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
            self.by_provider.entry(id).or_default().stocks.entry(class.to_owned()).or_default().used = used;
        }
    }

    /// Every host that is a node.
    pub fn iter(&self) -> impl Iterator<Item = &Host> {
        self.nodes.values().filter_map(|provider| self.by_provider.get(provider))
    }
}
