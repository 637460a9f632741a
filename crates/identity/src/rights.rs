//! What a user may do somewhere: pure reading of grants, groups and implied roles.

use std::collections::{BTreeMap, BTreeSet};

use store::{DecodeError, Reader, Record};

use crate::name::{GroupId, RoleId, UserId};
use crate::record::{Actor, Grant, Implication, Membership, Role, Target};

/// Roles by id.
pub type Roles = BTreeMap<RoleId, Role>;

/// The groups of `user`.
pub fn groups_of(reader: &Reader<'_>, user: &UserId) -> Result<Vec<GroupId>, DecodeError> {
    let memberships = reader.range(Membership::of(user)).map(|(_, entry)| Membership::decode_entry(entry));
    memberships.map(|found| found.map(|(membership, _)| membership.group)).collect()
}

/// All grants that `user` has anywhere, itself or through a group.
pub fn grants_of(reader: &Reader<'_>, user: &UserId) -> Result<Vec<Grant>, DecodeError> {
    let mut grants = Vec::new();
    for actor in actors_of(reader, user)? {
        for (_, entry) in reader.range(actor.grants()) {
            grants.push(Grant::decode_entry(entry)?.0);
        }
    }
    Ok(grants)
}

fn actors_of(reader: &Reader<'_>, user: &UserId) -> Result<Vec<Actor>, DecodeError> {
    let groups = groups_of(reader, user)?.into_iter().map(Actor::Group);
    Ok(std::iter::once(Actor::User(user.clone())).chain(groups).collect())
}

/// The roles of `user` at `target`: granted directly, through groups, and what follows from those.
pub fn roles_at(reader: &Reader<'_>, user: &UserId, target: &Target) -> Result<Roles, DecodeError> {
    let mut granted = BTreeSet::new();
    for actor in actors_of(reader, user)? {
        for (_, entry) in reader.range(actor.grants_at(target)) {
            granted.insert(Grant::decode_entry(entry)?.0.role);
        }
    }
    let mut roles = Roles::new();
    for id in closure(reader, granted)? {
        // A role that is going away gives no rights any more; one private to a domain only what follows from it.
        if let Some((role, _)) = reader.get::<Role>(&id)?
            && !role.deleting
            && role.domain.is_none()
        {
            roles.insert(id, role);
        }
    }
    Ok(roles)
}

/// `roles` and all that follows from them.
pub fn closure(reader: &Reader<'_>, roles: BTreeSet<RoleId>) -> Result<BTreeSet<RoleId>, DecodeError> {
    let mut open: Vec<RoleId> = roles.iter().cloned().collect();
    let mut all = roles;
    while let Some(prior) = open.pop() {
        for (_, entry) in reader.range(Implication::of(&prior)) {
            let implied = Implication::decode_entry(entry)?.0.implied;
            if all.insert(implied.clone()) {
                open.push(implied);
            }
        }
    }
    Ok(all)
}
