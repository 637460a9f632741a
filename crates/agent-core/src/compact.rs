//! When a log is worth rewriting.

/// Below this a log is never rewritten: reading it takes no time worth saving.
const REWRITE_BYTES_MIN: u64 = 1024 * 1024;
/// How many times what it last had to hold a log may grow. Two: a rewrite costs as much again as was appended, and
/// opening a log costs at most twice what it must.
const REWRITE_FACTOR: u64 = 2;

/// Whether a log of `log_bytes`, of which `live_bytes` were needed when it was last rewritten (0: never since it was
/// opened), should be rewritten.
pub fn rewrite_due(log_bytes: u64, live_bytes: u64) -> bool {
    log_bytes > REWRITE_BYTES_MIN.max(live_bytes.saturating_mul(REWRITE_FACTOR))
}
