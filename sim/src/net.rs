//! The network between processes: what one gives to a wire reaches the other's `rpc::Server` later, or never.
//!
//! There are no bytes on it, only requests and responses. A [`call::Call`] is what both ends share. Neither end learns
//! anything from the other's destructors: when a process dies, the network breaks its calls, and the survivor is told
//! after a while, with or without what was still on its way. Where nobody was left to say that a connection is gone, each
//! end finds out by itself, when its keepalives are not answered: until then it is half open.
//!
//! Calls overtake each other; what belongs to one call stays in order, and a lost segment holds up all that follows it.
//! Whatever else may happen to a message is in [`faults`].

mod call;
pub mod faults;
mod probe;

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

use crate::exec::points::{Boundary, Failure};
use crate::exec::{Exec, Process};
use crate::rng::Rng;

use call::{Call, Caller, Item};
use faults::{Faults, Quirk};

/// How long a message takes, in microseconds: from the least to the most.
const DELAY_US: (u64, u64) = (20, 3_000);
/// How long it takes until a broken connection is noticed.
const BREAK_US: (u64, u64) = (20, 50_000);
/// How long it takes where only keepalives can tell, at the caller's end and at the other.
pub(crate) const KEEPALIVE_NANOS: (u64, u64) = (8_000_000_000, 15_000_000_000);
/// One in so many messages loses a segment on its way, and waits for it to be sent again for this many microseconds.
const LOSS: u64 = 300;
const RESEND_US: (u64, u64) = (200_000, 3_000_000);
/// Methods that answer with a stream: never sent twice, and their ends are told apart by their connections.
const STREAMS: [&str; 7] = ["Watch", "Snapshot", "Range", "Attend", "Exchange", "Fetch", "Upload"];

