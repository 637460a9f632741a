//! One request being decided: the state that it reads, on whose behalf, and the transaction that grows out of it.
//!
//! A plan decides several things for one transaction (the ports of a server, a bulk create), so it remembers what it
//! has already chosen. Dropping it gives its picks back; see [`crate::picks`].

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use ids::uuid::Uuid;
use store::{Reader, Record, Revision, Txn};
use world::{Wall, World};

use crate::error::{Kind, NetError};
use crate::group;
use crate::keys;
use crate::model::{Network, Port, Router, SecurityGroup, Standard, Subnet};
use crate::name::{GroupId, NetworkId, ProjectId};
use crate::picks::{Picked, Picks};
use crate::quota::Resource;

/// Labels of one thing.
const TAGS_MAX: usize = 50;
/// Bytes of one label.
const TAG_BYTES_MAX: usize = 255;

/// On whose behalf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// The project.
    pub project: ProjectId,
    /// Whether everything may be seen and changed.
    pub admin: bool,
}

impl Who {
    /// Whether what belongs to `owner` is theirs to change.
    pub fn owns(&self, owner: &ProjectId) -> bool {
        self.admin || self.project == *owner
    }

    /// The owner of something new, if `asked` may be it.
    pub(crate) fn owner_of_new(&self, asked: Option<ProjectId>) -> Result<ProjectId, NetError> {
        match asked {
            None => Ok(self.project.clone()),
            Some(project) if self.owns(&project) => Ok(project),
            Some(_) => Err(NetError::Forbidden("only an administrator makes things for another project".into())),
        }
    }
}

/// What has an owner and the standard attributes.
pub trait Owned: Record {
    /// What kind of thing it is.
    const KIND: Kind;
    /// Name, owner, times.
    fn standard(&self) -> &Standard;
    /// Name, owner, times: to be changed.
    fn standard_mut(&mut self) -> &mut Standard;
    /// Whether everybody may see and use it.
    fn is_shared(&self) -> bool {
        false
    }
    /// Whose it is.
    fn owner(&self) -> &ProjectId {
        &self.standard().project
    }
}

macro_rules! owned {
    ($type:ident, $kind:ident $(, $shared:ident)?) => {
        impl Owned for $type {
            const KIND: Kind = Kind::$kind;
            fn standard(&self) -> &Standard {
                &self.standard
            }
            fn standard_mut(&mut self) -> &mut Standard {
                &mut self.standard
            }
            $(fn is_shared(&self) -> bool {
                self.$shared
            })?
        }
    };
}

owned!(Network, Network, shared);
owned!(Subnet, Subnet);
owned!(Port, Port);
owned!(SecurityGroup, SecurityGroup);
owned!(Router, Router);

/// Replaces the labels of something.
pub fn set_tags<R: Owned>(
    plan: &mut Plan<'_>,
    id: &impl std::fmt::Display,
    change: impl FnOnce(&mut BTreeSet<String>),
) -> Result<R, NetError> {
    let (mut record, revision) = owned::<R>(plan.reader, plan.who, id)?;
    change(&mut record.standard_mut().tags);
    let tags = &record.standard().tags;
    if tags.len() > TAGS_MAX || tags.iter().any(|tag| tag.is_empty() || tag.len() > TAG_BYTES_MAX) {
        let text = format!("At most {TAGS_MAX} tags of 1 to {TAG_BYTES_MAX} bytes are possible.");
        return Err(NetError::Invalid(text));
    }
    record.standard_mut().touch(plan.world.wall());
    plan.txn.replace(record.key(), revision, record.encode());
    Ok(record)
}

/// The record with `id`, if `who` may see it.
pub fn seen<R: Owned>(reader: &Reader<'_>, who: &Who, id: &impl std::fmt::Display) -> Result<(R, Revision), NetError> {
    match reader.get::<R>(id)? {
        Some((record, revision)) if record.is_shared() || who.owns(record.owner()) => Ok((record, revision)),
        Some(_) | None => Err(NetError::missing(R::KIND, &id.to_string())),
    }
}

/// The record with `id`, if `who` may change it. What may be seen only is refused as such.
pub fn owned<R: Owned>(reader: &Reader<'_>, who: &Who, id: &impl std::fmt::Display) -> Result<(R, Revision), NetError> {
    let (record, revision) = seen::<R>(reader, who, id)?;
    if who.owns(record.owner()) {
        Ok((record, revision))
    } else {
        Err(NetError::Forbidden(format!("the {} {id} belongs to another project", R::KIND)))
    }
}

