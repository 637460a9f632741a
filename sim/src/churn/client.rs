//! A client: asks for one thing after the other and remembers what it was told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use servers::accept::{Ask, Wanted};
use servers::{AcceptError, NewServer, Server};
use telemetry::Cx;

use super::oracle::Asked;
use super::{Storm, dice};
use crate::cell::{Answer, Control, FLAVOR, IMAGE, caller};
use crate::rng::Rng;

/// How long a request may take.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);

/// Asks until the storm is over.
pub(super) async fn run(storm: Arc<Storm>, number: usize) {
    let mut rng = dice(&storm.cell, &format!("client {number}"));
    let mut made = 0;
    while !storm.is_over() {
        // Now and then something that is gone is asked for.
        let known = storm.oracle.lock().known(rng.chance(9, 10));
        let draw = rng.below(100);
        if known.is_empty() || draw < 30 {
            made += 1;
            create(&storm, &mut rng, number, made).await;
        } else {
            let (name, id) = rng.pick(&known).clone();
            match draw {
                30..50 => delete(&storm, &mut rng, number, &name, &id).await,
                50..62 => look(&storm, &mut rng, number, &name, &id).await,
                62..72 => power(&storm, &mut rng, number, &name, &id, Ask::Stop).await,
                72..84 => power(&storm, &mut rng, number, &name, &id, Ask::Start).await,
                84..89 => power(&storm, &mut rng, number, &name, &id, Ask::Pause).await,
                89..94 => power(&storm, &mut rng, number, &name, &id, Ask::Unpause).await,
                _ => {
                    let hard = rng.chance(1, 2);
                    power(&storm, &mut rng, number, &name, &id, Ask::Reboot { hard }).await;
                }
            }
        }
        let pause = rng.span_nanos(1_000, 250_000) * storm.stretch;
        storm.cell.exec.sleep(storm.cell.outside_process, pause).await;
    }
}

fn cx(control: &Control, request: &str) -> Cx {
    let deadline = control.ring.world().now() + DEADLINE;
    Cx::root(&control.ring, Some(request.into()), deadline)
}

fn request_id(rng: &mut Rng) -> String {
    format!("req-{:016x}", rng.draw())
}

/// What an answer means to the oracle; complains of answers that this workload cannot deserve.
fn judge<T>(storm: &Storm, client: usize, what: &str, name: &str, answer: &Answer<Result<T, AcceptError>>) -> Asked {
    let (asked, told) = match answer {
        Answer::Down => (Asked::No, "down".to_owned()),
        Answer::Broken => (Asked::Maybe, "broken".to_owned()),
        Answer::Told(Ok(_)) => (Asked::Yes, "accepted".to_owned()),
        Answer::Told(Err(error)) => {
            let asked = match error {
                AcceptError::Busy(_) | AcceptError::Network(networks::NetError::Busy(_)) => Asked::Maybe,
                AcceptError::NotFound { .. } => {
                    if !storm.oracle.lock().may_be_gone(name) {
                        storm.complain(format!(
                            "{name} was acknowledged, nobody asked for its deletion, and it is gone"
                        ));
                    }
                    Asked::No
                }
                AcceptError::WrongState { .. } | AcceptError::OverQuota { .. } => Asked::No,
                AcceptError::Invalid(_)
                | AcceptError::Conflict(_)
                | AcceptError::Locked(_)
                | AcceptError::Forbidden(_)
                | AcceptError::Network(_)
                | AcceptError::Damaged(_) => {
                    storm.complain(format!("{what} {name} was refused without reason: {error}"));
                    Asked::No
                }
            };
            (asked, error.to_string())
        }
    };
    storm.cell.exec.note(&format!("client{client}"), what, &format!("{name}: {told}"));
    storm.count(|counts| match asked {
        Asked::Yes => counts.accepted += 1,
        Asked::Maybe => counts.unknown += 1,
        Asked::No => counts.refused += 1,
    });
    asked
}

fn wanted(name: &str) -> NewServer {
    NewServer {
        name: name.to_owned(),
        description: None,
        flavor: FLAVOR.into(),
        image: IMAGE.into(),
        key_name: None,
        cards: Wanted::Auto,
        security_groups: Vec::new(),
        user_data: Bytes::new(),
        metadata: BTreeMap::new(),
        config_drive: false,
        zone: None,
        host: None,
        host_name: None,
        group: None,
        tags: Vec::new(),
        access: servers::Access::default(),
        auto_disk_config: false,
        min_count: 1,
        max_count: 1,
    }
}

async fn create(storm: &Storm, rng: &mut Rng, client: usize, number: u64) {
    let name = format!("s{client}-{number}");
    let request = request_id(rng);
    storm.oracle.lock().creating(&name);
    let new = wanted(&name);
    let answer = storm
        .cell
        .ask(move |control| {
            Box::pin(async move { control.servers.create(&cx(&control, &request), &caller(), &new).await })
        })
        .await;
    let asked = judge(storm, client, "create", &name, &answer);
    let id = match &answer {
        Answer::Told(Ok(servers)) => servers.first().map(|server: &Server| server.id.to_string()),
        Answer::Told(Err(_)) | Answer::Down | Answer::Broken => None,
    };
    storm.oracle.lock().created(&name, asked, id);
}

async fn delete(storm: &Storm, rng: &mut Rng, client: usize, name: &str, id: &str) {
    let (request, subject) = (request_id(rng), id.to_owned());
    storm.oracle.lock().deleting(name, Asked::Maybe);
    let answer = storm
        .cell
        .ask(move |control| {
            Box::pin(async move { control.servers.delete(&cx(&control, &request), &caller(), &subject).await })
        })
        .await;
    let asked = judge(storm, client, "delete", name, &answer);
    storm.oracle.lock().deleting(name, asked);
}

async fn look(storm: &Storm, _rng: &mut Rng, client: usize, name: &str, id: &str) {
    let subject = id.to_owned();
    let answer = storm
        .cell
        .ask(move |control| Box::pin(async move { control.servers.visible(&caller(), &subject).await }))
        .await;
    judge(storm, client, "look", name, &answer);
}

async fn power(storm: &Storm, rng: &mut Rng, client: usize, name: &str, id: &str, ask: Ask) {
    let (request, subject) = (request_id(rng), id.to_owned());
    let what = ask.name();
    let answer = storm
        .cell
        .ask(move |control| {
            Box::pin(async move { control.servers.ask(&cx(&control, &request), &caller(), &subject, &ask).await })
        })
        .await;
    judge(storm, client, what, name, &answer);
}
