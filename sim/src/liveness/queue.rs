//! What happens when: events in the order of their time, and of their making where that is the same.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// A queue of events.
pub(super) struct Queue<E> {
    heap: BinaryHeap<Entry<E>>,
    made: u64,
}

struct Entry<E> {
    at: u64,
    number: u64,
    event: E,
}

impl<E> Queue<E> {
    pub(super) fn new() -> Queue<E> {
        Queue { heap: BinaryHeap::new(), made: 0 }
    }

    /// `event` happens at `at`, in nanoseconds.
    pub(super) fn push(&mut self, at: u64, event: E) {
        self.made += 1;
        self.heap.push(Entry { at, number: self.made, event });
    }

    /// The next event, if it happens no later than `until`.
    pub(super) fn pop(&mut self, until: u64) -> Option<(u64, E)> {
        if self.heap.peek().is_none_or(|entry| entry.at > until) {
            return None;
        }
        self.heap.pop().map(|entry| (entry.at, entry.event))
    }

    /// Events that were made so far.
    pub(super) fn made(&self) -> u64 {
        self.made
    }
}

impl<E> Ord for Entry<E> {
    // The heap gives out its greatest: that is the earliest.
    fn cmp(&self, other: &Entry<E>) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Entry<E>) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Entry<E>) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<E> Eq for Entry<E> {}
