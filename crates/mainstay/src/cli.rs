//! The operator's commands: asked over RPC with the operator's certificate, answered as tables or JSON.

mod config;
pub mod names;
mod table;
mod waterfall;

use std::time::Duration;

use anyhow::{Context, bail};
use pki::Role;
use proto::operator::v1 as wire;
use proto::operator::v1::operator_service_client::OperatorServiceClient;
use rpc::tls::TlsPeers;
use rpc::{Peers, Target};
use serde_json::{Value, json};
use telemetry::{Cx, Ring};
use tonic::Code;
use world::os::OsHost;

use crate::args::{Ask, Audit, Output};
use crate::home::Home;

pub use config::ConfigQuestion;

/// How long an answer is waited for.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(10);

/// What is asked.
#[derive(Debug)]
pub enum Question {
    Status,
    Works,
    Work(String),
    Retry(String),
    Nodes,
    RotateKeys { void_tokens: bool },
    Trace(String),
    Audit,
    Config(ConfigQuestion),
}

/// Asks and prints.
pub fn run(ask: &Ask, question: Question) -> anyhow::Result<()> {
    asked(ask, ask.output, question).map(drop)
}

/// Holds an audit and prints what it found; `true`: nothing, and every node was compared.
pub fn audit(args: &Audit) -> anyhow::Result<bool> {
    let output = if args.json { Output::Json } else { args.ask.output };
    let value = asked(&args.ask, output, Question::Audit)?;
    let empty = |field: &str| value[field].as_array().is_some_and(Vec::is_empty);
    Ok(empty("findings") && empty("silent"))
}

/// Asks and prints; the answer as a value.
fn asked(ask: &Ask, output: Output, question: Question) -> anyhow::Result<Value> {
    let dir = ask.home.as_deref().context("which cell? give --home DIR or set MAINSTAY_HOME")?;
    let home = Home::open(dir)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (text, value) = runtime.block_on(answer(&home, question))?;
    match output {
        Output::Table => print!("{text}"),
        Output::Json => println!("{}", serde_json::to_string_pretty(&value)?),
    }
    Ok(value)
}

async fn answer(home: &Home, question: Question) -> anyhow::Result<(String, Value)> {
    let world = OsHost::world(tokio::runtime::Handle::current(), &home.path("run"));
    let credentials = home.credentials(&world, Role::Operator, "admin")?;
    let peers = TlsPeers::new(&world, home.identity(Role::Operator, "admin"), &credentials)?;
    let target = coordinator(home)?;
    let ring = Ring::new(&world, "operator/admin");
    let cx = Cx::root(&ring, None, world.now() + ANSWER_WAIT_MAX);
    let mut client = OperatorServiceClient::new(peers.channel(&target, &cx)).max_decoding_message_size(64 << 20);
    let failed = |status: tonic::Status| refused(&target, status);
    Ok(match question {
        Question::Status => {
            let status = client.get_status(wire::GetStatusRequest {}).await.map_err(failed)?.into_inner();
            (table::status(&status, world.wall()), status_json(&status))
        }
        Question::Works => {
            let works = client.list_work(wire::ListWorkRequest {}).await.map_err(failed)?.into_inner().works;
            (table::works(&works), Value::Array(works.iter().map(work_json).collect()))
        }
        Question::Work(id) => {
            let shown = client.show_work(wire::ShowWorkRequest { id }).await.map_err(failed)?.into_inner();
            (table::work(&shown), shown_json(&shown))
        }
        Question::Retry(id) => {
            client.retry_work(wire::RetryWorkRequest { id: id.clone() }).await.map_err(failed)?;
            (format!("{id} is being tried again\n"), json!({ "id": id }))
        }
        Question::Nodes => {
            let nodes = client.list_nodes(wire::ListNodesRequest {}).await.map_err(failed)?.into_inner().nodes;
            (table::nodes(&nodes, world.wall()), Value::Array(nodes.iter().map(node_json).collect()))
        }
        Question::Audit => {
            let found = client.audit(wire::AuditRequest {}).await.map_err(failed)?.into_inner();
            (table::audit(&found), audit_json(&found))
        }
        Question::RotateKeys { void_tokens } => {
            let request = wire::RotateTokenKeysRequest { void_tokens };
            let rotated = client.rotate_token_keys(request).await.map_err(failed)?.into_inner();
            (table::rotated(&rotated), rotated_json(&rotated))
        }
        Question::Config(question) => config::ask(&mut client, question).await.map_err(failed)?,
        Question::Trace(subject) => {
            let request = wire::GetTraceRequest { subject: subject.clone() };
            let trace = client.get_trace(request).await.map_err(failed)?.into_inner();
            if trace.spans.is_empty() && trace.actions.is_empty() {
                bail!(
                    "nothing is known of {subject}: neither a record nor a recent span names it; give the id of a \
                     server, or a request's as the client was told it (X-Openstack-Request-Id)"
                );
            }
            (waterfall::draw(&trace), trace_json(&trace))
        }
    })
}

