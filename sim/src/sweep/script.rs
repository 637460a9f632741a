//! What is swept: for each workflow the requests that bring it about, and the cases that meet.

use std::collections::BTreeMap;

use bytes::Bytes;
use images::{Image, Visibility};
use parking_lot::Mutex;
use servers::accept::{Ask, Wanted};
use servers::{AcceptError, NewServer, Server};
use store::{KeyRange, Record};
use telemetry::Cx;

use super::trial;
use crate::cell::{Answer, Cell, Control, FLAVOR, IMAGE, caller, create_image};
use crate::churn::{Asked, Oracle};

/// How long a request may take.
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(30);
/// Servers that fill both nodes of the cell.
const FULL: usize = 8;

/// A case to sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Script {
    /// A server is created.
    Boot,
    /// A server is created where there is no room for it.
    BootWithoutRoom,
    /// A server that runs is deleted.
    Delete,
    /// A server is deleted while it is being built.
    DeleteDuringBoot,
    /// A server is stopped.
    Stop,
    /// A stopped one is started.
    Start,
    /// Its system is asked to shut down, and it is started again.
    Reboot,
    /// The same without asking.
    RebootHard,
    /// A server is paused.
    Pause,
    /// A paused one goes on.
    Unpause,
    /// A server is deleted while it is being stopped.
    DeleteDuringStop,
    /// Its disk is uploaded as an image.
    Snapshot,
    /// A server is deleted while its disk is being uploaded.
    DeleteDuringSnapshot,
}

impl Script {
    /// All of them.
    pub const ALL: [Script; 13] = [
        Script::Boot,
        Script::BootWithoutRoom,
        Script::Delete,
        Script::DeleteDuringBoot,
        Script::Stop,
        Script::Start,
        Script::Reboot,
        Script::RebootHard,
        Script::Pause,
        Script::Unpause,
        Script::DeleteDuringStop,
        Script::Snapshot,
        Script::DeleteDuringSnapshot,
    ];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Script::Boot => "boot",
            Script::BootWithoutRoom => "boot-without-room",
            Script::Delete => "delete",
            Script::DeleteDuringBoot => "delete-during-boot",
            Script::Stop => "stop",
            Script::Start => "start",
            Script::Reboot => "reboot",
            Script::RebootHard => "reboot-hard",
            Script::Pause => "pause",
            Script::Unpause => "unpause",
            Script::DeleteDuringStop => "delete-during-stop",
            Script::Snapshot => "snapshot",
            Script::DeleteDuringSnapshot => "delete-during-snapshot",
        }
    }

    /// What must be there before.
    pub(super) async fn prepare(self, cell: &Cell, others: usize, oracle: &Mutex<Oracle>) {
        let others = if self == Script::BootWithoutRoom { FULL } else { others };
        for number in 0..others {
            create(cell, oracle, &format!("other-{number}")).await;
        }
        match self {
            Script::Boot | Script::DeleteDuringBoot | Script::BootWithoutRoom => {}
            Script::Delete
            | Script::Stop
            | Script::Reboot
            | Script::RebootHard
            | Script::Pause
            | Script::DeleteDuringStop
            | Script::Snapshot
            | Script::DeleteDuringSnapshot => create(cell, oracle, "it").await,
            Script::Start | Script::Unpause => {
                create(cell, oracle, "it").await;
                let _checked_at_the_end = trial::ends(cell).await;
                ask(cell, oracle, if self == Script::Start { Ask::Stop } else { Ask::Pause }).await;
            }
        }
    }

    /// What the script was to bring about and did not, though nobody harmed it. States of servers are checked elsewhere.
    pub(super) fn missed(self, cell: &Cell) -> Option<String> {
        match self {
            Script::Snapshot if !has_snapshot(cell) => Some("the disk was not uploaded".to_owned()),
            Script::Snapshot
            | Script::Boot
            | Script::BootWithoutRoom
            | Script::Delete
            | Script::DeleteDuringBoot
            | Script::Stop
            | Script::Start
            | Script::Reboot
            | Script::RebootHard
            | Script::Pause
            | Script::Unpause
            | Script::DeleteDuringStop
            | Script::DeleteDuringSnapshot => None,
        }
    }

    /// What is swept.
    pub(super) async fn act(self, cell: &Cell, oracle: &Mutex<Oracle>) {
        match self {
            Script::Boot | Script::BootWithoutRoom => create(cell, oracle, "it").await,
            Script::Delete => delete(cell, oracle).await,
            Script::DeleteDuringBoot => {
                create(cell, oracle, "it").await;
                delete(cell, oracle).await;
            }
            Script::Stop => ask(cell, oracle, Ask::Stop).await,
            Script::Start => ask(cell, oracle, Ask::Start).await,
            Script::Reboot => ask(cell, oracle, Ask::Reboot { hard: false }).await,
            Script::RebootHard => ask(cell, oracle, Ask::Reboot { hard: true }).await,
            Script::Pause => ask(cell, oracle, Ask::Pause).await,
            Script::Unpause => ask(cell, oracle, Ask::Unpause).await,
            Script::DeleteDuringStop => {
                ask(cell, oracle, Ask::Stop).await;
                delete(cell, oracle).await;
            }
            Script::Snapshot => snapshot(cell, oracle).await,
            Script::DeleteDuringSnapshot => {
                snapshot(cell, oracle).await;
                delete(cell, oracle).await;
            }
        }
    }
}

