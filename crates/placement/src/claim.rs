//! Taking and returning capacity.
//!
//! A claim raises one counter per class within the provider's capacity, and writes the record that says who holds it,
//! in one transaction with whatever else the manifest takes. The inventory that the limit was read from is a
//! precondition: a provider that shrinks meanwhile is looked at again.
//!
//! A counter moves only when something is taken or returned. Between the two a claim changes hands: it is taken by a work,
//! handed over to the consumer that the work has built, and handed to the work that takes the consumer apart.

use std::collections::BTreeMap;

use bytes::Bytes;
use proto::placement::state::v1 as stored;
use store::{DecodeError, Reader, Record, Txn};

use crate::provider::{self, Provider, ProviderId, ResourceClass, used_key};

ids::uuid_id! {
    /// What a claim is taken for: a server.
    pub struct ConsumerId;
}

ids::uuid_id! {
    /// A work that holds a claim; the same bits name it where works are kept.
    pub struct TakerId;
}

/// In whose account a claim stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder {
    /// A work has taken it, or has got it back, and is not done with it: claimed.
    Work(TakerId),
    /// The consumer, until somebody takes it apart: allocated.
    Consumer,
}

/// What is taken of a provider for a consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// For whom.
    pub consumer: ConsumerId,
    /// Who holds it now.
    pub holder: Holder,
    /// Of whom.
    pub provider: ProviderId,
    /// How much.
    pub resources: BTreeMap<ResourceClass, u64>,
    /// The consumer's project.
    pub project: String,
    /// Who asked for it.
    pub user: String,
}

impl Record for Claim {
    const TABLE: &'static str = "p/claim/";
    type Stored = stored::Claim;

    fn id(&self) -> String {
        self.consumer.to_string()
    }

    fn to_stored(&self) -> stored::Claim {
        stored::Claim {
            consumer: provider::bytes(self.consumer.as_uuid()),
            provider: provider::bytes(self.provider.as_uuid()),
            resources: self.resources.clone(),
            project: self.project.clone(),
            user: self.user.clone(),
            work: match &self.holder {
                Holder::Work(work) => provider::bytes(work.as_uuid()),
                Holder::Consumer => Bytes::new(),
            },
        }
    }

    fn from_stored(stored: stored::Claim) -> Result<Claim, String> {
        Ok(Claim {
            consumer: ConsumerId::from_uuid(provider::uuid(&stored.consumer)?),
            // Claims that were written before works were named count as handed over: nearly all of them are.
            holder: match stored.work.is_empty() {
                true => Holder::Consumer,
                false => Holder::Work(TakerId::from_uuid(provider::uuid(&stored.work)?)),
            },
            provider: ProviderId::from_uuid(provider::uuid(&stored.provider)?),
            resources: stored.resources,
            project: stored.project,
            user: stored.user,
        })
    }
}

/// Why capacity cannot be claimed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// The provider is gone.
    #[error("there is no provider {0}")]
    NoProvider(ProviderId),
    /// It has too little.
    #[error("{provider} has {free} {class} left, {wanted} wanted")]
    NoRoom {
        /// The provider's name.
        provider: String,
        /// The class.
        class: ResourceClass,
        /// What is left.
        free: u64,
        /// What was wanted.
        wanted: u64,
    },
    /// A record cannot be read.
    #[error(transparent)]
    Damaged(#[from] DecodeError),
}

/// Adds to `txn` that `claim` is taken.
///
/// # Errors
/// If it does not fit now; a race that is lost after this shows as a conflict or an over-limit of the commit.
pub fn take(reader: &Reader<'_>, claim: &Claim, txn: &mut Txn) -> Result<(), ClaimError> {
    let found = reader.get::<Provider>(&claim.provider)?;
    let (provider, revision) = found.ok_or(ClaimError::NoProvider(claim.provider))?;
    txn.unchanged(provider.key(), revision);
    for (class, wanted) in &claim.resources {
        let used = reader.counter(&used_key(provider.id, class));
        let inventory = provider.inventories.get(class);
        let capacity = inventory.map_or(0, provider::Inventory::capacity);
        let free = capacity.saturating_sub(used);
        if *wanted > free || !inventory.is_some_and(|inventory| inventory.allows(*wanted)) {
            return Err(ClaimError::NoRoom { provider: provider.name, class: class.clone(), free, wanted: *wanted });
        }
        txn.add(used_key(provider.id, class), delta(*wanted), Some(capacity));
    }
    txn.create(claim.key(), claim.encode());
    Ok(())
}

/// Adds to `txn` that what is taken for `consumer` changes hands; no counter moves. Returns the claim as it was, or nothing
/// if nothing is taken.
///
/// # Errors
/// If the claim cannot be read.
pub fn hand_over(
    reader: &Reader<'_>,
    consumer: ConsumerId,
    to: Holder,
    txn: &mut Txn,
) -> Result<Option<Claim>, DecodeError> {
    let Some((claim, revision)) = reader.get::<Claim>(&consumer)? else { return Ok(None) };
    txn.replace(claim.key(), revision, Claim { holder: to, ..claim.clone() }.encode());
    Ok(Some(claim))
}

/// Adds to `txn` that whatever is taken for `consumer` is returned. Returns the claim, or nothing if there is none.
pub fn release(reader: &Reader<'_>, consumer: ConsumerId, txn: &mut Txn) -> Result<Option<Claim>, DecodeError> {
    let Some((claim, revision)) = reader.get::<Claim>(&consumer)? else { return Ok(None) };
    txn.remove(claim.key(), revision);
    for (class, amount) in &claim.resources {
        txn.add(used_key(claim.provider, class), -delta(*amount), None);
    }
    Ok(Some(claim))
}

fn delta(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_names_its_holder_and_one_from_before_is_its_consumers() {
        let uuid = ids::uuid::Uuid::from_u128;
        let claim = |holder| Claim {
            consumer: ConsumerId::from_uuid(uuid(1)),
            holder,
            provider: ProviderId::from_uuid(uuid(2)),
            resources: BTreeMap::from([(provider::VCPU.to_owned(), 2)]),
            project: "p".into(),
            user: "u".into(),
        };
        for holder in [Holder::Work(TakerId::from_uuid(uuid(3))), Holder::Consumer] {
            assert_eq!(Claim::decode(&claim(holder).encode()), Ok(claim(holder)));
        }
        let before = stored::Claim { work: Bytes::new(), ..claim(Holder::Consumer).to_stored() };
        assert_eq!(Claim::from_stored(before).map(|claim| claim.holder), Ok(Holder::Consumer));
    }
}
