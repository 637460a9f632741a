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
