//! What must be so after the healing: all that was acknowledged, on both sides, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use super::Tenants;
use super::diary::Diary;
use super::house::House;
use super::load::{Asked, Tenant};
use crate::records::Records;
use crate::{audit, until};

/// Longer than an attempt of a work (60 s) and the longest pause before the next (30 s on a node).
const SETTLES_WITHIN: Duration = Duration::from_secs(150);
/// Tables in which nothing may be left of what was deleted.
const TABLES: [&str; 5] = ["w/", "p/claim/", "port/", "srv/server/", "srv/user-data/"];

/// Heals the cell, waits until it rests, and holds it to what its tenants know. Returns servers by state.
pub(super) fn hold(house: &mut House<'_>, tenants: &Tenants, diary: &Diary) -> BTreeMap<String, usize> {
    house.heal();
    let all: Vec<Vec<Value>> = until("every work ends and every server settles", SETTLES_WITHIN, || {
        let works = house.cell.try_operator(&["work", "list"])?;
        let all = tenants.iter().map(settled).collect::<Result<Vec<_>, _>>()?;
        if works == Value::Array(Vec::new()) { Ok(all) } else { Err(works.to_string()) }
    });
    diary.note("storm", "every work has ended, every server has settled");
    house.guests_are_single();
    let mut wrong = Vec::new();
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    let everything: Vec<Value> = all.concat();
    let guests = house.guests(&everything);
    for (tenant, servers) in tenants.iter().zip(&all) {
        wrong.extend(contradictions(tenant, servers));
        for server in servers {
            let status = text(server, "status");
            wrong.extend(untrue(server, guests.get(text(server, "id"))));
            let what = match server["fault"]["message"].as_str() {
                Some(reason) if status == "ERROR" => format!("{status}: {reason:.60}"),
                _ => status.to_owned(),
            };
            *found.entry(what).or_default() += 1;
        }
        let limits = tenant.client.get("/compute/v2.1/limits").is(200).body;
        let used = &limits["limits"]["absolute"]["totalInstancesUsed"];
        if used != servers.len() {
            wrong.push(format!("the quota of {} counts {used} of {} servers", tenant.client.project, servers.len()));
        }
    }
    let bystanders = house.admin.servers();
    let ids: BTreeSet<&str> = everything.iter().chain(&bystanders).map(|server| text(server, "id")).collect();
    wrong.extend(
        guests.keys().filter(|guest| !ids.contains(guest.as_str())).map(|guest| format!("{guest} is nobody's")),
    );
    assert!(wrong.is_empty(), "after the storm: {wrong:#?}");
    audit(&house.cell);
    diary.note("storm", "what was acknowledged is so, servers and guests agree, the audit is clean");
    found
}

/// All servers of a tenant, if nothing is being done to any and none that was deleted is left.
fn settled(tenant: &Tenant) -> Result<Vec<Value>, String> {
    let answer = tenant.client.ask("GET", "/compute/v2.1/servers/detail", None)?;
    let servers = answer.body["servers"].as_array().cloned().ok_or_else(|| answer.body.to_string())?;
    let open = servers.iter().find(|server| {
        let well = matches!(text(server, "status"), "ACTIVE" | "SHUTOFF" | "PAUSED");
        let failed = text(server, "status") == "ERROR" && server["fault"]["message"].is_string();
        !(well || failed) || !server["OS-EXT-STS:task_state"].is_null()
    });
    open.map_or_else(|| Ok(servers.clone()), |open| Err(open.to_string()))
}

/// What a tenant was told and is not so.
fn contradictions(tenant: &Tenant, servers: &[Value]) -> Vec<String> {
    let all = tenant.known.lock().expect("the tenants have ended");
    let mut wrong = Vec::new();
    for (name, known) in all.iter() {
        let mut shown = servers.iter().filter(|server| text(server, "name") == name);
        let first = shown.next();
        if shown.next().is_some() {
            wrong.push(format!("there are two servers {name}"));
        }
        if first.is_some() && known.delete == Asked::Yes {
            wrong.push(format!("{name} ({known:?}) was deleted and is there"));
        }
        wrong.extend(tenant.contradiction(name, known, first));
    }
    let foreign = servers.iter().filter(|server| !all.contains_key(text(server, "name")));
    wrong.extend(foreign.map(|server| format!("nobody has asked for {server}")));
    wrong
}

/// What the API says of a server and its node does not. `guest`: its state and its node.
fn untrue(server: &Value, guest: Option<&(String, String)>) -> Option<String> {
    let wanted = match text(server, "status") {
        "ACTIVE" => Some("running"),
        "PAUSED" => Some("paused"),
        "SHUTOFF" => Some("stopped"),
        // A boot that failed has left nothing.
        _ => None,
    };
    let host = text(server, "OS-EXT-SRV-ATTR:host");
    let agrees = match (wanted, guest) {
        (Some(wanted), Some((state, node))) => wanted == state && host == node,
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    };
    (!agrees).then(|| format!("the node has {guest:?} and the API says {server}"))
}

/// Deletes everything; then the cell is as it was before.
pub(super) fn leave_nothing(house: &mut House<'_>, tenants: &Tenants, before: &Records, diary: &Diary) {
    house.dismiss_bystander();
    for tenant in tenants {
        let servers = tenant.client.servers();
        servers.iter().for_each(|server| {
            drop(tenant.client.delete(&format!("/compute/v2.1/servers/{}", text(server, "id"))).is(204));
        });
        drop(house.admin.delete(&format!("/compute/v2.1/os-quota-sets/{}", tenant.client.project)).is(202));
    }
    for tenant in tenants {
        until("all servers are gone", SETTLES_WITHIN, || {
            let left = tenant.client.servers();
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        });
    }
    house.is_empty();
    audit(&house.cell);
    let after = house.stopped();
    assert_eq!(after.held(&[""]), before.held(&[""]), "counters");
    for table in TABLES {
        assert_eq!(after.under(table), before.under(table), "records of what was deleted");
    }
    diary.note("storm", "all was deleted, and nothing is left");
}

fn text<'a>(value: &'a Value, place: &str) -> &'a str {
    value[place].as_str().unwrap_or_default()
}
