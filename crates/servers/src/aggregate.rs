//! Aggregates: hosts that an administrator puts together, perhaps as an availability zone.
//!
//! A zone is written into the records of its hosts by the same commit that changes the aggregate, because the scheduler
//! looks only there. A host is in one zone at most, and is not moved to another while it has servers.
//!
//! Numbers come from the counter `srv/aggregates-made`; names are had once: `srv/aggregate-name/<name in hex>`.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use ids::uuid::Uuid;
use placement::Node;
use store::{Key, Reader, Record, Revision, Txn};
use telemetry::Cx;
use world::Wall;

use crate::accept::{AcceptError, Servers};
use crate::host;
use crate::nodes::DEFAULT_ZONE;

/// An aggregate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aggregate {
    /// Its number.
    pub id: u64,
    /// Its id.
    pub uuid: Uuid,
    /// Its name.
    pub name: String,
    /// The availability zone that it makes.
    pub zone: Option<String>,
    /// Its hosts.
    pub hosts: Vec<String>,
    /// Its metadata, the zone aside.
    pub metadata: BTreeMap<String, String>,
    /// When it was made.
    pub created: Wall,
    /// When it was last changed.
    pub updated: Option<Wall>,
}

impl Aggregate {
    /// The id of the record: numbers in their order.
    pub fn record_id(id: u64) -> String {
        format!("{id:010}")
    }
}

/// A change of an aggregate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AggregateChange {
    /// Another name.
    Name(String),
    /// Another availability zone, or none.
    Zone(Option<String>),
    /// A host more.
    AddHost(String),
    /// A host less.
    RemoveHost(String),
    /// Metadata set, or removed where there is no value.
    Metadata(BTreeMap<String, Option<String>>),
}

/// The counter that numbers aggregates: a sequence, of which nothing is ever returned.
pub fn made_key() -> Key {
    Key::from("srv/aggregates-made".to_owned())
}

fn name_key(name: &str) -> Key {
    Key::from(format!("srv/aggregate-name/{}", hex::encode(name)))
}

/// The aggregate with this number.
pub fn required(reader: &Reader<'_>, id: &str) -> Result<(Aggregate, Revision), AcceptError> {
    let missing = || AcceptError::NotFound { kind: "Aggregate", id: id.to_owned() };
    let number: u64 = id.parse().map_err(|_| missing())?;
    reader.get::<Aggregate>(&Aggregate::record_id(number))?.ok_or_else(missing)
}

impl Servers {
    /// Makes an aggregate without hosts.
    pub async fn create_aggregate(&self, cx: &Cx, name: &str, zone: Option<&str>) -> Result<Aggregate, AcceptError> {
        let uuid = ids::random_uuid(cx.world());
        let created = cx.world().wall();
        self.decide(cx, |reader, txn| {
            let made = reader.counter(&made_key());
            take_name(reader, name, txn)?;
            let aggregate = Aggregate {
                id: made + 1,
                uuid,
                name: name.to_owned(),
                zone: zone.map(str::to_owned),
                hosts: Vec::new(),
                metadata: BTreeMap::new(),
                created,
                updated: None,
            };
            txn.add(made_key(), 1, None);
            txn.create(aggregate.key(), aggregate.encode());
            Ok(aggregate)
        })
        .await
    }

    /// Changes an aggregate.
    pub async fn change_aggregate(
        &self,
        cx: &Cx,
        id: &str,
        changes: &[AggregateChange],
    ) -> Result<Aggregate, AcceptError> {
        self.decide(cx, |reader, txn| {
            let (old, revision) = required(reader, id)?;
            let mut new = old.clone();
            for change in changes {
                apply(reader, &mut new, change, txn)?;
            }
            new.updated = Some(cx.world().wall());
            if new.name != old.name {
                take_name(reader, &new.name, txn)?;
                txn.delete(name_key(&old.name));
            }
            move_hosts(reader, &old, &new, txn)?;
            txn.replace(new.key(), revision, new.encode());
            Ok(new)
        })
        .await
    }

