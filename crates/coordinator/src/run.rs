//! The shell: finds the works that this coordinator owns and drives each to its end.
//!
//! At its start a coordinator takes over what its earlier self left: it raises the epoch of each such work, so that
//! whatever the earlier self still has in flight is refused. From then on one watch tells it of works that begin, end
//! or are aborted. Works are independent; a bounded number moves at a time.

mod drive;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use config::Permits;
use parking_lot::Mutex;
use planted::Bug;
use rpc::Peers;
use store::{CommitError, Key, KeyRange, Record, Revision, Txn, View, WatchError};
use telemetry::Ring;
use tokio::sync::{Notify, Semaphore};

use crate::name::{Life, Name};
use crate::record::{self, PREFIX, Work, WorkId};
use crate::workflow::Workflow;

/// Wait before the store is asked again after a failure.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// How a coordinator works.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its name: works name it as their owner.
    pub owner: String,
    /// Works that may move at the same time.
    pub concurrent: usize,
}

/// What a person may want to know of a work in flight.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attempt {
    /// The step that it is at.
    pub step: &'static str,
    /// Whether that step is being undone.
    pub undoing: bool,
    /// How often the step was tried without success.
    pub failures: u32,
    /// What it failed with last.
    pub error: Option<String>,
}

#[derive(Default)]
struct Active {
    changed: Arc<Notify>,
    attempt: Attempt,
    /// The work was to begin while it was being looked at already: that look may have come too early.
    again: bool,
}

/// Runs the works of one owner.
pub struct Coordinator {
    view: Arc<View>,
    ring: Arc<Ring>,
    peers: Arc<dyn Peers>,
    workflows: BTreeMap<&'static str, Workflow>,
    options: Options,
    active: Mutex<BTreeMap<WorkId, Active>>,
    permits: Permits,
    /// Its name, while it has it.
    name: Mutex<Option<Name>>,
    /// Closed when another process has taken the name.
    named: Semaphore,
}

impl Coordinator {
    /// Takes over what is left and runs until the process ends.
    pub fn start(
        view: &Arc<View>,
        ring: &Arc<Ring>,
        peers: &Arc<dyn Peers>,
        workflows: Vec<Workflow>,
        options: Options,
    ) -> Arc<Coordinator> {
        let coordinator = Arc::new(Coordinator {
            view: Arc::clone(view),
            ring: Arc::clone(ring),
            peers: Arc::clone(peers),
            workflows: workflows.into_iter().map(|workflow| (workflow.kind, workflow)).collect(),
            permits: Permits::new(options.concurrent),
            options,
            active: Mutex::default(),
            name: Mutex::default(),
            named: Semaphore::new(0),
        });
        let running = Arc::clone(&coordinator);
        ring.world().spawn("coordinator", async move { running.run().await });
        coordinator
    }

    /// Completes when another process has taken the name: this one drives nothing any more and must end. If it is started
    /// again it takes the name back, so that whoever is left in the end has it.
    pub async fn lost_its_name(&self) {
        let _closed = self.named.acquire().await;
    }

    /// The bound on works that move at the same time, which may be moved at any time.
    pub fn works(&self) -> &Permits {
        &self.permits
    }

    /// What is known of a work in flight here.
    pub fn attempt(&self, work: WorkId) -> Option<Attempt> {
        self.active.lock().get(&work).map(|active| active.attempt.clone())
    }

    /// Tries a stuck work again at once.
    pub fn retry(&self, work: WorkId) {
        if let Some(active) = self.active.lock().get(&work) {
            active.changed.notify_one();
        }
    }

    async fn run(self: Arc<Self>) {
        let name = Name::take(self.ring.world(), &self.view, &self.options.owner).await;
        *self.name.lock() = Some(name);
        let mut seen = self.take_over().await;
        loop {
            let error = match self.view.store().watch(&KeyRange::prefix(PREFIX.as_bytes()), seen).await {
                Ok(mut watch) => loop {
                    match watch.next().await {
                        Ok(batches) => {
                            for batch in batches {
                                seen = batch.revision;
                                batch.events.iter().for_each(|event| self.notice(&event.key, event.entry.as_ref()));
                            }
                        }
                        Err(error) => break error,
                    }
                },
                Err(error) => error,
            };
            if let WatchError::Compacted { .. } = error {
                seen = self.look().await;
            }
            self.ring.world().sleep(RETRY_PAUSE).await;
        }
    }

    /// Raises the epoch of every work that an earlier self owned, and drives it. Returns the revision up to which all
    /// works are known.
    async fn take_over(self: &Arc<Self>) -> Revision {
        let (works, seen) = self.mine().await;
        for (work, revision) in works {
            let id = work.id;
            self.raise(work, revision).await;
            self.begin(id);
        }
        seen
    }

