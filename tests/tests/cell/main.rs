//! Whole cells from outside: real processes of the binary, the fake driver, the public API over HTTPS.

mod agent_away;
mod audit;
mod boots_and_deletes;
mod configuration;
mod every_role_apart;
mod every_route;
mod idle_writes_nothing;
mod liveness;
mod malformed;
mod no_capacity;
mod operators;
mod quota;
mod server_groups;
mod slow_clients;
