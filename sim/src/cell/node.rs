//! An agent process with its nodes, as the binary puts it together.

use std::sync::Arc;

use agent::{Config, Journal, Node};
use liveness::core::Wanted;
use pki::Role;
use rpc::{Server, Target};
use telemetry::Ring;
use telemetry::metrics::Metrics;
use tonic::service::Routes;
use world::World;

use super::Cell;
use super::acts::Acts;
use super::layout::identity;
use super::member;
use super::scratch::{ProcessFiles, Scratch};
use crate::exec::Process;

/// What a node can hold: so little that the cell is full now and then.
const VCPUS: u32 = 4;
const MEMORY_MIB: u64 = 2048;
const DISK_GIB: u64 = 100;

/// Runs until the process must end, and says why.
pub(super) async fn run(cell: Arc<Cell>, process: Process, world: World, nodes: Vec<String>, boot: String) -> String {
    let journal = match Journal::open(&world).await {
        Ok(journal) => journal,
        Err(error) => return error.to_string(),
    };
    // As long as blobs lie on a local disk, one process has them.
    let owner = cell.size.control.keeps_images();
    let images = Target { role: Role::Api, name: owner.to_string(), endpoint: owner.to_string() };
    for name in &nodes {
        let ring = Ring::new(&world, name.clone());
        let own = identity(Role::Agent, name);
        let watch = Wanted::Roles([Role::Coordinator, Role::Api].into());
        let member = member::join(&cell, process, &world, &ring, own, [Role::Agent].into(), watch);
        let config = Config {
            name: name.clone(),
            endpoint: name.clone(),
            boot_id: boot.clone(),
            // What ran before is off after a power cut and stays so: the simplest to check.
            resume_after_boot: false,
            release: "sim".into(),
            driver: Arc::new(Acts {
                driver: cell.machine.driver(name).with_capacity(VCPUS, MEMORY_MIB, DISK_GIB),
                exec: cell.exec.clone(),
                process,
            }),
            peers: Arc::clone(&member.peers),
            directory: Arc::clone(&member.directory),
            named: Arc::new(|| Box::pin(std::future::ready(()))),
            images: vec![images.clone()],
            scratch: Scratch::dir(name),
            files: Arc::new(ProcessFiles { scratch: Arc::clone(&cell.scratch), exec: cell.exec.clone(), process }),
            ring: Arc::clone(&ring),
        };
        let node = Node::start(&world, &journal, config);
        let routes = Routes::new(agent::service(&node));
        let server = Server::new(&ring, &Metrics::default(), rpc::Limits::default(), routes.prepare());
        cell.net.listen(name, process, server);
        member.serving();
        cell.node_runs(name, &node);
    }
    format!("the log failed: {}", journal.failed().await)
}
