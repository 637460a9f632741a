//! Waiting for conditions, within bounds.

use std::time::{Duration, Instant};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(25);

/// Asks until the answer is `Ok`, and returns it.
///
/// # Panics
/// If that takes longer than `bound`; with `what` was waited for and the last `Err`.
pub fn until<T>(what: &str, bound: Duration, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let begun = Instant::now();
    loop {
        match ask() {
            Ok(found) => return found,
            Err(last) if begun.elapsed() > bound => panic!("{what}: not within {bound:?}; last: {last}"),
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

/// Lets time pass: where a moment is drawn at random. What is waited for has a condition.
pub fn pause(span: Duration) {
    std::thread::sleep(span);
}

/// How long `act` takes.
pub fn timed(act: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    act();
    begun.elapsed()
}

/// Waits until `sample` has been the same for `span`. With a `bound` hardly longer than that: it must not change at all.
///
/// # Panics
/// If that takes longer than `bound`.
pub fn unchanged<T: PartialEq + std::fmt::Debug>(what: &str, span: Duration, bound: Duration, sample: impl Fn() -> T) {
    let mut last = (sample(), Instant::now());
    until(what, bound, || {
        let now = sample();
        if now != last.0 {
            let before = std::mem::replace(&mut last, (now, Instant::now()));
            return Err(format!("it was {:?} and then {:?}", before.0, last.0));
        }
        if last.1.elapsed() >= span { Ok(()) } else { Err(format!("{:?} for {:?}", last.0, last.1.elapsed())) }
    });
}
