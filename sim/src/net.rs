//! The network between processes: what one gives to a wire reaches the other's `rpc::Server` later, or never.
//!
//! There are no bytes on it, only requests and responses. A [`call::Call`] is what both ends share. Neither end learns
//! anything from the other's destructors: when a process dies, the network breaks its calls, and the survivor is told
//! after a while, with or without what was still on its way.

mod call;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::{Either, select};
use http::Request;
use http_body_util::{BodyExt, Full};
use parking_lot::Mutex;
use pki::Identity;
use rpc::{Channel, Peer, Peers, Server, Target, Wire};
use telemetry::Cx;
use tonic::Status;
use tonic::body::Body;
use world::BoxFuture;

use crate::exec::{Exec, Process};
use crate::rng::Rng;

use call::{Call, Caller, Item};

/// How long a message takes, in microseconds: from the least to the most.
const DELAY_US: (u64, u64) = (20, 3_000);
/// How long it takes until a broken connection is noticed.
const BREAK_US: (u64, u64) = (20, 50_000);

#[derive(Default)]
struct Inside {
    listeners: BTreeMap<String, (Process, Server)>,
    calls: BTreeMap<u64, Arc<Call>>,
    next: u64,
    /// Until when messages from or to a name stand still.
    stalled: BTreeMap<String, u64>,
}

/// The network.
pub struct Net {
    exec: Exec,
    /// The process of the network itself: what is on its way outlives its sender.
    process: Process,
    inside: Mutex<Inside>,
    rng: Mutex<Rng>,
}

impl Net {
    /// A network without anybody, whose own tasks run in `process`.
    pub fn new(exec: &Exec, process: Process) -> Arc<Net> {
        let rng = Mutex::new(Rng::new(exec.seed(), "network"));
        Arc::new(Net { exec: exec.clone(), process, inside: Mutex::default(), rng })
    }

    /// From now on `process` answers for `name`.
    pub fn listen(&self, name: &str, process: Process, server: Server) {
        self.inside.lock().listeners.insert(name.to_owned(), (process, server));
    }

    /// Messages from and to `name` stand still for a while.
    pub fn stall(&self, name: &str, span_nanos: u64) {
        let until = self.exec.now() + span_nanos;
        self.inside.lock().stalled.insert(name.to_owned(), until);
    }

    /// Nothing stands still any more.
    pub fn heal(&self) {
        self.inside.lock().stalled.clear();
    }

    /// How `process` reaches others, as `identity`.
    pub fn peers(self: &Arc<Self>, process: Process, identity: Identity) -> Arc<dyn Peers> {
        Arc::new(SimPeers { net: Arc::clone(self), process, identity })
    }

    /// Methods of the calls that `process` makes or serves, sorted.
    pub fn busy_with(&self, process: Process) -> Vec<String> {
        let inside = self.inside.lock();
        let mut methods: Vec<String> = inside
            .calls
            .values()
            .filter(|call| call.is_between(process))
            .map(|call| call.method.rsplit('/').next().unwrap_or_default().to_owned())
            .collect();
        methods.sort();
        methods.dedup();
        methods
    }

    /// `process` has died: its calls break.
    pub fn died(&self, process: Process) {
        let calls: Vec<Arc<Call>> = {
            let mut inside = self.inside.lock();
            inside.listeners.retain(|_, (of, _)| *of != process);
            let broken: Vec<u64> =
                inside.calls.iter().filter(|(_, call)| call.is_between(process)).map(|(id, _)| *id).collect();
            broken.iter().filter_map(|id| inside.calls.remove(id)).collect()
        };
        for call in calls {
            let (span, lost) = {
                let mut rng = self.rng.lock();
                (rng.span_nanos(BREAK_US.0, BREAK_US.1), rng.chance(1, 2))
            };
            let when = self.exec.now() + span;
            if call.caller == process {
                call.hang_up(when);
            } else {
                call.broken(when, lost);
            }
        }
    }