fn has_snapshot(cell: &Cell) -> bool {
    let page = cell.store.durable().range(&KeyRange::prefix(Image::TABLE.as_bytes()), usize::MAX);
    let images = page.entries.iter().filter_map(|(_, entry)| Image::decode_entry(entry).ok());
    images.filter(|(image, _)| image.visibility != Visibility::Public).any(|(image, _)| image.content().is_some())
}

/// Every workflow that a coordinator of the product runs: each must be brought about by some script.
pub fn workflows() -> Vec<coordinator::Workflow> {
    let scheduler = rpc::Target { role: pki::Role::Scheduler, name: String::new(), endpoint: String::new() };
    let attendance = servers::nodes::Attendance::new();
    servers::workflow::all(&servers::workflow::Context { attendance, scheduler, picks: networks::Picks::default() })
}

fn cx(control: &Control, request: &str) -> Cx {
    let deadline = control.ring.world().now() + DEADLINE;
    Cx::root(&control.ring, Some(request.into()), deadline)
}

/// What its client may rely on.
fn asked<T>(answer: &Answer<Result<T, AcceptError>>) -> Asked {
    match answer {
        Answer::Down => Asked::No,
        Answer::Broken => Asked::Maybe,
        Answer::Told(Ok(_)) => Asked::Yes,
        Answer::Told(Err(AcceptError::Busy(_) | AcceptError::Network(networks::NetError::Busy(_)))) => Asked::Maybe,
        Answer::Told(Err(_)) => Asked::No,
    }
}

async fn create(cell: &Cell, oracle: &Mutex<Oracle>, name: &str) {
    oracle.lock().creating(name);
    let (new, request) = (wanted(name), format!("req-create-{name}"));
    let answer = cell
        .ask(move |control| {
            Box::pin(async move { control.servers.create(&cx(&control, &request), &caller(), &new).await })
        })
        .await;
    let id = match &answer {
        Answer::Told(Ok(servers)) => servers.first().map(|server: &Server| server.id.to_string()),
        Answer::Told(Err(_)) | Answer::Down | Answer::Broken => None,
    };
    cell.exec.note("client", "create", &format!("{:?}", asked(&answer)));
    oracle.lock().created(name, asked(&answer), id);
}

fn id_of(oracle: &Mutex<Oracle>) -> Option<String> {
    let known = oracle.lock().known(false);
    known.into_iter().find(|(name, _)| name == "it").map(|(_, id)| id)
}

async fn delete(cell: &Cell, oracle: &Mutex<Oracle>) {
    let Some(id) = id_of(oracle) else { return };
    oracle.lock().deleting("it", Asked::Maybe);
    let answer = cell
        .ask(move |control| {
            Box::pin(async move { control.servers.delete(&cx(&control, "req-delete"), &caller(), &id).await })
        })
        .await;
    cell.exec.note("client", "delete", &format!("{:?}", asked(&answer)));
    oracle.lock().deleting("it", asked(&answer));
}

async fn ask(cell: &Cell, oracle: &Mutex<Oracle>, ask: Ask) {
    let Some(id) = id_of(oracle) else { return };
    let what = ask.name();
    let request = format!("req-{what}");
    let answer = cell
        .ask(move |control| {
            Box::pin(async move { control.servers.ask(&cx(&control, &request), &caller(), &id, &ask).await })
        })
        .await;
    cell.exec.note("client", what, &format!("{:?}", asked(&answer)));
}

async fn snapshot(cell: &Cell, oracle: &Mutex<Oracle>) {
    let Some(id) = id_of(oracle) else { return };
    let answer = cell
        .ask_images(move |control, images| {
            Box::pin(async move { create_image(&control, &images, &cx(&control, "req-createImage"), &id).await })
        })
        .await;
    cell.exec.note("client", "createImage", &format!("{answer:?}"));
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
