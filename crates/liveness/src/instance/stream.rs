//! The stream of one session, or of somebody who only watches.

use std::collections::VecDeque;
use std::sync::Arc;

use names::Version;
use parking_lot::Mutex;
use proto::liveness::v1 as wire;
use proto::liveness::v1::attend_response::Said;
use rpc::Link;
use tokio::sync::Notify;

use super::Instance;
use crate::core::{Attend, Refusal, Wanted, Who};
use crate::wire as convert;

/// Questions that wait to be sent: who does not read is not asked more.
const QUESTIONS_MAX: usize = 16;

/// The end of a session's stream that the instance holds.
pub(super) struct Stream {
    pub(super) turn: u64,
    /// The connection under it; none within a process.
    pub(super) link: Option<Link>,
    wake: Arc<Notify>,
    todo: Mutex<Todo>,
}

#[derive(Default)]
struct Todo {
    nudge: bool,
    questions: Vec<(u64, String)>,
    closed: bool,
}

impl Stream {
    pub(super) fn nudge(&self) {
        self.todo.lock().nudge = true;
        self.wake.notify_one();
    }

    pub(super) fn ask(&self, number: u64, endpoint: String) {
        let mut todo = self.todo.lock();
        if todo.questions.len() < QUESTIONS_MAX {
            todo.questions.push((number, endpoint));
        }
        drop(todo);
        self.wake.notify_one();
    }

    pub(super) fn close(&self) {
        self.todo.lock().closed = true;
        self.wake.notify_one();
    }
}

/// What is sent over the stream of one session: first admission, if that has to be waited for; then whatever is new.
pub(super) struct Sending {
    instance: Arc<Instance>,
    who: Who,
    attend: Attend,
    wanted: Option<Wanted>,
    stream: Arc<Stream>,
    watcher: u64,
    admitted: bool,
    seen: Version,
    config: u64,
    queue: VecDeque<Said>,
    ended: bool,
}

impl Sending {
    /// A session that begins, unless it is refused for good.
    pub(super) fn begin(
        instance: &Arc<Instance>,
        attend: Attend,
        wanted: Option<Wanted>,
        seen: Version,
        config: u64,
        link: Option<Link>,
    ) -> Result<Sending, Refusal> {
        let who: Who = Arc::new((attend.listing.who.role, attend.listing.who.name.clone()));
        let wake = Arc::new(Notify::new());
        let stream = Stream { turn: attend.turn, link, wake: Arc::clone(&wake), todo: Mutex::default() };
        let watcher = {
            let mut inside = instance.inside.lock();
            let nobody = Wanted::Roles(Default::default());
            let number = inside.watchers.add(wanted.as_ref().unwrap_or(&nobody), &wake);
            inside.watchers.by_name.entry(Arc::clone(&who)).or_default().insert(number, wake);
            number
        };
        let mut sending = Sending {
            instance: Arc::clone(instance),
            who,
            attend,
            wanted,
            stream: Arc::new(stream),
            watcher,
            admitted: false,
            seen,
            config,
            queue: VecDeque::new(),
            ended: false,
        };
        match sending.admit() {
            Ok(()) => {}
            // Others are heard of in the meantime.
            Err(refusal @ Refusal::InUse { .. }) => {
                tracing::warn!(who = %sending.attend.listing.who, reason = %refusal, "a process waits for its name");
                sending.queue.push_back(Said::Waiting(wire::Waiting { reason: refusal.to_string() }));
            }
            Err(Refusal::Over(how)) => sending.end(true, &format!("this session is over: {how}")),
            Err(refusal @ (Refusal::NotItsRole { .. } | Refusal::Overtaken)) => return Err(refusal),
        }
        Ok(sending)
    }

    fn admit(&mut self) -> Result<(), Refusal> {
        let (instance, attend) = (Arc::clone(&self.instance), &self.attend);
        let admitted = instance.with(|core, now| core.attend(now, attend))?;
        instance.inside.lock().streams.insert(Arc::clone(&self.who), Arc::clone(&self.stream));
        self.admitted = true;
        let micros = |span: std::time::Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        self.queue.push_back(Said::Welcome(wire::Welcome {
            instance: instance.name.clone(),
            session: admitted.session,
            spread_us: micros(instance.spread()),
            grace_us: micros(instance.settings().grace),
        }));
        Ok(())
    }

