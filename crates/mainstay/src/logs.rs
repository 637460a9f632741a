//! Logs: structured, on standard error, one event per change of state.

use std::sync::Arc;

use config::{Settings, keys};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::reload::Handle;
use world::World;

/// How the level of a process's log is moved while it runs.
pub struct Logs(Option<Set>);

/// Moves the level.
type Set = Arc<dyn Fn(&str) + Send + Sync>;

impl Logs {
    /// Logs what the configuration says from now on, unless the environment has decided.
    pub fn follow(&self, world: &World, settings: &Arc<Settings>) {
        if let Some(set) = self.0.clone() {
            settings.follow(world, move |settings| set(settings.get(&keys::LOG_LEVEL)));
        }
    }
}

/// Starts logging for this process. `MAINSTAY_LOG` filters (as `RUST_LOG` does elsewhere) and then nothing else does;
/// `MAINSTAY_LOG_FORMAT=json` writes for programs.
pub fn start() -> Logs {
    let given = EnvFilter::try_from_env("MAINSTAY_LOG").ok();
    let configured = given.is_none();
    let filter = given.unwrap_or_else(|| EnvFilter::new("info"));
    let json = std::env::var("MAINSTAY_LOG_FORMAT").is_ok_and(|format| format == "json");
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // A second start in one process (tests) finds logging on already.
    let (set, _already_on) = if json {
        let builder = builder.json().with_filter_reloading();
        (setter(builder.reload_handle()), builder.try_init())
    } else {
        let builder = builder.with_filter_reloading();
        (setter(builder.reload_handle()), builder.try_init())
    };
    Logs(configured.then_some(set))
}

fn setter<S: 'static>(handle: Handle<EnvFilter, S>) -> Set {
    Arc::new(move |level| {
        // It fails only if logging is off for good.
        let _nobody_logs = handle.reload(EnvFilter::new(level));
    })
}
