//! One call between two processes: what is on its way, when it arrives, and how each end learns of the other's end.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::future::poll_fn;
use http::response::Parts;
use http_body::Frame;
use parking_lot::Mutex;
use tonic::Status;
use tonic::body::Body;

use super::Net;
use crate::exec::{Exec, Process, Sleep};

/// What travels back.
pub(super) enum Item {
    Head(Box<Parts>),
    Frame(Frame<Bytes>),
    End,
    Failed(Status),
}

#[derive(Default)]
struct Inside {
    /// In the order of arrival.
    coming: VecDeque<(u64, Item)>,
    caller: Option<Waker>,
    served_by: Option<Process>,
    /// When the serving end learns that nobody waits any more.
    hung_up: Option<u64>,
    server: Option<Waker>,
}

pub(super) struct Call {
    pub(super) id: u64,
    pub(super) method: String,
    pub(super) caller: Process,
    pub(super) from: String,
    pub(super) to: String,
    inside: Mutex<Inside>,
}

impl Call {
    pub(super) fn new(id: u64, method: String, caller: Process, from: String, to: String) -> Call {
        Call { id, method, caller, from, to, inside: Mutex::default() }
    }

    pub(super) fn is_between(&self, process: Process) -> bool {
        self.caller == process || self.inside.lock().served_by == Some(process)
    }

    pub(super) fn served_by(&self, process: Process) {
        self.inside.lock().served_by = Some(process);
    }

    /// Lets `item` arrive at `when`, or after what was sent before.
    pub(super) fn push(&self, when: u64, item: Item) {
        let waker = {
            let inside = &mut *self.inside.lock();
            let when = inside.coming.back().map_or(when, |(last, _)| when.max(*last));
            inside.coming.push_back((when, item));
            inside.caller.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }

    /// The serving end is gone; the caller learns it at `when`. `lost`: without what was on its way.
    pub(super) fn broken(&self, when: u64, lost: bool) {
        if lost {
            self.inside.lock().coming.clear();
        }
        self.push(when, Item::Failed(Status::unavailable(format!("the connection to {} broke", self.to))));
    }

    pub(super) fn hang_up(&self, when: u64) {
        let waker = {
            let mut inside = self.inside.lock();
            inside.hung_up = Some(when);
            inside.server.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }

    pub(super) fn is_hung_up(&self) -> bool {
        self.inside.lock().hung_up.is_some()
    }

    /// Completes when the serving end, in `process`, learns that nobody waits.
    pub(super) async fn hung_up(&self, exec: &Exec, process: Process) {
        let when = poll_fn(|cx| {
            let mut inside = self.inside.lock();
            match inside.hung_up {
                Some(when) => Poll::Ready(when),
                None => {
                    inside.server = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        });
        let when = when.await;
        exec.sleep(process, when.saturating_sub(exec.now())).await;
    }
}

/// The calling end. Dropped before the end, it lets the other one know; in a dead process it does nothing.
pub(super) struct Caller {
    net: Arc<Net>,
    call: Arc<Call>,
    wait: Option<Sleep>,
    over: bool,
}

impl Caller {
    pub(super) fn new(net: &Arc<Net>, call: Arc<Call>) -> Caller {
        Caller { net: Arc::clone(net), call, wait: None, over: false }
    }

    /// The head of the response; the rest is its body.
    pub(super) async fn response(mut self) -> Result<http::Response<Body>, Status> {
        match poll_fn(|cx| self.poll_item(cx)).await {
            Item::Head(parts) => Ok(http::Response::from_parts(*parts, Body::new(self))),
            Item::Failed(status) => Err(status),
            Item::Frame(_) | Item::End => Err(Status::internal("a response without a head")),
        }
    }

    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Item> {
        loop {
            if let Some(wait) = &mut self.wait {
                std::task::ready!(Pin::new(wait).poll(cx));
                self.wait = None;
            }
            let now = self.net.exec.now();
            let mut inside = self.call.inside.lock();
            match inside.coming.front() {
                Some((when, _)) if *when > now => {
                    let span = *when - now;
                    drop(inside);
                    self.wait = Some(self.net.exec.sleep(self.call.caller, span));
                }
                Some(_) => {
                    let item = inside.coming.pop_front().map_or(Item::End, |(_, item)| item);
                    drop(inside);
                    if matches!(item, Item::End | Item::Failed(_)) {
                        self.over = true;
                        self.net.forget(&self.call);
                    }
                    return Poll::Ready(item);
                }
                None => {
                    inside.caller = Some(cx.waker().clone());
                    return Poll::Pending;
                }
            }
        }
    }
}

impl http_body::Body for Caller {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.over {
            return Poll::Ready(None);
        }
        match std::task::ready!(self.poll_item(cx)) {
            Item::Frame(frame) => Poll::Ready(Some(Ok(frame))),
            Item::End => Poll::Ready(None),
            Item::Failed(status) => Poll::Ready(Some(Err(status))),
            Item::Head(_) => Poll::Ready(Some(Err(Status::internal("a second head")))),
        }
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        if !self.over {
            self.net.abandon(&self.call);
        }
    }
}
