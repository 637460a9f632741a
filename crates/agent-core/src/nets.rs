//! The networks of the node: one call at a time each, and who waits for it.
//!
//! What a network must be is in [`crate::State`]; here is what the node is known to have. Each change of any part of a
//! network gives it a new version; what changes while an older version is being made is made next, once, however much
//! has changed.

use std::collections::BTreeSet;
use std::sync::Arc;

use driver::{DriverError, GuestId, NetworkId, NetworkSpec, PortId};

use crate::act::pause;
use crate::core::{CallFor, Core, Effect, Op, Then, Ticket, Timer};
use crate::described::{Descriptions, Told};
use crate::entry::Entry;
use crate::order::Refusal;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Made {
    /// Not known to be either: before the first call, and after a failed one.
    Unknown,
    /// As it had to be at this version.
    At(u64),
    /// Gone.
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Waiter {
    Act(GuestId),
    Call(Ticket),
}

/// A call about networks.
#[derive(Clone, Debug)]
pub(crate) struct NetworkCall {
    /// What it still waits for.
    pending: Vec<(NetworkId, u64)>,
    /// Ports that were left out.
    unknown: Vec<PortId>,
}

/// One network on this node.
#[derive(Clone, Debug)]
pub(crate) struct Net {
    /// Counts changes of what it must be, in this process.
    version: u64,
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
        Net { version: 0, made: Made::Unknown, busy: None, leaving: false, tries: 0, waiting: BTreeSet::new() }
    }
}

impl Core {
    /// Whether a description that came with an order must be logged: newer, or its network may just be leaving the log.
    pub(crate) fn is_news(&mut self, network: &Told<NetworkSpec>) -> bool {
        let newer = self.state.described.network_is_news(network);
        newer || self.nets.get(&network.what.id).is_some_and(|net| net.leaving)
    }

    /// What the log says was wanted when the agent ended is made again: the machine may have been booted since.
    pub(crate) fn make_known_networks(&mut self, out: &mut Vec<Effect>) {
        let known: Vec<_> = self.state.described.networks.keys().copied().collect();
        known.into_iter().for_each(|network| self.drive(network, out));
    }

    /// Keeps up with an entry that became durable and changed the networks `touched`.
    pub(crate) fn networks_follow(&mut self, entry: &Entry, touched: BTreeSet<NetworkId>, out: &mut Vec<Effect>) {
        match entry {
            Entry::Network(network) => self.network_wanted(network.what.id),
            Entry::Begun(begun) => begun.networks.iter().for_each(|network| self.network_wanted(network.what.id)),
            Entry::Ended { networks_gone, .. } => {
                for network in networks_gone {
                    // While a call is under way the entry stays: two calls for one network must not meet.
                    if self.nets.get(network).is_some_and(|net| net.busy.is_none() && net.waiting.is_empty()) {
                        self.nets.remove(network);
                    }
                }
            }
            Entry::Boot(_)
            | Entry::Port(_)
            | Entry::Group(_)
            | Entry::GroupGone(_)
            | Entry::Counters { .. }
            | Entry::Undoing { .. }
            | Entry::Seen { .. }
            | Entry::RunRaised { .. }
            | Entry::RunEnded { .. }
            | Entry::Reported { .. }
            | Entry::Guest { .. }
            | Entry::Work { .. } => {}
        }
        for network in touched {
            if let Some(net) = self.nets.get_mut(&network) {
                net.version += 1;
                if !net.leaving {
                    self.drive(network, out);
                }
            }
        }
    }

    fn network_wanted(&mut self, network: NetworkId) {
        self.nets.entry(network).or_insert_with(Net::fresh).leaving = false;
    }

    /// Counts changes of what `network` must be.
    pub(crate) fn version_of(&self, network: NetworkId) -> u64 {
        self.nets.get(&network).map_or(0, |net| net.version)
    }

