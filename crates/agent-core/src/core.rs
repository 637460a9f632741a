//! The state machine of one node: what it is fed, what it asks for, and where each input goes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use driver::{DriverError, Found, GuestId, GuestSpec, NetworkId, NetworkState, Observed, PortId, Run, StopCause};
use world::Mono;

use crate::described::Descriptions;
use crate::doing::Doing;
use crate::entry::Entry;
use crate::nets::{Net, NetworkCall};
use crate::order::{Answer, ImageId, Life, Note, Order, Refusal, WorkId};
use crate::state::State;

/// Orders for one guest that may wait while another is done.
pub(crate) const QUEUE_MAX: usize = 8;
/// Orders that may wait while the node finds out what exists.
pub(crate) const EARLY_MAX: usize = 1024;
/// Callers that may wait for one act. A caller that gives up is not seen here, so the oldest are let go.
pub(crate) const TICKETS_MAX: usize = 64;

/// Names an append; its durability is told by [`Input::Appended`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AppendId(pub u64);

/// Names a call of the driver; its result is told by [`Input::Called`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallId(pub u64);

/// A caller who waits; the shell's number for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// What a core is fed.
#[derive(Clone, Debug)]
pub enum Input {
    /// An order came in.
    Order(Ticket, Order),
    /// Networks are to be as described.
    Networks(Ticket, Descriptions),
    /// An append is durable. Told in the order in which the appends were asked for.
    Appended(AppendId),
    /// An append was refused for want of space; nothing of it will be read back.
    AppendFull(AppendId),
    /// A call of the driver has ended.
    Called(CallId, Result<(), DriverError>),
    /// How a guest stands ([`Effect::Look`]); `None`: nothing of it is there.
    Looked(CallId, Result<Option<Observed>, DriverError>),
    /// What exists on the node.
    Found(Result<Vec<Found>, DriverError>),
    /// A guest ended by itself.
    Ended(GuestId, Run, StopCause),
    /// The cell has taken note that a run ended.
    Reported(GuestId, Run),
    /// The moment asked for by [`Effect::WakeAt`] has come.
    Tick,
}

/// A call of the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// `Driver::ensure_network`.
    Network(Arc<NetworkState>),
    /// `Driver::ensure_no_network`.
    NoNetwork(NetworkId),
    /// `Driver::ensure_prepared`.
    Prepare(Arc<GuestSpec>),
    /// `Driver::ensure_running`.
    Run(Arc<GuestSpec>, Run),
    /// `Driver::ensure_stopped`.
    Stop(GuestId, Option<std::time::Duration>),
    /// `Driver::ensure_paused`.
    Pause(GuestId, bool),
    /// `Driver::ensure_absent`.
    Absent(GuestId),
    /// `Driver::export_disk`, then the upload of what it wrote as the content of the image.
    Snapshot(GuestId, ImageId),
}

/// What a core asks for. Effects are begun in the order in which they are given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Append these entries, all or none of which may survive a crash only as a prefix.
    Append(AppendId, Vec<Entry>),
    /// Call the driver.
    Call(CallId, Op),
    /// Ask the driver what exists ([`Input::Found`]).
    Find,
    /// Ask the driver how a guest stands ([`Input::Looked`]).
    Look(CallId, GuestId),
    /// Answer an order.
    Reply(Ticket, Answer),
    /// Answer a call about networks: with the ports that were left out because their guest is not known here.
    ReplyNetworks(Ticket, Result<Vec<PortId>, Refusal>),
    /// Tell the cell, again until it has taken note ([`Input::Reported`]). Replaces what is still to be told of the guest.
    Report(Note),
    /// The guests that were there at the start are seen to: the node may attend.
    Ready,
    /// Feed [`Input::Tick`] at this moment.
    WakeAt(Mono),
}

