//! Boots a server. The order is the contract: claim all, then build, then hand over.
//!
//! `Claim` (store): capacity on one node, addresses, ports: one manifest. `Build` (call): everything on that node.
//! `HandOver` (store): ACTIVE, control passes to the user. A node that refuses, or to which nothing could be sent, is
//! left and the next one tried; after an unknown outcome nothing moves on until the node has answered.
//!
//! Undo is derived: `Build` by the order that removes the guest, whatever of it is there; `Claim` by returning whatever
//! the claims of this server name.

use async_trait::async_trait;
use coordinator::{Advance, Conclusion, Effect, Outcome, Step, StepCx, StepError, StepTime, Work, Workflow};
use placement::{Claim as CapacityClaim, ClaimError, Holder, Node};
use planted::Bug;
use proto::agent::v1::{Build as BuildOrder, perform_request::Act};
use proto::compute::state::v1::ServerWorkState;
use proto::scheduler::v1::scheduler_service_client::SchedulerServiceClient;
use proto::scheduler::v1::{SelectRequest, SelectResponse};
use store::{Reader, Record, Txn};

use super::common::{self, Ordered};
use super::{Context, VERSION};
use crate::BY_GROUP;
use crate::accept;
use crate::group::ServerGroup;
use crate::guest;
use crate::server::{Card, Fault, Server, Task, VmState};

/// The workflow's name.
pub const BOOT: &str = "server.boot";
/// Nodes that one decision proposes: a lost race costs no second decision.
const CANDIDATES: u32 = 4;
/// Nodes that are tried before a boot is given up.
const NODES_TRIED_MAX: usize = 3;

pub(super) fn workflow(context: &Context) -> Workflow {
    Workflow::new::<ServerWorkState>(
        BOOT,
        VERSION,
        3,
        vec![Box::new(Claim(context.clone())), Box::new(Build(context.clone())), Box::new(HandOver)],
        Booting,
    )
}

/// Whether `node` may have the content with this hash: a server that started from it is placed there, or is being built
/// there.
pub fn needed_on(reader: &Reader<'_>, sha256: &str, node: &str) -> bool {
    let placed = reader.by::<Server>(crate::BY_NODE, node).filter_map(Result::ok);
    if placed.into_iter().any(|(server, _)| server.content.sha256 == sha256) {
        return true;
    }
    // Works are few; servers without a node may be many.
    let works = reader.all::<Work>().filter_map(Result::ok).filter(|(work, _)| work.kind == BOOT);
    works.into_iter().any(|(work, _)| {
        let server = reader.get::<Server>(&work.subject).ok().flatten().map(|(server, _)| server);
        server.is_some_and(|server| {
            server.content.sha256 == sha256 && accept::placed_on(reader, &server).as_deref() == Some(node)
        })
    })
}

struct Claim(Context);

#[async_trait]
impl Step<ServerWorkState> for Claim {
    fn name(&self) -> &'static str {
        "claim manifest"
    }

    fn effect(&self) -> Effect {
        Effect::Store
    }

    async fn run(&self, cx: &StepCx, state: &mut ServerWorkState) -> Result<Advance, StepError> {
        let Some((server, _)) = common::server(cx).await? else {
            return Err(StepError::refused("the server is gone"));
        };
        if state.excluded.len() >= NODES_TRIED_MAX {
            return Err(StepError::refused(&state.last_error));
        }
        let decision = self.select(cx, &server, state).await?;
        let mut short = None;
        for host in &decision.hosts {
            let planned = cx.view.read(|reader| manifest(&self.0, cx, reader, &server, host)).await?;
            match planned {
                Ok((txn, node, guard)) => {
                    cx.hold(guard);
                    state.provider = crate::stored::bytes(node.provider.as_uuid());
                    state.node = node.name;
                    return Ok(Advance::Done(txn));
                }
                Err(Shortage::Capacity(error)) => short = Some(error.to_string()),
                Err(Shortage::Group) => short = Some("another member of its server group came first".to_owned()),
                Err(Shortage::Final(error)) => return Err(error),
            }
        }
        if let Some(reason) = short {
            // Decided on a view that others overtook: decide again.
            return Err(StepError::Retry { reason, unknown: false });
        }
        Err(StepError::refused(no_valid_host(&decision, &state.last_error)))
    }

    async fn undo(&self, cx: &StepCx, state: &mut ServerWorkState) -> Result<Txn, StepError> {
        let id = common::subject(cx)?;
        let txn = cx.view.read(|reader| release(reader, id)).await??;
        if !state.node.is_empty() {
            state.excluded.push(std::mem::take(&mut state.node));
        }
        state.last_error = cx.failure.clone().unwrap_or_default();
        Ok(txn)
    }
}

