//! The world around a core, one effect at a time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use driver::{
    DriverError, Found, GuestId, GuestSpec, ImageFormat, ImageRef, NetworkId, NetworkSpec, Nic, Observed, PortId,
    PortState, Run, StopCause,
};
use ids::uuid::Uuid;
use world::Mono;

use crate::{
    Act, Answer, AppendId, Core, Effect, Entry, Epoch, Input, Note, Op, Order, Refusal, State, Step, Ticket, Told,
    WorkId,
};

pub(super) fn guest(number: u128) -> GuestId {
    GuestId::from_uuid(Uuid::from_u128(number))
}

pub(super) fn network(number: u128) -> NetworkId {
    NetworkId::from_uuid(Uuid::from_u128(number))
}

/// Guest `number` on network `number / 10`.
pub(super) fn spec(number: u128) -> Arc<GuestSpec> {
    Arc::new(GuestSpec {
        id: guest(number),
        name: format!("g{number}"),
        vcpus: 1,
        memory_mib: 128,
        disk_gib: 1,
        image: ImageRef { sha256: "aa".into(), format: ImageFormat::Qcow2, size_bytes: 1, virtual_size_bytes: 2 },
        nics: vec![Nic {
            port: PortId::from_uuid(Uuid::from_u128(number)),
            network: network(number / 10),
            mac: "52:54:00:00:00:01".into(),
            mtu: 1500,
        }],
        meta_data: "{}".into(),
        network_data: "{}".into(),
        user_data: vec![1, 2],
        config_drive: true,
    })
}

pub(super) fn network_at(number: u128, revision: u64) -> Told<NetworkSpec> {
    let what = NetworkSpec {
        id: network(number),
        name: format!("n{number}"),
        mtu: 1500,
        subnets: Vec::new(),
        routers: Vec::new(),
        host_access: false,
        host_address: None,
    };
    Told { revision, what: Arc::new(what) }
}

/// The port of guest `number`, called `name` in DHCP.
pub(super) fn port_at(number: u128, revision: u64, name: &str) -> Told<PortState> {
    let what = PortState {
        id: PortId::from_uuid(Uuid::from_u128(number)),
        network: network(number / 10),
        guest: guest(number),
        mac: "52:54:00:00:00:01".into(),
        addresses: Vec::new(),
        allowed_pairs: Vec::new(),
        host_name: name.into(),
        secured: true,
        rules: Vec::new(),
        metadata: driver::Documents::default(),
    };
    Told { revision, what: Arc::new(what) }
}

pub(super) fn order(work: u128, epoch: u64, step: u32, number: u128, act: Act) -> Order {
    let (networks, ports) = match act {
        Act::Build(_) => (vec![network_at(number / 10, step.into())], vec![port_at(number, step.into(), "")]),
        Act::Destroy(_) | Act::Start | Act::Stop(_) | Act::Reboot(_) | Act::Pause | Act::Unpause | Act::Snapshot(_) => {
            (Vec::new(), Vec::new())
        }
    };
    Order {
        work: WorkId::from_uuid(Uuid::from_u128(work)),
        epoch: Epoch(epoch),
        step: Step(step),
        floor: 0,
        created: u64::try_from(work).unwrap(),
        guest: guest(number),
        act,
        networks,
        ports,
    }
}

/// What is on the node whatever becomes of the agent.
#[derive(Default)]
pub(super) struct Machine {
    pub(super) guests: BTreeMap<GuestId, Observed>,
    /// What DHCP calls the ports that each network has.
    pub(super) networks: BTreeMap<NetworkId, BTreeMap<PortId, String>>,
    pub(super) started: BTreeSet<(GuestId, Run)>,
    pub(super) ran_twice: Vec<(GuestId, Run)>,
    pub(super) uploads: usize,
    /// The next calls of an operation, by its name, fail so.
    pub(super) faults: BTreeMap<&'static str, VecDeque<DriverError>>,
    /// The next calls of an operation are done, and then said to have failed so.
    pub(super) late: BTreeMap<&'static str, VecDeque<DriverError>>,
}

fn name(op: &Op) -> &'static str {
    match op {
        Op::Network(_) => "network",
        Op::NoNetwork(_) => "no network",
        Op::Prepare(_) => "prepare",
        Op::Run(..) => "run",
        Op::Stop(..) => "stop",
        Op::Pause(..) => "pause",
        Op::Absent(_) => "absent",
        Op::Snapshot(..) => "snapshot",
    }
}

