//! 300 creates and about as many deletes, while the control process and the agents are killed again and again: until
//! each step of both workflows was interrupted.
//!
//! What was acknowledged is kept; what was not may have happened or not, but wholly. In the end nothing is left of what
//! was deleted: not for tenants, not in the store, not on the nodes. `MAINSTAY_SEED` chooses another storm.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use cell_tests::{Cell, Client, Dice, Signal, signal, until};
use serde_json::{Value, json};

const CREATES: usize = 300;
const KILLS: usize = 10;
/// Where some step was not interrupted by then, there are more, up to so many.
const KILLS_MAX: usize = 60;
/// Creates that are acknowledged from one kill to the next, at least.
const CREATES_A_KILL: usize = CREATES / (KILLS + 2);
/// Every step of both workflows.
const STEPS: [&str; 5] = ["claim manifest", "build on node", "hand over", "destroy on node", "return claims"];
/// Each has a project, so that quotas take part: ten servers at a time.
const TENANTS: usize = 8;
const HELD: usize = 7;
const SETTLES_WITHIN: Duration = Duration::from_secs(60);

/// What a tenant knows for sure.
#[derive(Default)]
struct Known {
    /// Created, by an acknowledgement, and never asked to be deleted.
    kept: Vec<String>,
    /// Deleted, by an acknowledgement.
    deleted: BTreeSet<String>,
}

