//! What a node can hold, into the store: written when it differs from what is there.
//!
//! What an agent tells when it begins to attend can be kept on its way for long. So each process of an agent attends under
//! a *life* of its own, one above the highest that the record of its node knows; what comes from an earlier one is told so
//! and changes nothing. The agent that lives hears that too, and takes the next; it need not remember any.

use std::collections::BTreeMap;

use placement::provider::{DISK_GB, MEMORY_MB, VCPU};
use placement::{Inventory, Node, Provider, ProviderId};
use proto::coordinator::v1::AttendRequest;
use store::{CommitError, DecodeError, Reader, Record, Txn, View};
use world::World;

use super::DEFAULT_ZONE;

/// Processors are given out this many times, in thousandths: most guests wait most of the time.
const VCPU_RATIO_MILLI: u64 = 16_000;
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
pub(super) async fn enrol(world: &World, view: &View, name: &str, told: &AttendRequest) -> Result<Enrolled, String> {
    for _ in 0..TRIES {
        let planned = view.read(|reader| plan(world, reader, name, told)).await.map_err(|error| error.to_string())?;
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

fn plan(world: &World, reader: &Reader<'_>, name: &str, told: &AttendRequest) -> Result<Planned, DecodeError> {
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
    let inventories = BTreeMap::from([
        (VCPU.to_owned(), Inventory::plain(u64::from(told.vcpus), VCPU_RATIO_MILLI)),
        (MEMORY_MB.to_owned(), Inventory::plain(told.memory_mib, 1000)),
        (DISK_GB.to_owned(), Inventory::plain(told.disk_gib, 1000)),
    ]);
    match reader.get::<Provider>(&provider)? {
        None => {
            let record = Provider { id: provider, name: name.to_owned(), inventories, traits: Vec::new() };
            txn.create(record.key(), record.encode());
        }
        Some((old, revision)) if old.inventories != inventories => {
            let record = Provider { inventories, ..old };
            txn.replace(record.key(), revision, record.encode());
        }
        Some(_) => {}
    }
    Ok(Planned::Write(txn))
}
