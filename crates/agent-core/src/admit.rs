//! Which orders are taken: fencing, idempotence, and what is decided without the driver.

use driver::{GuestId, NetworkId, Nic, PortState, Run};
use planted::Bug;

use crate::core::{Core, Effect, QUEUE_MAX, TICKETS_MAX, Then, Ticket};
use crate::described::Told;
use crate::doing::Doing;
use crate::entry::{Begun, Entry};
use crate::order::{Act, Answer, Life, Order, Outcome, Reached, Refusal};

impl Core {
    pub(crate) fn order(&mut self, ticket: Ticket, order: Order, out: &mut Vec<Effect>) {
        let floor_rose = order.floor > self.state.floor;
        if floor_rose {
            self.state.floor = order.floor;
            self.forget();
        }
        let known = self.state.works.get(&order.work);
        if let Some(refusal) = fenced(known.map(|work| work.epoch), &order, self.state.floor) {
            return out.push(Effect::Reply(ticket, Err(refusal)));
        }
        let rose = known.is_some_and(|work| order.epoch > work.epoch);
        let begun_max = known.map(|work| work.step);
        let ended = known.and_then(|work| work.ended.get(&order.step)).cloned();
        if planted::is(Bug::ForgetsWhatFoundNothing)
            && order.act.removes()
            && !self.state.guests.contains_key(&order.guest)
        {
            return out.push(Effect::Reply(ticket, Ok(Reached { life: Life::Absent, run: Run(0) })));
        }
        self.state.work(order.work, order.created, order.epoch);

        if let Some(outcome) = ended.filter(|_| !planted::is(Bug::ForgetsEndedSteps)) {
            return self.remembered(ticket, &order, outcome.answer(), rose || floor_rose, out);
        }
        if self.join(ticket, &order, out) {
            if rose {
                // The reply comes behind the end of the act in the log, and so behind this.
                self.append(vec![seen(&order)], Then::Nothing, out);
            }
            return;
        }
        if begun_max.is_some_and(|begun| order.step < begun) && !planted::is(Bug::TakesOvertakenOrders) {
            let reason = "a later step of this work was begun here: this order has been overtaken";
            return out.push(Effect::Reply(ticket, Err(Refusal::No(reason.into()))));
        }
        self.take(ticket, order, out);
    }

    fn remembered(&mut self, ticket: Ticket, order: &Order, answer: Answer, log: bool, out: &mut Vec<Effect>) {
        if log {
            self.append(vec![seen(order)], Then::Answer(vec![ticket], answer), out);
        } else {
            out.push(Effect::Reply(ticket, answer));
        }
    }

    /// Lets `ticket` wait for the act or the waiting order that is this very step.
    fn join(&mut self, ticket: Ticket, order: &Order, out: &mut Vec<Effect>) -> bool {
        let tickets = match self.doing.get_mut(&order.guest) {
            Some(doing) if doing.is_step(order.work, order.step) => &mut doing.tickets,
            Some(_) | None => {
                let queue = self.queues.get_mut(&order.guest).into_iter().flatten();
                let mut same = queue.filter(|(other, _)| other.work == order.work && other.step == order.step);
                let Some((waiting, tickets)) = same.next() else { return false };
                waiting.epoch = waiting.epoch.max(order.epoch);
                tickets
            }
        };
        if tickets.len() >= TICKETS_MAX {
            let refusal = Refusal::Unknown("too many callers wait for this step".into());
            out.push(Effect::Reply(tickets.remove(0), Err(refusal)));
        }
        tickets.push(ticket);
        true
    }

    fn take(&mut self, ticket: Ticket, order: Order, out: &mut Vec<Effect>) {
        let guest = order.guest;
        if !self.doing.contains_key(&guest) {
            let step = order.step;
            let work = self.state.work(order.work, order.created, order.epoch);
            work.step = work.step.max(step);
            return self.begin(order, vec![ticket], out);
        }
        let queue = self.queues.entry(guest).or_default();
        if queue.len() >= QUEUE_MAX {
            let reason = "too many orders wait for this guest";
            return out.push(Effect::Reply(ticket, Err(Refusal::NotNow(reason.into()))));
        }
        let removes = order.act.removes();
        let work = self.state.work(order.work, order.created, order.epoch);
        work.step = work.step.max(order.step);
        self.queues.entry(guest).or_default().push_back((order, vec![ticket]));
        if removes {
            self.make_way(guest, out);
        }
    }

    /// Begins the next order that waits for `guest`.
    pub(crate) fn next_order(&mut self, guest: GuestId, out: &mut Vec<Effect>) {
        while !self.doing.contains_key(&guest) {
            let Some((order, tickets)) = self.queues.get_mut(&guest).and_then(std::collections::VecDeque::pop_front)
            else {
                self.queues.remove(&guest);
                return;
            };
            let known = self.state.works.get(&order.work).map(|work| work.epoch);
            match fenced(known, &order, self.state.floor) {
                Some(refusal) => self.answer(tickets, &Err(refusal), out),
                None => self.begin(order, tickets, out),
            }
        }
    }

