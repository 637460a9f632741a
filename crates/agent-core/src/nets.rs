//! The networks of the node: one call at a time each, and who waits for it.
//!
//! What a network must be is in [`crate::State`]; here is what the node is known to have. A description that arrives
//! while an older one is being made is made next, once, however many have arrived.

use std::collections::BTreeSet;
use std::sync::Arc;

use driver::{DriverError, GuestId, NetworkId, NetworkState};

use crate::act::pause;
use crate::core::{CallFor, Core, Effect, Op, Then, Ticket, Timer};
use crate::entry::Entry;
use crate::order::Refusal;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Made {
    /// Not known to be either: before the first call, and after a failed one.
    Unknown,
    /// As in the description with this revision.
    At(u64),
    /// Gone.
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Waiter {
    Act(GuestId),
    Call(Ticket),
}

/// One network on this node.
#[derive(Clone, Debug)]
pub(crate) struct Net {
    made: Made,
    /// The call under way, by what it leads to.
    busy: Option<Made>,
    /// Whether it is to go. A description that becomes durable meanwhile takes that back.
    leaving: bool,
    tries: u32,
    waiting: BTreeSet<Waiter>,
}

impl Net {
    fn fresh() -> Net {
        Net { made: Made::Unknown, busy: None, leaving: false, tries: 0, waiting: BTreeSet::new() }
    }
}

impl Core {
    /// Whether a description that came with an order must be logged: newer, or its network may just be leaving the log.
    pub(crate) fn is_news(&self, network: &NetworkState) -> bool {
        let newer = self.state.networks.get(&network.id).is_none_or(|known| known.revision < network.revision);
        newer || self.nets.get(&network.id).is_some_and(|net| net.leaving)
    }

    /// What the log says was wanted when the agent ended is made again: the machine may have been booted since.
    pub(crate) fn make_known_networks(&mut self, out: &mut Vec<Effect>) {
        let known: Vec<_> = self.state.networks.keys().copied().collect();
        known.into_iter().for_each(|network| self.drive(network, out));
    }

    /// Keeps up with an entry that became durable.
    pub(crate) fn networks_follow(&mut self, entry: &Entry) {
        match entry {
            Entry::Network(network) => self.network_wanted(network.id),
            Entry::Begun(begun) => begun.networks.iter().for_each(|network| self.network_wanted(network.id)),
            Entry::Ended { networks_gone, .. } => {
                for network in networks_gone {
                    // While a call is under way the entry stays: two calls for one network must not meet.
                    if self.nets.get(network).is_some_and(|net| net.busy.is_none() && net.waiting.is_empty()) {
                        self.nets.remove(network);
                    }
                }
            }
            Entry::Boot(_)
            | Entry::Counters { .. }
            | Entry::Undoing { .. }
            | Entry::Seen { .. }
            | Entry::RunRaised { .. }
            | Entry::RunEnded { .. }
            | Entry::Reported { .. }
            | Entry::Guest { .. }
            | Entry::Work { .. } => {}
        }
    }

    fn network_wanted(&mut self, network: NetworkId) {
        self.nets.entry(network).or_insert_with(Net::fresh).leaving = false;
    }

    /// A call asks for networks without a guest.
    pub(crate) fn apply_networks(&mut self, ticket: Ticket, networks: Vec<Arc<NetworkState>>, out: &mut Vec<Effect>) {
        let wanted = networks.iter().map(|network| (network.id, network.revision)).collect();
        let news: Vec<_> = networks.into_iter().filter(|network| self.is_news(network)).map(Entry::Network).collect();
        if news.is_empty() {
            self.await_networks(ticket, wanted, out);
        } else {
            self.append(news, Then::Networks(ticket, wanted), out);
        }
    }

    /// Answers `ticket` when all of `wanted` are made; when one fails, with that.
    pub(crate) fn await_networks(&mut self, ticket: Ticket, wanted: Vec<(NetworkId, u64)>, out: &mut Vec<Effect>) {
        let pending: Vec<_> =
            wanted.into_iter().filter(|(network, revision)| !self.is_made(*network, *revision)).collect();
        let Some((first, _)) = pending.first().copied() else {
            return out.push(Effect::ReplyNetworks(ticket, Ok(())));
        };
        // All are driven at once; the answer hangs on each in turn.
        pending.iter().for_each(|(network, _)| self.drive(*network, out));
        self.network_calls.insert(ticket, pending);
        self.await_network(first, Waiter::Call(ticket), out);
    }

    /// Whether `network` is at least as new as `revision` here. One that is no longer wanted holds nobody up.
    pub(crate) fn is_made(&self, network: NetworkId, revision: u64) -> bool {
        match self.nets.get(&network).map(|net| net.made) {
            Some(Made::At(made)) => made >= revision,
            Some(Made::Unknown | Made::Gone) | None => !self.state.networks.contains_key(&network),
        }
    }

    pub(crate) fn is_gone(&self, network: NetworkId) -> bool {
        self.nets.get(&network).is_some_and(|net| net.made == Made::Gone && net.busy.is_none())
    }

    /// Those of `networks` that are gone and stay gone: from now on a description of one of them is news.
    pub(crate) fn gone_networks(&mut self, mut networks: Vec<NetworkId>) -> Vec<NetworkId> {
        networks.retain(|network| self.is_gone(*network) && !self.is_used(*network));
        for network in &networks {
            if let Some(net) = self.nets.get_mut(network) {
                net.leaving = true;
            }
        }
        networks
    }

    /// Tells `waiter` when something has changed about `network`.
    pub(crate) fn await_network(&mut self, network: NetworkId, waiter: Waiter, out: &mut Vec<Effect>) {
        self.nets.entry(network).or_insert_with(Net::fresh).waiting.insert(waiter);
        self.drive(network, out);
    }

    /// Lets `network` go and tells `waiter` when it has.
    pub(crate) fn remove_network(&mut self, network: NetworkId, waiter: Waiter, out: &mut Vec<Effect>) {
        self.nets.entry(network).or_insert_with(Net::fresh).leaving = true;
        self.await_network(network, waiter, out);
    }

    /// Makes the call that `network` needs next, if it needs one and none is under way.
    fn drive(&mut self, network: NetworkId, out: &mut Vec<Effect>) {
        let wanted = self.state.networks.get(&network).cloned();
        let net = self.nets.entry(network).or_insert_with(Net::fresh);
        if net.busy.is_some() {
            return;
        }
        let op = if net.leaving {
            if net.made == Made::Gone {
                return;
            }
            net.busy = Some(Made::Gone);
            net.made = Made::Unknown;
            Op::NoNetwork(network)
        } else {
            let Some(wanted) = wanted else { return };
            if net.made == Made::At(wanted.revision) {
                return;
            }
            net.busy = Some(Made::At(wanted.revision));
            Op::Network(wanted)
        };
        self.call(CallFor::Network(network), op, out);
    }

    pub(crate) fn network_called(
        &mut self,
        network: NetworkId,
        result: Result<(), DriverError>,
        out: &mut Vec<Effect>,
    ) {
        let Some(net) = self.nets.get_mut(&network) else { return };
        let Some(to) = net.busy.take() else { return };
        if result.is_ok() {
            net.made = to;
            net.tries = 0;
        } else {
            net.made = Made::Unknown;
            net.tries += 1;
            // A removal is tried again by the act that wants it; a description is wanted whoever waits for it.
            if !net.leaving {
                let when = self.now + pause(net.tries);
                self.wake(when, Timer::Network(network), out);
            }
        }
        let waiting = self.nets.get_mut(&network).map(|net| std::mem::take(&mut net.waiting)).unwrap_or_default();
        for waiter in waiting {
            match waiter {
                Waiter::Act(guest) => self.networks_changed(guest, result.clone(), out),
                Waiter::Call(ticket) => {
                    let Some(wanted) = self.network_calls.remove(&ticket) else { continue };
                    match &result {
                        Ok(()) => self.await_networks(ticket, wanted, out),
                        Err(error) => {
                            let refusal = Refusal::Unknown(format!("network {network} is not made yet: {error}"));
                            out.push(Effect::ReplyNetworks(ticket, Err(refusal)));
                        }
                    }
                }
            }
        }
    }

    pub(crate) fn network_rested(&mut self, network: NetworkId, out: &mut Vec<Effect>) {
        // A removal is tried again by the act that wants it.
        if self.nets.get(&network).is_some_and(|net| !net.leaving) {
            self.drive(network, out);
        }
    }
}
