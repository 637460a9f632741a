//! What goes wrong, and when.

use super::check::{Ending, Outcome};
use super::net::{Host, MILLI, SECOND};
use super::{Event, Lab, P, Plan};

/// A kind of bad day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storm {
    /// Every process and every instance runs a quarter of the time, and is held for up to a second at once.
    Starved,
    /// Every fifth packet is lost.
    Lossy,
    /// Between random processes and instances packets pass one way only.
    OneWay,
    /// One instance is killed every ten seconds.
    InstanceKilled,
    /// All instances are restarted one after the other, again and again.
    Rolling,
    /// All instances are killed at the same moment, every two minutes.
    AllAtOnce,
    /// Machines fall into two halves that do not hear each other, instances in both.
    Partition,
    /// What instances read on their wall clocks jumps by days.
    ClockJumps,
    /// Processes and machines end and come back, leave, are stopped for long; names are claimed that are in use; attempts
    /// that were given up arrive late.
    Churn,
}

/// What is done next.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// The storm goes on.
    On,
    /// This process is held.
    Hold(P),
    /// This one begins again, with the instance in it if it is one.
    Start(P),
    /// This one ends.
    Kill(P),
    /// This machine comes back.
    Boot(Host),
    /// Packets pass again.
    Heal(Host, Host),
    /// The halves hear each other again.
    HealAll,
}

impl Storm {
    /// All of them.
    pub const ALL: [Storm; 9] = [
        Storm::Starved,
        Storm::Lossy,
        Storm::OneWay,
        Storm::InstanceKilled,
        Storm::Rolling,
        Storm::AllAtOnce,
        Storm::Partition,
        Storm::ClockJumps,
        Storm::Churn,
    ];

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Storm::Starved => "processors shared by four, pauses up to 1 s",
            Storm::Lossy => "20 % of packets lost",
            Storm::OneWay => "packets pass one way only",
            Storm::InstanceKilled => "an instance killed every 10 s",
            Storm::Rolling => "all instances restarted one after the other",
            Storm::AllAtOnce => "all instances killed at once",
            Storm::Partition => "instances and processes in two halves",
            Storm::ClockJumps => "wall clocks jump",
            Storm::Churn => "deaths, leaves, claims, late attempts",
        }
    }
}

/// Runs `storm` over a cell of this size for so many seconds, and looks what is left when it is over.
pub fn run(storm: Storm, plan: Plan, seconds: u64) -> Outcome {
    let mut lab = Lab::new(plan);
    lab.start(MILLI);
    lab.run_for(5 * SECOND);
    lab.storm = Some(storm);
    lab.begin_storm(storm);
    lab.run_for(seconds * SECOND);
    lab.end_storm();
    let held = lab.processes.iter().map(|process| process.paused.saturating_sub(lab.now)).max();
    lab.run_for(held.unwrap_or(0));
    let (mut healed, mut wrong) = (0, lab.unwell());
    // Who does not answer for long is looked at every ten seconds.
    while !wrong.is_empty() && healed < 90 {
        lab.run_for(SECOND);
        healed += 1;
        wrong = lab.unwell();
    }
    // And it stays so.
    lab.run_for(40 * SECOND);
    wrong.extend(lab.unwell());
    lab.finish(healed * 1000, wrong)
}

impl Lab {
    fn begin_storm(&mut self, storm: Storm) {
        match storm {
            Storm::Starved => {
                for number in 0..self.processes.len() {
                    let at = self.now + self.storm_dice.below(SECOND);
                    self.queue.push(at, Event::Storm(Step::Hold(number)));
                }
            }
            Storm::Lossy => {
                self.settle();
                self.net.lose(200);
            }
            Storm::OneWay
            | Storm::InstanceKilled
            | Storm::Rolling
            | Storm::AllAtOnce
            | Storm::Partition
            | Storm::ClockJumps
            | Storm::Churn => self.queue.push(self.now + SECOND, Event::Storm(Step::On)),
        }
    }

    fn end_storm(&mut self) {
        self.storm = None;
        self.settle();
        self.net.heal();
        for host in 0..self.plan.machines {
            self.boot(host);
        }
        let base = self.plan.instances + self.plan.processes;
        for number in 0..self.processes.len() {
            // Who claims another's name ends, and so does who was about to. Who is held stays so until its time is up: what
            // it was told waits, in order.
            if number >= base || self.processes[number].leaving {
                self.kill(number);
            }
        }
        for number in 0..base {
            if !self.processes[number].running {
                self.begin(number);
            }
        }
    }

    fn begin(&mut self, number: P) {
        if self.processes[number].running || !self.net.is_up(self.processes[number].host) {
            return;
        }
        if number < self.plan.instances {
            self.start_instance(number);
        } else {
            self.start_process(number);
        }
    }

    /// Ends a process whose machine lives.
    pub(super) fn kill(&mut self, number: P) {
        if !self.processes[number].running {
            return;
        }
        if number < self.plan.instances {
            self.kill_instance(number);
        } else {
            self.kill_process(number);
        }
    }

    /// Ends a machine, with all that runs on it.
    pub(super) fn crash(&mut self, host: Host) {
        self.settle();
        self.net.set_up(host, false);
        for number in 0..self.processes.len() {
            if self.processes[number].host == host && self.processes[number].running {
                self.end_process(number, Some(Ending::Machine));
                if number < self.plan.instances {
                    self.instances[number].running = false;
                }
            }
        }
        self.lose_host(host);
    }