impl Claim {
    async fn select(&self, cx: &StepCx, server: &Server, state: &ServerWorkState) -> Result<SelectResponse, StepError> {
        let (group_policy, group_hosts) = cx.view.read(|reader| group_of(reader, server)).await?;
        let request = SelectRequest {
            resources: server.resources(),
            availability_zone: server.zone.clone().unwrap_or_default(),
            host: server.wanted_host.clone().unwrap_or_default(),
            excluded: state.excluded.clone(),
            group_policy,
            group_hosts,
            limit: CANDIDATES,
            subject: crate::stored::bytes(server.id.as_uuid()),
        };
        let mut client = SchedulerServiceClient::new(cx.peers.channel(&self.0.scheduler, &cx.cx));
        // Choosing changes nothing, so whatever went wrong may be tried again.
        let retry = |error: rpc::Error| StepError::Retry { reason: error.to_string(), unknown: false };
        let response = client.select(request).await.map_err(rpc::Error::from).map_err(retry)?;
        Ok(response.into_inner())
    }
}

/// The policy of the server's group and the nodes of its other members.
fn group_of(reader: &Reader<'_>, server: &Server) -> (String, Vec<String>) {
    let Some(group) = &server.group else { return (String::new(), Vec::new()) };
    let policy = accept::group_policy(reader, group).unwrap_or_default();
    let members = reader.by::<Server>(BY_GROUP, group).filter_map(Result::ok);
    let others = members.filter(|(member, _)| member.id != server.id);
    let mut hosts: Vec<String> = others.filter_map(|(member, _)| accept::placed_on(reader, &member)).collect();
    hosts.sort();
    hosts.dedup();
    (policy, hosts)
}

/// Holds the server to its group's policy, if that binds: the choice was made on an earlier state, and members that boot
/// at the same time choose at the same time. The group's record, written anew with each manifest, lets one of them
/// through at a time.
fn bind_to_group(reader: &Reader<'_>, server: &Server, host: &str, txn: &mut Txn) -> Result<(), Shortage> {
    let Some(group) = &server.group else { return Ok(()) };
    let found = reader.get::<ServerGroup>(group).map_err(|error| Shortage::Final(StepError::refused(error)))?;
    let Some((group, revision)) = found else { return Ok(()) };
    let (policy, others) = group_of(reader, server);
    let there = others.iter().any(|other| other == host);
    match policy.as_str() {
        "anti-affinity" if there => return Err(Shortage::Group),
        "affinity" if !others.is_empty() && !there => return Err(Shortage::Group),
        "anti-affinity" | "affinity" => {}
        // A soft policy is a preference.
        _ => return Ok(()),
    }
    txn.replace(group.key(), revision, group.encode());
    Ok(())
}

enum Shortage {
    /// This node has no room any more.
    Capacity(ClaimError),
    /// The server's group does not allow this node any more.
    Group,
    /// No node will do.
    Final(StepError),
}

/// Everything that the server needs on `host`, as one transaction.
fn manifest(
    context: &Context,
    cx: &StepCx,
    reader: &Reader<'_>,
    server: &Server,
    host: &str,
) -> Result<(Txn, Node, networks::Picked), Shortage> {
    let fatal = |error: &dyn std::fmt::Display| Shortage::Final(StepError::refused(error));
    let found = reader.get::<Node>(&host).map_err(|error| fatal(&error))?;
    let (node, _) = found.ok_or_else(|| {
        Shortage::Final(StepError::Retry { reason: format!("the node {host} is gone"), unknown: false })
    })?;
    let mut txn = Txn::new();
    let claim = CapacityClaim {
        consumer: server.id.consumer(),
        holder: common::held_by(cx),
        provider: node.provider,
        resources: server.resources(),
        project: server.project.to_string(),
        user: server.user.to_string(),
    };
    placement::claim::take(reader, &claim, &mut txn).map_err(|error| match error {
        error @ (ClaimError::NoRoom { .. } | ClaimError::NoProvider(_)) => Shortage::Capacity(error),
        ClaimError::Damaged(error) => fatal(&error),
    })?;
    bind_to_group(reader, server, host, &mut txn)?;
    // What the caller may use was checked when the request was accepted.
    let who = networks::Who { project: server.project.clone(), admin: true };
    let mut plan = networks::Plan::new(reader, cx.cx.world(), &context.picks, &who);
    let requests: Vec<networks::PortRequest> = server.cards.iter().map(Card::request).collect();
    let groups: Vec<networks::GroupId> = server.security_groups.iter().filter_map(|(id, _)| id.parse().ok()).collect();
    let needs = networks::ServerNeeds {
        server: server.id.guest(),
        requests: &requests,
        groups: &groups,
        host_name: &server.host_name,
        node: Some(&node.name),
        zone: &node.zone,
    };
    networks::server_ports(&mut plan, &needs).map_err(|error| fatal(&error))?;
    let (ports, picked) = plan.finish();
    txn.merge(ports);
    Ok((txn, node, picked))
}