/// A request being decided.
pub struct Plan<'a> {
    /// What is so.
    pub(crate) reader: &'a Reader<'a>,
    /// Where randomness and the time of day come from.
    pub(crate) world: &'a World,
    /// On whose behalf.
    pub(crate) who: &'a Who,
    /// What has to hold and what changes.
    pub(crate) txn: Txn,
    pub(crate) picked: Picked,
    defaults: BTreeMap<ProjectId, GroupId>,
}

impl<'a> Plan<'a> {
    /// An empty plan.
    pub fn new(reader: &'a Reader<'a>, world: &'a World, picks: &Picks, who: &'a Who) -> Plan<'a> {
        Plan { reader, world, who, txn: Txn::new(), picked: picks.begin(), defaults: BTreeMap::new() }
    }

    /// The transaction, and the picks to keep until its outcome is known.
    pub fn finish(self) -> (Txn, Picked) {
        (self.txn, self.picked)
    }

    /// The state that is decided on.
    pub fn reader(&self) -> &'a Reader<'a> {
        self.reader
    }

    /// On whose behalf.
    pub fn who(&self) -> &'a Who {
        self.who
    }

    /// Takes over what somebody else decided on the same state.
    pub fn merge(&mut self, txn: Txn) {
        self.txn.merge(txn);
    }

    pub(crate) fn now(&self) -> Wall {
        self.world.wall()
    }

    /// The subnets of a network, oldest first.
    pub(crate) fn subnets(&self, network: NetworkId) -> Result<Vec<(Subnet, Revision)>, NetError> {
        subnets(self.reader, network)
    }

    /// The default group of `project`: the one there is, or one that this plan makes.
    pub fn default_group(&mut self, project: &ProjectId) -> Result<GroupId, NetError> {
        if let Some(id) = self.defaults.get(project) {
            return Ok(*id);
        }
        let key = keys::default_group(project);
        let known = self.reader.entry(&key).and_then(store::Entry::record).and_then(|id| Uuid::from_slice(id).ok());
        let id = match known {
            Some(id) => {
                // An administrator may delete it meanwhile.
                let id = GroupId::from_uuid(id);
                self.txn.exists(SecurityGroup::key_of(&id));
                id
            }
            None => {
                let made = group::default_of(self.world, project);
                self.txn.create(made.key(), made.encode());
                self.txn.create(key, Bytes::copy_from_slice(made.id.as_uuid().as_bytes()));
                // A project cannot do without it, so no limit refuses it; it counts all the same.
                self.txn.add(Resource::SecurityGroup.use_key(project), 1, None);
                let rules = i64::try_from(made.rules.len()).unwrap_or(i64::MAX);
                self.txn.add(Resource::SecurityRule.use_key(project), rules, None);
                made.id
            }
        };
        self.defaults.insert(project.clone(), id);
        Ok(id)
    }
}

/// The subnets of a network, oldest first.
pub fn subnets(reader: &Reader<'_>, network: NetworkId) -> Result<Vec<(Subnet, Revision)>, NetError> {
    let term = format!("n:{network}");
    let mut subnets = reader.by::<Subnet>(keys::SUBNETS, &term).collect::<Result<Vec<_>, _>>()?;
    subnets.sort_by_key(|(subnet, _)| (subnet.standard.created, subnet.id));
    Ok(subnets)
}

/// The networks that a project may use: its own, and those that are shared.
pub fn usable_networks(reader: &Reader<'_>, project: &ProjectId) -> Result<Vec<Network>, NetError> {
    let shared = reader.by::<Network>(keys::NETWORKS, keys::SHARED);
    let mut networks = shared.map(|found| found.map(|(network, _)| network)).collect::<Result<Vec<_>, _>>()?;
    for found in reader.by::<Network>(keys::NETWORKS, project.as_str()) {
        let (network, _) = found?;
        if !network.shared {
            networks.push(network);
        }
    }
    Ok(networks)
}

/// The subnets that a project may see: its own, and those of networks that it may use.
pub fn visible_subnets(reader: &Reader<'_>, project: &ProjectId) -> Result<Vec<Subnet>, NetError> {
    let term = format!("p:{project}");
    let own = reader.by::<Subnet>(keys::SUBNETS, &term);
    let mut found =
        own.map(|found| found.map(|(subnet, _)| (subnet.id, subnet))).collect::<Result<BTreeMap<_, _>, _>>()?;
    for network in usable_networks(reader, project)? {
        found.extend(subnets(reader, network.id)?.into_iter().map(|(subnet, _)| (subnet.id, subnet)));
    }
    Ok(found.into_values().collect())
}

/// Ports that the index has under `term`.
pub fn ports(reader: &Reader<'_>, term: keys::PortTerm<'_>) -> Result<Vec<(Port, Revision)>, NetError> {
    Ok(reader.by::<Port>(keys::PORTS, &term.text()).collect::<Result<Vec<_>, _>>()?)
}