impl Machine {
    fn call(&mut self, op: &Op) -> Result<(), DriverError> {
        if let Some(error) = self.faults.get_mut(name(op)).and_then(VecDeque::pop_front) {
            return Err(error);
        }
        let told = self.late.get_mut(name(op)).and_then(VecDeque::pop_front);
        match op {
            Op::Network(state) => {
                let ports = state.ports.iter().map(|port| (port.id, port.host_name.clone())).collect();
                self.networks.insert(state.spec.id, ports);
            }
            Op::NoNetwork(id) => drop(self.networks.remove(id)),
            Op::Prepare(spec) => {
                let plugged =
                    |nic: &Nic| self.networks.get(&nic.network).is_some_and(|ports| ports.contains_key(&nic.port));
                assert!(spec.nics.iter().all(plugged), "networks and ports come first");
                self.guests.entry(spec.id).or_insert(Observed::Stopped);
            }
            Op::Run(spec, run) => {
                let now = self.guests.get_mut(&spec.id).expect("prepared before it is run");
                assert!(
                    *now == Observed::Stopped || *now == Observed::Running(*run) || *now == Observed::Paused(*run),
                    "an earlier run must have ended: {now:?}, {run:?}"
                );
                if *now == Observed::Stopped {
                    *now = Observed::Running(*run);
                    if !self.started.insert((spec.id, *run)) {
                        self.ran_twice.push((spec.id, *run));
                    }
                }
            }
            Op::Stop(id, _) => {
                if let Some(now) = self.guests.get_mut(id) {
                    *now = Observed::Stopped;
                }
            }
            Op::Pause(id, paused) => {
                let run = match self.guests.get(id) {
                    Some(Observed::Running(run) | Observed::Paused(run)) => *run,
                    Some(Observed::Stopped) | None => return Err(DriverError::Refused("does not run".into())),
                };
                self.guests.insert(*id, if *paused { Observed::Paused(run) } else { Observed::Running(run) });
            }
            Op::Absent(id) => drop(self.guests.remove(id)),
            Op::Snapshot(..) => self.uploads += 1,
        }
        told.map_or(Ok(()), Err)
    }
}

/// An agent, its disk and its machine.
pub(super) struct World {
    pub(super) core: Core,
    pub(super) machine: Machine,
    now: Mono,
    boot: String,
    /// Whether guests come back after a boot.
    pub(super) resume: bool,
    /// What a crash leaves of the log.
    pub(super) log: Vec<Entry>,
    effects: VecDeque<Effect>,
    wake: Option<Mono>,
    pub(super) disk_full: bool,
    pub(super) answers: BTreeMap<Ticket, Answer>,
    pub(super) applied: Vec<Result<Vec<PortId>, Refusal>>,
    pub(super) reports: Vec<Note>,
    /// Whether reports are taken note of at once.
    pub(super) acknowledge: bool,
    tickets: BTreeMap<Ticket, (WorkId, Step)>,
    pub(super) steps: usize,
    /// Where the next effect is drawn from; `None`: the oldest is next.
    pub(super) shuffle: Option<u64>,
}

impl World {
    pub(super) fn new() -> World {
        let mut out = Vec::new();
        let core = Core::open(Mono::START, State::default(), "b1", false, &mut out);
        World {
            core,
            machine: Machine::default(),
            now: Mono::START,
            boot: "b1".into(),
            resume: false,
            log: Vec::new(),
            effects: out.into(),
            wake: None,
            disk_full: false,
            answers: BTreeMap::new(),
            applied: Vec::new(),
            reports: Vec::new(),
            acknowledge: true,
            tickets: BTreeMap::new(),
            steps: 0,
            shuffle: None,
        }
    }

    pub(super) fn feed(&mut self, input: Input) {
        let mut out = Vec::new();
        self.core.on(self.now, input, &mut out);
        self.effects.extend(out);
    }

    pub(super) fn send(&mut self, order: Order) -> Ticket {
        let ticket = Ticket(u64::try_from(self.tickets.len()).unwrap());
        self.tickets.insert(ticket, (order.work, order.step));
        self.feed(Input::Order(ticket, order));
        ticket
    }

    /// What a crash at this moment would leave known.
    fn durable(&self) -> State {
        let mut state = State::default();
        self.log.iter().for_each(|entry| state.apply(entry));
        state
    }

