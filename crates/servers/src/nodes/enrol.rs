//! What a node can hold, into the store: written when it differs from what is there.
//!
//! What an agent tells when it begins to attend can be kept on its way for long. So each process of an agent attends under
//! a *life* of its own, one above the highest that the record of its node knows; what comes from an earlier one is told so
//! and changes nothing. The agent that lives hears that too, and takes the next; it need not remember any.

use std::collections::BTreeMap;

use config::{Key, Place, Ratio, Settings, keys};
use pki::Role;
use placement::provider::{DISK_GB, MEMORY_MB, VCPU};
use placement::{Inventory, Node, Provider, ProviderId};
use proto::coordinator::v1::AttendRequest;
use store::{CommitError, DecodeError, Reader, Record, Revision, Txn, View};
use world::World;

use super::DEFAULT_ZONE;

/// Tries before enrolment is put off.
const TRIES: usize = 10;

/// Whether a node was taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Enrolled {
    /// It was.
    Yes,
    /// It speaks for no life, or for one that is over: this is the highest that is known.
    KnownLife(u64),
}

/// Writes node and provider as the node tells them.
pub(super) async fn enrol(
    world: &World,
    view: &View,
    settings: &Settings,
    name: &str,
    told: &AttendRequest,
) -> Result<Enrolled, String> {
    for _ in 0..TRIES {
        let planned =
            view.read(|reader| plan(world, reader, settings, name, told)).await.map_err(|error| error.to_string())?;
        let txn = match planned.map_err(|error| error.to_string())? {
            Planned::Write(txn) if txn.ops.is_empty() => return Ok(Enrolled::Yes),
            Planned::Write(txn) => txn,
            Planned::Overtaken(known) => return Ok(Enrolled::KnownLife(known)),
        };
        match view.store().commit(txn).await {
            Ok(_) => return Ok(Enrolled::Yes),
            Err(CommitError::Conflict { .. } | CommitError::Unknown { .. }) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Err("others keep changing this node's record".into())
}

enum Planned {
    Write(Txn),
    Overtaken(u64),
}

fn plan(
    world: &World,
    reader: &Reader<'_>,
    settings: &Settings,
    name: &str,
    told: &AttendRequest,
) -> Result<Planned, DecodeError> {
    let mut txn = Txn::new();
    let found = reader.get::<Node>(&name)?;
    let known = found.as_ref().map_or(0, |(node, _)| node.life);
    if told.life.is_some_and(|life| life == 0 || life < known) {
        return Ok(Planned::Overtaken(known));
    }
    let provider = match &found {
        Some((node, _)) => node.provider,
        None => ProviderId::random(world),
    };
    let node = Node {
        name: name.to_owned(),
        id: found.as_ref().map_or_else(|| ids::random_uuid(world), |(node, _)| node.id),
        provider,
        endpoint: told.endpoint.clone(),
        boot_id: told.boot_id.clone(),
        hypervisor: told.hypervisor.clone(),
        hypervisor_version: told.hypervisor_version,
        facts: told.facts.clone(),
        release: told.release.clone(),
        disabled: found.as_ref().and_then(|(node, _)| node.disabled.clone()),
        zone: found.as_ref().map_or_else(|| DEFAULT_ZONE.to_owned(), |(node, _)| node.zone.clone()),
        life: told.life.unwrap_or(known),
    };
    match &found {
        None => {
            txn.create(node.key(), node.encode());
        }
        Some((old, revision)) if *old != node => {
            txn.replace(node.key(), *revision, node.encode());
        }
        Some(_) => {}
    }
    let has = Has { vcpus: u64::from(told.vcpus), memory_mib: told.memory_mib, disk_gib: told.disk_gib };
    let inventories = has.inventories(settings, &node);
    match reader.get::<Provider>(&provider)? {
        None => {
            let record = Provider { id: provider, name: name.to_owned(), inventories, traits: Vec::new() };
            txn.create(record.key(), record.encode());
        }
        Some((old, revision)) => {
            replace(&mut txn, old, revision, inventories);
        }
    }
    Ok(Planned::Write(txn))
}

/// What a node has.
struct Has {
    vcpus: u64,
    memory_mib: u64,
    disk_gib: u64,
}

impl Has {
    /// What it has as it was last told.
    fn of(provider: &Provider) -> Has {
        let total = |class: &str| provider.inventories.get(class).map_or(0, |inventory| inventory.total);
        Has { vcpus: total(VCPU), memory_mib: total(MEMORY_MB), disk_gib: total(DISK_GB) }
    }

    /// How much of it is given out, as configured for where the node is.
    fn inventories(&self, settings: &Settings, node: &Node) -> BTreeMap<String, Inventory> {
        let place = Place { zone: Some(node.zone.clone()), roles: [Role::Agent].into(), node: Some(node.name.clone()) };
        let ratio = |key: &Key<Ratio>| settings.get_at(key, &place).as_milli();
        let reserved = settings.get_at(&keys::RESERVED_MEMORY, &place).min(self.memory_mib);
        BTreeMap::from([
            (VCPU.to_owned(), Inventory::plain(self.vcpus, ratio(&keys::VCPU_RATIO))),
            (
                MEMORY_MB.to_owned(),
                Inventory { reserved, ..Inventory::plain(self.memory_mib, ratio(&keys::MEMORY_RATIO)) },
            ),
            (DISK_GB.to_owned(), Inventory::plain(self.disk_gib, 1000)),
        ])
    }
}

/// Writes `inventories` in place of those that `old` has, if they differ. What is claimed stays claimed, also if it is more
/// than can be claimed from now on: that only keeps others away.
fn replace(txn: &mut Txn, old: Provider, revision: Revision, inventories: BTreeMap<String, Inventory>) {
    let after = |(class, inventory): (String, Inventory)| {
        let inventory = match old.inventories.get(&class) {
            Some(before) => inventory.after(before),
            None => inventory,
        };
        (class, inventory)
    };
    let inventories: BTreeMap<_, _> = inventories.into_iter().map(after).collect();
    if old.inventories != inventories {
        let record = Provider { inventories, ..old };
        txn.replace(record.key(), revision, record.encode());
    }
}

/// Writes what is given out of a node that is known, as it is configured now; in one commit.
pub(super) async fn replan(view: &View, settings: &Settings, name: &str) -> Result<(), String> {
    for _ in 0..TRIES {
        let planned = view.read(|reader| planned_anew(reader, settings, name)).await;
        let txn = planned.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        if txn.ops.is_empty() {
            return Ok(());
        }
        match view.store().commit(txn).await {
            Ok(_) => return Ok(()),
            Err(CommitError::Conflict { .. } | CommitError::Unknown { .. }) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Err("others keep changing this node's record".into())
}

fn planned_anew(reader: &Reader<'_>, settings: &Settings, name: &str) -> Result<Txn, DecodeError> {
    let mut txn = Txn::new();
    let Some((node, seen)) = reader.get::<Node>(&name)? else { return Ok(txn) };
    let Some((old, revision)) = reader.get::<Provider>(&node.provider)? else { return Ok(txn) };
    let inventories = Has::of(&old).inventories(settings, &node);
    replace(&mut txn, old, revision, inventories);
    if !txn.ops.is_empty() {
        // Its zone decides with.
        txn.unchanged(node.key(), seen);
    }
    Ok(txn)
}
