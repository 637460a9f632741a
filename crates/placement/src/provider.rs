//! Providers of resources, and the nodes behind them.

use std::collections::BTreeMap;

use bytes::Bytes;
use ids::uuid::Uuid;
use proto::placement::state::v1 as stored;
use store::{Key, Record};

ids::uuid_id! {
    /// A resource provider.
    pub struct ProviderId;
}

/// A kind of resource, named as OpenStack's `os-resource-classes` names it.
pub type ResourceClass = String;

/// Virtual processors.
pub const VCPU: &str = "VCPU";
/// Memory in MiB.
pub const MEMORY_MB: &str = "MEMORY_MB";
/// Disk in GiB.
pub const DISK_GB: &str = "DISK_GB";

/// How much of a class a provider has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inventory {
    /// All of it.
    pub total: u64,
    /// What is not given out.
    pub reserved: u64,
    /// Least amount of one allocation.
    pub min_unit: u64,
    /// Greatest amount of one allocation.
    pub max_unit: u64,
    /// Amounts are multiples of this.
    pub step_size: u64,
    /// How many times it may be given out, in thousandths.
    pub ratio_milli: u64,
    /// The capacity that it had before it was lowered; 0: it was not, or has been raised to that again. What was claimed
    /// before stays claimed, so that more may be held than [`Inventory::capacity`].
    pub lowered_from: u64,
}

impl Inventory {
    /// `total` of something, `ratio_milli` thousandths of which may be given out, in any amount.
    pub fn plain(total: u64, ratio_milli: u64) -> Inventory {
        Inventory { total, reserved: 0, min_unit: 1, max_unit: total, step_size: 1, ratio_milli, lowered_from: 0 }
    }

    /// The most that all claims together may hold.
    pub fn capacity(&self) -> u64 {
        let capacity = u128::from(self.total.saturating_sub(self.reserved)) * u128::from(self.ratio_milli) / 1000;
        u64::try_from(capacity).unwrap_or(u64::MAX)
    }

    /// The most that claims can hold that were made under this inventory or under those before it.
    pub fn granted(&self) -> u64 {
        self.capacity().max(self.lowered_from)
    }

    /// This inventory, in place of `old`.
    #[must_use]
    pub fn after(self, old: &Inventory) -> Inventory {
        let granted = old.granted();
        let lowered_from = if granted > self.capacity() { granted } else { 0 };
        Inventory { lowered_from, ..self }
    }

    /// Whether one claim may ask for `amount`.
    pub fn allows(&self, amount: u64) -> bool {
        amount >= self.min_unit && amount <= self.max_unit && amount.is_multiple_of(self.step_size.max(1))
    }
}

/// Something that has resources to give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    /// Its id.
    pub id: ProviderId,
    /// Its name.
    pub name: String,
    /// What it has.
    pub inventories: BTreeMap<ResourceClass, Inventory>,
    /// What it can do.
    pub traits: Vec<String>,
}

/// All counters of claimed capacity begin with this.
pub const USED: &str = "p/used/";

/// The counter of what is claimed of `class` at `provider`.
pub fn used_key(provider: ProviderId, class: &str) -> Key {
    Key::from(format!("{USED}{provider}/{class}"))
}

pub(crate) fn uuid(bytes: &Bytes) -> Result<Uuid, String> {
    Uuid::from_slice(bytes).map_err(|error| error.to_string())
}

pub(crate) fn bytes(uuid: &Uuid) -> Bytes {
    Bytes::copy_from_slice(uuid.as_bytes())
}

impl Record for Provider {
    const TABLE: &'static str = "p/provider/";
    type Stored = stored::Provider;

    fn id(&self) -> String {
        self.id.to_string()
    }

