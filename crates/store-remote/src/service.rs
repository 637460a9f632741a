//! A store as a gRPC service: decode, one call, encode; long answers in pieces.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::stream::{self, Stream};
use proto::store::v1 as wire;
use proto::store::v1::store_service_server::{StoreService, StoreServiceServer};
use store::port::Snapshot;
use store::{Batch, Entry, Key, ReadError, Revision, Store, Watch, WatchError};
use tonic::{Request, Response, Status};
use world::World;

use crate::convert;
use crate::fence::Gate;

/// Bytes after which a piece is sent. One more entry or commit may still be in it, so a message stays far below the 4 MiB
/// that every receiver takes.
const PIECE_BYTES: usize = 1024 * 1024;
/// What an entry costs beside its key and value, at most.
const OVERHEAD_BYTES: usize = 64;

type Pieces<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The service.
pub struct Service {
    store: Arc<dyn Store>,
    gate: Gate,
}

/// `store`, which was just opened, as a service to mount on a server.
pub fn service(world: &World, store: Arc<dyn Store>) -> StoreServiceServer<Service> {
    StoreServiceServer::new(Service { store, gate: Gate::new(world) })
}

#[tonic::async_trait]
impl StoreService for Service {
    type RangeStream = Pieces<wire::RangeResponse>;
    type WatchStream = Pieces<wire::WatchResponse>;
    type SnapshotStream = Pieces<wire::SnapshotResponse>;

    async fn get(&self, request: Request<wire::GetRequest>) -> Result<Response<wire::GetResponse>, Status> {
        let key = Key::new(request.into_inner().key);
        let entry = self.store.get(&key).await.map_err(unreadable)?;
        Ok(Response::new(wire::GetResponse { entry: entry.map(|entry| convert::entry_to_wire(&key, &entry)) }))
    }

    async fn range(&self, request: Request<wire::RangeRequest>) -> Result<Response<Self::RangeStream>, Status> {
        let request = request.into_inner();
        let range = convert::range_from_wire(request.range).map_err(nonsense)?;
        let limit = usize::try_from(request.limit).unwrap_or(usize::MAX);
        let page = self.store.range(&range, limit).await.map_err(unreadable)?;
        let (more, revision) = (page.more, page.revision.as_u64());
        // Encoded one after the other, as the receiver takes them.
        let pieces = pieces(page.entries, entry_bytes)
            .into_iter()
            .map(move |entries| Ok(wire::RangeResponse { entries: entries_to_wire(&entries), more, revision }));
        Ok(Response::new(Box::pin(stream::iter(pieces))))
    }

    async fn watch(&self, request: Request<wire::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let request = request.into_inner();
        let range = convert::range_from_wire(request.range).map_err(nonsense)?;
        let after = Revision::from_u64(request.after);
        let watching = match self.store.watch(&range, after).await {
            Ok(watch) => Watching::Following { watch, ready: VecDeque::new() },
            Err(compacted @ WatchError::Compacted { .. }) => Watching::Refused(compacted),
            Err(WatchError::Closed { reason }) => return Err(rpc::Error::not_now(reason).into()),
        };
        Ok(Response::new(Box::pin(stream::unfold(watching, Watching::next))))
    }

    async fn snapshot(&self, _: Request<wire::SnapshotRequest>) -> Result<Response<Self::SnapshotStream>, Status> {
        let snapshot = self.store.snapshot().await.map_err(unreadable)?;
        // The first piece is empty: it tells the revision at once.
        let reading = Reading::Going { snapshot, ready: VecDeque::from([Vec::new()]) };
        Ok(Response::new(Box::pin(stream::unfold(reading, Reading::next))))
    }

    async fn commit(&self, request: Request<wire::CommitRequest>) -> Result<Response<wire::CommitResponse>, Status> {
        let request = request.into_inner();
        let place = convert::place_from_wire(request.place.as_ref());
        let txn = convert::txn_from_wire(request).map_err(nonsense)?;
        Ok(Response::new(match self.gate.admit(place) {
            Ok(()) => convert::outcome_to_wire(self.store.commit(txn).await),
            Err(kept) => convert::kept_to_wire(kept),
        }))
    }
}

