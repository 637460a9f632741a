//! What a tenant asks becomes a record, a claim on quota and a work, in one commit: its answer is the commit's.

mod create;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use coordinator::{Accept, Work, WorkId};
use identity::{Caller, ProjectId};
use placement::quota;
use planted::Bug;
use prost::Message;
use proto::compute::state::v1::ServerWork;
use store::{CommitError, DecodeError, Precondition, ReadError, Reader, Record, Revision, Txn, View};
use telemetry::Cx;

pub use create::{NewServer, Wanted};

use crate::action::Action;
use crate::group::ServerGroup;
use crate::server::{Server, ServerId, Task, VmState};
use crate::workflow::{BOOT, DELETE, POWER, SNAPSHOT, VERSION};

/// How often a decision is made anew when others keep changing what it rests on.
const DECISIONS_MAX: usize = 20;
/// Wait before an unknown commit is sent again.
const RESEND_PAUSE: Duration = Duration::from_millis(20);
/// The quota that counts, for each server group, its members.
pub const GROUP_MEMBERS: &str = "server_group_members";
/// The budget of a work that is never given up.
const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);

/// Why a request is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// There is no such thing, or the caller may not see it.
    #[error("{kind} {id} could not be found.")]
    NotFound {
        /// What it is.
        kind: &'static str,
        /// Its id.
        id: String,
    },
    /// It makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// Not in this state.
    #[error("Cannot '{action}' instance {server} while it is in {attribute} {state}")]
    WrongState {
        /// What was asked.
        action: &'static str,
        /// Of which server.
        server: ServerId,
        /// Which attribute stands against it.
        attribute: &'static str,
        /// Its value.
        state: &'static str,
    },
    /// It is locked.
    #[error("Instance {0} is locked")]
    Locked(ServerId),
    /// The project has as much as it may have.
    #[error("Quota exceeded for {resources}: Requested {wanted}, but already used {used} of {limit} {resources}")]
    OverQuota {
        /// Of what.
        resources: String,
        /// How much was asked for.
        wanted: u64,
        /// How much it holds.
        used: u64,
        /// How much it may hold.
        limit: u64,
    },
    /// The caller may not.
    #[error("{0}")]
    Forbidden(String),
    /// It is there already, or something else stands against it now.
    #[error("{0}")]
    Conflict(String),
    /// A part of the request about networks.
    #[error(transparent)]
    Network(#[from] networks::NetError),
    /// A record cannot be read.
    #[error(transparent)]
    Damaged(#[from] DecodeError),
    /// Not now; the same may be asked again.
    #[error("{0}")]
    Busy(String),
}

impl From<ReadError> for AcceptError {
    fn from(error: ReadError) -> AcceptError {
        AcceptError::Busy(error.to_string())
    }
}

/// What may be asked of a server that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Start it.
    Start,
    /// Stop it; its system is asked first.
    Stop,
    /// Stop and start it; `hard`: without asking.
    Reboot {
        /// Without asking its system.
        hard: bool,
    },
    /// Hold its processors.
    Pause,
    /// Release them.
    Unpause,
    /// Upload its disk as this image.
    Snapshot {
        /// The image that awaits the upload.
        image: images::ImageId,
    },
}

impl Ask {
    /// Nova's name of the action.
    pub fn name(&self) -> &'static str {
        match self {
            Ask::Start => "start",
            Ask::Stop => "stop",
            Ask::Reboot { .. } => "reboot",
            Ask::Pause => "pause",
            Ask::Unpause => "unpause",
            Ask::Snapshot { .. } => "createImage",
        }
    }

    fn task(&self) -> Task {
        match self {
            Ask::Start => Task::PoweringOn,
            Ask::Stop => Task::PoweringOff,
            Ask::Reboot { hard: false } => Task::Rebooting,
            Ask::Reboot { hard: true } => Task::RebootingHard,
            Ask::Pause => Task::Pausing,
            Ask::Unpause => Task::Unpausing,
            Ask::Snapshot { .. } => Task::Snapshotting,
        }
    }

    fn allowed_in(&self, server: &Server) -> bool {
        match self {
            Ask::Start => server.state == VmState::Stopped,
            Ask::Stop => matches!(server.state, VmState::Active | VmState::Error),
            Ask::Reboot { hard: false } => server.state == VmState::Active,
            Ask::Reboot { hard: true } => {
                matches!(server.state, VmState::Active | VmState::Stopped | VmState::Paused | VmState::Error)
            }
            Ask::Pause => server.state == VmState::Active,
            Ask::Unpause => server.state == VmState::Paused,
            Ask::Snapshot { .. } => matches!(server.state, VmState::Active | VmState::Stopped | VmState::Paused),
        }
    }
}