fn release(reader: &Reader<'_>, id: crate::ServerId) -> Result<Txn, StepError> {
    let mut txn = Txn::new();
    placement::claim::release(reader, id.consumer(), &mut txn)?;
    let (ports, _) = networks::release_ports(reader, id.guest()).map_err(StepError::fatal)?;
    if !planted::is(Bug::UndoKeepsThePorts) {
        txn.merge(ports);
    }
    Ok(txn)
}

fn no_valid_host(decision: &SelectResponse, last_error: &str) -> String {
    let reasons: Vec<String> =
        decision.refusals.iter().map(|refusal| format!("{} × {}", refusal.count, refusal.reason)).collect();
    let mut text = format!("No valid host was found. {}", reasons.join(", "));
    if reasons.is_empty() {
        text.push_str("There are no hosts");
    }
    if !last_error.is_empty() {
        text = format!("{text}; the last host tried: {last_error}");
    }
    text
}

struct Build(Context);

#[async_trait]
impl Step<ServerWorkState> for Build {
    fn name(&self) -> &'static str {
        "build on node"
    }

    fn effect(&self) -> Effect {
        Effect::Call
    }

    async fn run(&self, cx: &StepCx, state: &mut ServerWorkState) -> Result<Advance, StepError> {
        let id = common::subject(cx)?;
        let order: BuildOrder = cx.view.read(|reader| guest::build(reader, id)).await?.map_err(StepError::fatal)?;
        let ordered = match common::order(&self.0, cx, &state.node, Act::Build(order)).await {
            Err(StepError::Retry { reason, unknown: true }) if planted::is(Bug::TriesAnotherNode) => {
                Ordered::Refused(reason)
            }
            ordered => ordered?,
        };
        match ordered {
            Ordered::Done(response) => {
                common::note(state, &response);
                Ok(Advance::Done(Txn::new()))
            }
            Ordered::Refused(reason) => Err(StepError::Failed { reason, clean: true, resume: Some(0) }),
            Ordered::Away(reason) if cx.maybe_sent => Err(StepError::Retry { reason, unknown: true }),
            Ordered::Away(reason) => Err(StepError::Failed { reason, clean: true, resume: Some(0) }),
        }
    }

    async fn undo(&self, cx: &StepCx, state: &mut ServerWorkState) -> Result<Txn, StepError> {
        let destroy = Act::Destroy(common::destroy(cx).await?);
        match common::order(&self.0, cx, &state.node, destroy).await? {
            Ordered::Done(_) => Ok(Txn::new()),
            Ordered::Refused(reason) | Ordered::Away(reason) => Err(StepError::Retry { reason, unknown: true }),
        }
    }
}

struct HandOver;

#[async_trait]
impl Step<ServerWorkState> for HandOver {
    fn name(&self) -> &'static str {
        "hand over"
    }

    fn effect(&self) -> Effect {
        Effect::Store
    }

    async fn run(&self, cx: &StepCx, state: &mut ServerWorkState) -> Result<Advance, StepError> {
        let Some((mut server, revision)) = common::server(cx).await? else {
            return Err(StepError::fatal("the server is gone"));
        };
        let now = cx.cx.world().wall();
        // News of this very run may have come first: a guest that ended at once is not shown as running.
        if server.run < state.run || planted::is(Bug::HandsOverTheEnded) {
            server.state = VmState::Active;
            server.run = state.run;
        }
        (server.task, server.node, server.updated) = (None, Some(state.node.clone()), now);
        server.launched = server.launched.or(Some(now));
        let mut txn = Txn::new();
        txn.replace(server.key(), revision, server.encode());
        let (consumer, to) = (server.id.consumer(), Holder::Consumer);
        let claim = cx.view.read(|reader| placement::claim::hand_over(reader, consumer, to, &mut txn)).await??;
        if claim.is_none() {
            return Err(StepError::fatal("the server has no claim to be handed over"));
        }
        Ok(Advance::Done(txn))
    }

    async fn undo(&self, _cx: &StepCx, _state: &mut ServerWorkState) -> Result<Txn, StepError> {
        // It is the last step: its own commit ends the work, so it is never done and then undone.
        Ok(Txn::new())
    }
}