    /// Removes an aggregate that has no hosts.
    pub async fn delete_aggregate(&self, cx: &Cx, id: &str) -> Result<(), AcceptError> {
        self.decide(cx, |reader, txn| {
            let (aggregate, revision) = required(reader, id)?;
            if !aggregate.hosts.is_empty() {
                let text = format!("Cannot remove host aggregate {id}: Host aggregate is not empty");
                return Err(AcceptError::Invalid(text));
            }
            txn.remove(aggregate.key(), revision);
            txn.delete(name_key(&aggregate.name));
            Ok(())
        })
        .await
    }
}

fn take_name(reader: &Reader<'_>, name: &str, txn: &mut Txn) -> Result<(), AcceptError> {
    let key = name_key(name);
    if reader.entry(&key).is_some() {
        return Err(AcceptError::Conflict(format!("Aggregate {name} already exists.")));
    }
    txn.create(key, Bytes::from_static(b"1"));
    Ok(())
}

fn apply(
    reader: &Reader<'_>,
    aggregate: &mut Aggregate,
    change: &AggregateChange,
    txn: &mut Txn,
) -> Result<(), AcceptError> {
    match change {
        AggregateChange::Name(name) => aggregate.name.clone_from(name),
        AggregateChange::Zone(zone) => aggregate.zone.clone_from(zone),
        AggregateChange::AddHost(name) => {
            let (node, revision) = host::required(reader, name)?;
            if aggregate.hosts.contains(name) {
                let text = format!("Aggregate {} already has host {name}.", aggregate.id);
                return Err(AcceptError::Conflict(text));
            }
            // Two aggregates that take the same host at the same time must not both win.
            txn.unchanged(node.key(), revision);
            aggregate.hosts.push(name.clone());
        }
        AggregateChange::RemoveHost(name) => {
            let before = aggregate.hosts.len();
            aggregate.hosts.retain(|host| host != name);
            if aggregate.hosts.len() == before {
                let id = format!("{} with host {name}", aggregate.id);
                return Err(AcceptError::NotFound { kind: "Aggregate", id });
            }
        }
        AggregateChange::Metadata(changes) => {
            for (key, value) in changes {
                match value {
                    _ if key == "availability_zone" => aggregate.zone.clone_from(value),
                    Some(value) => drop(aggregate.metadata.insert(key.clone(), value.clone())),
                    None => drop(aggregate.metadata.remove(key)),
                }
            }
        }
    }
    Ok(())
}

/// Writes the zones of all hosts of either state of an aggregate into their records.
fn move_hosts(reader: &Reader<'_>, old: &Aggregate, new: &Aggregate, txn: &mut Txn) -> Result<(), AcceptError> {
    let mut others = Vec::new();
    for found in reader.all::<Aggregate>() {
        let (aggregate, _) = found?;
        if aggregate.id != new.id && aggregate.zone.is_some() {
            others.push(aggregate);
        }
    }
    let hosts: BTreeSet<&String> = old.hosts.iter().chain(&new.hosts).collect();
    for name in hosts {
        // A node that is gone has no zone to keep.
        let Some((mut node, revision)) = reader.get::<Node>(name)? else { continue };
        let own = new.zone.as_ref().filter(|_| new.hosts.contains(name));
        let other =
            others.iter().find(|aggregate| aggregate.hosts.contains(name)).and_then(|found| found.zone.as_ref());
        if let (Some(own), Some(other)) = (own, other)
            && own != other
        {
            let text = format!(
                "Cannot perform action on aggregate {}: Host {name} already in availability zone {other}",
                new.id
            );
            return Err(AcceptError::Conflict(text));
        }
        let zone = own.or(other).map_or(DEFAULT_ZONE, String::as_str);
        if node.zone == zone {
            continue;
        }
        if reader.keys_by(crate::BY_NODE, name).next().is_some() {
            let text = format!(
                "Cannot perform action on aggregate {}: host {name} has instances and would leave availability zone {}",
                new.id, node.zone
            );
            return Err(AcceptError::Conflict(text));
        }
        node.zone = zone.to_owned();
        txn.replace(node.key(), revision, node.encode());
    }
    Ok(())
}
