//! Every message that crosses a process or a restart, generated from the files under `proto/`.
//!
//! One package per service and version: `proto::agent::v1`, `proto::store::v1`, …; stored records are in packages of
//! their own (`proto::compute::state::v1`), so that the wire and the disk change independently. Nothing in here has
//! behaviour; each edge converts to and from its own domain types in one module.

#[expect(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    reason = "generated code; the .proto files are documented"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/all.rs"));
}

pub use generated::mainstay::*;