/// What became of a transaction.
enum Went {
    /// It happened.
    Through,
    /// It did not: others were first.
    Nowhere,
    /// Nobody can tell: what it wrote may have been there, and have been changed since.
    Perhaps,
}

/// The coordinators that are there, as far as this process knows; none, if it does not know.
pub type Owners = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

/// Accepts requests about servers. Cloning is cheap.
#[derive(Clone)]
pub struct Servers {
    view: Arc<View>,
    owners: Owners,
}

impl Servers {
    /// Requests are accepted against `view`; works are given to `owners`.
    pub fn new(view: &Arc<View>, owners: &Owners) -> Servers {
        Servers { view: Arc::clone(view), owners: Arc::clone(owners) }
    }

    /// The view that this reads.
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// The coordinator for a new work: rendezvous hashing, so that every process names the same one.
    ///
    /// Where none is known to be there, one that has been: its work waits for it, or for whoever takes over from it.
    fn owner_of(&self, reader: &Reader<'_>, work: WorkId) -> Result<String, AcceptError> {
        let weigh = |owner: &String| {
            let seed = work.as_uuid().as_u128();
            owner.bytes().fold(seed, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
        };
        let here = (self.owners)().into_iter().max_by_key(weigh);
        let ever = || coordinator::name::all(reader).into_iter().max_by_key(weigh);
        let never = "no coordinator has run in this cell yet; try again when one does";
        here.or_else(ever).ok_or_else(|| AcceptError::Busy(never.into()))
    }

    /// A server that the caller may see.
    pub async fn visible(&self, caller: &Caller, id: &str) -> Result<(Server, Revision), AcceptError> {
        self.view.read(|reader| visible(reader, caller, id)).await?
    }

    /// Accepts that a server shall be started, stopped, and so on.
    pub async fn ask(&self, cx: &Cx, caller: &Caller, id: &str, ask: &Ask) -> Result<Server, AcceptError> {
        self.decide(cx, |reader, txn| {
            let (mut server, revision) = changeable(reader, caller, id)?;
            if let Some(task) = server.task {
                let attribute = "task_state";
                return Err(AcceptError::WrongState {
                    action: ask.name(),
                    server: server.id,
                    attribute,
                    state: task.as_str(),
                });
            }
            if !ask.allowed_in(&server) {
                let (attribute, state) = ("vm_state", server.vm_state());
                return Err(AcceptError::WrongState { action: ask.name(), server: server.id, attribute, state });
            }
            (server.task, server.updated) = (Some(ask.task()), cx.world().wall());
            txn.replace(server.key(), revision, server.encode());
            let (kind, image) = match ask {
                Ask::Snapshot { image } => (SNAPSHOT, crate::stored::bytes(image.as_uuid())),
                Ask::Start | Ask::Stop | Ask::Reboot { .. } | Ask::Pause | Ask::Unpause => (POWER, Bytes::new()),
            };
            let hard = matches!(ask, Ask::Reboot { hard: true });
            let input = ServerWork { action: ask.name().to_owned(), hard, image };
            self.work(cx, reader, &server, kind, FOR_EVER, &input)?.begin(cx, txn);
            note_action(cx, caller, &server, ask.name(), txn);
            Ok(server)
        })
        .await
    }

    /// Accepts that a server shall be deleted. Whatever else is under way for it is told to stop.
    pub async fn delete(&self, cx: &Cx, caller: &Caller, id: &str) -> Result<(), AcceptError> {
        let seen = AtomicBool::new(false);
        self.decide(cx, |reader, txn| {
            let (mut server, revision) = match changeable(reader, caller, id) {
                // It was there when this began, and an earlier sending may have ended with its work: it is gone, as asked.
                Err(AcceptError::NotFound { .. }) if seen.load(Ordering::Relaxed) => return Ok(()),
                found => found?,
            };
            seen.store(true, Ordering::Relaxed);
            let subject = server.id.to_string();
            let running = coordinator::record::running(reader, &subject);
            let input = ServerWork { action: "delete".into(), hard: true, image: Bytes::new() };
            let work = self.work(cx, reader, &server, DELETE, FOR_EVER, &input)?;
            match running {
                Some((running, _)) if running.kind == DELETE => return Ok(()),
                Some(_) if coordinator::record::waits(reader, &subject) => return Ok(()),
                Some(running) => {
                    let failed_boot = running.0.kind == BOOT && server.state == VmState::Error;
                    work.supersede(cx, &running, "the server is being deleted", txn);
                    if failed_boot {
                        // Its boot waits for a node to confirm; the tenant need not.
                        txn.remove(server.key(), revision);
                        refund(&server, txn);
                        refund_ports(&server, txn);
                        return Ok(());
                    }
                }
                None => work.begin(cx, txn),
            }
            (server.task, server.updated) = (Some(Task::Deleting), cx.world().wall());
            txn.replace(server.key(), revision, server.encode());
            note_action(cx, caller, &server, "delete", txn);
            Ok(())
        })
        .await
    }

    /// Changes a server's record: name, description, tags, lock. A lock does not stand against it, as with Nova. `change` may
    /// run several times.
    pub async fn update(
        &self,
        cx: &Cx,
        caller: &Caller,
        id: &str,
        change: impl Fn(&mut Server) -> Result<(), AcceptError>,
    ) -> Result<Server, AcceptError> {
        self.decide(cx, |reader, txn| {
            let (mut server, revision) = visible(reader, caller, id)?;
            permit(caller, &server)?;
            change(&mut server)?;
            server.updated = cx.world().wall();
            txn.replace(server.key(), revision, server.encode());
            Ok(server)
        })
        .await
    }

    /// Changes a server's metadata, unless it is locked. `change` may run several times.
    pub async fn update_metadata(
        &self,
        cx: &Cx,
        caller: &Caller,
        id: &str,
        change: impl Fn(&mut Server) -> Result<(), AcceptError>,
    ) -> Result<Server, AcceptError> {
        let unlocked = |server: &mut Server| {
            check_lock(caller, server)?;
            change(server)
        };
        self.update(cx, caller, id, unlocked).await
    }

    fn work(
        &self,
        cx: &Cx,
        reader: &Reader<'_>,
        server: &Server,
        kind: &'static str,
        budget: Duration,
        input: &ServerWork,
    ) -> Result<Accept, AcceptError> {
        let id = WorkId::random(cx.world());
        let owner = self.owner_of(reader, id)?;
        Ok(Accept {
            id,
            kind,
            version: VERSION,
            subject: server.id.to_string(),
            input: input.encode_to_vec().into(),
            budget,
            life: coordinator::name::present(reader, &owner),
            owner,
        })
    }

    /// Decides on the newest state and commits; decides anew when that has changed meanwhile.
    pub(crate) async fn decide<T>(
        &self,
        cx: &Cx,
        decide: impl Fn(&Reader<'_>, &mut Txn) -> Result<T, AcceptError>,
    ) -> Result<T, AcceptError> {
        let mut maybe = false;
        for _ in 0..DECISIONS_MAX {
            let planned = self.view.read(|reader| {
                let mut txn = Txn::new();
                decide(reader, &mut txn).map(|value| (value, txn))
            });
            let (value, txn) = match planned.await? {
                Ok(planned) => planned,
                // A refusal would say that nothing happened, and that is not known.
                Err(refusal) if maybe => {
                    let why = "what became of the first attempt is not known, and a second one finds";
                    return Err(AcceptError::Busy(format!("{why}: {refusal}")));
                }
                Err(refusal) => return Err(refusal),
            };
            if txn.ops.is_empty() {
                return Ok(value);
            }
            match self.commit(cx, txn).await? {
                Went::Through => return Ok(value),
                Went::Nowhere => {}
                Went::Perhaps => maybe = true,
            }
        }
        Err(AcceptError::Busy("others keep changing the same thing; try again".into()))
    }

    /// What became of a transaction, if that is no reason to give up.
    async fn commit(&self, cx: &Cx, txn: Txn) -> Result<Went, AcceptError> {
        let mut unknown = false;
        loop {
            match self.view.store().commit(txn.clone()).await {
                Ok(_) => return Ok(Went::Through),
                Err(CommitError::Conflict { .. }) if unknown => {
                    let landed = self.landed(&txn).await?;
                    return Ok(if landed { Went::Through } else { Went::Perhaps });
                }
                Err(CommitError::Conflict { .. }) => return Ok(Went::Nowhere),
                Err(CommitError::OverLimit { key, current, delta, limit }) => {
                    let wanted = delta.unsigned_abs();
                    return Err(match quota::parse_used_key(&key) {
                        Some((_, resources)) => AcceptError::OverQuota { resources, wanted, used: current, limit },
                        None => {
                            networks::NetError::of_commit(CommitError::OverLimit { key, current, delta, limit }).into()
                        }
                    });
                }
                Err(CommitError::Unknown { .. }) if planted::is(Bug::UnknownIsAccepted) => return Ok(Went::Through),
                Err(CommitError::Unknown { reason }) if planted::is(Bug::UnknownIsRefused) => {
                    return Err(AcceptError::Conflict(reason));
                }
                Err(CommitError::Unknown { reason }) => {
                    if cx.left().is_zero() {
                        return Err(AcceptError::Busy(reason));
                    }
                    unknown = true;
                    cx.world().sleep(RESEND_PAUSE).await;
                }
                // What was sent before this refusal may have happened: only an answer to it tells.
                Err(CommitError::NotNow { .. }) if unknown && !cx.left().is_zero() => {
                    cx.world().sleep(RESEND_PAUSE).await;
                }
                Err(CommitError::NotNow { reason }) => return Err(AcceptError::Busy(reason)),
                Err(CommitError::Invalid(error)) => {
                    return Err(AcceptError::Invalid(format!("too much for one request: {error}")));
                }
            }
        }
    }

    /// Whether a transaction whose outcome was unknown has happened: something was created that has a fresh id, a work, a
    /// server, or the action that tells of the request. (The work may have ended since. If a deletion's server is gone with
    /// all that told of it, the request is decided again and finds that.) Where nothing fresh was to be created: what it
    /// wrote is exactly there, or what it removed is gone.
    async fn landed(&self, txn: &Txn) -> Result<bool, AcceptError> {
        let absent = txn.preconditions.iter().filter_map(|precondition| match precondition {
            Precondition::Absent(key) => Some(key),
            Precondition::Exists(_) | Precondition::RevisionIs(..) | Precondition::CounterIs(..) => None,
        });
        let is_in = |key: &store::Key, table: &str| key.as_bytes().starts_with(table.as_bytes());
        let created = absent.filter(|key| is_in(key, Work::TABLE) || is_in(key, Server::TABLE));
        // No two requests have one id.
        let told = txn.ops.iter().map(store::Op::key).filter(|key| is_in(key, Action::TABLE));
        let fresh: Vec<_> = created.chain(told).collect();
        let landed = self.view.read(|reader| {
            if !fresh.is_empty() {
                return fresh.iter().any(|key| reader.entry(key).is_some());
            }
            txn.ops.iter().all(|op| match op {
                store::Op::Put(key, value) => reader.entry(key).and_then(store::Entry::record) == Some(value),
                store::Op::Delete(key) => reader.entry(key).is_none(),
                store::Op::Add { .. } => true,
            })
        });
        Ok(landed.await?)
    }
}

/// A server that the caller may see; to others it does not exist.
pub fn visible(reader: &Reader<'_>, caller: &Caller, id: &str) -> Result<(Server, Revision), AcceptError> {
    let missing = || AcceptError::NotFound { kind: "Instance", id: id.to_owned() };
    let id: ServerId = id.parse().map_err(|_| missing())?;
    let found = reader.get::<Server>(&id)?;
    found.filter(|(server, _)| caller.may_see(&server.project)).ok_or_else(missing)
}

fn changeable(reader: &Reader<'_>, caller: &Caller, id: &str) -> Result<(Server, Revision), AcceptError> {
    let (server, revision) = visible(reader, caller, id)?;
    permit(caller, &server)?;
    check_lock(caller, &server)?;
    Ok((server, revision))
}

/// Refuses to change a locked server, but for an administrator.
fn check_lock(caller: &Caller, server: &Server) -> Result<(), AcceptError> {
    if server.locked.is_some() && !caller.is_admin() { Err(AcceptError::Locked(server.id)) } else { Ok(()) }
}

fn permit(caller: &Caller, server: &Server) -> Result<(), AcceptError> {
    permit_in(caller, &server.project)
}

/// Refuses a caller who may only look at what belongs to `project`.
pub(crate) fn permit_in(caller: &Caller, project: &ProjectId) -> Result<(), AcceptError> {
    if caller.may_change(project) {
        Ok(())
    } else {
        Err(AcceptError::Forbidden("Policy doesn't allow this action: the role member is needed".into()))
    }
}

fn note_action(cx: &Cx, caller: &Caller, server: &Server, action: &str, txn: &mut Txn) {
    let request_id = cx.request().map(|request| request.to_string()).unwrap_or_default();
    let action = Action {
        server: server.id,
        request_id,
        action: action.to_owned(),
        user: caller.user_id.to_string(),
        project: caller.project.as_ref().map(|project| project.id.to_string()).unwrap_or_default(),
        start: cx.world().wall(),
        finish: None,
        message: None,
        steps: Vec::new(),
        trace: cx.trace(),
    };
    txn.put(action.key(), action.encode());
}

/// Adds to `txn` that the quota of `server` is returned.
pub(crate) fn refund(server: &Server, txn: &mut Txn) {
    for (resource, amount) in server.charges() {
        quota::refund(server.project.as_str(), resource, amount, txn);
    }
    if let Some(group) = server.counting_group() {
        quota::refund(group, GROUP_MEMBERS, 1, txn);
    }
}

/// Adds to `txn` that the quota of ports that were to be made for `server`, and were not, is returned.
pub(crate) fn refund_ports(server: &Server, txn: &mut Txn) {
    let made = server.made_ports();
    if made > 0 {
        txn.merge(networks::return_ports(&server.project, made));
    }
}

/// The policy of a server group.
pub(crate) fn group_policy(reader: &Reader<'_>, group: &str) -> Option<String> {
    let found = reader.get::<ServerGroup>(&group).ok().flatten();
    found.map(|(group, _)| group.policy)
}

/// The node that a server is on or has claimed.
pub(crate) fn placed_on(reader: &Reader<'_>, server: &Server) -> Option<String> {
    if let Some(node) = &server.node {
        return Some(node.clone());
    }
    let (claim, _) = reader.get::<placement::Claim>(&server.id.consumer()).ok().flatten()?;
    let (provider, _) = reader.get::<placement::Provider>(&claim.provider).ok().flatten()?;
    Some(provider.name)
}

/// The project that a request is for.
pub(crate) fn project_of(caller: &Caller) -> Result<ProjectId, AcceptError> {
    caller.project().cloned().map_err(|error| AcceptError::Forbidden(error.to_string()))
}
