//! The gRPC service.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, stream};
use names::Version;
use pki::{Identity, Role};
use proto::liveness::v1 as wire;
use proto::liveness::v1::liveness_service_server::LivenessService;
use rpc::{Target, link_of, peer_of};
use tokio::sync::Notify;
use tonic::{Request, Response, Status};

use super::stream::{Sending, Watching};
use super::{ConfigDocument, Instance};
use crate::core::{Attend, Lock, Told, Wanted, Who};
use crate::wire as convert;

/// The service of an instance.
pub struct Service(pub(super) Arc<Instance>);

type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// A secret has so many bytes.
const SECRET_BYTES: usize = 16;

fn no(reason: impl std::fmt::Display) -> Status {
    rpc::Error::no(reason).into()
}

/// What a secret is kept as: who reads it cannot resume the session with it.
fn lock(secret: &[u8]) -> Result<Lock, Status> {
    if secret.len() != SECRET_BYTES {
        return Err(no(format!("the secret of a session has {SECRET_BYTES} bytes")));
    }
    let digest = ring::digest::digest(&ring::digest::SHA256, secret);
    digest.as_ref().try_into().map_err(|_| Status::internal("a digest is not as long as digests are"))
}

/// Of whom a process with the role `own` hears: a node of the control processes that it has to do with, and of no other node.
fn permitted(own: Role, watch: &[String]) -> Wanted {
    let roles = match (convert::wanted_of(watch), own) {
        (Wanted::All, Role::Agent) => Role::PARTS.into(),
        (Wanted::All, _) => return Wanted::All,
        (Wanted::Roles(roles), Role::Agent) => roles.into_iter().filter(|role| Role::PARTS.contains(role)).collect(),
        (Wanted::Roles(roles), _) => roles,
    };
    // Whoever has a session may have to go to another instance.
    Wanted::Roles(roles.into_iter().chain([Role::Liveness]).collect())
}

fn who(peer: &Identity) -> Who {
    Arc::new((peer.role, peer.name.clone()))
}

#[async_trait::async_trait]
impl LivenessService for Service {
    type AttendStream = Streamed<wire::AttendResponse>;
    type WatchStream = Streamed<wire::WatchResponse>;
    type ExchangeStream = Streamed<wire::ExchangeResponse>;

    async fn attend(&self, request: Request<wire::AttendRequest>) -> Result<Response<Self::AttendStream>, Status> {
        let (peer, link) = (peer_of(&request)?, link_of(&request));
        let told = request.into_inner();
        let listing = convert::listing_of(peer, told.facts.unwrap_or_default()).map_err(no)?;
        let attend = Attend {
            listing,
            lock: lock(&told.secret)?,
            session: told.session,
            turn: told.turn,
            change: told.turn << 32,
        };
        let wanted = (!told.watch.is_empty()).then(|| permitted(attend.listing.who.role, &told.watch));
        let seen = convert::version_of(told.seen.as_ref());
        let sending = Sending::begin(&self.0, attend, wanted, seen, told.config, link).map_err(no)?;
        let said = stream::unfold(sending, |mut sending| async move {
            let said = sending.next().await?;
            Some((Ok(wire::AttendResponse { said: Some(said) }), sending))
        });
        Ok(Response::new(Box::pin(said)))
    }

    async fn tell(&self, request: Request<wire::TellRequest>) -> Result<Response<wire::TellResponse>, Status> {
        let peer = peer_of(&request)?;
        let told = request.into_inner();
        let tried = convert::tried_of(told.tried());
        let facts = match told.facts {
            Some(facts) => Some((convert::listing_of(peer.clone(), facts).map_err(no)?, told.change)),
            None => None,
        };
        let asked = told.answers.filter(|number| !self.0.answered(&peer.to_string(), *number, tried));
        let (who, lock, told) = (who(&peer), lock(&told.secret)?, Told { facts, answers: asked });
        if self.0.with(|core, now| core.told(now, &who, &lock, told)) {
            Ok(Response::new(wire::TellResponse {}))
        } else {
            Err(rpc::Error::not_now("this instance does not know that session").into())
        }
    }