    fn delay(&self, names: [&str; 2]) -> u64 {
        let drawn = self.rng.lock().span_nanos(DELAY_US.0, DELAY_US.1);
        let now = self.exec.now();
        let inside = self.inside.lock();
        let stall =
            names.iter().filter_map(|name| inside.stalled.get(*name)).map(|until| until.saturating_sub(now)).max();
        drawn + stall.unwrap_or(0)
    }

    fn forget(&self, call: &Call) {
        self.inside.lock().calls.remove(&call.id);
    }

    /// The caller has lost interest; the other end hears of it later.
    fn abandon(&self, call: &Call) {
        if self.exec.is_alive(call.caller) && self.inside.lock().calls.remove(&call.id).is_some() {
            call.hang_up(self.exec.now() + self.delay([&call.from, &call.to]));
        }
    }

    /// Carries a request to whoever answers for its target when it arrives.
    async fn deliver(self: Arc<Self>, call: Arc<Call>, request: Request<Bytes>, identity: Identity) {
        let names = [call.from.as_str(), call.to.as_str()];
        let delay = self.delay(names);
        self.exec.sleep(self.process, delay).await;
        let listener = self.inside.lock().listeners.get(&call.to).cloned();
        let Some((process, server)) = listener else {
            let refused = rpc::Error::not_now(format!("nobody answers at {}", call.to));
            call.push(self.exec.now() + self.delay(names), Item::Failed(refused.into()));
            return;
        };
        // What was sent before its sender died or lost interest may have been on the way, or not.
        if call.is_hung_up() && self.rng.lock().chance(1, 2) {
            return;
        }
        call.served_by(process);
        let (parts, body) = request.into_parts();
        let mut request = Request::from_parts(parts, Body::new(Full::new(body)));
        request.extensions_mut().insert(Peer(identity));
        self.exec.spawn(process, Box::pin(Arc::clone(&self).serve(call.clone(), process, server, request)));
    }

    /// In the process that serves: answers, and sends what comes of it, until the caller hangs up.
    async fn serve(self: Arc<Self>, call: Arc<Call>, process: Process, server: Server, request: Request<Body>) {
        let work = std::pin::pin!(async {
            let (parts, mut body) = server.answer(request).await.into_parts();
            self.send(&call, Item::Head(Box::new(parts)));
            while let Some(frame) = body.frame().await {
                match frame {
                    Ok(frame) => self.send(&call, Item::Frame(frame)),
                    Err(status) => {
                        self.send(&call, Item::Failed(status));
                        return;
                    }
                }
            }
            self.send(&call, Item::End);
        });
        let hung_up = std::pin::pin!(call.hung_up(&self.exec, process));
        match select(work, hung_up).await {
            Either::Left(((), _)) | Either::Right(((), _)) => {}
        }
    }

    fn send(&self, call: &Call, item: Item) {
        call.push(self.exec.now() + self.delay([&call.to, &call.from]), item);
    }
}

struct SimPeers {
    net: Arc<Net>,
    process: Process,
    identity: Identity,
}

impl Peers for SimPeers {
    fn channel(&self, target: &Target, cx: &Cx) -> Channel {
        let wire = SimWire {
            net: Arc::clone(&self.net),
            process: self.process,
            identity: self.identity.clone(),
            to: target.name.clone(),
        };
        Channel::new(Arc::new(wire), cx)
    }
}

struct SimWire {
    net: Arc<Net>,
    process: Process,
    identity: Identity,
    to: String,
}

impl Wire for SimWire {
    fn send(&self, request: Request<Body>) -> BoxFuture<'static, Result<http::Response<Body>, Status>> {
        let (net, process, identity) = (Arc::clone(&self.net), self.process, self.identity.clone());
        let to = self.to.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            let method = parts.uri.path().to_owned();
            let call = {
                let mut inside = net.inside.lock();
                inside.next += 1;
                let id = inside.next;
                let call = Arc::new(Call::new(id, method, process, identity.name.clone(), to));
                inside.calls.insert(id, Arc::clone(&call));
                call
            };
            let delivery = Arc::clone(&net).deliver(Arc::clone(&call), Request::from_parts(parts, body), identity);
            net.exec.spawn(net.process, Box::pin(delivery));
            let caller = Caller::new(&net, call);
            caller.response().await
        })
    }
}