    /// Does one effect; whether there was one.
    pub(super) fn step(&mut self) -> bool {
        let Some(effect) = self.next_effect() else {
            let Some(when) = self.wake.take() else { return false };
            self.now = self.now.max(when);
            self.feed(Input::Tick);
            return true;
        };
        self.steps += 1;
        match effect {
            Effect::Append(id, entries) => self.append(id, entries),
            Effect::Call(id, op) => {
                if let Op::Run(spec, run) = &op {
                    assert_eq!(self.durable().guests[&spec.id].run, *run, "the log knows the number before the start");
                }
                let result = self.machine.call(&op);
                self.feed(Input::Called(id, result));
            }
            Effect::Find => {
                let found = self.machine.guests.iter();
                let found = found.map(|(guest, observed)| Found { guest: *guest, observed: *observed }).collect();
                self.feed(Input::Found(Ok(found)));
            }
            Effect::Look(id, guest) => {
                let seen = self.machine.guests.get(&guest).copied();
                self.feed(Input::Looked(id, Ok(seen)));
            }
            Effect::Reply(ticket, answer) => {
                let (work, step) = self.tickets[&ticket];
                let durable = self.durable();
                let known = durable.works.get(&work).and_then(|work| work.ended.get(&step));
                if answer.is_ok() {
                    assert_eq!(
                        known.map(crate::Outcome::answer).as_ref(),
                        Some(&answer),
                        "the log knows before the caller"
                    );
                }
                assert!(self.answers.insert(ticket, answer).is_none(), "one answer a caller");
            }
            Effect::ReplyNetworks(_, answer) => self.applied.push(answer),
            Effect::Report(note) => {
                if self.acknowledge {
                    self.feed(Input::Reported(note.guest, note.run));
                }
                self.reports.push(note);
            }
            Effect::Ready => {}
            Effect::WakeAt(when) => self.wake = Some(self.wake.map_or(when, |wake| wake.min(when))),
        }
        true
    }

    /// Calls and answers overtake each other; appends become durable in their order.
    fn next_effect(&mut self) -> Option<Effect> {
        let Some(seed) = &mut self.shuffle else { return self.effects.pop_front() };
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let drawn = usize::try_from(*seed >> 33).unwrap().checked_rem(self.effects.len())?;
        let is_append = |effect: &Effect| matches!(effect, Effect::Append(..));
        let at = if is_append(&self.effects[drawn]) { self.effects.iter().position(is_append)? } else { drawn };
        self.effects.remove(at)
    }

    fn append(&mut self, id: AppendId, entries: Vec<Entry>) {
        if self.disk_full {
            return self.feed(Input::AppendFull(id));
        }
        // Through the bytes, so that what is replayed is what was stored.
        let stored = entries.iter().map(|entry| crate::decode(crate::encode("n", entry)).unwrap().1);
        self.log.extend(stored);
        self.feed(Input::Appended(id));
    }

    /// Until nothing is to be done; bounded, because removals are tried for ever.
    pub(super) fn settle(&mut self) {
        for _ in 0..2_000 {
            if !self.step() {
                return;
            }
        }
        panic!("it does not come to rest");
    }

    /// Exactly so many effects, for what never settles.
    pub(super) fn steps(&mut self, count: usize) {
        for _ in 0..count {
            self.step();
        }
    }

    /// The agent dies within the append that comes next, if one does: its first entry survives, and the rest does not.
    pub(super) fn tear(&mut self) {
        if let Some(Effect::Append(_, entries)) = self.effects.front()
            && entries.len() > 1
        {
            self.log.push(entries[0].clone());
        }
    }

    /// The agent dies and starts again. Callers are gone; what was not done is not done.
    pub(super) fn crash(&mut self) {
        let state = self.durable();
        let mut again = State::default();
        state.live().iter().for_each(|entry| again.apply(entry));
        assert_eq!(state, again, "a rewritten log says the same");
        let mut out = Vec::new();
        self.core = Core::open(self.now, state, &self.boot, self.resume, &mut out);
        self.effects = out.into();
        self.wake = None;
        self.answers.clear();
    }

    /// The machine loses power and boots.
    pub(super) fn power_cut(&mut self) {
        self.machine.guests.values_mut().for_each(|observed| *observed = Observed::Stopped);
        self.machine.networks.clear();
        self.boot.push('+');
        self.crash();
    }

    pub(super) fn ends(&mut self, number: u128) {
        let id = guest(number);
        let Some(Observed::Running(run) | Observed::Paused(run)) = self.machine.guests.get(&id).copied() else {
            panic!("guest {number} does not run")
        };
        self.machine.guests.insert(id, Observed::Stopped);
        self.feed(Input::Ended(id, run, StopCause::PoweredOff));
    }
}