    /// A call describes networks without a guest.
    pub(crate) fn describe(&mut self, ticket: Ticket, told: Descriptions, out: &mut Vec<Effect>) {
        let of_ports = told.ports.iter().map(|port| port.what.network);
        let mut networks: BTreeSet<_> = told.networks.iter().map(|network| network.what.id).chain(of_ports).collect();
        let known = |port: &Told<driver::PortState>| self.state.guests.contains_key(&port.what.guest);
        let (ports, strange): (Vec<_>, Vec<_>) = told.ports.into_iter().partition(known);
        let unknown = strange.iter().map(|port| port.what.id).collect();

        // One that no guest is on would never be taken away again: what was told may have overtaken a removal.
        let used: Vec<_> = told.networks.into_iter().filter(|one| self.is_used(one.what.id)).collect();
        let mut news: Vec<_> = used.into_iter().filter(|one| self.is_news(one)).map(Entry::Network).collect();
        let described = &mut self.state.described;
        let groups = told.groups.into_iter().filter(|group| described.group_is_news(group)).collect::<Vec<_>>();
        networks.extend(groups.iter().flat_map(|group| described.networks_naming(group.what.id)));
        news.extend(groups.into_iter().map(Entry::Group));
        news.extend(ports.into_iter().filter(|port| described.port_is_news(port)).map(Entry::Port));
        let gone = told.groups_gone.into_iter().filter(|(group, revision)| described.group_may_go(*group, *revision));
        news.extend(gone.map(|(group, _)| Entry::GroupGone(group)));
        if news.is_empty() {
            self.networks_told(ticket, networks, unknown, out);
        } else {
            self.append(news, Then::Networks(ticket, networks, unknown), out);
        }
    }

    /// The log knows what a call described.
    pub(crate) fn networks_told(
        &mut self,
        ticket: Ticket,
        networks: BTreeSet<NetworkId>,
        unknown: Vec<PortId>,
        out: &mut Vec<Effect>,
    ) {
        let pending = networks.into_iter().map(|network| (network, self.version_of(network))).collect();
        self.await_networks(ticket, NetworkCall { pending, unknown }, out);
    }

    /// Answers `ticket` when all that it waits for is made; when one fails, with that.
    fn await_networks(&mut self, ticket: Ticket, mut call: NetworkCall, out: &mut Vec<Effect>) {
        call.pending.retain(|(network, version)| !self.is_made(*network, *version));
        let Some((first, _)) = call.pending.first().copied() else {
            return out.push(Effect::ReplyNetworks(ticket, Ok(call.unknown)));
        };
        // All are driven at once; the answer hangs on each in turn.
        call.pending.iter().for_each(|(network, _)| self.drive(*network, out));
        self.network_calls.insert(ticket, call);
        self.await_network(first, Waiter::Call(ticket), out);
    }

    /// Whether `network` is at least as new as `version` here. One that is no longer wanted holds nobody up.
    pub(crate) fn is_made(&self, network: NetworkId, version: u64) -> bool {
        match self.nets.get(&network).map(|net| net.made) {
            Some(Made::At(made)) => made >= version,
            Some(Made::Unknown | Made::Gone) | None => !self.state.described.networks.contains_key(&network),
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
            if net.made == Made::At(net.version) {
                return;
            }
            let Some(wanted) = self.state.described.whole(network, net.version) else { return };
            net.busy = Some(Made::At(net.version));
            Op::Network(Arc::new(wanted))
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
                    let Some(call) = self.network_calls.remove(&ticket) else { continue };
                    match &result {
                        Ok(()) => self.await_networks(ticket, call, out),
                        Err(error) => {
                            let refusal = Refusal::Unknown(format!("network {network} is not made yet: {error}"));
                            out.push(Effect::ReplyNetworks(ticket, Err(refusal)));
                        }
                    }
                }
            }
        }
        // What has changed meanwhile may have nobody who waits for it.
        if result.is_ok() && self.nets.get(&network).is_some_and(|net| !net.leaving) {
            self.drive(network, out);
        }
    }

    pub(crate) fn network_rested(&mut self, network: NetworkId, out: &mut Vec<Effect>) {
        // A removal is tried again by the act that wants it.
        if self.nets.get(&network).is_some_and(|net| !net.leaving) {
            self.drive(network, out);
        }
    }
}
