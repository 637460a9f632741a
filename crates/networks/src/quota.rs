//! How many networks, ports and so on a project may have.
//!
//! What is used is a counter that each creation raises within the limit, in its own commit, and each deletion lowers.
//! The record of the limit is a precondition of every raise, so a lowered limit holds from its own commit on.

use std::collections::BTreeMap;

use store::{Key, Reader, Record, Txn};

use crate::error::NetError;
use crate::name::ProjectId;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// Networks.
    Network,
    /// Subnets.
    Subnet,
    /// Ports.
    Port,
    /// Routers.
    Router,
    /// Security groups, default groups included.
    SecurityGroup,
    /// Rules of security groups.
    SecurityRule,
}

impl Resource {
    /// All of them.
    pub const ALL: [Resource; 6] = [
        Resource::Network,
        Resource::Subnet,
        Resource::Port,
        Resource::Router,
        Resource::SecurityGroup,
        Resource::SecurityRule,
    ];

    /// Its name in the API and in keys. Persisted.
    pub const fn name(self) -> &'static str {
        match self {
            Resource::Network => "network",
            Resource::Subnet => "subnet",
            Resource::Port => "port",
            Resource::Router => "router",
            Resource::SecurityGroup => "security_group",
            Resource::SecurityRule => "security_group_rule",
        }
    }

    /// The resource with this name.
    pub fn named(name: &str) -> Option<Resource> {
        Resource::ALL.into_iter().find(|resource| resource.name() == name)
    }

    /// How many a project may have unless something else was set.
    pub const fn default_limit(self) -> Option<u64> {
        match self {
            Resource::Network | Resource::Subnet | Resource::SecurityRule => Some(100),
            Resource::Port => Some(500),
            Resource::Router | Resource::SecurityGroup => Some(10),
        }
    }

    /// The counter of what `project` has.
    pub fn use_key(self, project: &ProjectId) -> Key {
        Key::from(format!("quota-use/{project}/{}", self.name()))
    }

    /// What a counter of [`Resource::use_key`] counts.
    pub fn of_use_key(key: &Key) -> Option<Resource> {
        let text = key.to_text();
        text.strip_prefix("quota-use/")?.rsplit_once('/').and_then(|(_, name)| Resource::named(name))
    }
}

/// The limits of a project that somebody set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Whose.
    pub project: ProjectId,
    /// What differs from the defaults; `None`: no limit.
    pub limits: BTreeMap<Resource, Option<u64>>,
}

impl Quota {
    /// No limit differs.
    pub fn default_of(project: ProjectId) -> Quota {
        Quota { project, limits: BTreeMap::new() }
    }

    /// How many are allowed.
    pub fn limit(&self, resource: Resource) -> Option<u64> {
        self.limits.get(&resource).copied().unwrap_or(resource.default_limit())
    }
}

/// The limits of `project`.
pub fn of(reader: &Reader<'_>, project: &ProjectId) -> Result<Quota, NetError> {
    Ok(reader.get::<Quota>(project)?.map_or_else(|| Quota::default_of(project.clone()), |(quota, _)| quota))
}

/// How many of `resource` the project has.
pub fn used(reader: &Reader<'_>, project: &ProjectId, resource: Resource) -> u64 {
    reader.counter(&resource.use_key(project))
}

/// Adds to `txn` that `project` gets `count` more, within its limit.
pub(crate) fn claim(
    reader: &Reader<'_>,
    txn: &mut Txn,
    project: &ProjectId,
    resource: Resource,
    count: u64,
) -> Result<(), NetError> {
    let key = Quota::key_of(project);
    let limit = match reader.get::<Quota>(project)? {
        Some((quota, revision)) => {
            txn.unchanged(key, revision);
            quota.limit(resource)
        }
        None => {
            txn.absent(key);
            resource.default_limit()
        }
    };
    let delta = i64::try_from(count).map_err(|_| NetError::OverQuota(resource))?;
    txn.add(resource.use_key(project), delta, limit);
    Ok(())
}

/// Adds to `txn` that `project` has `count` fewer.
pub(crate) fn give_back(txn: &mut Txn, project: &ProjectId, resource: Resource, count: u64) {
    if let Ok(count) = i64::try_from(count)
        && count > 0
    {
        txn.add(resource.use_key(project), -count, None);
    }
}

/// Sets the limits that `changes` names: `None` within it means no limit. The rest stays.
pub fn set(
    reader: &Reader<'_>,
    project: &ProjectId,
    changes: &BTreeMap<Resource, Option<u64>>,
) -> Result<(Txn, Quota), NetError> {
    let found = reader.get::<Quota>(project)?;
    let mut quota = found.as_ref().map_or_else(|| Quota::default_of(project.clone()), |(quota, _)| quota.clone());
    quota.limits.extend(changes.iter().map(|(resource, most)| (*resource, *most)));
    let mut txn = Txn::new();
    match found {
        Some((_, revision)) => txn.replace(quota.key(), revision, quota.encode()),
        None => txn.create(quota.key(), quota.encode()),
    };
    Ok((txn, quota))
}

/// Back to the defaults; nothing to commit if that is how it is.
pub fn reset(reader: &Reader<'_>, project: &ProjectId) -> Result<Option<Txn>, NetError> {
    Ok(reader.get::<Quota>(project)?.map(|(quota, revision)| {
        let mut txn = Txn::new();
        txn.remove(quota.key(), revision);
        txn
    }))
}
