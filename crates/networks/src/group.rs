//! Security groups and their rules.

use ipnet::IpNet;
use store::Record;
use world::{Wall, World};

use crate::error::{Kind, NetError};
use crate::keys::{self, GroupTerm};
use crate::model::{Remote, RuleDirection, SecurityGroup, SecurityRule, Standard};
use crate::name::{GroupId, ProjectId, RuleId};
use crate::plan::{self, Plan};
use crate::port;
use crate::quota::{self, Resource};

/// The name of every project's default group.
pub const DEFAULT_NAME: &str = "default";
/// Rules of one group: its record stays well within what the store takes, and a node can work with it.
pub const RULES_MAX: usize = 1000;
/// Groups whose rules name a group that is deleted; they lose those rules in the same transaction.
const REFERRERS_MAX: usize = 30;

/// Protocols that have a name.
const PROTOCOLS: [(&str, u8); 22] = [
    ("ah", 51),
    ("dccp", 33),
    ("egp", 8),
    ("esp", 50),
    ("gre", 47),
    ("hopopt", 0),
    ("icmp", 1),
    ("icmpv6", 58),
    ("igmp", 2),
    ("ip", 0),
    ("ipip", 4),
    ("ipv6-encap", 41),
    ("ipv6-frag", 44),
    ("ipv6-icmp", 58),
    ("ipv6-nonxt", 59),
    ("ipv6-opts", 60),
    ("ipv6-route", 43),
    ("ospf", 89),
    ("pgm", 113),
    ("rsvp", 46),
    ("sctp", 132),
    ("vrrp", 112),
];

/// The number of a protocol given by name or number; `None`: no such protocol. `any` and `ip` have no number of their
/// own: they are no protocol at all.
pub fn protocol_number(text: &str) -> Option<u8> {
    match text {
        "tcp" => Some(6),
        "udp" => Some(17),
        "udplite" => Some(136),
        _ => {
            let named = PROTOCOLS.iter().find(|(name, _)| *name == text).map(|(_, number)| *number);
            named.or_else(|| text.parse().ok())
        }
    }
}

/// A rule to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRule {
    /// The group that it is for.
    pub group: GroupId,
    /// Which way.
    pub direction: RuleDirection,
    /// Whether it is about IPv6.
    pub ipv6: bool,
    /// Protocol by name or number.
    pub protocol: Option<String>,
    /// First port, or ICMP type.
    pub port_min: Option<u16>,
    /// Last port, or ICMP code.
    pub port_max: Option<u16>,
    /// The far end.
    pub remote: Remote,
    /// Description.
    pub description: String,
}

/// A project's default group: everything out, in from its own members.
pub(crate) fn default_of(world: &World, project: &ProjectId) -> SecurityGroup {
    let id = GroupId::random(world);
    let now = world.wall();
    let mut rules = open_egress(world, now);
    for ipv6 in [false, true] {
        rules.push(rule(world, now, RuleDirection::Ingress, ipv6, Remote::Group(id)));
    }
    let standard = Standard::new(DEFAULT_NAME.into(), "Default security group".into(), project.clone(), now);
    SecurityGroup { id, standard, is_default: true, rules }
}

fn open_egress(world: &World, now: Wall) -> Vec<SecurityRule> {
    [false, true].map(|ipv6| rule(world, now, RuleDirection::Egress, ipv6, Remote::Any)).into()
}

fn rule(world: &World, created: Wall, direction: RuleDirection, ipv6: bool, remote: Remote) -> SecurityRule {
    SecurityRule {
        id: RuleId::random(world),
        direction,
        ipv6,
        protocol: None,
        port_min: None,
        port_max: None,
        remote,
        description: String::new(),
        created,
    }
}

/// Makes a group that lets everything out and nothing in.
pub fn create(
    plan: &mut Plan<'_>,
    name: String,
    description: String,
    project: Option<ProjectId>,
) -> Result<SecurityGroup, NetError> {
    if name == DEFAULT_NAME {
        return Err(NetError::DefaultGroup("Default security group already exists.".into()));
    }
    let project = plan.who.owner_of_new(project)?;
    plan.default_group(&project)?;
    let now = plan.now();
    let group = SecurityGroup {
        id: GroupId::random(plan.world),
        standard: Standard::new(name, description, project, now),
        is_default: false,
        rules: open_egress(plan.world, now),
    };
    let project = &group.standard.project;
    quota::claim(plan.reader, &mut plan.txn, project, Resource::SecurityGroup, 1)?;
    quota::claim(plan.reader, &mut plan.txn, project, Resource::SecurityRule, 2)?;
    plan.txn.create(group.key(), group.encode());
    Ok(group)
}