/// What goes on when an append is durable.
#[derive(Clone, Debug)]
pub(crate) enum Then {
    Nothing,
    Begun(GuestId),
    Raised(GuestId),
    Undoing(GuestId),
    Ended(GuestId),
    Resumed(GuestId),
    News(GuestId),
    Answer(Vec<Ticket>, Answer),
    Networks(Ticket, BTreeSet<NetworkId>, Vec<PortId>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    Act(GuestId),
    Network(NetworkId),
    Find,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallFor {
    Act(GuestId),
    Network(NetworkId),
}

pub(crate) enum Phase {
    /// The driver was asked what exists; what came in meanwhile waits.
    Finding { tries: u32, early: Vec<Input> },
    /// Guests are started again after a boot; the boot is recorded when none is left.
    Up { resuming: BTreeSet<GuestId> },
}

/// The decisions of one node.
pub struct Core {
    pub(crate) now: Mono,
    pub(crate) boot: String,
    /// Whether guests that ran are started again after the machine was booted.
    pub(crate) resume_after_boot: bool,
    pub(crate) state: State,
    pub(crate) phase: Phase,
    pub(crate) doing: BTreeMap<GuestId, Doing>,
    pub(crate) queues: BTreeMap<GuestId, VecDeque<(Order, Vec<Ticket>)>>,
    pub(crate) nets: BTreeMap<NetworkId, Net>,
    /// Calls about networks, and what each still waits for.
    pub(crate) network_calls: BTreeMap<Ticket, NetworkCall>,
    pub(crate) strangers: BTreeMap<GuestId, Observed>,
    pub(crate) appends: BTreeMap<AppendId, (Vec<Entry>, Then)>,
    pub(crate) calls: BTreeMap<CallId, CallFor>,
    timers: BTreeSet<(Mono, Timer)>,
    next: u64,
}

impl Core {
    /// A node whose log says `state`, on a machine in its boot `boot`. Networks are made and the driver is asked at once.
    /// `resume_after_boot`: guests that ran in the boot before are started again; else they are told to be off.
    pub fn open(now: Mono, mut state: State, boot: &str, resume_after_boot: bool, out: &mut Vec<Effect>) -> Core {
        let unfinished: BTreeSet<_> = state.unfinished.values().map(|begun| begun.work).collect();
        state.forget_ended(|work| unfinished.contains(&work));
        state.described.forget_unnamed_groups();
        let mut core = Core {
            now,
            boot: boot.to_owned(),
            resume_after_boot,
            state,
            phase: Phase::Finding { tries: 0, early: Vec::new() },
            doing: BTreeMap::new(),
            queues: BTreeMap::new(),
            nets: BTreeMap::new(),
            network_calls: BTreeMap::new(),
            strangers: BTreeMap::new(),
            appends: BTreeMap::new(),
            calls: BTreeMap::new(),
            timers: BTreeSet::new(),
            next: 0,
        };
        core.make_known_networks(out);
        out.push(Effect::Find);
        core
    }

    /// Feeds one input; what must be done about it is appended to `out`.
    pub fn on(&mut self, now: Mono, input: Input, out: &mut Vec<Effect>) {
        self.now = now;
        match input {
            Input::Order(ticket, _) if self.early_is_full() => out.push(Effect::Reply(ticket, Err(too_early()))),
            Input::Networks(ticket, _) if self.early_is_full() => {
                out.push(Effect::ReplyNetworks(ticket, Err(too_early())));
            }
            Input::Order(ticket, order) => match &mut self.phase {
                Phase::Finding { early, .. } => early.push(Input::Order(ticket, order)),
                Phase::Up { .. } => self.order(ticket, order, out),
            },
            Input::Networks(ticket, networks) => match &mut self.phase {
                Phase::Finding { early, .. } => early.push(Input::Networks(ticket, networks)),
                Phase::Up { .. } => self.describe(ticket, networks, out),
            },
            Input::Ended(guest, run, cause) => match &mut self.phase {
                Phase::Finding { early, .. } => early.push(Input::Ended(guest, run, cause)),
                Phase::Up { .. } => self.ended(guest, run, &cause, out),
            },
            Input::Appended(id) => self.appended(id, out),
            Input::AppendFull(id) => self.append_full(id, out),
            Input::Called(id, result) => match self.calls.remove(&id) {
                Some(CallFor::Act(guest)) => self.act_called(guest, result, out),
                Some(CallFor::Network(network)) => self.network_called(network, result, out),
                None => {}
            },
            Input::Looked(id, result) => match self.calls.remove(&id) {
                Some(CallFor::Act(guest)) => self.looked(guest, result, out),
                Some(CallFor::Network(_)) | None => {}
            },
            Input::Found(result) => self.found(result, out),
            Input::Reported(guest, run) => self.reported(guest, run, out),
            Input::Tick => self.tick(out),
        }
    }

    fn early_is_full(&self) -> bool {
        match &self.phase {
            Phase::Finding { early, .. } => early.len() >= EARLY_MAX,
            Phase::Up { .. } => false,
        }
    }

    /// What the log says; for rewriting it and for tests.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.doing.is_empty() && self.appends.is_empty() && self.calls.is_empty() && self.timers.is_empty()
    }

    /// Everything on this node, as it is believed to stand.
    pub fn notes(&self) -> Vec<Note> {
        let known = self.state.guests.iter().map(|(id, guest)| {
            // A cause belongs to the run that ended by it. The next run may have its number already and not yet begin.
            let (run, cause) = match &guest.news {
                Some((ended, cause)) if !guest.life.is_up() => (*ended, cause.clone()),
                Some(_) | None => (guest.run, String::new()),
            };
            Note { guest: *id, life: guest.life, run, cause, known: true }
        });
        let strangers = self.strangers.iter().map(|(id, observed)| {
            let (life, run) = seen(*observed);
            Note { guest: *id, life, run, cause: String::new(), known: false }
        });
        known.chain(strangers).collect()
    }

    pub(crate) fn append(&mut self, entries: Vec<Entry>, then: Then, out: &mut Vec<Effect>) {
        self.next += 1;
        let id = AppendId(self.next);
        self.appends.insert(id, (entries.clone(), then));
        out.push(Effect::Append(id, entries));
    }

    pub(crate) fn call(&mut self, whom: CallFor, op: Op, out: &mut Vec<Effect>) {
        self.next += 1;
        let id = CallId(self.next);
        self.calls.insert(id, whom);
        out.push(Effect::Call(id, op));
    }

    pub(crate) fn look(&mut self, guest: GuestId, out: &mut Vec<Effect>) {
        self.next += 1;
        let id = CallId(self.next);
        self.calls.insert(id, CallFor::Act(guest));
        out.push(Effect::Look(id, guest));
    }

    pub(crate) fn wake(&mut self, when: Mono, timer: Timer, out: &mut Vec<Effect>) {
        let sooner = self.timers.first().is_none_or(|(first, _)| when < *first);
        self.timers.insert((when, timer));
        if sooner {
            out.push(Effect::WakeAt(when));
        }
    }

    fn tick(&mut self, out: &mut Vec<Effect>) {
        while let Some((when, timer)) = self.timers.first().copied() {
            if when > self.now {
                out.push(Effect::WakeAt(when));
                return;
            }
            self.timers.remove(&(when, timer));
            match timer {
                Timer::Act(guest) => self.rested(guest, out),
                Timer::Network(network) => self.network_rested(network, out),
                Timer::Find => out.push(Effect::Find),
            }
        }
    }

    fn appended(&mut self, id: AppendId, out: &mut Vec<Effect>) {
        let Some((entries, then)) = self.appends.remove(&id) else { return };
        for entry in &entries {
            let touched = self.state.touched(entry);
            self.state.apply(entry);
            self.networks_follow(entry, touched, out);
        }
        match then {
            Then::Nothing => {}
            Then::Begun(guest) => self.begun(guest, out),
            Then::Raised(guest) => self.raised(guest, out),
            Then::Undoing(guest) => self.undo(guest, out),
            Then::Ended(guest) | Then::Resumed(guest) => self.recorded(guest, out),
            Then::News(guest) => self.news_recorded(guest, out),
            Then::Answer(tickets, answer) => self.answer(tickets, &answer, out),
            Then::Networks(ticket, networks, unknown) => self.networks_told(ticket, networks, unknown, out),
        }
    }

    fn append_full(&mut self, id: AppendId, out: &mut Vec<Effect>) {
        let Some((entries, then)) = self.appends.remove(&id) else { return };
        let full = "the node's disk is full: its log cannot be written";
        match then {
            Then::Nothing => {}
            Then::Begun(guest) => self.not_begun(guest, full, out),
            // It stays unfinished; the same append is tried again.
            Then::Raised(guest) | Then::Undoing(guest) | Then::Ended(guest) | Then::Resumed(guest) => {
                self.not_recorded(guest, entries, then, full, out);
            }
            // It can be told all the same: after a restart the guest is not found, which says the same.
            Then::News(guest) => {
                entries.iter().for_each(|entry| self.state.apply(entry));
                self.news_recorded(guest, out);
            }
            Then::Answer(tickets, _) => self.answer(tickets, &Err(Refusal::NotNow(full.into())), out),
            Then::Networks(ticket, ..) => {
                out.push(Effect::ReplyNetworks(ticket, Err(Refusal::NotNow(full.into()))));
            }
        }
    }

    pub(crate) fn answer(&self, tickets: Vec<Ticket>, answer: &Answer, out: &mut Vec<Effect>) {
        out.extend(tickets.into_iter().map(|ticket| Effect::Reply(ticket, answer.clone())));
    }

    /// Forgets what lies below the floor and is not under way.
    pub(crate) fn forget(&mut self) {
        let Core { state, doing, queues, .. } = self;
        state.forget_ended(|work: WorkId| {
            doing.values().any(|doing| doing.is_of(work))
                || queues.values().flatten().any(|(order, _)| order.work == work)
        });
    }
}

/// Not "nothing happened": the same order may have come before a crash.
fn too_early() -> Refusal {
    Refusal::Unknown("the node is still finding out what runs on it".into())
}

/// What an observation says of life and run.
pub(crate) fn seen(observed: Observed) -> (Life, Run) {
    match observed {
        Observed::Running(run) => (Life::Running, run),
        Observed::Paused(run) => (Life::Paused, run),
        Observed::Stopped => (Life::Stopped, Run(0)),
    }
}
