//! A client: asks for one thing after the other and remembers what it was told, and when.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use images::{ImageError, Visibility};
use servers::accept::{Ask, Wanted};
use servers::{AcceptError, NewServer, Server, Task};
use telemetry::Cx;

use super::oracle::Asked;
use super::{Storm, dice};
use crate::cell::{Answer, Control, FLAVOR, IMAGE, SnapshotError, caller, create_image, tenant};
use crate::linear::Call;
use crate::linear::quota::Created;
use crate::linear::servers::{Op, Ret};
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
                30..46 => delete(&storm, &mut rng, number, &name, &id).await,
                46..56 => look(&storm, &mut rng, number, &name, &id).await,
                56..64 => describe(&storm, &mut rng, number, &name, &id).await,
                64..71 => power(&storm, &mut rng, number, &name, &id, Ask::Stop).await,
                71..80 => power(&storm, &mut rng, number, &name, &id, Ask::Start).await,
                80..85 => power(&storm, &mut rng, number, &name, &id, Ask::Pause).await,
                85..90 => power(&storm, &mut rng, number, &name, &id, Ask::Unpause).await,
                90..95 => {
                    let hard = rng.chance(1, 2);
                    power(&storm, &mut rng, number, &name, &id, Ask::Reboot { hard }).await;
                }
                95..98 => snapshot(&storm, &mut rng, number, &name, &id).await,
                _ => delete_image(&storm, &mut rng, number).await,
            }
        }
        let pause = rng.span_nanos(1_000, 250_000) * storm.stretch;
        storm.cell.exec.sleep(storm.cell.outside_process, pause).await;
    }
}

pub(crate) fn cx(control: &Control, request: &str) -> Cx {
    let deadline = control.ring.world().now() + DEADLINE;
    Cx::root(&control.ring, Some(request.into()), deadline)
}

pub(crate) fn request_id(rng: &mut Rng) -> String {
    format!("req-{:016x}", rng.draw())
}

/// A request: by whom, about which server, and since when it is under way.
struct Asking<'a> {
    storm: &'a Storm,
    client: usize,
    name: &'a str,
    op: Op,
    begun: u64,
}

impl<'a> Asking<'a> {
    fn begin(storm: &'a Storm, client: usize, name: &'a str, op: Op) -> Asking<'a> {
        Asking { storm, client, name, op, begun: storm.cell.exec.now() }
    }

    /// What the answer means to the oracle and to the history; complains of answers that this workload cannot deserve.
    fn judge(self, answer: Answer<Result<Ret, AcceptError>>) -> Asked {
        let Asking { storm, client, name, op, begun } = self;
        let now = storm.cell.exec.now();
        let (asked, ended, told) = match answer {
            Answer::Down => (Asked::No, None, "down".to_owned()),
            Answer::Broken => (Asked::Maybe, None, "broken".to_owned()),
            Answer::Told(Ok(ret)) => (Asked::Yes, Some(ret), "accepted".to_owned()),
            Answer::Told(Err(error)) => {
                let (asked, ended) = match &error {
                    AcceptError::Busy(_) | AcceptError::Network(networks::NetError::Busy(_)) => (Asked::Maybe, None),
                    AcceptError::NotFound { .. } => {
                        if !storm.oracle.lock().may_be_gone(name) {
                            storm.complain(format!(
                                "{name} was acknowledged, nobody asked for its deletion, and it is gone"
                            ));
                        }
                        storm.counted.lock().gone(name, now);
                        (Asked::No, Some(Ret::Missing))
                    }
                    AcceptError::WrongState { .. } => (Asked::No, Some(Ret::There)),
                    AcceptError::OverQuota { .. } => {
                        storm.counted.lock().created(name, begun, now, Created::OverQuota);
                        (Asked::No, None)
                    }
                    AcceptError::Invalid(_)
                    | AcceptError::Conflict(_)
                    | AcceptError::Locked(_)
                    | AcceptError::Forbidden(_)
                    | AcceptError::Network(_)
                    | AcceptError::Damaged(_) => {
                        storm.complain(format!("{op:?} {name} was refused without reason: {error}"));
                        (Asked::No, None)
                    }
                };
                (asked, ended, error.to_string())
            }
        };
        storm.cell.exec.note(&format!("client{client}"), op.name(), &format!("{name}: {told}"));
        storm.count(|counts| match asked {
            Asked::Yes => counts.accepted += 1,
            Asked::Maybe => counts.unknown += 1,
            Asked::No => counts.refused += 1,
        });
        // What was never taken, or was refused without a look at the server, says nothing of it.
        if asked == Asked::Maybe || ended.is_some() {
            if op == Op::Create {
                let created = if asked == Asked::Yes { Created::Accepted } else { Created::Unknown };
                storm.counted.lock().created(name, begun, now, created);
            }
            storm.histories.lock().note(name, Call { client, op, begun, ended: ended.map(|ret| (now, ret)) });
        }
        asked
    }
}

/// An accepted request, whatever else was told: the server is there.
fn there<T>(answer: Answer<Result<T, AcceptError>>) -> Answer<Result<Ret, AcceptError>> {
    match answer {
        Answer::Down => Answer::Down,
        Answer::Broken => Answer::Broken,
        Answer::Told(told) => Answer::Told(told.map(|_| Ret::There)),
    }
}

