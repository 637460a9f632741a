//! The network between machines: latency, loss, and pairs of machines between which nothing passes one way.

use std::collections::BTreeSet;

use crate::rng::Rng;

/// A machine, by number.
pub(super) type Host = usize;

/// Nanoseconds of a second.
pub(super) const SECOND: u64 = 1_000_000_000;
/// Nanoseconds of a millisecond.
pub(super) const MILLI: u64 = 1_000_000;

/// Machines, and what lies between them.
pub(super) struct Net {
    rng: Rng,
    /// How long a packet takes, in nanoseconds.
    latency: u64,
    /// Packets of a thousand that are lost.
    pub(super) loss: u64,
    up: Vec<bool>,
    /// Nothing passes from the first to the second.
    cut: BTreeSet<(Host, Host)>,
    /// A machine was ever down, or something cut or lost: from then on it is worth looking for silence.
    pub(super) troubled: bool,
}

impl Net {
    pub(super) fn new(seed: u64, hosts: usize, latency: u64) -> Net {
        let rng = Rng::new(seed, "liveness net");
        Net { rng, latency, loss: 0, up: vec![true; hosts], cut: BTreeSet::new(), troubled: false }
    }

    /// How long a packet takes; within a machine nearly nothing.
    pub(super) fn latency(&mut self, from: Host, to: Host) -> u64 {
        if from == to { 20_000 } else { self.latency / 2 + self.rng.below(self.latency) }
    }

    pub(super) fn is_up(&self, host: Host) -> bool {
        self.up[host]
    }

    pub(super) fn set_up(&mut self, host: Host, up: bool) {
        self.troubled |= !up;
        self.up[host] = up;
    }

    pub(super) fn lose(&mut self, of_thousand: u64) {
        self.troubled |= of_thousand > 0;
        self.loss = of_thousand;
    }

    pub(super) fn cut(&mut self, from: Host, to: Host) {
        self.troubled = true;
        self.cut.insert((from, to));
    }

    pub(super) fn heal(&mut self) {
        self.cut.clear();
        self.loss = 0;
    }

    pub(super) fn heal_between(&mut self, from: Host, to: Host) {
        self.cut.remove(&(from, to));
    }

    /// Whether packets can pass at all, both ways.
    pub(super) fn is_open(&self, one: Host, other: Host) -> bool {
        let cut = one != other && (self.cut.contains(&(one, other)) || self.cut.contains(&(other, one)));
        self.up[one] && self.up[other] && !cut
    }

    /// Whether this packet arrives.
    pub(super) fn passes(&mut self, from: Host, to: Host) -> bool {
        let arrives = self.up[from] && self.up[to] && (from == to || !self.cut.contains(&(from, to)));
        arrives && (from == to || self.loss == 0 || !self.rng.chance(self.loss, 1000))
    }

    /// Whether a packet and the answer to it arrive.
    pub(super) fn answers(&mut self, from: Host, to: Host) -> bool {
        self.passes(from, to) && self.passes(to, from)
    }

    /// How long a connection takes to come to stand, once the other end has taken it: a handshake of two round trips,
    /// each repeated as TCP does. Nothing if that takes longer than three seconds.
    pub(super) fn handshake(&mut self, from: Host, to: Host) -> Option<u64> {
        let mut took = 0;
        for _ in 0..2 {
            let mut pause = 200 * MILLI;
            while !self.answers(from, to) {
                took += pause;
                pause *= 2;
                if took > 3 * SECOND {
                    return None;
                }
            }
            took += 2 * self.latency(from, to);
        }
        Some(took)
    }
}
