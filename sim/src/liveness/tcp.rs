//! One connection, as the kernels at its ends see it.
//!
//! What is sent is sent again until it is acknowledged, twice as late each time; a quiet connection is probed each second,
//! and a lost probe is not repeated before the next. Probes are not events: what came of them is worked out when somebody
//! asks when the other end was heard. That makes a hundred thousand quiet connections affordable.

use std::collections::VecDeque;

use super::net::{Host, MILLI, Net, SECOND};

/// Before what was not acknowledged is sent again, first and at most.
const RESEND_FIRST: u64 = 200 * MILLI;
const RESEND_DOUBLINGS: u32 = 9;
/// Bytes of a packet without payload: IPv4, TCP, timestamps.
pub(super) const PACKET_BYTES: u64 = 52;

/// The two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Who made it.
    Client,
    /// Who took it.
    Server,
}

impl Side {
    pub(super) fn other(self) -> Side {
        match self {
            Side::Client => Side::Server,
            Side::Server => Side::Client,
        }
    }
}

/// One end.
pub(super) struct End<M> {
    pub(super) host: Host,
    /// Its process has not closed it.
    pub(super) open: bool,
    /// Its machine has forgotten it.
    pub(super) gone: bool,
    /// What has not arrived yet; the first has number `base`.
    out: VecDeque<M>,
    base: u64,
    acknowledged: u64,
    doublings: u32,
    timer: u64,
    timed: bool,
    /// When the other end was last heard, and when it was last probed in vain.
    heard: u64,
    probed: u64,
}

/// A connection that carries messages `M`.
pub(super) struct Tcp<M> {
    client: End<M>,
    server: End<M>,
}

/// What became of an attempt to send.
#[derive(Default)]
pub(super) struct Sent {
    /// It arrives at this time, up to this number.
    pub(super) arrives: Option<(u64, u64)>,
    /// If not acknowledged, it is sent again at this time, under this number.
    pub(super) again: Option<(u64, u64)>,
}

impl<M> End<M> {
    fn new(host: Host, now: u64) -> End<M> {
        End {
            host,
            open: true,
            gone: false,
            out: VecDeque::new(),
            base: 0,
            acknowledged: 0,
            doublings: 0,
            timer: 0,
            timed: false,
            heard: now,
            probed: now,
        }
    }

    fn upto(&self) -> u64 {
        self.base + self.out.len() as u64
    }
}

impl<M> Tcp<M> {
    pub(super) fn new(client: Host, server: Host, now: u64) -> Tcp<M> {
        Tcp { client: End::new(client, now), server: End::new(server, now) }
    }

    pub(super) fn end(&self, side: Side) -> &End<M> {
        match side {
            Side::Client => &self.client,
            Side::Server => &self.server,
        }
    }

    fn both(&mut self, side: Side) -> (&mut End<M>, &mut End<M>) {
        match side {
            Side::Client => (&mut self.client, &mut self.server),
            Side::Server => (&mut self.server, &mut self.client),
        }
    }

    pub(super) fn close(&mut self, side: Side) {
        self.both(side).0.open = false;
    }

    /// The machine at `side` is gone, and whatever it had to send.
    pub(super) fn lose(&mut self, side: Side) {
        let end = self.both(side).0;
        end.open = false;
        end.gone = true;
        end.out.clear();
        end.timer += 1;
    }

    /// `message` is to be sent from `side`.
    pub(super) fn push(&mut self, side: Side, message: M) {
        self.both(side).0.out.push_back(message);
    }

    /// Sends from `side` whatever was not acknowledged.
    pub(super) fn send(&mut self, side: Side, net: &mut Net, now: u64) -> Sent {
        let (from, to) = self.both(side);
        let upto = from.upto();
        if from.gone || from.acknowledged >= upto {
            return Sent::default();
        }
        let (mut sent, there) = (Sent::default(), net.latency(from.host, to.host));
        if net.passes(from.host, to.host) {
            sent.arrives = Some((now + there, upto));
            if net.passes(to.host, from.host) {
                from.acknowledged = upto;
                from.heard = from.heard.max(now + 2 * there);
                from.probed = from.probed.max(from.heard);
                from.doublings = 0;
                from.timer += 1;
                from.timed = false;
                return sent;
            }
        }
        if !from.timed {
            from.timed = true;
            sent.again = Some((now + (RESEND_FIRST << from.doublings), from.timer));
            from.doublings = (from.doublings + 1).min(RESEND_DOUBLINGS);
        }
        sent
    }

    /// Whether the timer `number` of `side` still means something.
    pub(super) fn again(&mut self, side: Side, number: u64) -> bool {
        let end = self.both(side).0;
        let valid = end.timer == number && !end.gone;
        end.timed &= !valid;
        valid
    }

    /// What was sent to `side` arrives, up to `upto`.
    pub(super) fn arrive(&mut self, side: Side, upto: u64, now: u64) -> Vec<M> {
        let (to, from) = self.both(side);
        to.heard = to.heard.max(now);
        to.probed = to.probed.max(now);
        let new = usize::try_from(upto.saturating_sub(from.base)).unwrap_or(0).min(from.out.len());
        from.base += new as u64;
        from.out.drain(..new).collect()
    }

    /// When `side` last heard the other, and how many packets its probes made since it was last asked.
    pub(super) fn heard(&mut self, side: Side, net: &mut Net, now: u64) -> (u64, u64) {
        let (here, there) = self.both(side);
        let mut packets = 0;
        // While something waits to be acknowledged, the kernel does not probe.
        while here.acknowledged >= here.upto() && !here.gone {
            let probe = here.heard.max(here.probed) + SECOND;
            let round = 2 * net.latency(here.host, there.host);
            if probe + round > now {
                break;
            }
            packets += 1;
            if !there.gone && net.answers(here.host, there.host) {
                packets += 1;
                here.heard = probe + round;
            }
            here.probed = probe;
        }
        (here.heard.min(now), packets)
    }
}