/// Renames or describes a group.
pub fn update(
    plan: &mut Plan<'_>,
    id: GroupId,
    name: Option<String>,
    description: Option<String>,
) -> Result<SecurityGroup, NetError> {
    let (mut group, revision) = plan::owned::<SecurityGroup>(plan.reader, plan.who, &id)?;
    if let Some(name) = name.filter(|name| *name != group.standard.name) {
        if group.is_default {
            return Err(NetError::DefaultGroup(
                "Updating the name of the default security group is not allowed.".into(),
            ));
        }
        if name == DEFAULT_NAME {
            return Err(NetError::DefaultGroup("Default security group already exists.".into()));
        }
        group.standard.name = name;
    }
    group.standard.description = description.unwrap_or(group.standard.description);
    group.standard.touch(plan.now());
    plan.txn.replace(group.key(), revision, group.encode());
    Ok(group)
}

/// Deletes a group that no port is in; rules elsewhere that name it go with it. A default group is deleted by
/// administrators only, and made anew when its project next needs one.
pub fn delete(plan: &mut Plan<'_>, id: GroupId) -> Result<(), NetError> {
    let (group, revision) = plan::owned::<SecurityGroup>(plan.reader, plan.who, &id)?;
    if group.is_default && !plan.who.admin {
        return Err(NetError::DefaultGroup("Removal of the default security group is not allowed.".into()));
    }
    if let Some(port) = port::any_in_group(plan, id) {
        return Err(NetError::in_use(Kind::SecurityGroup, &id, format!("the port {port} is in it")));
    }
    let term = GroupTerm::Remote(id).text();
    let referrers = plan.reader.by::<SecurityGroup>(keys::GROUPS, &term);
    let referrers = referrers.collect::<Result<Vec<_>, _>>()?;
    if referrers.len() > REFERRERS_MAX {
        let by = format!("rules of {} groups name it; delete some of them first", referrers.len());
        return Err(NetError::in_use(Kind::SecurityGroup, &id, by));
    }
    for (mut other, revision) in referrers.into_iter().filter(|(other, _)| other.id != id) {
        let before = other.rules.len();
        other.rules.retain(|rule| rule.remote != Remote::Group(id));
        let gone = (before - other.rules.len()) as u64;
        other.standard.touch(plan.now());
        quota::give_back(&mut plan.txn, &other.standard.project, Resource::SecurityRule, gone);
        plan.txn.replace(other.key(), revision, other.encode());
    }
    // A port that joined meanwhile has moved this counter, and the commit decides again.
    let uses = Resource::Port.use_key(&group.standard.project);
    match plan.reader.entry(&uses).map(|entry| entry.modified) {
        Some(revision) => plan.txn.unchanged(uses, revision),
        None => plan.txn.absent(uses),
    };
    quota::give_back(&mut plan.txn, &group.standard.project, Resource::SecurityGroup, 1);
    quota::give_back(&mut plan.txn, &group.standard.project, Resource::SecurityRule, group.rules.len() as u64);
    plan.txn.remove(group.key(), revision);
    if group.is_default {
        let named = keys::default_group(&group.standard.project);
        if let Some(entry) = plan.reader.entry(&named) {
            plan.txn.remove(named, entry.modified);
        }
    }
    Ok(())
}

/// Adds rules, all to one group.
pub fn add_rules(plan: &mut Plan<'_>, id: GroupId, all: Vec<NewRule>) -> Result<Vec<SecurityRule>, NetError> {
    let (mut group, revision) = plan::owned::<SecurityGroup>(plan.reader, plan.who, &id)?;
    let mut made = Vec::new();
    for new in all {
        let new = checked(new)?;
        if let Remote::Group(remote) = new.remote {
            plan::seen::<SecurityGroup>(plan.reader, plan.who, &remote)?;
            plan.txn.exists(SecurityGroup::key_of(&remote));
        }
        if let Some(same) = group.rules.iter().find(|rule| same(rule, &new)) {
            return Err(NetError::RuleExists(same.id.to_string()));
        }
        let rule = SecurityRule {
            id: RuleId::random(plan.world),
            direction: new.direction,
            ipv6: new.ipv6,
            protocol: new.protocol,
            port_min: new.port_min,
            port_max: new.port_max,
            remote: new.remote,
            description: new.description,
            created: plan.now(),
        };
        group.rules.push(rule.clone());
        made.push(rule);
    }
    if group.rules.len() > RULES_MAX {
        return Err(NetError::OverQuota(Resource::SecurityRule));
    }
    group.standard.touch(plan.now());
    quota::claim(plan.reader, &mut plan.txn, &group.standard.project, Resource::SecurityRule, made.len() as u64)?;
    plan.txn.replace(group.key(), revision, group.encode());
    Ok(made)
}

