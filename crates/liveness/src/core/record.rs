//! What an instance keeps of one session.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use names::{Listing, Observer};
use world::Mono;

use super::Lock;

/// One session.
pub(super) struct Record {
    pub(super) listing: Arc<Listing>,
    pub(super) lock: Lock,
    pub(super) turn: u64,
    pub(super) change: u64,
    /// The instance at which its stream stands, or stood last.
    pub(super) holder: Observer,
    pub(super) phase: Phase,
    /// What its holder said of it last, if the holder cannot be heard: that is so again as soon as it can.
    pub(super) said: Option<Arc<Listing>>,
    pub(super) due: Option<Mono>,
    /// When the process itself last said something, here.
    pub(super) told: Mono,
    /// The question that it has not answered, and when it was put.
    pub(super) asked: Option<(u64, Mono)>,
    /// It is stated here though another holds it: somebody said what this overrules.
    pub(super) objects: bool,
    /// Its place among those whose streams stand here, while it is one.
    pub(super) seat: usize,
}

/// Where a session is, as this instance sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its stream stands here.
    Standing,
    /// Its stream stands here, and its host was not heard for too long.
    Doubted(Tries),
    /// Its stream broke, or the instance that held it is gone.
    Lost(Tries),
    /// Another instance holds it.
    Elsewhere,
    /// It will never be alive again.
    Over,
}

/// Tries to reach a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tries {
    /// Since when.
    pub(super) since: Mono,
    /// The present round.
    pub(super) round: u64,
    /// Who tried in vain, in this round.
    pub(super) silent: BTreeSet<Observer>,
    /// Who reached it, in this round.
    pub(super) reached: BTreeSet<Observer>,
    /// Its stream stood here and was given up, because nothing was heard of its host.
    pub(super) cut: bool,
    /// How long after this round the next one comes.
    pub(super) pause: Duration,
}

/// The first pause between two rounds of tries, and the longest.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);

impl Tries {
    pub(super) fn new(since: Mono) -> Tries {
        Tries { since, round: 0, silent: BTreeSet::new(), reached: BTreeSet::new(), cut: false, pause: PAUSE_FIRST }
    }

    /// Forgets what the last round found.
    pub(super) fn next_round(&mut self, round: u64) {
        self.round = round;
        self.silent.clear();
        self.reached.clear();
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }
}