/// What an operator can do about a call that failed.
fn refused(target: &Target, status: tonic::Status) -> anyhow::Error {
    let answers = [
        Code::NotFound,
        Code::InvalidArgument,
        Code::FailedPrecondition,
        Code::PermissionDenied,
        Code::Unauthenticated,
    ];
    if answers.contains(&status.code()) {
        return anyhow::anyhow!("{}", status.message());
    }
    if status.code() == Code::Unimplemented {
        return anyhow::anyhow!("{target} does not know this question: is it of an older release than this program?");
    }
    let reason = rpc::Error::from(status).reason;
    anyhow::anyhow!("{target} at {} did not answer: {reason}; is the cell running?", target.endpoint)
}

fn coordinator(home: &Home) -> anyhow::Result<Target> {
    let all = home.processes()?;
    let found = all.into_iter().find(|process| matches!(process.role, Role::Control | Role::Coordinator));
    found.with_context(|| {
        let dir = home.path("");
        let dir = dir.display();
        format!(
            "the cell in {dir} is not running on this machine: no process of it coordinates (mainstay dev --home {dir})"
        )
    })
}

fn status_json(status: &wire::GetStatusResponse) -> Value {
    let process = |process: &wire::Process| {
        json!({ "identity": process.identity, "roles": process.roles, "up": process.up, "release": process.release,
                "endpoint": process.endpoint, "uptime_us": process.uptime_us, "serving": process.serving,
                "views_loaded": process.views_loaded, "revision": process.revision, "metrics": process.metrics,
                "error": process.error, "status": process.status, "evidence": process.evidence,
                "since_us": process.since_us, "config": process.config, "behind": process.config < status.config,
                "zone": process.zone, "machine": process.machine, "load": process.load })
    };
    json!({
        "cell": status.cell, "release": status.release, "revision": status.revision, "works": status.works,
        "works_failing": status.works_failing, "servers": status.servers, "nodes": status.nodes,
        "nodes_up": status.nodes_up, "config": status.config, "processes": status.processes.iter().map(process).collect::<Vec<_>>(),
    })
}

fn work_json(work: &wire::Work) -> Value {
    json!({
        "id": work.id, "kind": work.kind, "subject": work.subject, "owner": work.owner, "epoch": work.epoch,
        "accepted_us": work.accepted_us, "request_id": work.request_id, "step": work.step, "undoing": work.undoing,
        "failures": work.failures, "error": work.error, "abort": work.abort, "waiting": work.waiting,
    })
}

fn shown_json(shown: &wire::ShowWorkResponse) -> Value {
    let line = |line: &wire::JournalLine| {
        json!({ "number": line.number, "event": line.event, "step": line.step, "at_us": line.at_us,
                "epoch": line.epoch, "reason": line.reason })
    };
    let journal: Vec<Value> = shown.journal.iter().map(line).collect();
    json!({ "work": shown.work.as_ref().map(work_json), "journal": journal })
}

fn audit_json(found: &wire::AuditResponse) -> Value {
    let finding = |finding: &wire::Finding| {
        json!({ "kind": finding.kind, "about": finding.about, "text": finding.text, "behind": finding.behind,
                "next": finding.next })
    };
    let silent = |silent: &wire::SilentNode| json!({ "node": silent.node, "reason": silent.reason });
    json!({
        "revision": found.revision, "accounts": found.accounts, "entries": found.entries, "compared": found.compared,
        "silent": found.silent.iter().map(silent).collect::<Vec<_>>(),
        "findings": found.findings.iter().map(finding).collect::<Vec<_>>(), "under_way": found.under_way,
    })
}

fn rotated_json(rotated: &wire::RotateTokenKeysResponse) -> Value {
    json!({ "signs": rotated.signs, "kept": rotated.kept, "removed": rotated.removed })
}

fn node_json(node: &wire::Node) -> Value {
    let amount =
        |amount: &wire::Amount| json!({ "class": amount.class, "used": amount.used, "capacity": amount.capacity });
    json!({
        "name": node.name, "up": node.up, "endpoint": node.endpoint, "hypervisor": node.hypervisor, "zone": node.zone,
        "disabled": node.disabled, "servers": node.servers, "release": node.release,
        "status": node.status, "evidence": node.evidence, "since_us": node.since_us, "machine": node.machine,
        "unknown_guests": node.unknown_guests, "amounts": node.amounts.iter().map(amount).collect::<Vec<_>>(),
    })
}

fn trace_json(trace: &wire::GetTraceResponse) -> Value {
    let span = |span: &proto::telemetry::v1::Span| {
        json!({
            "trace": hex::encode(&span.trace), "id": format!("{:016x}", span.id), "parent": format!("{:016x}", span.parent),
            "name": span.name, "process": span.process, "start_us": span.start_us, "took_us": span.took_us,
            "request_id": span.request_id, "subject": span.subject, "work": span.work, "error": span.error,
        })
    };
    let step = |step: &wire::Step| {
        json!({ "name": step.name, "start_us": step.start_us, "took_us": step.took_us, "error": step.error,
                "undo": step.undo })
    };
    let action = |action: &wire::Action| {
        json!({
            "request_id": action.request_id, "server": action.server, "action": action.action,
            "start_us": action.start_us, "finish_us": action.finish_us, "message": action.message,
            "steps": action.steps.iter().map(step).collect::<Vec<_>>(),
        })
    };
    json!({
        "spans": trace.spans.iter().map(span).collect::<Vec<_>>(),
        "actions": trace.actions.iter().map(action).collect::<Vec<_>>(), "silent": trace.silent,
    })
}
