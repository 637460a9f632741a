//! Aggregates as they are stored.

use proto::compute::state::v1 as stored;
use store::Record;
use world::Wall;

use super::{bytes, given, uuid};
use crate::aggregate::Aggregate;

impl Record for Aggregate {
    const TABLE: &'static str = "srv/aggregate/";
    type Stored = stored::Aggregate;

    fn id(&self) -> String {
        Aggregate::record_id(self.id)
    }

    fn to_stored(&self) -> stored::Aggregate {
        stored::Aggregate {
            id: self.id,
            uuid: bytes(&self.uuid),
            name: self.name.clone(),
            zone: self.zone.clone().unwrap_or_default(),
            hosts: self.hosts.clone(),
            metadata: self.metadata.clone(),
            created_us: self.created.as_micros(),
            updated_us: self.updated.map_or(0, Wall::as_micros),
        }
    }

    fn from_stored(stored: stored::Aggregate) -> Result<Aggregate, String> {
        Ok(Aggregate {
            id: stored.id,
            uuid: uuid(&stored.uuid)?,
            name: stored.name,
            zone: given(stored.zone),
            hosts: stored.hosts,
            metadata: stored.metadata,
            created: Wall::from_micros(stored.created_us),
            updated: (stored.updated_us > 0).then(|| Wall::from_micros(stored.updated_us)),
        })
    }
}
