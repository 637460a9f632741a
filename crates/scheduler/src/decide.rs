//! The decision: a pure function of the table and the request.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::hosts::{Host, Hosts};

/// What is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Amounts by resource class.
    pub resources: BTreeMap<String, u64>,
    /// Only this availability zone.
    pub zone: Option<String>,
    /// Only this host.
    pub host: Option<String>,
    /// Hosts that must not be chosen.
    pub excluded: Vec<String>,
    /// Hosts whose agents are not known to be there, and why.
    pub absent: Arc<BTreeMap<String, String>>,
    /// The policy of the server's group, if it is in one.
    pub group_policy: Option<String>,
    /// Hosts that hold members of the group.
    pub group_hosts: Vec<String>,
    /// How many hosts are wanted at most.
    pub limit: usize,
    /// Breaks ties: different subjects prefer different hosts of equal weight, so that racing requests spread.
    pub subject: u64,
}

/// The decision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Candidates {
    /// Hosts, best first.
    pub hosts: Vec<String>,
    /// The refused hosts by reason.
    pub refused: BTreeMap<String, Vec<String>>,
}

/// Hosts that can take `request`, the emptiest first, and why the others cannot.
pub fn decide(hosts: &Hosts, request: &Request) -> Candidates {
    let mut refused: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut fitting: Vec<(u64, u64, &Host)> = Vec::new();
    for host in hosts.iter() {
        match refusal(host, request).map_or_else(|| free_share(host, request), Err) {
            Err(reason) => refused.entry(reason).or_default().push(host.name.clone()),
            Ok(share) => fitting.push((weight(host, request, share), tie(&host.name, request.subject), host)),
        }
    }
    let better = |one: &(u64, u64, &Host), other: &(u64, u64, &Host)| {
        other.0.cmp(&one.0).then(one.1.cmp(&other.1)).then_with(|| one.2.name.cmp(&other.2.name))
    };
    if request.limit < fitting.len() {
        // Only the best few have to be in order.
        fitting.select_nth_unstable_by(request.limit, better);
        fitting.truncate(request.limit);
    }
    fitting.sort_unstable_by(better);
    let hosts = fitting.into_iter().map(|(_, _, host)| host.name.clone()).collect();
    Candidates { hosts, refused }
}

/// Why `host` must not take the request, if so. The first reason counts, in the order of what a person would fix.
fn refusal(host: &Host, request: &Request) -> Option<String> {
    if request.host.as_ref().is_some_and(|wanted| *wanted != host.name) {
        return Some("another host was asked for".into());
    }
    if request.zone.as_ref().is_some_and(|wanted| *wanted != host.zone) {
        return Some("another availability zone was asked for".into());
    }
    if request.excluded.contains(&host.name) {
        return Some("it was tried already".into());
    }
    if let Some(reason) = &host.disabled {
        return Some(format!("disabled: {reason}"));
    }
    if let Some(reason) = request.absent.get(&host.name) {
        return Some(reason.clone());
    }
    let in_group = request.group_hosts.contains(&host.name);
    match request.group_policy.as_deref() {
        Some("anti-affinity") if in_group => Some("a member of its server group is there".into()),
        Some("affinity") if !request.group_hosts.is_empty() && !in_group => {
            Some("its server group is elsewhere".into())
        }
        Some(_) | None => None,
    }
}

/// The share (in 1/1024) that stays free of the scarcest class; or which one is too scarce.
fn free_share(host: &Host, request: &Request) -> Result<u64, String> {
    let mut least = 1024;
    for (class, wanted) in &request.resources {
        let stock = host.stocks.get(class).filter(|stock| stock.has(*wanted));
        let stock = stock.ok_or_else(|| format!("too little {class}"))?;
        least = least.min((stock.free() - wanted).saturating_mul(1024) / stock.capacity.max(1));
    }
    Ok(least)
}

/// Greater is better: what stays free, members of a soft group aside.
fn weight(host: &Host, request: &Request, free: u64) -> u64 {
    let members = request.group_hosts.iter().filter(|member| **member == host.name).count() as u64;
    match request.group_policy.as_deref() {
        Some("soft-anti-affinity") => free + (1024 - members.min(1024)) * 2048,
        Some("soft-affinity") => free + members.min(1024) * 2048,
        Some(_) | None => free,
    }
}

