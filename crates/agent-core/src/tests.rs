//! The core against a small world: a log that can lose what was not synced, and a driver that can fail.

mod codec;
mod model;
mod script;
mod sweep;
