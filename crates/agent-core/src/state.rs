//! What the log says, taken together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use driver::{GuestId, GuestSpec, NetworkId, PortState, Run};

use crate::described::{Described, Told};
use crate::entry::{Begun, Entry};
use crate::order::{Act, Epoch, Life, Outcome, Step, WorkId};

/// A guest of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Guest {
    pub(crate) spec: Arc<GuestSpec>,
    /// Its newest run.
    pub(crate) run: Run,
    pub(crate) life: Life,
    /// An end that the cell does not know yet.
    pub(crate) news: Option<(Run, String)>,
}

/// A work that has sent orders here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Work {
    pub(crate) created: u64,
    pub(crate) epoch: Epoch,
    /// The highest step accepted.
    pub(crate) step: Step,
    pub(crate) ended: BTreeMap<Step, Outcome>,
}

/// What a node's log says. Replaying the entries of [`State::live`] gives an equal state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub(crate) boot: String,
    pub(crate) floor: u64,
    /// The highest number given to a run. One count for the node: numbers rise for a guest even when it is removed and
    /// built here again.
    pub(crate) run: Run,
    pub(crate) described: Described,
    pub(crate) works: BTreeMap<WorkId, Work>,
    /// The works by age, so that the floor passes them in order.
    ages: BTreeSet<(u64, WorkId)>,
    pub(crate) guests: BTreeMap<GuestId, Guest>,
    pub(crate) unfinished: BTreeMap<GuestId, Begun>,
    /// Why those of them that are being undone are.
    pub(crate) undoing: BTreeMap<GuestId, String>,
}

impl State {
    /// Takes in one durable entry.
    pub fn apply(&mut self, entry: &Entry) {
        match entry {
            Entry::Boot(boot) => self.boot.clone_from(boot),
            Entry::Counters { floor, run } => self.counters(*floor, *run),
            Entry::Network(network) => self.described.network(network),
            Entry::Port(port) => self.port(port),
            Entry::Group(group) => self.described.group(group),
            Entry::GroupGone(group) => self.described.group_gone(*group),
            Entry::Begun(begun) => self.begun(begun),
            Entry::Undoing { guest, reason } => drop(self.undoing.insert(*guest, reason.clone())),
            Entry::Ended { work, step, guest, outcome, networks_gone } => {
                networks_gone.iter().for_each(|network| self.described.network_gone(*network));
                self.ended(*work, *step, *guest, outcome);
            }
            Entry::Seen { work, epoch, created, floor } => {
                self.counters(*floor, Run(0));
                self.work(*work, *created, *epoch);
            }
            Entry::RunRaised { guest, run } => {
                self.counters(0, *run);
                if let Some(guest) = self.guests.get_mut(guest) {
                    guest.run = *run;
                }
                if let Some(begun) = self.unfinished.get_mut(guest) {
                    begun.run = *run;
                }
            }
            Entry::RunEnded { guest, run, cause } => {
                if let Some(guest) = self.guests.get_mut(guest)
                    && guest.run == *run
                {
                    guest.life = Life::Stopped;
                    guest.news = Some((*run, cause.clone()));
                }
            }
            Entry::Reported { guest, run } => {
                if let Some(guest) = self.guests.get_mut(guest) {
                    guest.news.take_if(|(told, _)| *told <= *run);
                }
            }
            Entry::Guest { spec, run, life, news } => {
                self.counters(0, *run);
                let guest = Guest { spec: Arc::clone(spec), run: *run, life: *life, news: news.clone() };
                self.guests.insert(spec.id, guest);
            }
            Entry::Work { work, created, epoch, step, ended } => {
                let known = self.work(*work, *created, *epoch);
                known.step = known.step.max(*step);
                known.ended.extend(ended.iter().cloned());
            }
        }
    }

    /// A port that was told of just when its guest went stays forgotten.
    fn port(&mut self, port: &Told<PortState>) {
        if self.guests.contains_key(&port.what.guest) {
            self.described.port(port);
        }
    }

    fn counters(&mut self, floor: u64, run: Run) {
        self.floor = self.floor.max(floor);
        self.run = self.run.max(run);
    }

    /// The work, made or raised to `epoch`.
    pub(crate) fn work(&mut self, work: WorkId, created: u64, epoch: Epoch) -> &mut Work {
        self.ages.insert((created, work));
        let known =
            self.works.entry(work).or_insert_with(|| Work { created, epoch, step: Step(0), ended: BTreeMap::new() });
        known.epoch = known.epoch.max(epoch);
        known
    }

