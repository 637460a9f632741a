//! Whether what clients were told could have come from one thing that does one call after the other.
//!
//! A [`Call`] has a beginning and, if its client was told, an end. A history is linearizable if each call can be given one
//! moment between the two so that a sequential [`Model`], asked in the order of these moments, gives the same answers. A
//! call without an end (the connection broke, the outcome is unknown) may have happened at any moment after its
//! beginning, or never.
//!
//! The search is that of Wing and Gong ("Testing and verifying concurrent objects", 1993): take any call that began before
//! every end that is still open as the next, and go back where that leads nowhere. What was tried is remembered as the set
//! of calls taken and the state that they led to, as Lowe found ("Testing for linearizability", 2017) and as the checker
//! Porcupine does it: without that it is hopeless, with it histories of some hundred calls take no time, if few calls
//! overlap. One key at a time: histories of things that have nothing to do with each other are checked apart.
//!
//! [`servers`] holds the API's servers to it; [`quota`] what can be said of a project's count without a search.

pub mod quota;
pub mod servers;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::hash::Hash;

/// What is said to do one call after the other.
pub trait Model {
    /// All that it remembers.
    type State: Clone + Eq + Hash;
    /// What it is asked.
    type Op;
    /// What it answers.
    type Ret;

    /// Its state before the first call.
    fn start(&self) -> Self::State;

    /// Its state after `op` if it can answer `ret` in `state`; `ret` is `None` if nobody knows the answer.
    fn step(&self, state: &Self::State, op: &Self::Op, ret: Option<&Self::Ret>) -> Option<Self::State>;
}

/// One call, as its client saw it.
#[derive(Clone, Debug)]
pub struct Call<O, R> {
    /// Who called.
    pub client: usize,
    /// What was asked.
    pub op: O,
    /// When.
    pub begun: u64,
    /// When it was answered, and what; `None`: never.
    pub ended: Option<(u64, R)>,
}

/// Why a history is not linearizable: the calls, in the order that explains the most of them. The others cannot follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unexplained {
    /// Indexes of calls.
    pub explained: Vec<usize>,
}

/// Checks one history.
///
/// # Errors
/// If there is no order of the calls in which `model` gives these answers.
pub fn check<M: Model>(model: &M, history: &[Call<M::Op, M::Ret>]) -> Result<(), Unexplained> {
    let mut open = Open::new(history);
    let mut taken = Bits::new(history.len());
    let mut tried: HashSet<(Bits, M::State)> = HashSet::new();
    let mut path: Vec<(usize, M::State)> = Vec::new();
    let mut longest: Vec<usize> = Vec::new();
    let mut state = model.start();
    let mut at = open.first();
    // At the end of the list no call that has an end is left.
    while let Some(event) = at {
        let number = event / 2;
        if event % 2 == 0 {
            let call = &history[number];
            if let Some(after) = model.step(&state, &call.op, call.ended.as_ref().map(|(_, ret)| ret)) {
                taken.set(number, true);
                if tried.insert((taken.clone(), after.clone())) {
                    path.push((number, std::mem::replace(&mut state, after)));
                    open.take(number);
                    at = open.first();
                    continue;
                }
                taken.set(number, false);
            }
            at = open.after(event);
        } else {
            // This call has ended before any that is left begins, and could not be taken: something before was wrong.
            if path.len() >= longest.len() {
                longest = path.iter().map(|(number, _)| *number).collect();
            }
            let Some((last, before)) = path.pop() else { return Err(Unexplained { explained: longest }) };
            state = before;
            taken.set(last, false);
            open.put_back(last);
            at = open.after(2 * last);
        }
    }
    Ok(())
}

/// A set of calls.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Bits(Vec<u64>);

impl Bits {
    fn new(length: usize) -> Bits {
        Bits(vec![0; length.div_ceil(64)])
    }

    fn set(&mut self, index: usize, to: bool) {
        let mask = 1 << (index % 64);
        if to {
            self.0[index / 64] |= mask;
        } else {
            self.0[index / 64] &= !mask;
        }
    }
}

/// Beginnings and ends of the calls that are not taken, by time, as a list from which one is taken and put back in no
/// time. Event `2n` is the beginning of call `n`, event `2n + 1` its end.
struct Open {
    next: Vec<usize>,
    previous: Vec<usize>,
    has_end: Vec<bool>,
}

impl Open {
    fn new<O, R>(history: &[Call<O, R>]) -> Open {
        let begins = history.iter().enumerate().map(|(number, call)| (call.begun, 2 * number));
        let ends = history.iter().enumerate().filter_map(|(number, call)| {
            let (when, _) = call.ended.as_ref()?;
            Some((*when, 2 * number + 1))
        });
        let mut events: Vec<(u64, usize)> = begins.chain(ends).collect();
        // What begins in the moment in which another ends overlaps with it.
        events.sort_by_key(|(when, event)| (*when, event % 2, *event));
        let edge = 2 * history.len();
        let mut open = Open {
            next: vec![edge; edge + 1],
            previous: vec![edge; edge + 1],
            has_end: history.iter().map(|call| call.ended.is_some()).collect(),
        };
        let mut last = edge;
        for (_, event) in events {
            (open.next[last], open.previous[event]) = (event, last);
            last = event;
        }
        (open.next[last], open.previous[edge]) = (edge, last);
        open
    }

    fn edge(&self) -> usize {
        self.next.len() - 1
    }

    fn first(&self) -> Option<usize> {
        self.after(self.edge())
    }

    fn after(&self, event: usize) -> Option<usize> {
        Some(self.next[event]).filter(|next| *next != self.edge())
    }

    fn take(&mut self, number: usize) {
        self.unlink(2 * number);
        if self.has_end[number] {
            self.unlink(2 * number + 1);
        }
    }

    /// In the reverse order of taking: only so do the neighbours that an event remembers still stand beside each other.
    fn put_back(&mut self, number: usize) {
        if self.has_end[number] {
            self.link(2 * number + 1);
        }
        self.link(2 * number);
    }

    fn unlink(&mut self, event: usize) {
        let (previous, next) = (self.previous[event], self.next[event]);
        (self.next[previous], self.previous[next]) = (next, previous);
    }

    fn link(&mut self, event: usize) {
        let (previous, next) = (self.previous[event], self.next[event]);
        (self.next[previous], self.previous[next]) = (event, event);
    }
}
