//! The shell: feeds the table from the store, answers over RPC.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use names::{Directory, Purpose};
use parking_lot::RwLock;
use pki::Role;
use proto::scheduler::v1 as wire;
use proto::scheduler::v1::scheduler_service_server::{SchedulerService, SchedulerServiceServer};
use store::{KeyRange, Revision, Store, WatchError};
use tonic::{Response, Status};
use world::World;

use crate::decide::{Request, decide};
use crate::hosts::{Hosts, PREFIX};

/// Wait before the store is asked again after a failure.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// Candidates that one answer holds at most.
const CANDIDATES_MAX: u32 = 16;
/// Refused hosts that are named per reason; the count is always whole.
const NAMED_REFUSALS_MAX: usize = 8;
const PAGE_ENTRIES: usize = 1000;

/// A scheduler: a table that follows the store.
pub struct Scheduler {
    hosts: RwLock<Hosts>,
    absent: RwLock<Arc<BTreeMap<String, String>>>,
}

impl Scheduler {
    /// Follows `store` and `directory` until the process ends.
    pub fn start(world: &World, store: Arc<dyn Store>, directory: &Arc<Directory>) -> Arc<Scheduler> {
        let scheduler = Arc::new(Scheduler { hosts: RwLock::default(), absent: RwLock::default() });
        let (listener, directory) = (Arc::clone(&scheduler), Arc::clone(directory));
        world.spawn("scheduler liveness", async move {
            let mut seen = 0;
            loop {
                *listener.absent.write() = Arc::new(absent(&directory));
                seen = directory.changed(seen).await;
            }
        });
        let (follower, task_world) = (Arc::clone(&scheduler), world.clone());
        world.spawn("scheduler", async move {
            loop {
                if let Err(reason) = follower.follow(&store).await {
                    tracing::info!(reason, "the scheduler lists the hosts again");
                }
                task_world.sleep(RETRY_PAUSE).await;
            }
        });
        scheduler
    }

    async fn follow(&self, store: &Arc<dyn Store>) -> Result<(), String> {
        let mut seen = self.list(store).await?;
        loop {
            let mut watch = match store.watch(&KeyRange::prefix(PREFIX.as_bytes()), seen).await {
                Ok(watch) => watch,
                Err(error) => return Err(error.to_string()),
            };
            loop {
                match watch.next().await {
                    Ok(batches) => {
                        let mut hosts = self.hosts.write();
                        for batch in batches {
                            seen = batch.revision;
                            batch.events.iter().for_each(|event| hosts.apply(&event.key, event.entry.as_ref()));
                        }
                    }
                    Err(WatchError::Closed { .. }) => break,
                    Err(error @ WatchError::Compacted { .. }) => return Err(error.to_string()),
                }
            }
        }
    }

    async fn list(&self, store: &Arc<dyn Store>) -> Result<Revision, String> {
        let mut range = KeyRange::prefix(PREFIX.as_bytes());
        let mut hosts = Hosts::default();
        let mut oldest = None;
        loop {
            let page = store.range(&range, PAGE_ENTRIES).await.map_err(|error| error.to_string())?;
            // Pages may be of different revisions: the watch from the first one on repeats what the later ones had.
            let from = *oldest.get_or_insert(page.revision);
            page.entries.iter().for_each(|(key, entry)| hosts.apply(key, Some(entry)));
            match page.entries.last() {
                Some((key, _)) if page.more => range = range.after(key),
                Some(_) | None => {
                    *self.hosts.write() = hosts;
                    return Ok(from);
                }
            }
        }
    }
}

/// The nodes on which nothing new may be placed for what liveness says of their agents. One of which it says nothing is
/// not among them: when the last instance was started again, everybody is unknown for a moment.
fn absent(directory: &Directory) -> BTreeMap<String, String> {
    let agents = directory.of(Role::Agent).into_iter().filter(|listing| !listing.status.permits(Purpose::Place));
    let reason = |status: &names::Status| format!("its agent is {status}: {}", status.evidence());
    agents.map(|listing| (listing.who.name.clone(), reason(&listing.status))).collect()
}

struct Service(Arc<Scheduler>);

/// The gRPC service of `scheduler`.
pub fn service(scheduler: &Arc<Scheduler>) -> SchedulerServiceServer<impl SchedulerService> {
    SchedulerServiceServer::new(Service(Arc::clone(scheduler)))
}

#[async_trait::async_trait]
impl SchedulerService for Service {
    async fn select(
        &self,
        request: tonic::Request<wire::SelectRequest>,
    ) -> Result<Response<wire::SelectResponse>, Status> {
        let wanted = request.into_inner();
        let given = |text: String| (!text.is_empty()).then_some(text);
        let subject = wanted.subject.iter().take(8).fold(0, |sum: u64, byte| sum << 8 | u64::from(*byte));
        let request = Request {
            resources: wanted.resources,
            zone: given(wanted.availability_zone),
            host: given(wanted.host),
            excluded: wanted.excluded,
            absent: Arc::clone(&self.0.absent.read()),
            group_policy: given(wanted.group_policy),
            group_hosts: wanted.group_hosts,
            limit: wanted.limit.clamp(1, CANDIDATES_MAX) as usize,
            subject,
        };
        let candidates = decide(&self.0.hosts.read(), &request);
        let refusals = candidates.refused.into_iter().map(|(reason, mut hosts)| {
            let count = u32::try_from(hosts.len()).unwrap_or(u32::MAX);
            hosts.truncate(NAMED_REFUSALS_MAX);
            wire::Refusal { reason, count, hosts }
        });
        Ok(Response::new(wire::SelectResponse { hosts: candidates.hosts, refusals: refusals.collect() }))
    }
}