    fn begun(&mut self, begun: &Begun) {
        self.counters(begun.floor, begun.run);
        let work = self.work(begun.work, begun.created, begun.epoch);
        work.step = work.step.max(begun.step);
        match &begun.act {
            Act::Build(spec) => {
                let fresh = Guest { spec: Arc::clone(spec), run: begun.run, life: Life::Stopped, news: None };
                let guest = self.guests.entry(begun.guest).or_insert(fresh);
                guest.spec = Arc::clone(spec);
                guest.run = begun.run;
            }
            Act::Start | Act::Reboot(_) => {
                if let Some(guest) = self.guests.get_mut(&begun.guest) {
                    guest.run = begun.run;
                }
            }
            Act::Destroy(_) | Act::Stop(_) | Act::Pause | Act::Unpause | Act::Snapshot(_) => {}
        }
        begun.networks.iter().for_each(|network| self.described.network(network));
        begun.ports.iter().for_each(|port| self.port(port));
        self.unfinished.insert(begun.guest, Begun { networks: Vec::new(), ports: Vec::new(), ..begun.clone() });
    }

    fn ended(&mut self, work: WorkId, step: Step, guest: GuestId, outcome: &Outcome) {
        self.unfinished.remove(&guest);
        self.undoing.remove(&guest);
        if let Some(work) = self.works.get_mut(&work) {
            work.ended.insert(step, outcome.clone());
        }
        let left = match outcome {
            Outcome::Done(reached) => reached.life,
            Outcome::Refused { left, .. } => *left,
            // The removal that follows, or the next start of the agent, finds out.
            Outcome::Abandoned { .. } => return,
        };
        if left == Life::Absent {
            if let Some(gone) = self.guests.remove(&guest) {
                self.described.guest_gone(&gone.spec);
            }
        } else if let Some(guest) = self.guests.get_mut(&guest) {
            if let Outcome::Refused { reason, .. } = outcome
                && guest.life.is_up()
                && !left.is_up()
            {
                // A reboot that stopped the guest and could not start it: the refusal alone says that all is as it was.
                guest.news = Some((guest.run, reason.clone()));
            }
            guest.life = left;
            if left.is_up() {
                // What was to be told of an earlier run is overtaken.
                guest.news = None;
            }
        }
    }

    /// The networks that `entry`, which is about to be taken in, changes on this node.
    pub(crate) fn touched(&self, entry: &Entry) -> BTreeSet<NetworkId> {
        match entry {
            Entry::Network(network) => BTreeSet::from([network.what.id]),
            Entry::Port(port) => BTreeSet::from([port.what.network]),
            Entry::Group(group) => self.described.networks_naming(group.what.id),
            Entry::Begun(begun) => {
                let ports = begun.ports.iter().map(|port| port.what.network);
                begun.networks.iter().map(|network| network.what.id).chain(ports).collect()
            }
            Entry::Ended { guest, outcome, networks_gone, .. } => {
                let leaves = match outcome {
                    Outcome::Done(reached) => reached.life == Life::Absent,
                    Outcome::Refused { left, .. } => *left == Life::Absent,
                    Outcome::Abandoned { .. } => false,
                };
                let nics = self.guests.get(guest).filter(|_| leaves).into_iter().flat_map(|guest| &guest.spec.nics);
                nics.map(|nic| nic.network).filter(|network| !networks_gone.contains(network)).collect()
            }
            Entry::Boot(_)
            | Entry::GroupGone(_)
            | Entry::Counters { .. }
            | Entry::Undoing { .. }
            | Entry::Seen { .. }
            | Entry::RunRaised { .. }
            | Entry::RunEnded { .. }
            | Entry::Reported { .. }
            | Entry::Guest { .. }
            | Entry::Work { .. } => BTreeSet::new(),
        }
    }

    /// The next number for a run.
    pub(crate) fn next_run(&mut self) -> Run {
        self.run = Run(self.run.0 + 1);
        self.run
    }

    /// Forgets works below the floor, but not those that `busy` still needs.
    pub(crate) fn forget_ended(&mut self, busy: impl Fn(WorkId) -> bool) {
        let below: Vec<_> =
            self.ages.range(..(self.floor, WorkId::from_uuid(ids::uuid::Uuid::nil()))).copied().collect();
        for (created, work) in below {
            if !busy(work) {
                self.ages.remove(&(created, work));
                self.works.remove(&work);
            }
        }
    }

    /// The entries that a rewritten log needs to give this state again.
    pub fn live(&self) -> Vec<Entry> {
        let mut entries = vec![Entry::Boot(self.boot.clone()), Entry::Counters { floor: self.floor, run: self.run }];
        entries.extend(self.described.live_networks());
        entries.extend(self.works.iter().map(|(work, known)| Entry::Work {
            work: *work,
            created: known.created,
            epoch: known.epoch,
            step: known.step,
            ended: known.ended.iter().map(|(step, outcome)| (*step, outcome.clone())).collect(),
        }));
        entries.extend(self.guests.values().map(|guest| Entry::Guest {
            spec: Arc::clone(&guest.spec),
            run: guest.run,
            life: guest.life,
            news: guest.news.clone(),
        }));
        entries.extend(self.described.live_ports());
        entries.extend(self.unfinished.values().cloned().map(Entry::Begun));
        let undoing = self.undoing.iter().map(|(guest, reason)| (*guest, reason.clone()));
        entries.extend(undoing.map(|(guest, reason)| Entry::Undoing { guest, reason }));
        entries
    }
}
