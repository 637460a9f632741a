//! Logs: structured, on standard error, one event per change of state.

use tracing_subscriber::EnvFilter;

/// Starts logging for this process. `MAINSTAY_LOG` filters (as `RUST_LOG` does elsewhere), `MAINSTAY_LOG_FORMAT=json`
/// writes for programs.
pub fn start() {
    let filter = EnvFilter::try_from_env("MAINSTAY_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let json = std::env::var("MAINSTAY_LOG_FORMAT").is_ok_and(|format| format == "json");
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // A second start in one process (tests) finds logging on already.
    let _already_on = if json { builder.json().try_init() } else { builder.try_init() };
}
