//! The service as a store.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use proto::store::v1 as wire;
use proto::store::v1::commit_response::Outcome;
use proto::store::v1::store_service_client::StoreServiceClient;
use rpc::{Channel, Peers, Target, Verdict};
use store::port::Snapshot;
use store::{Batch, CommitError, Entry, Key, KeyRange, Page, ReadError, Revision, Store, Txn, Watch, WatchError};
use telemetry::{Cx, Ring};
use tonic::{Status, Streaming};

use crate::convert;
use crate::fence::{Place, Queue};
use crate::heads::Heads;

/// How long an answer may take to begin. Streams may then take as long as they like.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(10);

/// A store that another process holds. Cloning shares it.
#[derive(Clone)]
pub struct RemoteStore {
    remote: Remote,
    heads: Arc<Heads>,
    queue: Arc<Queue>,
}

#[derive(Clone)]
struct Remote {
    peers: Arc<dyn Peers>,
    target: Target,
    ring: Arc<Ring>,
}

impl RemoteStore {
    /// The store that `target` holds, reached through `peers`. Connects with the first call.
    pub fn new(peers: Arc<dyn Peers>, target: Target, ring: &Arc<Ring>) -> RemoteStore {
        let queue = Arc::new(Queue::new(ring.world()));
        RemoteStore { remote: Remote { peers, target, ring: Arc::clone(ring) }, heads: Arc::default(), queue }
    }
}

impl Remote {
    fn client(&self) -> StoreServiceClient<Channel> {
        let deadline = self.ring.world().now() + ANSWER_WAIT_MAX;
        let cx = Cx::root(&self.ring, None, deadline);
        StoreServiceClient::new(self.peers.channel(&self.target, &cx))
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, ReadError> {
        let request = wire::GetRequest { key: key.to_bytes() };
        let response = self.client().get(request).await.map_err(unreadable)?.into_inner();
        let entry = response.entry.map(convert::entry_from_wire).transpose().map_err(nonsense)?;
        Ok(entry.map(|(_, entry)| entry))
    }

    async fn commit(&self, txn: Txn, place: Place) -> Result<wire::CommitResponse, CommitError> {
        match self.client().commit(convert::txn_to_wire(txn, place)).await {
            Ok(response) => Ok(response.into_inner()),
            Err(status) => {
                let error = rpc::Error::from(status);
                Err(match error.verdict {
                    Verdict::No | Verdict::NotNow => CommitError::NotNow { reason: error.reason },
                    Verdict::Unknown => CommitError::Unknown { reason: error.reason },
                })
            }
        }
    }

    async fn head(self) -> Result<Revision, ReadError> {
        Ok(self.get(&Key::HEAD).await?.map_or(Revision::ZERO, |entry| entry.modified))
    }
}

#[async_trait]
impl Store for RemoteStore {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, ReadError> {
        self.remote.get(key).await
    }

    async fn range(&self, range: &KeyRange, limit: usize) -> Result<Page, ReadError> {
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        let request = wire::RangeRequest { range: Some(convert::range_to_wire(range)), limit };
        let mut pieces = self.remote.client().range(request).await.map_err(unreadable)?.into_inner();
        let mut page: Option<Page> = None;
        while let Some(piece) = pieces.message().await.map_err(unreadable)? {
            let entries = convert::entries_from_wire(piece.entries).map_err(nonsense)?;
            let revision = Revision::from_u64(piece.revision);
            page.get_or_insert_with(|| Page { entries: Vec::new(), more: piece.more, revision })
                .entries
                .extend(entries);
        }
        page.ok_or_else(|| nonsense("a page without any piece".into()))
    }

    async fn watch(&self, range: &KeyRange, after: Revision) -> Result<Box<dyn Watch>, WatchError> {
        let request = wire::WatchRequest { range: Some(convert::range_to_wire(range)), after: after.as_u64() };
        let stream = self.remote.client().watch(request).await.map_err(closed)?.into_inner();
        Ok(Box::new(RemoteWatch { stream }))
    }

    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, ReadError> {
        let mut stream =
            self.remote.client().snapshot(wire::SnapshotRequest {}).await.map_err(unreadable)?.into_inner();
        let first = stream.message().await.map_err(unreadable)?;
        let first = first.ok_or_else(|| nonsense("a snapshot without any piece".into()))?;
        let ready = convert::entries_from_wire(first.entries).map_err(nonsense)?;
        Ok(Box::new(RemoteSnapshot { revision: Revision::from_u64(first.revision), ready, stream }))
    }

    async fn commit(&self, txn: Txn) -> Result<Revision, CommitError> {
        txn.check().map_err(CommitError::Invalid)?;
        let turn = self.queue.turn();
        let answer = self.remote.commit(txn.clone(), turn.place()).await?;
        let Some(Outcome::OtherLife(life)) = answer.outcome else { return convert::outcome_from_wire(answer) };
        // The first commit of this process, or of this life of the store: nothing has happened.
        self.queue.in_life(life);
        convert::outcome_from_wire(self.remote.commit(txn, turn.place()).await?)
    }

    async fn head(&self) -> Result<Revision, ReadError> {
        let remote = self.remote.clone();
        self.heads.ask(move || remote.head().boxed()).await
    }
}

struct RemoteWatch {
    stream: Streaming<wire::WatchResponse>,
}

#[async_trait]
impl Watch for RemoteWatch {
    async fn next(&mut self) -> Result<Vec<Arc<Batch>>, WatchError> {
        // The only wait; what has arrived is never held across it, so dropping this loses nothing.
        let told = self.stream.message().await.map_err(closed)?;
        let broken = |reason: &str| WatchError::Closed { reason: reason.to_owned() };
        let Some(told) = told else { return Err(broken("the store ended the watch")) };
        if let Some(compacted) = told.compacted {
            return Err(WatchError::Compacted { after: Revision::from_u64(compacted.after) });
        }
        let batches = told.batches.into_iter().map(|batch| convert::batch_from_wire(batch).map(Arc::new));
        batches.collect::<Result<_, _>>().map_err(|what| broken(&what))
    }
}

struct RemoteSnapshot {
    revision: Revision,
    /// Entries that came with the revision.
    ready: Vec<(Key, Entry)>,
    stream: Streaming<wire::SnapshotResponse>,
}

#[async_trait]
impl Snapshot for RemoteSnapshot {
    fn revision(&self) -> Revision {
        self.revision
    }

    async fn next(&mut self) -> Result<Vec<(Key, Entry)>, ReadError> {
        let mut entries = std::mem::take(&mut self.ready);
        while entries.is_empty() {
            // Only the end of the stream is the end of the state: a broken one is an error.
            let Some(piece) = self.stream.message().await.map_err(unreadable)? else { break };
            entries = convert::entries_from_wire(piece.entries).map_err(nonsense)?;
        }
        Ok(entries)
    }
}

fn unreadable(status: Status) -> ReadError {
    ReadError { reason: rpc::Error::from(status).to_string() }
}

fn closed(status: Status) -> WatchError {
    WatchError::Closed { reason: rpc::Error::from(status).to_string() }
}

fn nonsense(what: convert::Nonsense) -> ReadError {
    ReadError { reason: format!("the store's answer makes no sense: {what}") }
}