pub(crate) fn wanted(name: &str) -> NewServer {
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
    let asking = Asking::begin(storm, client, &name, Op::Create);
    let answer = storm
        .cell
        .ask(move |control| {
            Box::pin(async move { control.servers.create(&cx(&control, &request), &caller(), &new).await })
        })
        .await;
    let id = match &answer {
        Answer::Told(Ok(servers)) => servers.first().map(|server: &Server| server.id.to_string()),
        Answer::Told(Err(_)) | Answer::Down | Answer::Broken => None,
    };
    let asked = asking.judge(there(answer));
    storm.oracle.lock().created(&name, asked, id);
}

async fn delete(storm: &Storm, rng: &mut Rng, client: usize, name: &str, id: &str) {
    let (request, subject) = (request_id(rng), id.to_owned());
    storm.oracle.lock().deleting(name, Asked::Maybe);
    let asking = Asking::begin(storm, client, name, Op::Delete);
    storm.counted.lock().going(name, asking.begun);
    let answer = storm
        .cell
        .ask(move |control| {
            Box::pin(async move { control.servers.delete(&cx(&control, &request), &caller(), &subject).await })
        })
        .await;
    let asked = asking.judge(there(answer));
    storm.oracle.lock().deleting(name, asked);
}

async fn look(storm: &Storm, _rng: &mut Rng, client: usize, name: &str, id: &str) {
    let subject = id.to_owned();
    let asking = Asking::begin(storm, client, name, Op::Look);
    let answer = storm
        .cell
        .ask(move |control| {
            Box::pin(async move {
                let (server, _) = control.servers.visible(&caller(), &subject).await?;
                let deleting = server.task == Some(Task::Deleting);
                Ok(Ret::Shown { description: server.description, deleting })
            })
        })
        .await;
    asking.judge(answer);
}

/// Writes something that nobody else writes.
async fn describe(storm: &Storm, rng: &mut Rng, client: usize, name: &str, id: &str) {
    let (request, subject) = (request_id(rng), id.to_owned());
    let text = format!("d{client}-{:08x}", rng.draw() >> 32);
    let asking = Asking::begin(storm, client, name, Op::Describe(text.clone()));
    let answer = storm
        .cell
        .ask(move |control| {
            Box::pin(async move {
                let change = |server: &mut Server| {
                    server.description = Some(text.clone());
                    Ok(())
                };
                control.servers.update(&cx(&control, &request), &caller(), &subject, change).await
            })
        })
        .await;
    asking.judge(there(answer));
}

async fn power(storm: &Storm, rng: &mut Rng, client: usize, name: &str, id: &str, ask: Ask) {
    let (request, subject) = (request_id(rng), id.to_owned());
    let asking = Asking::begin(storm, client, name, Op::Other(ask.name()));
    let answer = storm
        .cell
        .ask(move |control| {
            Box::pin(async move { control.servers.ask(&cx(&control, &request), &caller(), &subject, &ask).await })
        })
        .await;
    asking.judge(there(answer));
}

async fn snapshot(storm: &Storm, rng: &mut Rng, client: usize, name: &str, id: &str) {
    let (request, subject) = (request_id(rng), id.to_owned());
    let asking = Asking::begin(storm, client, name, Op::Other("createImage"));
    let answer = storm
        .cell
        .ask_images(move |control, images| {
            Box::pin(async move { create_image(&control, &images, &cx(&control, &request), &subject).await })
        })
        .await;
    asking.judge(match answer {
        Answer::Down => Answer::Down,
        Answer::Broken => Answer::Broken,
        Answer::Told(Ok(_)) => Answer::Told(Ok(Ret::There)),
        Answer::Told(Err(SnapshotError::Server(error))) => Answer::Told(Err(error)),
        Answer::Told(Err(SnapshotError::Image(ImageError::Unavailable { reason }))) => {
            Answer::Told(Err(AcceptError::Busy(reason)))
        }
        Answer::Told(Err(SnapshotError::Image(error))) => {
            storm.complain(format!("an image for {name} was refused without reason: {error}"));
            Answer::Told(Err(AcceptError::Busy(error.to_string())))
        }
    });
}

/// Deletes one of the images that snapshots made, whether it has its bytes already or not.
async fn delete_image(storm: &Storm, rng: &mut Rng, client: usize) {
    let draw = rng.draw();
    let answer = storm
        .cell
        .ask_images(move |_, images| {
            Box::pin(async move {
                let made = images.list(|image| image.visibility != Visibility::Public).await?;
                let Some(image) = made.get(draw as usize % made.len().max(1)) else { return Ok(None) };
                images.delete(&tenant(), image.id).await.map(|()| Some(image.id))
            })
        })
        .await;
    if let Answer::Told(Err(error @ (ImageError::Protected | ImageError::Change(_) | ImageError::Damaged(_)))) = &answer
    {
        storm.complain(format!("the deletion of an image was refused without reason: {error}"));
    }
    storm.cell.exec.note(&format!("client{client}"), "forget", &format!("an image: {answer:?}"));
}