/// FNV-1a over the host's name, seeded by the subject: cheap, and the same on every machine.
fn tie(name: &str, subject: u64) -> u64 {
    name.bytes()
        .fold(0xcbf2_9ce4_8422_2325 ^ subject, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use placement::{Inventory, Node, Provider, ProviderId};
    use store::{Entry, Record, Revision, Value};

    /// Three hosts with 4 VCPU each, of which n1 has used 3 and n3 is disabled.
    fn three() -> Hosts {
        let mut hosts = Hosts::default();
        let entry = |value| Entry { value, created: Revision::ZERO, modified: Revision::ZERO };
        for (number, name) in [(1, "n1"), (2, "n2"), (3, "n3")] {
            let id = ProviderId::from_uuid(ids::uuid::Uuid::from_u128(number));
            let inventories = BTreeMap::from([("VCPU".to_owned(), Inventory::plain(4, 1000))]);
            let provider = Provider { id, name: name.into(), inventories, traits: Vec::new() };
            let node = Node {
                name: name.into(),
                id: ids::uuid::Uuid::nil(),
                provider: id,
                endpoint: String::new(),
                boot_id: String::new(),
                hypervisor: "fake".into(),
                hypervisor_version: 1,
                facts: BTreeMap::new(),
                release: String::new(),
                disabled: (name == "n3").then(|| "broken fan".into()),
                zone: "nova".into(),
                life: 0,
            };
            hosts.apply(&provider.key(), Some(&entry(Value::Record(provider.encode()))));
            hosts.apply(&node.key(), Some(&entry(Value::Record(node.encode()))));
        }
        let used = placement::provider::used_key(ProviderId::from_uuid(ids::uuid::Uuid::from_u128(1)), "VCPU");
        hosts.apply(&used, Some(&entry(Value::Counter(3))));
        hosts
    }

    fn check(change: impl FnOnce(&mut Request), hosts: &[&str], reasons: &[&str]) {
        let mut request = Request { resources: BTreeMap::from([("VCPU".into(), 1)]), limit: 9, ..Request::default() };
        change(&mut request);
        let got = decide(&three(), &request);
        assert_eq!(got.hosts, hosts, "{request:?}");
        assert_eq!(got.refused.keys().collect::<Vec<_>>(), reasons, "{request:?}");
    }

    #[test]
    fn the_emptiest_host_comes_first_and_every_refusal_has_its_reason() {
        check(|_| {}, &["n2", "n1"], &["disabled: broken fan"]);
        check(|request| request.limit = 1, &["n2"], &["disabled: broken fan"]);
        check(
            |request| *request.resources.get_mut("VCPU").unwrap() = 2,
            &["n2"],
            &["disabled: broken fan", "too little VCPU"],
        );
        check(
            |request| *request.resources.get_mut("VCPU").unwrap() = 5,
            &[],
            &["disabled: broken fan", "too little VCPU"],
        );
        check(|request| request.excluded.push("n2".into()), &["n1"], &["disabled: broken fan", "it was tried already"]);
        check(|request| request.zone = Some("elsewhere".into()), &[], &["another availability zone was asked for"]);
        check(|request| request.host = Some("n1".into()), &["n1"], &["another host was asked for"]);
    }

    #[test]
    fn group_policies_bind_or_prefer() {
        let group = |policy: &str| {
            let policy = policy.to_owned();
            move |request: &mut Request| {
                request.group_policy = Some(policy);
                request.group_hosts.push("n1".into());
            }
        };
        check(group("anti-affinity"), &["n2"], &["a member of its server group is there", "disabled: broken fan"]);
        check(group("affinity"), &["n1"], &["disabled: broken fan", "its server group is elsewhere"]);
        check(group("soft-affinity"), &["n1", "n2"], &["disabled: broken fan"]);
        check(group("soft-anti-affinity"), &["n2", "n1"], &["disabled: broken fan"]);
    }
}