#[test]
fn a_storm_of_kills_loses_nothing_and_leaves_nothing() {
    let mut dice = Dice::of_test(1);
    let mut cell = Cell::start(3);
    let admin = cell.admin();
    let tenants: Vec<Client> = (0..TENANTS).map(|number| tenant(&cell, &admin, &format!("tenant-{number}"))).collect();
    cell.settles_empty(SETTLES_WITHIN);
    cell.stop();
    let before = cell.records();
    cell.agent_ends();
    cell.run();
    cell.all_nodes_up();

    let (acknowledged, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let mut interrupted = Interrupted::new();
    let mut kills = 0;
    let known: Vec<Known> = std::thread::scope(|scope| {
        let threads: Vec<_> = tenants
            .iter()
            .map(|tenant| {
                let (seed, acknowledged, over) = (dice.below(usize::MAX) as u64, &acknowledged, &over);
                scope.spawn(move || churn(tenant, Dice::new(seed), acknowledged, over))
            })
            .collect();
        let mut at = 0;
        while kills < KILLS || (kills < KILLS_MAX && !missed(&interrupted).is_empty()) {
            at += CREATES_A_KILL;
            until("creates go on", SETTLES_WITHIN, || {
                let now = acknowledged.load(Ordering::Relaxed);
                if now >= at { Ok(()) } else { Err(format!("{now} acknowledged")) }
            });
            strike(&mut cell, dice.below(3), &mut interrupted);
            kills += 1;
        }
        over.store(true, Ordering::Relaxed);
        threads.into_iter().map(|thread| thread.join().expect("a tenant is served to the end")).collect()
    });
    println!("{} creates; {kills} kills interrupted: {interrupted:#?}", acknowledged.load(Ordering::Relaxed));
    let missed = missed(&interrupted);
    assert!(missed.is_empty(), "{kills} kills never interrupted {missed:?}: nothing is known of these");

    for (tenant, known) in tenants.iter().zip(&known) {
        settled(tenant, known);
    }
    let ids: BTreeSet<String> =
        tenants.iter().flat_map(|tenant| tenant.servers().into_iter().map(|s| id(&s))).collect();
    let guests: BTreeSet<String> = cell.guests().into_keys().collect();
    assert!(guests.is_subset(&ids), "guests of no server: {:?}", guests.difference(&ids));
    cell.audits_clean(SETTLES_WITHIN);

    for tenant in &tenants {
        for server in tenant.servers() {
            tenant.delete(&format!("/compute/v2.1/servers/{}", id(&server))).is(204);
        }
        until("all servers are gone", SETTLES_WITHIN, || {
            let left = tenant.servers();
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        });
    }
    cell.settles_empty(SETTLES_WITHIN);
    cell.audits_clean(SETTLES_WITHIN);
    cell.stop();
    let after = cell.records();
    assert_eq!(after.held(&[""]), before.held(&[""]), "counters");
    assert_eq!(after.under("w/"), Vec::<&str>::new(), "works");
    for table in ["p/claim/", "port/", "srv/server/", "srv/user-data/"] {
        assert_eq!(after.under(table), before.under(table), "records of what was deleted");
    }
}

/// Creates and deletes, through all that befalls the cell.
fn churn(tenant: &Client, mut dice: Dice, acknowledged: &AtomicUsize, over: &AtomicBool) -> Known {
    let mut known = Known::default();
    let body = until("the cell answers", SETTLES_WITHIN, || {
        tenant.ask("GET", "/compute/v2.1/", None)?;
        Ok(tenant.server("storm"))
    });
    let mut doubtful = BTreeSet::new();
    let mut number = 0;
    while number < CREATES.div_ceil(TENANTS) || !over.load(Ordering::Relaxed) {
        number += 1;
        let mut body = body.clone();
        body["server"]["name"] = json!(format!("storm-{number}"));
        until("a create is acknowledged", SETTLES_WITHIN, || {
            let answer = tenant.ask("POST", "/compute/v2.1/servers", Some(&body))?;
            match answer.status {
                202 => {
                    known.kept.push(answer.text("/server/id"));
                    Ok(())
                }
                403 => {
                    // Creates whose answer was lost have filled the quota: their servers are nobody's yet.
                    let listed = tenant.ask("GET", "/compute/v2.1/servers", None)?.body;
                    let all = listed["servers"].as_array().into_iter().flatten().map(id);
                    let foreign = all.filter(|id| !known.kept.contains(id));
                    doubtful.extend(foreign);
                    for id in &doubtful {
                        tenant.ask("DELETE", &format!("/compute/v2.1/servers/{id}"), None)?;
                    }
                    Err(format!("over quota: {}", answer.body))
                }
                503 => Err(answer.body.to_string()),
                other => panic!("a create was answered with {other}: {}", answer.body),
            }
        });
        acknowledged.fetch_add(1, Ordering::Relaxed);
        while known.kept.len() > HELD || (!known.kept.is_empty() && dice.below(3) == 0) {
            let doomed = known.kept.swap_remove(dice.below(known.kept.len()));
            until("a delete is acknowledged", SETTLES_WITHIN, || {
                let answer = tenant.ask("DELETE", &format!("/compute/v2.1/servers/{doomed}"), None)?;
                // 404: an earlier try, whose answer was lost, has done it.
                if matches!(answer.status, 204 | 404) { Ok(()) } else { Err(answer.body.to_string()) }
            });
            known.deleted.insert(doomed);
        }
    }
    known
}

/// How many works were interrupted by whose death in which step.
type Interrupted = BTreeMap<(&'static str, String), usize>;

/// The steps that nobody's death has interrupted.
fn missed(interrupted: &Interrupted) -> Vec<&'static str> {
    STEPS.into_iter().filter(|step| !interrupted.keys().any(|(_, hit)| hit == step)).collect()
}

/// Kills the control process (0), the agents (1) or both, notes what that interrupted, and has all run again.
fn strike(cell: &mut Cell, whom: usize, interrupted: &mut Interrupted) {
    let agent = cell.agent_pid();
    if whom == 1 {
        agent.into_iter().for_each(|agent| signal(agent, Signal::KILL));
        // Works that wait for the node stand still: what is listed now is what was interrupted.
        for work in cell.operator(&["work", "list"]).as_array().into_iter().flatten() {
            if let Some(step) = work["step"].as_str().filter(|step| !step.is_empty() && work["waiting"] != true) {
                *interrupted.entry(("agents", step.to_owned())).or_default() += 1;
            }
        }
        return;
    }
    // Agents that live on are held, so that what is found is what was there at the moment of the kill.
    let (first, who) = if whom == 0 { (Signal::STOP, "control") } else { (Signal::KILL, "both") };
    agent.into_iter().for_each(|agent| signal(agent, first));
    cell.kill();
    for step in cell.records().steps_under_way(&cell.guests()) {
        *interrupted.entry((who, step)).or_default() += 1;
    }
    agent.into_iter().for_each(|agent| signal(agent, Signal::CONT));
    cell.run();
}

/// Every server is well, or in error with a reason, or gone; all that was acknowledged is as it was acknowledged.
fn settled(tenant: &Client, known: &Known) {
    let servers = until("every server has settled", SETTLES_WITHIN, || {
        let servers = tenant.servers();
        let open = servers.iter().find(|server| {
            let well = server["status"] == "ACTIVE";
            let failed = server["status"] == "ERROR" && server["fault"]["message"].is_string();
            let deleted = known.deleted.contains(&id(server));
            deleted || !(well || failed) || !server["OS-EXT-STS:task_state"].is_null()
        });
        open.map_or_else(|| Ok(servers.clone()), |open| Err(open.to_string()))
    });
    let there: BTreeSet<String> = servers.iter().map(id).collect();
    for kept in &known.kept {
        assert!(there.contains(kept), "the acknowledged server {kept} is lost: {there:?}");
    }
    for server in servers.iter().filter(|server| server["status"] == "ERROR") {
        println!("in error: {}", server["fault"]["message"]);
    }
}

fn id(server: &Value) -> String {
    server["id"].as_str().unwrap_or_default().to_owned()
}

/// A new project, in which the administrator is an administrator too.
fn tenant(cell: &Cell, admin: &Client, name: &str) -> Client {
    let project =
        admin.post("/identity/v3/projects", &json!({ "project": { "name": name } })).is(201).text("/project/id");
    let role = admin.get("/identity/v3/roles?name=admin").is(200).text("/roles/0/id");
    let user = admin.get("/identity/v3/users?name=admin").is(200).text("/users/0/id");
    let grant = format!("/identity/v3/projects/{project}/users/{user}/roles/{role}");
    admin.ask("PUT", &grant, None).expect("an answer").is(204);
    let password = std::fs::read_to_string(cell.path("admin-password")).expect("the admin's password");
    let tenant = cell.anonymous().login("admin", password.trim(), name);
    // A first server brings the project its default group, which stays.
    let first = tenant.create("first");
    tenant.reaches(&first, "ACTIVE");
    tenant.delete(&format!("/compute/v2.1/servers/{first}")).is(204);
    tenant.vanishes(&first);
    tenant
}