    fn boot(&mut self, host: Host) {
        if self.net.is_up(host) {
            return;
        }
        self.settle();
        self.net.set_up(host, true);
        for number in 0..self.plan.instances + self.plan.processes {
            if self.processes[number].host == host {
                self.begin(number);
            }
        }
    }

    fn later(&mut self, least: u64, most: u64, step: Step) {
        let at = self.now + least + self.storm_dice.below(most - least);
        self.queue.push(at, Event::Storm(step));
    }

    pub(super) fn storm(&mut self, step: Step) {
        let Some(storm) = self.storm else { return };
        match step {
            Step::Hold(number) => {
                let held = self.storm_dice.below(SECOND);
                self.processes[number].paused = self.now + held;
                // A quarter of the time is its own.
                let runs = self.storm_dice.below(SECOND / 3);
                self.queue.push(self.now + held + runs, Event::Storm(Step::Hold(number)));
            }
            Step::Start(number) => self.begin(number),
            Step::Kill(number) => self.kill(number),
            Step::Boot(host) => self.boot(host),
            Step::Heal(from, to) => {
                self.settle();
                self.net.heal_between(from, to);
            }
            Step::HealAll => {
                self.settle();
                self.net.heal();
            }
            Step::On => self.goes_on(storm),
        }
    }

    fn goes_on(&mut self, storm: Storm) {
        let many = self.plan.instances;
        let again = |lab: &mut Lab, after: u64| lab.queue.push(lab.now + after, Event::Storm(Step::On));
        match storm {
            Storm::Starved | Storm::Lossy => {}
            Storm::OneWay => {
                let instance = self.storm_dice.index(many);
                let other = self.storm_dice.index(self.plan.machines);
                if instance != other {
                    let (from, to) = if self.storm_dice.chance(1, 2) { (instance, other) } else { (other, instance) };
                    self.settle();
                    self.net.cut(from, to);
                    self.later(SECOND, 20 * SECOND, Step::Heal(from, to));
                }
                again(self, 3 * SECOND);
            }
            Storm::InstanceKilled => {
                let number = self.storm_dice.index(many);
                self.kill(number);
                self.later(SECOND / 2, 3 * SECOND, Step::Start(number));
                again(self, 10 * SECOND);
            }
            Storm::Rolling => {
                let number = self.rolling % many;
                self.rolling += 1;
                self.kill(number);
                self.later(SECOND / 2, 2 * SECOND, Step::Start(number));
                again(self, 5 * SECOND);
            }
            Storm::AllAtOnce => {
                for number in 0..many {
                    self.kill(number);
                    self.later(SECOND / 2, 2 * SECOND, Step::Start(number));
                }
                again(self, 120 * SECOND);
            }
            Storm::Partition => {
                self.settle();
                let side: Vec<bool> = (0..self.plan.machines).map(|_| self.storm_dice.chance(1, 2)).collect();
                for one in 0..side.len() {
                    for other in (0..side.len()).filter(|other| side[*other] != side[one]) {
                        self.net.cut(one, other);
                    }
                }
                self.later(SECOND, 45 * SECOND, Step::HealAll);
                again(self, 60 * SECOND);
            }
            Storm::ClockJumps => {
                let number = self.storm_dice.index(many);
                let days = i64::try_from(self.storm_dice.below(20)).unwrap_or(0) - 10;
                self.skew[number] = days * 86_400_000_000;
                let one = many + self.storm_dice.index(self.plan.processes);
                self.kill(one);
                self.later(SECOND, 10 * SECOND, Step::Start(one));
                again(self, 2 * SECOND);
            }
            Storm::Churn => {
                self.churn();
                again(self, SECOND / 4);
            }
        }
    }

    fn churn(&mut self) {
        let many = self.plan.instances;
        let one = many + self.storm_dice.index(self.plan.processes);
        match self.storm_dice.below(100) {
            0..30 => {
                self.kill(one);
                self.later(MILLI, 20 * SECOND, Step::Start(one));
            }
            30..32 => {
                let host = many + self.storm_dice.index(self.plan.machines - many);
                self.crash(host);
                self.later(5 * SECOND, 60 * SECOND, Step::Boot(host));
            }
            32 => {
                let host = self.storm_dice.index(many);
                self.crash(host);
                self.later(5 * SECOND, 30 * SECOND, Step::Boot(host));
            }
            33..45 => {
                if self.processes[one].running {
                    self.leave(one);
                    self.later(5 * MILLI, 100 * MILLI, Step::Kill(one));
                    self.later(SECOND, 20 * SECOND, Step::Start(one));
                }
            }
            45..50 => {
                if self.processes[one].running {
                    let held = SECOND + self.storm_dice.below(60 * SECOND);
                    self.processes[one].paused = self.processes[one].paused.max(self.now + held);
                }
            }
            50..60 => {
                let number = self.claim(one);
                self.later(SECOND, 30 * SECOND, Step::Kill(number));
            }
            60..80 => {
                if let Some(attend) = self.processes[one].given_up.clone() {
                    let instance = self.storm_dice.index(many);
                    let at = self.now + self.storm_dice.below(30 * SECOND);
                    self.queue.push(at, Event::Late(instance, Box::new(attend)));
                }
            }
            _ => {
                if self.processes[one].running {
                    self.change_facts(one);
                }
            }
        }
    }
}