    fn to_stored(&self) -> stored::Provider {
        let inventory = |inventory: &Inventory| stored::Inventory {
            total: inventory.total,
            reserved: inventory.reserved,
            min_unit: inventory.min_unit,
            max_unit: inventory.max_unit,
            step_size: inventory.step_size,
            ratio_milli: inventory.ratio_milli,
            lowered_from: inventory.lowered_from,
        };
        stored::Provider {
            id: bytes(self.id.as_uuid()),
            name: self.name.clone(),
            inventories: self.inventories.iter().map(|(class, held)| (class.clone(), inventory(held))).collect(),
            traits: self.traits.clone(),
        }
    }

    fn from_stored(stored: stored::Provider) -> Result<Provider, String> {
        let inventory = |inventory: stored::Inventory| Inventory {
            total: inventory.total,
            reserved: inventory.reserved,
            min_unit: inventory.min_unit,
            max_unit: inventory.max_unit,
            step_size: inventory.step_size,
            ratio_milli: inventory.ratio_milli,
            lowered_from: inventory.lowered_from,
        };
        Ok(Provider {
            id: ProviderId::from_uuid(uuid(&stored.id)?),
            name: stored.name,
            inventories: stored.inventories.into_iter().map(|(class, held)| (class, inventory(held))).collect(),
            traits: stored.traits,
        })
    }
}

/// A machine that runs guests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its id as hypervisor and compute service.
    pub id: Uuid,
    /// Its provider.
    pub provider: ProviderId,
    /// Where its agent answers calls.
    pub endpoint: String,
    /// The boot of its machine.
    pub boot_id: String,
    /// How guests are run.
    pub hypervisor: String,
    /// The hypervisor's version as Nova encodes it.
    pub hypervisor_version: u64,
    /// Further facts.
    pub facts: BTreeMap<String, String>,
    /// The release of its agent.
    pub release: String,
    /// Why no new servers may be placed on it, if so.
    pub disabled: Option<String>,
    /// Its availability zone.
    pub zone: String,
    /// The highest life of its agent that has attended.
    pub life: u64,
}

impl Record for Node {
    const TABLE: &'static str = "p/node/";
    type Stored = stored::Node;

    fn id(&self) -> String {
        self.name.clone()
    }

    fn to_stored(&self) -> stored::Node {
        stored::Node {
            name: self.name.clone(),
            id: bytes(&self.id),
            provider: bytes(self.provider.as_uuid()),
            endpoint: self.endpoint.clone(),
            boot_id: self.boot_id.clone(),
            hypervisor: self.hypervisor.clone(),
            hypervisor_version: self.hypervisor_version,
            facts: self.facts.clone(),
            release: self.release.clone(),
            disabled: self.disabled.is_some(),
            disabled_reason: self.disabled.clone().unwrap_or_default(),
            zone: self.zone.clone(),
            life: self.life,
        }
    }

    fn from_stored(stored: stored::Node) -> Result<Node, String> {
        Ok(Node {
            id: uuid(&stored.id)?,
            provider: ProviderId::from_uuid(uuid(&stored.provider)?),
            name: stored.name,
            endpoint: stored.endpoint,
            boot_id: stored.boot_id,
            hypervisor: stored.hypervisor,
            hypervisor_version: stored.hypervisor_version,
            facts: stored.facts,
            release: stored.release,
            disabled: stored.disabled.then_some(stored.disabled_reason),
            zone: stored.zone,
            life: stored.life,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_granted_is_known_until_it_can_be_granted_again() {
        let step = |before: &Inventory, ratio, granted| {
            let now = Inventory::plain(10, ratio).after(before);
            assert_eq!((now.capacity(), now.granted()), (10 * ratio / 1000, granted), "{ratio}");
            now
        };
        let first = Inventory::plain(10, 4000);
        assert_eq!(first.clone().after(&first), first);
        let lowered = step(&first, 1000, 40);
        let raised = step(&lowered, 2000, 40);
        let above = step(&raised, 5000, 50);
        assert_eq!(above.lowered_from, 0);
        step(&above, 4000, 50);
    }
}