/// The rule with its group, if `who` may see it.
pub fn find_rule(
    reader: &store::Reader<'_>,
    who: &plan::Who,
    id: RuleId,
) -> Result<(SecurityGroup, SecurityRule), NetError> {
    let term = GroupTerm::Rule(id).text();
    for found in reader.by::<SecurityGroup>(keys::GROUPS, &term) {
        let (group, _) = found?;
        if who.owns(&group.standard.project)
            && let Some(rule) = group.rules.iter().find(|rule| rule.id == id).cloned()
        {
            return Ok((group, rule));
        }
    }
    Err(NetError::missing(Kind::SecurityRule, &id))
}

/// Deletes a rule.
pub fn delete_rule(plan: &mut Plan<'_>, id: RuleId) -> Result<(), NetError> {
    let (found, _) = find_rule(plan.reader, plan.who, id)?;
    let (mut group, revision) = plan::owned::<SecurityGroup>(plan.reader, plan.who, &found.id)?;
    group.rules.retain(|rule| rule.id != id);
    group.standard.touch(plan.now());
    quota::give_back(&mut plan.txn, &group.standard.project, Resource::SecurityRule, 1);
    plan.txn.replace(group.key(), revision, group.encode());
    Ok(())
}

fn same(rule: &SecurityRule, new: &NewRule) -> bool {
    let number = |protocol: &Option<String>| protocol.as_deref().and_then(protocol_number);
    rule.direction == new.direction
        && rule.ipv6 == new.ipv6
        && number(&rule.protocol) == number(&new.protocol)
        && (rule.port_min, rule.port_max) == (new.port_min, new.port_max)
        && rule.remote == new.remote
}

/// A rule that makes sense, in its plainest form.
fn checked(mut new: NewRule) -> Result<NewRule, NetError> {
    let invalid = |reason: String| Err(NetError::Invalid(reason));
    new.protocol = new.protocol.map(|text| text.to_ascii_lowercase()).filter(|text| text != "any" && text != "ip");
    let number = match new.protocol.as_deref() {
        None => None,
        Some(text) => match protocol_number(text) {
            Some(number) => Some(number),
            None => {
                return invalid(format!(
                    "Security group rule protocol {text} not supported. Only protocol names and integer \
                     representations [0 to 255] are supported."
                ));
            }
        },
    };
    if let Remote::Prefix(prefix) = new.remote {
        if prefix.addr().is_ipv4() == new.ipv6 {
            return invalid(format!(
                "Conflicting value ethertype for CIDR {prefix}: they are of different IP versions."
            ));
        }
        new.remote = Remote::Prefix(prefix.trunc());
    }
    match number {
        // ICMP may be named either way; the ethertype says which one is meant.
        Some(1 | 58) => check_icmp(&new)?,
        Some(6 | 17) => check_ports(&new)?,
        Some(33 | 132 | 136) if new.port_min.is_some() || new.port_max.is_some() => {
            let named = new.protocol.as_deref().unwrap_or_default();
            return Err(NetError::Unsupported(format!("a port range of the protocol {named}")));
        }
        Some(_) | None if new.port_min.is_some() || new.port_max.is_some() => {
            let named = new.protocol.as_deref().unwrap_or("any");
            return invalid(format!("Port range cannot be specified when protocol is {named}."));
        }
        Some(_) | None => {}
    }
    Ok(new)
}

fn check_icmp(new: &NewRule) -> Result<(), NetError> {
    let too_large = [new.port_min, new.port_max].into_iter().flatten().any(|number| number > u16::from(u8::MAX));
    if too_large {
        return Err(NetError::Invalid("Invalid value for ICMP type or code: it must be in 0..=255.".into()));
    }
    if new.port_min.is_none() && new.port_max.is_some() {
        return Err(NetError::Invalid("ICMP code (port-range-max) is provided but ICMP type is missing.".into()));
    }
    let four = new.protocol.as_deref().is_some_and(|text| text == "icmpv6" || text == "ipv6-icmp" || text == "58");
    if four && !new.ipv6 {
        return Err(NetError::Invalid("Conflicting value ethertype IPv4 for protocol ipv6-icmp.".into()));
    }
    Ok(())
}

fn check_ports(new: &NewRule) -> Result<(), NetError> {
    match (new.port_min, new.port_max) {
        (None, None) => Ok(()),
        (Some(0), _) | (_, Some(0)) => Err(NetError::Invalid("Invalid port: it must be in 1..=65535.".into())),
        (Some(min), Some(max)) if min <= max => Ok(()),
        (Some(_), Some(_)) => {
            Err(NetError::Invalid("For TCP/UDP protocols, port_range_min must be <= port_range_max".into()))
        }
        (Some(_), None) | (None, Some(_)) => {
            Err(NetError::Invalid("For TCP/UDP protocols, both port_range_min and port_range_max are needed.".into()))
        }
    }
}

/// The far end that stands for everything of one IP version: another way to say [`Remote::Any`].
pub fn is_everything(prefix: &IpNet) -> bool {
    prefix.prefix_len() == 0
}