    fn end(&mut self, over: bool, reason: &str) {
        self.queue.push_back(Said::Ended(wire::Ended { over, reason: reason.to_owned() }));
        self.ended = true;
    }

    /// The next thing to say; nothing when the stream has ended.
    pub(super) async fn next(&mut self) -> Option<Said> {
        loop {
            if let Some(said) = self.queue.pop_front() {
                return Some(said);
            }
            if self.ended {
                return None;
            }
            if !self.admitted {
                match self.admit() {
                    Ok(()) | Err(Refusal::InUse { .. }) => {}
                    Err(Refusal::Over(how)) => self.end(true, how),
                    Err(refusal) => self.end(false, &refusal.to_string()),
                }
            }
            self.gather();
            if self.queue.is_empty() {
                self.stream.wake.notified().await;
            }
        }
    }

    /// What there is to say now.
    fn gather(&mut self) {
        let (news, config) = {
            let inside = self.instance.inside.lock();
            let news = self.wanted.as_ref().map(|wanted| inside.core.news(self.seen, wanted));
            let config = (inside.config.revision > self.config).then(|| inside.config.clone());
            (news, config)
        };
        if let Some(news) = news {
            let new = news.whole || !news.changes.is_empty();
            self.seen = if new { news.version } else { self.seen };
            if new {
                self.queue.extend(convert::names(news).into_iter().map(Said::Names));
            }
        }
        if let Some(config) = config {
            self.config = config.revision;
            self.queue.push_back(Said::Config(wire::Config { revision: config.revision, document: config.document }));
        }
        let todo = std::mem::take(&mut *self.stream.todo.lock());
        let questions = todo.questions.into_iter().map(|(number, endpoint)| wire::Question { number, endpoint });
        self.queue.extend(questions.map(Said::Question));
        if todo.nudge {
            self.queue.push_back(Said::Nudge(wire::Nudge {}));
        }
        if todo.closed {
            self.end(false, "this instance does not hold the session any more");
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        let mut inside = self.instance.inside.lock();
        inside.watchers.remove(self.watcher);
        if inside.watchers.by_name.get(&self.who).is_some_and(|of| of.is_empty()) {
            inside.watchers.by_name.remove(&self.who);
        }
        let own = inside.streams.get(&self.who).is_some_and(|there| Arc::ptr_eq(there, &self.stream));
        if own {
            inside.streams.remove(&self.who);
        }
        drop(inside);
        if self.admitted {
            let (who, turn) = (Arc::clone(&self.who), self.stream.turn);
            self.instance.with(|core, now| core.broken(now, &who, turn));
        }
    }
}

/// What is sent to somebody who has no session and wants to know who is there.
pub(super) struct Watching {
    instance: Arc<Instance>,
    wanted: Wanted,
    watcher: u64,
    wake: Arc<Notify>,
    seen: Version,
    queue: VecDeque<wire::Names>,
}

impl Watching {
    pub(super) fn begin(instance: &Arc<Instance>, wanted: Wanted, seen: Version) -> Watching {
        let wake = Arc::new(Notify::new());
        let watcher = instance.inside.lock().watchers.add(&wanted, &wake);
        Watching { instance: Arc::clone(instance), wanted, watcher, wake, seen, queue: VecDeque::new() }
    }

    pub(super) async fn next(&mut self) -> wire::Names {
        loop {
            if let Some(names) = self.queue.pop_front() {
                return names;
            }
            let news = self.instance.inside.lock().core.news(self.seen, &self.wanted);
            if news.whole || !news.changes.is_empty() {
                self.seen = news.version;
                self.queue.extend(convert::names(news));
            } else {
                self.wake.notified().await;
            }
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.instance.inside.lock().watchers.remove(self.watcher);
    }
}