    /// Makes a work of this name the work of this life: raises its epoch, so that whoever else acts under the present one
    /// is refused from here on.
    async fn raise(&self, work: Work, mut revision: Revision) {
        let raised = |work: Work, life| Work { epoch: work.epoch.raised(), life, ..work };
        let mut work = work;
        loop {
            let Some(name) = self.name.lock().clone() else { return };
            let taken = raised(work.clone(), name.life());
            let mut txn = Txn::new();
            if !planted::is(Bug::SkipsTheName) {
                name.bind(&mut txn);
            }
            txn.replace(taken.key(), revision, taken.encode());
            match self.view.store().commit(txn).await {
                Ok(_) => return,
                Err(CommitError::Conflict { key, .. }) if self.loses_name(&key) => return,
                Err(CommitError::Conflict { .. }) => match self.reload(taken.id).await {
                    // An unknown commit of ours that happened after all, or an abort that came between.
                    Some((now, at)) if now.owner == self.options.owner => (work, revision) = (now, at),
                    Some(_) | None => return,
                },
                Err(error) => {
                    tracing::warn!(work = %taken.id, %error, "cannot take over a work yet");
                    self.ring.world().sleep(RETRY_PAUSE).await;
                }
            }
        }
    }

    /// Begins whatever is not yet being driven: for when the watch has lost its place.
    async fn look(self: &Arc<Self>) -> Revision {
        let (works, seen) = self.mine().await;
        works.iter().for_each(|(work, _)| self.begin(work.id));
        seen
    }

    async fn mine(&self) -> (Vec<(Work, Revision)>, Revision) {
        loop {
            let listed = self.view.read(|reader| {
                let works = reader.all::<Work>().filter_map(|found| match found {
                    Ok((work, revision)) => (work.owner == self.options.owner).then_some((work, revision)),
                    Err(error) => {
                        tracing::error!(%error, "a work cannot be read and is left alone");
                        None
                    }
                });
                (works.collect::<Vec<_>>(), reader.revision())
            });
            match listed.await {
                Ok(listed) => return listed,
                Err(error) => tracing::warn!(%error, "cannot list works yet"),
            }
            self.ring.world().sleep(RETRY_PAUSE).await;
        }
    }

    async fn reload(&self, id: WorkId) -> Option<(Work, Revision)> {
        loop {
            match self.view.read(|reader| reader.get::<Work>(&id)).await {
                Ok(Ok(found)) => return found,
                Ok(Err(error)) => {
                    tracing::error!(work = %id, %error, "a work cannot be read and is left alone");
                    return None;
                }
                Err(error) => tracing::warn!(%error, "cannot read a work yet"),
            }
            self.ring.world().sleep(RETRY_PAUSE).await;
        }
    }

    fn notice(self: &Arc<Self>, key: &Key, entry: Option<&store::Entry>) {
        let text = key.to_text();
        if text.starts_with("w/busy/") {
            if let Some(work) = entry.and_then(record::id_in) {
                self.begin(work);
            }
        } else if let Some(id) = text.strip_prefix(Work::TABLE)
            // Its creation is no news to whoever drives it; that others have written it since is.
            && entry.is_some_and(|entry| entry.modified > entry.created)
            && let Ok(id) = id.parse::<WorkId>()
            && let Some(active) = self.active.lock().get(&id)
        {
            active.changed.notify_one();
        }
    }

    fn begin(self: &Arc<Self>, work: WorkId) {
        if self.name.lock().is_none() {
            return;
        }
        let changed = {
            let mut active = self.active.lock();
            if let Some(there) = active.get_mut(&work) {
                there.again = true;
                return;
            }
            Arc::clone(&active.entry(work).or_default().changed)
        };
        let coordinator = Arc::clone(self);
        self.ring.world().spawn("work", async move {
            loop {
                drive::drive(&coordinator, work, &changed).await;
                if coordinator.settled(work) {
                    return;
                }
            }
        });
    }

    /// Forgets a work that is not driven any more, unless it was to begin meanwhile.
    fn settled(&self, work: WorkId) -> bool {
        let mut active = self.active.lock();
        match active.get_mut(&work) {
            Some(there) if there.again => {
                there.again = false;
                false
            }
            Some(_) | None => {
                active.remove(&work);
                true
            }
        }
    }

    /// What this process drew when it took its name; `None` once it has lost it.
    fn life(&self) -> Option<Life> {
        self.name.lock().as_ref().map(Name::life)
    }

    /// Whether a conflict on `key` says that another process has taken the name; this one stops.
    fn loses_name(&self, key: &Key) -> bool {
        let mut name = self.name.lock();
        if name.take_if(|name| name.is_lost_by(key)).is_some() {
            tracing::error!(
                owner = self.options.owner,
                "another process has taken the name of this coordinator: it drives no work any more"
            );
            self.named.close();
            return true;
        }
        false
    }

    fn tell(&self, work: WorkId, attempt: Attempt) {
        if let Some(active) = self.active.lock().get_mut(&work) {
            active.attempt = attempt;
        }
    }
}
