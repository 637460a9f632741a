//! What a network does to messages beside carrying them.

use std::collections::{BTreeMap, VecDeque};

/// What befalls one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quirk {
    /// The request does not arrive; its caller learns only that the connection broke.
    LoseRequest,
    /// The request is served; its caller learns only that the connection broke.
    LoseAnswer,
    /// The request arrives; a copy of it arrives again so many nanoseconds later, and its answer goes to nobody. With a
    /// span of days: what was kept on its way until long after its work had ended.
    Again(u64),
    /// The caller learns that the connection broke; the request arrives so many nanoseconds later.
    Late(u64),
}

/// Everything that is wrong with a network.
#[derive(Default)]
pub(super) struct Faults {
    /// Until when messages from or to a name stand still.
    pub(super) stalled: BTreeMap<String, u64>,
    /// Until when nothing gets through from one name to another; one way.
    pub(super) cut: BTreeMap<(String, String), u64>,
    /// What befalls the next calls to a name.
    pub(super) quirks: BTreeMap<String, VecDeque<Quirk>>,
}

impl Faults {
    /// How long a message that is sent at `now` from `from` to `to` stands still.
    pub(super) fn hold(&self, now: u64, from: &str, to: &str) -> u64 {
        let stalled = [from, to].into_iter().filter_map(|name| self.stalled.get(name));
        let cut = self.cut.get(&(from.to_owned(), to.to_owned()));
        stalled.chain(cut).map(|until| until.saturating_sub(now)).max().unwrap_or(0)
    }

    pub(super) fn quirk(&mut self, to: &str) -> Option<Quirk> {
        self.quirks.get_mut(to).and_then(VecDeque::pop_front)
    }
}
