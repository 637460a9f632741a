//! Calls by role: which of those that play it gets a call, and what becomes of a call whose process leaves.
//!
//! A choice is made for each call, when it is sent, from what the directory says at that moment; so a process that appears
//! is used by the next call, and one that leaves gets no more. What was certainly not begun goes elsewhere: a connection
//! that could not be made carried nothing, and a process that starts or leaves says so. What may have been begun is never
//! sent twice: that is for the caller to decide, who knows what it asked.

mod body;
mod books;
mod choice;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use pki::{Identity, Role};
use rpc::{Channel, Error, Peers, Target, Wire, hold_until_end, may_go_elsewhere};
use telemetry::Cx;
use tonic::Status;
use tonic::body::Body;
use world::{BoxFuture, Mono};

use crate::directory::Directory;
use crate::listing::{Listing, Status as Known};

use body::Kept;
use books::{Books, Taken};

/// How long a call waits for somebody who takes it.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// When all that there are have refused a call, they are asked again when something has changed, or after this long, and
/// each time after twice as long up to the most.
const ASK_AGAIN: Duration = Duration::from_millis(25);
const ASK_AGAIN_MAX: Duration = Duration::from_millis(400);
/// Who has not taken the connection after this long is passed over while there are others.
const CONNECT_WAIT: Duration = Duration::from_millis(500);

/// What a process must know of itself to choose others.
#[derive(Clone, Debug)]
pub struct Here {
    /// Who it is.
    pub who: Identity,
    /// What it plays: calls to these roles stay within the process.
    pub roles: BTreeSet<Role>,
    /// Its zone.
    pub zone: String,
}

/// Hands out channels to whoever plays a role, or to whom a name belongs now. A target with an endpoint is left to the
/// peers below.
pub struct Balanced(Arc<Shared>);

struct Shared {
    inner: Arc<dyn Peers>,
    directory: Arc<Directory>,
    here: Here,
    books: Arc<Books>,
}

impl Balanced {
    /// Chooses from `directory`, and reaches those chosen by `inner`.
    pub fn new(inner: Arc<dyn Peers>, directory: &Arc<Directory>, here: Here) -> Arc<Balanced> {
        let directory = Arc::clone(directory);
        Arc::new(Balanced(Arc::new(Shared { inner, directory, here, books: Arc::default() })))
    }
}

impl Peers for Balanced {
    fn channel(&self, target: &Target, cx: &Cx) -> Channel {
        let Shared { inner, here, .. } = &*self.0;
        if !target.endpoint.is_empty() {
            return inner.channel(target, cx);
        }
        if here.roles.contains(&target.role) && (target.name.is_empty() || target.name == here.who.name) {
            return inner.channel(&Target { name: here.who.name.clone(), ..target.clone() }, cx);
        }
        let wire = Chosen { shared: Arc::clone(&self.0), target: target.clone(), cx: cx.clone() };
        Channel::new(Arc::new(wire), cx)
    }
}

/// A wire to whoever is chosen when something is sent.
#[derive(Clone)]
struct Chosen {
    shared: Arc<Shared>,
    target: Target,
    cx: Cx,
}

impl Wire for Chosen {
    fn send(&self, request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, Status>> {
        let this = self.clone();
        Box::pin(async move { this.carry(request).await })
    }
}

/// What one call has met with so far.
struct Refusals {
    /// Who has refused it, by session: another process of that name has not.
    of: BTreeSet<(Identity, u64)>,
    /// The last refusal.
    last: String,
    /// When to ask again, once all have refused.
    again: Duration,
}

impl Refusals {
    fn add(&mut self, taken: &Taken, why: &str) {
        self.last = format!("{}: {why}", taken.listing.who);
        self.of.insert(taken.session());
    }
}

impl Chosen {
    async fn carry(&self, request: Request<Body>) -> Result<Response<Body>, Status> {
        let world = self.cx.world();
        let give_up = self.cx.deadline().min(world.now() + WAIT_MAX);
        let (head, body) = request.into_parts();
        let mut body = Kept::of(body).await;
        let mut refusals = Refusals { of: BTreeSet::new(), last: String::new(), again: ASK_AGAIN };
        loop {
            let seen = self.shared.directory.changes();
            let Some(taken) = self.take(&refusals.of) else {
                self.wait(seen, &mut refusals, give_up).await?;
                continue;
            };
            let wire = self.wire(&taken)?;
            if let Err(status) = self.ready(&wire, &taken, &refusals, give_up).await {
                taken.avoid(world.now());
                refusals.add(&taken, status.message());
                continue;
            }
            let sent = wire.send(Request::from_parts(head.clone(), body.take())).await;
            let elsewhere = match &sent {
                Ok(response) => may_go_elsewhere(response.headers()),
                Err(status) => may_go_elsewhere(status.metadata().as_ref()),
            };
            if elsewhere {
                taken.avoid(world.now());
                if body.is_there() {
                    refusals.add(&taken, "it takes no calls");
                    continue;
                }
            }
            return sent.map(|response| response.map(|body| hold_until_end(body, taken)));
        }
    }

