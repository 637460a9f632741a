//! What nodes tell of guests, into the servers' records.

use proto::agent::v1::{GuestReport, GuestState};
use store::{CommitError, Reader, Record, Revision, Txn, View};
use telemetry::TraceId;
use world::{Wall, World};

use super::UnknownGuest;
use crate::accept;
use crate::action::Action;
use crate::server::{Server, ServerId, VmState};

/// Tries before a report is put off; the node sends it again.
const TRIES: usize = 10;

/// Records what `node` tells of its guests. Returns those that the cell does not know.
pub(super) async fn record(
    world: &World,
    view: &View,
    node: &str,
    reports: &[GuestReport],
) -> Result<Vec<UnknownGuest>, String> {
    let mut unknown = Vec::new();
    for report in reports {
        let id = ids::uuid::Uuid::from_slice(&report.guest).map_err(|error| error.to_string())?;
        let id = ServerId::from_uuid(id);
        if !one(world, view, node, id, report).await? {
            unknown.push(UnknownGuest { guest: id.to_string(), state: report.state().as_str_name().to_owned() });
        }
    }
    Ok(unknown)
}

/// `false`: the cell has nothing that belongs to this guest.
async fn one(world: &World, view: &View, node: &str, id: ServerId, report: &GuestReport) -> Result<bool, String> {
    for _ in 0..TRIES {
        let found = view.read(|reader| known(reader, id)).await.map_err(|error| error.to_string())?;
        let (server, has_claim) = found.map_err(|error| error.to_string())?;
        let Some((server, revision, placed)) = server else { return Ok(has_claim) };
        if placed.as_deref() != Some(node) {
            // News of a server that is not placed on this node is not this node's to bring.
            return Ok(true);
        }
        let Some(changed) = changed(&server, report, world.wall()) else { return Ok(true) };
        let mut txn = Txn::new();
        txn.replace(changed.key(), revision, changed.encode());
        if changed.state == VmState::Stopped && !report.cause.is_empty() {
            let action = own_end(world, &changed, &report.cause);
            txn.create(action.key(), action.encode());
        }
        match view.store().commit(txn).await {
            Ok(_) => {
                tracing::info!(server = %id, node, state = changed.vm_state(), run = report.run, "a guest changed by itself");
                return Ok(true);
            }
            Err(CommitError::Conflict { .. } | CommitError::Unknown { .. }) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Err("others keep changing this server's record".into())
}

type Known = (Option<(Server, Revision, Option<String>)>, bool);

/// The server with the node that it is placed on (while it is being built: by its claim), and whether anything of it is claimed (a server that vanished for its tenant is still known).
fn known(reader: &Reader<'_>, id: ServerId) -> Result<Known, store::DecodeError> {
    let claimed = reader.entry(&placement::Claim::key_of(&id.consumer())).is_some();
    let server = reader.get::<Server>(&id)?.map(|(server, revision)| {
        let placed = accept::placed_on(reader, &server);
        (server, revision, placed)
    });
    Ok((server, claimed))
}

/// That a guest has ended without having been asked to, as an action: how a tenant learns why. Nobody asked for it, so its
/// request is one of its own.
fn own_end(world: &World, server: &Server, cause: &str) -> Action {
    let now = world.wall();
    Action {
        server: server.id,
        request_id: format!("req-{}", ids::random_uuid(world)),
        action: "stop".to_owned(),
        user: String::new(),
        project: server.project.to_string(),
        start: now,
        finish: Some(now),
        message: Some(cause.to_owned()),
        steps: Vec::new(),
        trace: TraceId(u128::from_le_bytes(world.random())),
    }
}

/// The server as the report makes it; `None` if the report changes nothing or is about an older run.
fn changed(server: &Server, report: &GuestReport, now: Wall) -> Option<Server> {
    if report.run < server.run {
        return None;
    }
    let state = match report.state() {
        GuestState::Running => VmState::Active,
        GuestState::Paused => VmState::Paused,
        GuestState::Stopped => VmState::Stopped,
        GuestState::Absent | GuestState::Unspecified => return None,
    };
    // A guest that does not run because its next run is only about to begin has not ended: an end has a cause. What is said
    // of it then may come when that run has long begun and its order was answered.
    if state == VmState::Stopped && report.cause.is_empty() && server.state != VmState::Error {
        return None;
    }
    // Within one run only its end is news: a run that has ended never runs again, and it is paused by orders alone, whose
    // answers tell. Whatever else is said of it was on its way for too long.
    if state != VmState::Stopped && report.run == server.run && server.state != VmState::Error {
        return None;
    }
    let mut changed = server.clone();
    match server.state {
        // The boot that is under way says when it runs; that it has ended by itself is news even so.
        VmState::Building => {
            if state != VmState::Stopped || report.run == 0 {
                return None;
            }
            (changed.run, changed.state) = (report.run, VmState::Stopped);
        }
        VmState::Error if server.node.is_none() => return None,
        VmState::Active | VmState::Stopped | VmState::Paused | VmState::Error => {
            (changed.run, changed.state) = (report.run, state);
            // A server that is not in error has no fault; why it stopped is told as an action.
            changed.fault = None;
        }
    }
    let same = changed.run == server.run && changed.state == server.state;
    changed.updated = now;
    (!same).then_some(changed)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use placement::{Claim, Provider, ProviderId};
    use proto::compute::state::v1 as stored;
    use world::os::OsHost;

    use super::*;

    #[test]
    fn what_was_said_before_a_run_began_does_not_end_it() {
        let said = |run, cause: &str| GuestReport {
            guest: bytes::Bytes::new(),
            state: GuestState::Stopped.into(),
            run,
            cause: cause.into(),
            known: true,
        };
        let mut active = stored::Server { project: "p".into(), user: "u".into(), run: 2, ..stored::Server::default() };
        active.id = vec![1; 16].into();
        active.set_state(stored::VmState::Active);
        let active = Server::from_stored(active).unwrap();
        for report in [said(1, "killed"), said(2, ""), said(3, "")] {
            assert_eq!(changed(&active, &report, Wall::default()), None, "{report:?}");
        }
        let ended = changed(&active, &said(2, "killed"), Wall::default());
        assert_eq!(ended.map(|server| server.state), Some(VmState::Stopped));
    }

    #[tokio::test]
    async fn only_the_node_that_a_server_is_placed_on_brings_news_of_it() {
        let world = OsHost::world(tokio::runtime::Handle::current(), &std::env::temp_dir());
        let store = Arc::new(store::memory::open(&world));
        let view = View::open(&world, store, crate::indexes()).await.unwrap();
        let id = ServerId::random(&world);
        let mut building = stored::Server { project: "p".into(), user: "u".into(), ..stored::Server::default() };
        building.id = id.as_uuid().as_bytes().to_vec().into();
        building.set_state(stored::VmState::Building);
        let server = Server::from_stored(building).unwrap();
        let node = ProviderId::random(&world);
        let provider = Provider { id: node, name: "n1".into(), inventories: BTreeMap::new(), traits: Vec::new() };
        let claim = Claim {
            consumer: id.consumer(),
            holder: placement::Holder::Consumer,
            provider: node,
            resources: BTreeMap::new(),
            project: "p".into(),
            user: "u".into(),
        };
        let mut txn = Txn::new();
        txn.create(server.key(), server.encode());
        txn.create(provider.key(), provider.encode()).create(claim.key(), claim.encode());
        view.store().commit(txn).await.unwrap();

        let died = GuestReport {
            guest: id.as_uuid().as_bytes().to_vec().into(),
            state: GuestState::Stopped.into(),
            run: 1,
            cause: "killed".into(),
            known: true,
        };
        for (from, want) in [("n2", VmState::Building), ("n1", VmState::Stopped)] {
            assert_eq!(record(&world, &view, from, std::slice::from_ref(&died)).await, Ok(Vec::new()));
            let shown = view.read(|reader| reader.get::<Server>(&id)).await.unwrap().unwrap().unwrap().0;
            assert_eq!(shown.state, want, "after a report of {from}");
        }
        // Sent again it changes nothing more; and why it ended can be read.
        assert_eq!(record(&world, &view, "n1", std::slice::from_ref(&died)).await, Ok(Vec::new()));
        let told = view.read(|reader| {
            let all = reader.range(Action::of(id)).filter_map(|(_, entry)| Action::decode_entry(entry).ok());
            all.map(|(action, _)| (action.action, action.message)).collect::<Vec<_>>()
        });
        assert_eq!(told.await, Ok(vec![("stop".to_owned(), Some("killed".to_owned()))]));
    }
}