    async fn leave(&self, request: Request<wire::LeaveRequest>) -> Result<Response<wire::LeaveResponse>, Status> {
        let who = who(&peer_of(&request)?);
        let lock = lock(&request.into_inner().secret)?;
        self.0.with(|core, now| core.leave(now, &who, &lock));
        Ok(Response::new(wire::LeaveResponse {}))
    }

    async fn watch(&self, request: Request<wire::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let told = request.into_inner();
        let wanted = if told.roles.is_empty() { Wanted::All } else { convert::wanted_of(&told.roles) };
        let watching = Watching::begin(&self.0, wanted, convert::version_of(told.seen.as_ref()));
        let names = stream::unfold(watching, |mut watching| async move {
            let names = watching.next().await;
            Some((Ok(wire::WatchResponse { names: Some(names) }), watching))
        });
        Ok(Response::new(Box::pin(names)))
    }

    async fn exchange(
        &self,
        request: Request<wire::ExchangeRequest>,
    ) -> Result<Response<Self::ExchangeStream>, Status> {
        let (peer, link) = (peer_of(&request)?, link_of(&request));
        let told = request.into_inner();
        let heard = convert::version_of(told.heard.as_ref());
        let wake = Arc::new(Notify::new());
        let watcher = {
            let mut inside = self.0.inside.lock();
            if let Some(link) = link {
                inside.incoming.insert(peer.to_string(), link);
            }
            let number = inside.watchers.add(&Wanted::All, &wake);
            if !told.endpoint.is_empty() {
                let caller = Target { role: peer.role, name: peer.name, endpoint: told.endpoint };
                inside.callers.insert(number, caller);
            }
            number
        };
        self.0.follow.notify_one();
        let telling =
            Telling { instance: Arc::clone(&self.0), watcher, wake, heard, config: 0, first: true, queue: Vec::new() };
        let said = stream::unfold(telling, |mut telling| async move {
            let said = telling.next().await;
            Some((Ok(said), telling))
        });
        Ok(Response::new(Box::pin(said)))
    }

    async fn reach(&self, request: Request<wire::ReachRequest>) -> Result<Response<wire::ReachResponse>, Status> {
        let endpoint = request.into_inner().endpoint;
        let tried = self.0.reach_for_another(&endpoint).await;
        Ok(Response::new(wire::ReachResponse { tried: convert::tried(tried).into() }))
    }

    async fn publish(&self, request: Request<wire::PublishRequest>) -> Result<Response<wire::PublishResponse>, Status> {
        if let Some(config) = request.into_inner().config {
            self.0.publish(ConfigDocument { revision: config.revision, document: config.document });
        }
        Ok(Response::new(wire::PublishResponse {}))
    }
}

/// What is said to another instance.
struct Telling {
    instance: Arc<Instance>,
    watcher: u64,
    wake: Arc<Notify>,
    heard: Version,
    config: u64,
    first: bool,
    /// The next message is the last.
    queue: Vec<wire::ExchangeResponse>,
}

impl Telling {
    async fn next(&mut self) -> wire::ExchangeResponse {
        loop {
            if let Some(message) = self.queue.pop() {
                return message;
            }
            let (said, config) = {
                let inside = self.instance.inside.lock();
                let config = (inside.config.revision > self.config).then(|| inside.config.clone());
                (inside.core.say(self.heard), config)
            };
            self.heard = said.version;
            // Also who has nothing to say says so once: from then on it is known who this is.
            if !std::mem::take(&mut self.first) && said.statements.is_empty() && !said.whole && config.is_none() {
                self.wake.notified().await;
                continue;
            }
            let mut messages = convert::said(&self.instance.name, &said);
            if let (Some(config), Some(last)) = (config, messages.last_mut()) {
                self.config = config.revision;
                last.config = Some(wire::Config { revision: config.revision, document: config.document });
            }
            messages.reverse();
            self.queue = messages;
        }
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        let mut inside = self.instance.inside.lock();
        inside.watchers.remove(self.watcher);
        inside.callers.remove(&self.watcher);
    }
}