    /// Connects, for no longer than is worth it.
    async fn ready(
        &self,
        wire: &Arc<dyn Wire>,
        taken: &Taken,
        refusals: &Refusals,
        give_up: Mono,
    ) -> Result<(), Status> {
        let world = self.cx.world();
        let slow = || Status::from(Error::not_now("no connection in time"));
        let mut ready = wire.ready();
        if let Ok(ready) = world.timeout(CONNECT_WAIT, &mut ready).await {
            return ready;
        }
        let mut others = refusals.of.clone();
        others.insert(taken.session());
        match self.take(&others) {
            Some(_there_is_one) => Err(slow()),
            None => world.timeout_at(give_up, ready).await.unwrap_or_else(|_| Err(slow())),
        }
    }

    fn wire(&self, taken: &Taken) -> Result<Arc<dyn Wire>, Status> {
        let target = taken.listing.target();
        let target = target.ok_or_else(|| Error::not_now(format!("{} answers nowhere", taken.listing.who)))?;
        Ok(Arc::clone(self.shared.inner.channel(&target, &self.cx).wire()))
    }

    /// Whoever is best now, of those that have not refused.
    fn take(&self, refused: &BTreeSet<(Identity, u64)>) -> Option<Taken> {
        let mut known = self.known();
        if !refused.is_empty() {
            known.retain(|listing| !refused.contains(&(listing.who.clone(), listing.session)));
        }
        self.shared.books.take(known, &self.shared.here.zone, self.cx.world())
    }

    /// Everybody who could be meant.
    fn known(&self) -> Vec<Arc<Listing>> {
        let (directory, Target { role, name, .. }) = (&self.shared.directory, &self.target);
        if name.is_empty() {
            return directory.of(*role);
        }
        if let Some(listing) = directory.get(*role, name) {
            return vec![listing];
        }
        // A process that plays several roles is listed under the one of its certificate.
        directory.of(*role).into_iter().filter(|listing| listing.who.name == *name).collect()
    }

    /// Waits until something has changed since change `seen`; if there are some that have only refused, not for long.
    async fn wait(&self, seen: u64, refusals: &mut Refusals, give_up: Mono) -> Result<(), Status> {
        let world = self.cx.world();
        let known = self.known();
        // Another process of that name would be a change, but then it is for the caller to ask again.
        let gone = |one: &Arc<Listing>| one.status.is_final() || matches!(one.status, Known::Unreachable { .. });
        let hopeless = !self.target.name.is_empty() && !known.is_empty() && known.iter().all(gone);
        if hopeless || world.now() >= give_up {
            return Err(self.nobody(&known, &refusals.last));
        }
        let mut until = give_up;
        if !refusals.of.is_empty() {
            until = until.min(world.now() + refusals.again);
            refusals.again = ASK_AGAIN_MAX.min(refusals.again * 2);
            refusals.of.clear();
        }
        let _either_way = world.timeout_at(until, self.shared.directory.changed(seen)).await;
        Ok(())
    }

    fn nobody(&self, known: &[Arc<Listing>], said: &str) -> Status {
        let mut text = match known {
            [] => format!("nobody is known who is {}", self.target),
            _ => format!("nobody who is {} takes calls", self.target),
        };
        for (index, listing) in known.iter().enumerate() {
            let Listing { who, endpoints, status, serving, .. } = &**listing;
            let endpoint = endpoints.get(Listing::RPC).map_or("no address", String::as_str);
            let serves = if *serving { "" } else { ", not serving" };
            let evidence = status.evidence();
            let because = if evidence.is_empty() { "" } else { ": " };
            let mark = if index == 0 { ": " } else { "; " };
            let _a_string_takes_all = write!(text, "{mark}{who} at {endpoint} is {status}{serves}{because}{evidence}");
        }
        if !said.is_empty() {
            let _a_string_takes_all = write!(text, "; the last refusal was by {said}");
        }
        Error::not_now(text).into()
    }
}

#[cfg(test)]
mod tests;