#[derive(Default)]
struct Inside {
    listeners: BTreeMap<String, (Process, Server)>,
    calls: BTreeMap<u64, Arc<Call>>,
    next: u64,
    faults: Faults,
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
        self.inside.lock().faults.stalled.insert(name.to_owned(), until);
    }

    /// Nothing gets through from `from` to `to` for a while. Each end of each call between them finds out by itself, if it
    /// takes as long as that.
    pub fn cut(self: &Arc<Self>, from: &str, to: &str, span_nanos: u64) {
        let until = self.exec.now() + span_nanos;
        self.inside.lock().faults.cut.insert((from.to_owned(), to.to_owned()), until);
        let (net, from, to) = (Arc::clone(self), from.to_owned(), to.to_owned());
        let found_out = async move {
            net.exec.sleep(net.process, KEEPALIVE_NANOS.0).await;
            let still = net.inside.lock().faults.hold(net.exec.now(), &from, &to) > 0;
            if still {
                net.sever(|call| (call.from == from && call.to == to) || (call.from == to && call.to == from));
            }
        };
        self.exec.spawn(self.process, Box::pin(found_out));
    }

    /// This befalls the next call to `name`.
    pub fn quirk(&self, name: &str, quirk: Quirk) {
        self.inside.lock().faults.quirks.entry(name.to_owned()).or_default().push_back(quirk);
    }

    /// Everything gets through again.
    pub fn heal(&self) {
        self.inside.lock().faults = Faults::default();
    }

    /// Nobody hears of `process` any more, and it of nobody: both ends of its calls give up.
    pub fn unreachable(&self, process: Process) {
        self.sever(|call| call.is_between(process));
    }

    fn sever(&self, which: impl Fn(&Call) -> bool) {
        let calls = self.take_calls(which);
        let later = KEEPALIVE_NANOS.1 - KEEPALIVE_NANOS.0;
        for call in calls {
            let lost = self.rng.lock().chance(1, 2);
            call.broken(self.exec.now(), lost);
            call.hang_up(self.exec.now() + later);
        }
    }

    fn take_calls(&self, which: impl Fn(&Call) -> bool) -> Vec<Arc<Call>> {
        let mut inside = self.inside.lock();
        let taken: Vec<u64> = inside.calls.iter().filter(|(_, call)| which(call)).map(|(id, _)| *id).collect();
        taken.iter().filter_map(|id| inside.calls.remove(id)).collect()
    }

    /// How `process` reaches others, as `identity`.
    pub fn peers(self: &Arc<Self>, process: Process, identity: Identity) -> Arc<dyn Peers> {
        Arc::new(SimPeers { net: Arc::clone(self), process, identity })
    }

    /// How somebody called `name` tries to reach others.
    pub fn prober(self: &Arc<Self>, name: &str) -> Arc<dyn rpc::Prober> {
        Arc::new(probe::SimProber::new(self, name))
    }

    /// Methods of the calls that `process` makes or serves, sorted.
    pub fn busy_with(&self, process: Process) -> Vec<String> {
        let inside = self.inside.lock();
        let mut methods: Vec<String> =
            inside.calls.values().filter(|call| call.is_between(process)).map(|call| call.method.clone()).collect();
        methods.sort();
        methods.dedup();
        methods
    }

    /// `process` has died: its calls break.
    pub fn died(&self, process: Process) {
        self.inside.lock().listeners.retain(|_, (of, _)| *of != process);
        for call in self.take_calls(|call| call.is_between(process)) {
            let (span, lost) = {
                let mut rng = self.rng.lock();
                // A host that loses power says nothing.
                let silent = rng.chance(1, 10);
                let span = if silent { KEEPALIVE_NANOS.0 } else { rng.span_nanos(BREAK_US.0, BREAK_US.1) };
                (span, rng.chance(1, 2))
            };
            let when = self.exec.now() + span;
            if call.caller == process {
                call.hang_up(when);
            } else {
                call.broken(when, lost);
            }
        }
    }

    fn delay(&self, from: &str, to: &str) -> u64 {
        let drawn = {
            let mut rng = self.rng.lock();
            let resent = if rng.chance(1, LOSS) { rng.span_nanos(RESEND_US.0, RESEND_US.1) } else { 0 };
            rng.span_nanos(DELAY_US.0, DELAY_US.1) + resent
        };
        drawn + self.inside.lock().faults.hold(self.exec.now(), from, to)
    }

    fn call(&self, method: &str, process: Process, from: &str, to: &str) -> Arc<Call> {
        let mut inside = self.inside.lock();
        inside.next += 1;
        let id = inside.next;
        let call = Arc::new(Call::new(id, method.to_owned(), process, from.to_owned(), to.to_owned()));
        inside.calls.insert(id, Arc::clone(&call));
        call
    }

    fn forget(&self, call: &Call) {
        self.inside.lock().calls.remove(&call.id);
    }

    /// The caller has lost interest; the other end hears of it later.
    fn abandon(&self, call: &Call) {
        if self.exec.is_alive(call.caller) && self.inside.lock().calls.remove(&call.id).is_some() {
            call.hang_up(self.exec.now() + self.delay(&call.from, &call.to));
        }
    }

    /// Carries a request to whoever answers for its target when it arrives, `held` nanoseconds later than usual.
    async fn deliver(self: Arc<Self>, call: Arc<Call>, request: Request<Bytes>, identity: Identity, held: u64) {
        let delay = self.delay(&call.from, &call.to) + held;
        self.exec.sleep(self.process, delay).await;
        let listener = self.inside.lock().listeners.get(&call.to).cloned();
        let Some((process, server)) = listener else {
            let refused = rpc::Error::not_now(format!("nobody answers at {}", call.to));
            call.push(self.exec.now() + self.delay(&call.to, &call.from), Item::Failed(refused.into()));
            return;
        };
        // What was sent before its sender died or lost interest may have been on the way, or not.
        if held == 0 && call.is_hung_up() && self.rng.lock().chance(1, 2) {
            return;
        }
        call.served_by(process);
        let _arriving_does_not_fail = self.exec.reach(process, Boundary::CallReceived, &call.method).await;
        let (parts, body) = request.into_parts();
        let mut request = Request::from_parts(parts, Body::new(Full::new(body)));
        request.extensions_mut().insert(Peer(identity));
        self.exec.spawn(process, Box::pin(Arc::clone(&self).serve(call.clone(), process, server, request)));
    }

    /// In the process that serves: answers, and sends what comes of it, until the caller hangs up.
    async fn serve(self: Arc<Self>, call: Arc<Call>, process: Process, server: Server, request: Request<Body>) {
        let work = std::pin::pin!(async {
            let (parts, mut body) = server.answer(request).await.into_parts();
            let _leaving_does_not_fail = self.exec.reach(process, Boundary::CallAnswered, &call.method).await;
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
        call.push(self.exec.now() + self.delay(&call.to, &call.from), item);
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
            let path = parts.uri.path();
            let method = path.rsplit('/').next().unwrap_or(path).to_owned();
            let streams = STREAMS.contains(&method.as_str());
            let swept = net.exec.reach(process, Boundary::CallSent, &method).await;
            let mut quirk = if streams { None } else { net.inside.lock().faults.quirk(&to) };
            match swept {
                Some(Failure::NotDone) => quirk = Some(Quirk::LoseRequest),
                Some(Failure::DoneAndNotSaid) => quirk = Some(Quirk::LoseAnswer),
                Some(Failure::Refused) | None => {}
            }
            if let Some(quirk) = quirk {
                net.exec.note(&to, "quirk", &format!("{method} from {}: {quirk:?}", identity.name));
            }
            let make = || net.call(&method, process, &identity.name, &to);
            let call = make();
            let request = Request::from_parts(parts, body);
            let (exec, of_net) = (net.exec.clone(), net.process);
            let carry = |call: &Arc<Call>, held| {
                let delivery = Arc::clone(&net).deliver(Arc::clone(call), request.clone(), identity.clone(), held);
                net.exec.spawn(net.process, Box::pin(delivery));
            };
            let broke = || Status::unavailable(format!("the connection to {to} broke"));
            // Nobody waits for it: whoever serves it finds that out in the end.
            let alone = |call: &Arc<Call>, held| {
                net.forget(call);
                carry(call, held);
                let (net, call) = (Arc::clone(&net), Arc::clone(call));
                let found_out = async move {
                    net.exec.sleep(net.process, held + KEEPALIVE_NANOS.1).await;
                    call.hang_up(net.exec.now());
                };
                exec.spawn(of_net, Box::pin(found_out));
            };
            match quirk {
                None => carry(&call, 0),
                Some(Quirk::LoseRequest) => {
                    net.forget(&call);
                    return Err(broke());
                }
                Some(Quirk::LoseAnswer) => {
                    alone(&call, 0);
                    return Err(broke());
                }
                Some(Quirk::Late(span)) => {
                    alone(&call, span);
                    return Err(broke());
                }
                Some(Quirk::Again(span)) => {
                    carry(&call, 0);
                    alone(&make(), span);
                }
            }
            let answered = Caller::new(&net, call).response().await;
            let _arriving_does_not_fail = net.exec.reach(process, Boundary::AnswerReceived, &method).await;
            answered
        })
    }
}