/// Where the answer to a watch stands.
enum Watching {
    Following { watch: Box<dyn Watch>, ready: VecDeque<Vec<Arc<Batch>>> },
    Refused(WatchError),
    Ended,
}

impl Watching {
    async fn next(self) -> Option<(Result<wire::WatchResponse, Status>, Watching)> {
        match self {
            Watching::Following { mut watch, mut ready } => {
                if ready.is_empty() {
                    match watch.next().await {
                        Ok(batches) => ready.extend(pieces(batches, batch_bytes)),
                        Err(error) => return Some((last_words(error), Watching::Ended)),
                    }
                }
                let batches = ready.pop_front().unwrap_or_default();
                let batches = batches.iter().map(|batch| convert::batch_to_wire(batch)).collect();
                let told = wire::WatchResponse { batches, compacted: None };
                Some((Ok(told), Watching::Following { watch, ready }))
            }
            Watching::Refused(error) => Some((last_words(error), Watching::Ended)),
            Watching::Ended => None,
        }
    }
}

fn last_words(error: WatchError) -> Result<wire::WatchResponse, Status> {
    match error {
        WatchError::Compacted { after } => {
            Ok(wire::WatchResponse { batches: Vec::new(), compacted: Some(wire::Compacted { after: after.as_u64() }) })
        }
        WatchError::Closed { reason } => Err(rpc::Error::not_now(reason).into()),
    }
}

/// Where the answer to a snapshot stands.
enum Reading {
    Going { snapshot: Box<dyn Snapshot>, ready: VecDeque<Vec<(Key, Entry)>> },
    Ended,
}

impl Reading {
    async fn next(self) -> Option<(Result<wire::SnapshotResponse, Status>, Reading)> {
        let Reading::Going { mut snapshot, mut ready } = self else { return None };
        if ready.is_empty() {
            match snapshot.next().await {
                Ok(page) if page.is_empty() => return None,
                Ok(page) => ready.extend(pieces(page, entry_bytes)),
                Err(error) => return Some((Err(unreadable(error)), Reading::Ended)),
            }
        }
        let entries = entries_to_wire(&ready.pop_front().unwrap_or_default());
        let told = wire::SnapshotResponse { revision: snapshot.revision().as_u64(), entries };
        Some((Ok(told), Reading::Going { snapshot, ready }))
    }
}

fn entries_to_wire(entries: &[(Key, Entry)]) -> Vec<wire::Entry> {
    entries.iter().map(|(key, entry)| convert::entry_to_wire(key, entry)).collect()
}

/// `all` cut into pieces of about [`PIECE_BYTES`], in order; one empty piece if there is nothing.
fn pieces<T>(all: Vec<T>, bytes: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let (mut pieces, mut piece, mut size) = (Vec::new(), Vec::new(), 0);
    for item in all {
        size += bytes(&item);
        piece.push(item);
        if size >= PIECE_BYTES {
            pieces.push(std::mem::take(&mut piece));
            size = 0;
        }
    }
    if pieces.is_empty() || !piece.is_empty() {
        pieces.push(piece);
    }
    pieces
}

fn entry_bytes((key, entry): &(Key, Entry)) -> usize {
    OVERHEAD_BYTES + key.as_bytes().len() + entry.record().map_or(0, |record| record.len())
}

fn batch_bytes(batch: &Arc<Batch>) -> usize {
    let event = |event: &store::Event| {
        let record = event.entry.as_ref().and_then(Entry::record).map_or(0, |record| record.len());
        OVERHEAD_BYTES + event.key.as_bytes().len() + record
    };
    batch.events.iter().map(event).sum()
}

fn unreadable(error: ReadError) -> Status {
    rpc::Error::not_now(error.reason).into()
}

fn nonsense(what: convert::Nonsense) -> Status {
    rpc::Error::no(what).into()
}