    fn begin(&mut self, order: Order, tickets: Vec<Ticket>, out: &mut Vec<Effect>) {
        match self.decide(&order) {
            Decision::Now(outcome) => {
                let answer = outcome.answer();
                // Not as the end of an act: news of the guest may be on its way into the log, and this says nothing new.
                let ended = Entry::Work {
                    work: order.work,
                    created: order.created,
                    epoch: order.epoch,
                    step: order.step,
                    ended: vec![(order.step, outcome)],
                };
                self.append(vec![seen(&order), ended], Then::Answer(tickets, answer), out);
            }
            Decision::Act(run) => {
                let begun = Begun {
                    work: order.work,
                    epoch: order.epoch,
                    step: order.step,
                    created: order.created,
                    floor: order.floor,
                    guest: order.guest,
                    act: order.act,
                    run,
                    networks: order.networks.into_iter().filter(|network| self.is_news(network)).collect(),
                    ports: order.ports.into_iter().filter(|port| self.state.described.port_is_news(port)).collect(),
                };
                let entry = Entry::Begun(begun.clone());
                self.doing.insert(order.guest, Doing::new(begun, tickets));
                self.append(vec![entry], Then::Begun(order.guest), out);
            }
        }
    }

    /// What an order comes to, as far as it can be said without the driver.
    fn decide(&mut self, order: &Order) -> Decision {
        let guest = self.state.guests.get(&order.guest);
        let (life, run) = guest.map_or((Life::Absent, Run(0)), |guest| (guest.life, guest.run));
        let done = |life| Decision::Now(Outcome::Done(Reached { life, run: if life.is_up() { run } else { Run(0) } }));
        let refused = |reason: &str| Decision::Now(Outcome::Refused { reason: reason.into(), left: life });
        match (&order.act, life) {
            (Act::Build(spec), life) => {
                let told = |id: &NetworkId| {
                    let described = &self.state.described;
                    order.networks.iter().any(|told| told.what.id == *id) || described.networks.contains_key(id)
                };
                let plugged = |nic: &Nic| {
                    let named = |told: &Told<PortState>| told.what.id == nic.port && told.what.network == nic.network;
                    order.ports.iter().any(named) || self.state.described.has_port(nic.network, nic.port)
                };
                if spec.id != order.guest {
                    refused("the order names one guest and describes another")
                } else if !spec.nics.iter().all(|nic| told(&nic.network)) {
                    refused("a network of the guest was not described to this node")
                } else if !spec.nics.iter().all(plugged) {
                    refused("a port of the guest was not described to this node")
                } else if order.ports.iter().any(|told| told.what.guest != order.guest) {
                    refused("the order describes a port of another guest")
                } else if life.is_up() {
                    Decision::Act(run)
                } else {
                    Decision::Act(self.state.next_run())
                }
            }
            (Act::Destroy(_), _) => Decision::Act(Run(0)),
            (
                Act::Start | Act::Stop(_) | Act::Reboot(_) | Act::Pause | Act::Unpause | Act::Snapshot(_),
                Life::Absent,
            ) => refused("this node has no such guest"),
            (Act::Start, Life::Running | Life::Paused) => done(life),
            (Act::Start, Life::Stopped) | (Act::Reboot(_), Life::Stopped | Life::Running | Life::Paused) => {
                Decision::Act(self.state.next_run())
            }
            (Act::Stop(_), Life::Stopped) => done(Life::Stopped),
            (Act::Pause, Life::Paused) | (Act::Unpause, Life::Running) => done(life),
            (Act::Pause | Act::Unpause, Life::Stopped) => refused("the guest does not run"),
            (Act::Stop(_), Life::Running | Life::Paused)
            | (Act::Pause, Life::Running)
            | (Act::Unpause, Life::Paused)
            | (Act::Snapshot(_), Life::Stopped | Life::Running | Life::Paused) => Decision::Act(run),
        }
    }
}

enum Decision {
    /// It is so already, or cannot be.
    Now(Outcome),
    /// It takes the driver; the run that it starts or is about.
    Act(Run),
}

fn seen(order: &Order) -> Entry {
    Entry::Seen { work: order.work, epoch: order.epoch, created: order.created, floor: order.floor }
}

fn fenced(known: Option<crate::order::Epoch>, order: &Order, floor: u64) -> Option<Refusal> {
    match known {
        None if order.created < floor => {
            Some(Refusal::No(format!("the work has ended: it began at {}, and all before {floor} has", order.created)))
        }
        Some(now) if order.epoch < now => Some(Refusal::No(format!("stale epoch {}, now {}", order.epoch.0, now.0))),
        Some(_) | None => None,
    }
}
