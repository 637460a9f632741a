//! The clock of these commands. They run for people on real machines, so theirs is the real one; it is asked for here
//! and nowhere else in this crate.

use std::time::{Duration, Instant};

#[expect(clippy::disallowed_methods, reason = "a developer's command measures real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Asks `probe` until it has something, at most for `bound`. What it last said is wrong stands in the error.
pub(crate) fn wait_for<T>(
    what: &str,
    bound: Duration,
    mut probe: impl FnMut() -> anyhow::Result<Result<T, String>>,
) -> anyhow::Result<T> {
    let start = now();
    loop {
        match probe()? {
            Ok(found) => return Ok(found),
            Err(instead) if start.elapsed() >= bound => {
                anyhow::bail!("waited {} s for {what}; at last: {instead}", bound.as_secs())
            }
            Err(_) => pause(Duration::from_millis(200)),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "between two questions to another process there is nothing to wait on")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}