struct Booting;

#[async_trait]
impl Conclusion<ServerWorkState> for Booting {
    async fn failing(&self, cx: &StepCx, _state: &mut ServerWorkState, reason: &str) -> Result<Txn, StepError> {
        let mut txn = Txn::new();
        if let Some((mut server, revision)) = common::server(cx).await? {
            if server.task == Some(Task::Deleting) {
                // Nobody waits for a node any more: the tenant's server is gone, its claims stay with this work.
                txn.remove(server.key(), revision);
                accept::refund(&server, &mut txn);
                accept::refund_ports(&server, &mut txn);
                return Ok(txn);
            }
            let now = cx.cx.world().wall();
            (server.state, server.task, server.updated) = (VmState::Error, None, now);
            server.fault = Some(Fault { code: 500, message: reason.to_owned(), at: now });
            txn.replace(server.key(), revision, server.encode());
        }
        Ok(txn)
    }

    async fn ended(
        &self,
        cx: &StepCx,
        _state: &ServerWorkState,
        outcome: &Outcome,
        times: &[StepTime],
    ) -> Result<Txn, StepError> {
        let mut txn = common::finish_action(cx, outcome, times).await?;
        match outcome {
            Outcome::Succeeded => {}
            Outcome::Failed(_) => {
                if let Some((server, revision)) = common::server(cx).await? {
                    txn.unchanged(server.key(), revision);
                    accept::refund_ports(&server, &mut txn);
                    if planted::is(Bug::RefundsTwice) {
                        accept::refund(&server, &mut txn);
                    }
                }
            }
        }
        Ok(txn)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::Duration;

    use placement::{Provider, ProviderId};
    use proto::compute::state::v1 as stored;
    use store::View;
    use world::os::OsHost;

    use super::*;
    use crate::ServerId;

    #[tokio::test]
    async fn a_node_may_have_the_images_of_its_own_servers_only() {
        let world = OsHost::world(tokio::runtime::Handle::current(), &std::env::temp_dir());
        let view = View::open(&world, Arc::new(store::memory::open(&world)), crate::indexes()).await.unwrap();
        let server = |id: ServerId, sha256: &str| {
            let mut server = stored::Server { project: "p".into(), user: "u".into(), ..stored::Server::default() };
            server.id = id.as_uuid().as_bytes().to_vec().into();
            server.content = Some(stored::Content { sha256: sha256.into(), ..stored::Content::default() });
            server.set_state(stored::VmState::Building);
            Server::from_stored(server).unwrap()
        };
        // One that runs on n1, and one that is being built on n2.
        let placed = Server { node: Some("n1".into()), ..server(ServerId::random(&world), "aa") };
        let built = server(ServerId::random(&world), "bb");
        let provider = ProviderId::random(&world);
        let node = Provider { id: provider, name: "n2".into(), inventories: BTreeMap::new(), traits: Vec::new() };
        let claim = CapacityClaim {
            consumer: built.id.consumer(),
            holder: Holder::Consumer,
            provider,
            resources: BTreeMap::new(),
            project: "p".into(),
            user: "u".into(),
        };
        let mut txn = Txn::new();
        txn.create(placed.key(), placed.encode()).create(built.key(), built.encode());
        txn.create(node.key(), node.encode()).create(claim.key(), claim.encode());
        view.store().commit(txn).await.unwrap();
        let needed =
            async |node: &str, sha256: &str| view.read(|reader| needed_on(reader, sha256, node)).await.unwrap();
        assert!(needed("n1", "aa").await && !needed("n2", "aa").await);
        assert!(!needed("n2", "bb").await, "nobody is building it");

        let ring = telemetry::Ring::new(&world, "test");
        let cx = telemetry::Cx::root(&ring, None, world.now() + Duration::from_secs(1));
        let work = coordinator::Accept {
            id: coordinator::WorkId::random(&world),
            kind: BOOT,
            version: VERSION,
            subject: built.id.to_string(),
            input: bytes::Bytes::new(),
            budget: Duration::from_secs(1),
            owner: "c".into(),
            life: coordinator::name::Life::default(),
        };
        let mut txn = Txn::new();
        work.begin(&cx, &mut txn);
        view.store().commit(txn).await.unwrap();
        assert!(needed("n2", "bb").await && !needed("n1", "bb").await && !needed("n2", "aa").await);
    }
}
