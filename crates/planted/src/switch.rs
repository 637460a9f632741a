//! Which bug is on in this thread.
//!
//! Tests run side by side in threads of one process, or each in a process of its own: neither may hear of another's bug.
//! The [`Guard`] ends it also when a run panics, as some bugs make it.

use std::cell::Cell;

use crate::Bug;

thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// As long as it lives, the bug is on.
#[must_use = "the bug is on as long as this lives"]
#[derive(Debug)]
pub struct Guard {
    before: Option<Bug>,
    /// It is of this thread.
    _here: std::marker::PhantomData<*const ()>,
}

/// Switches `bug` on in this thread, or with `None` every bug off, until the guard is dropped.
pub fn plant(bug: Option<Bug>) -> Guard {
    Guard { before: PLANTED.replace(bug), _here: std::marker::PhantomData }
}

impl Drop for Guard {
    fn drop(&mut self) {
        PLANTED.set(self.before);
    }
}

pub(crate) fn is(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

#[cfg(test)]
mod tests {
    use super::{is, plant};
    use crate::Bug;

    #[test]
    fn a_bug_is_on_in_its_thread_as_long_as_its_guard_lives() {
        let (one, other) = (Bug::ALL[0], Bug::ALL[1]);
        let planted = plant(Some(one));
        assert!(is(one) && !is(other));
        assert!(!std::thread::spawn(move || is(one)).join().unwrap());
        drop(planted);
        assert!(!is(one));
    }
}
