//! How much of a node is given out follows the configuration while the node attends.
//!
//! A change is written into the provider of each node that attends, in one commit a node; of a node that is away, when it
//! comes back. A node that moves to another zone is looked at as well: the zone may have values of its own.

use std::sync::Arc;
use std::time::Duration;

use config::Settings;
use futures_util::future::{Either, select};
use placement::Node;
use store::{Record, Revision, View, Watch, WatchError};
use world::World;

use super::{Attendance, NodesContext, enrol};

/// Tries to write one node's share, and the wait between them; after that it is put off until the next change.
const TRIES: usize = 5;
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Follows the configuration and the nodes' records as long as the process runs.
pub fn follow(context: &NodesContext) {
    let NodesContext { world, view, attendance, settings, .. } = context.clone();
    world.clone().spawn("shares of nodes", async move {
        let mut configured = settings.revision();
        let mut seen = view.revision();
        loop {
            all(&world, &view, &settings, &attendance).await;
            match watch(&world, &view, &settings, &attendance, &mut seen, configured).await {
                Ok(revision) => configured = revision,
                Err(WatchError::Compacted { .. }) => seen = view.revision(),
                Err(WatchError::Closed { .. }) => world.sleep(RETRY_PAUSE).await,
            }
        }
    });
}

/// Looks at nodes whose records change, until the configuration does.
async fn watch(
    world: &World,
    view: &View,
    settings: &Settings,
    attendance: &Attendance,
    seen: &mut Revision,
    configured: u64,
) -> Result<u64, WatchError> {
    let mut records = view.store().watch(&Node::all(), *seen).await?;
    let mut changed = Box::pin(settings.changed(configured));
    loop {
        let names = match select(changed, Box::pin(names(&mut *records, seen))).await {
            Either::Left((revision, _)) => return Ok(revision),
            Either::Right((names, rest)) => {
                changed = rest;
                names?
            }
        };
        for name in names.iter().filter(|name| attendance.target(name).is_some()) {
            again(world, view, settings, name).await;
        }
    }
}

/// The nodes whose records change next.
async fn names(records: &mut dyn Watch, seen: &mut Revision) -> Result<Vec<String>, WatchError> {
    let batches = records.next().await?;
    let mut names = Vec::new();
    for batch in &batches {
        *seen = batch.revision;
        let keys = batch.events.iter().map(|event| event.key.to_text().into_owned());
        names.extend(keys.filter_map(|key| key.strip_prefix(Node::TABLE).map(str::to_owned)));
    }
    Ok(names)
}

async fn all(world: &World, view: &View, settings: &Settings, attendance: &Arc<Attendance>) {
    for node in attendance.all() {
        again(world, view, settings, &node).await;
    }
}

/// Writes what is given out of `node`, as it is configured now.
pub(super) async fn again(world: &World, view: &View, settings: &Settings, node: &str) {
    for _ in 0..TRIES {
        match enrol::replan(view, settings, node).await {
            Ok(()) => return,
            Err(error) => tracing::warn!(node, error, "what is given out of a node cannot be written yet"),
        }
        world.sleep(RETRY_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use config::{Document, Held, Scope, Slot};
    use placement::Provider;
    use placement::provider::{MEMORY_MB, VCPU};
    use proto::coordinator::v1::AttendRequest;
    use store::Txn;
    use world::os::OsHost;

    use super::super::enrol::{Enrolled, enrol};
    use super::*;

    const ENOUGH: Duration = Duration::from_secs(10);

    struct Cell {
        context: NodesContext,
        revision: u64,
        set: BTreeMap<Slot, Held>,
    }

    async fn cell() -> Cell {
        let world = OsHost::world(tokio::runtime::Handle::current(), &std::env::temp_dir());
        let store = Arc::new(store::memory::open(&world));
        let view = View::open(&world, store, crate::indexes()).await.unwrap();
        let (attendance, settings) = (Attendance::new(), Settings::defaults());
        let context = NodesContext { world, view, attendance, coordinator: "c".into(), settings };
        Cell { context, revision: 0, set: BTreeMap::new() }
    }

    impl Cell {
        async fn attends(&self, node: &str) -> u64 {
            let NodesContext { world, view, attendance, settings, .. } = &self.context;
            let told = AttendRequest { vcpus: 10, memory_mib: 1000, disk_gib: 10, ..AttendRequest::default() };
            assert_eq!(enrol(world, view, settings, node, &told).await, Ok(Enrolled::Yes));
            attendance.arrived(node, "here:1", Vec::new())
        }

        fn sets(&mut self, key: &str, scope: &str, text: &str) {
            let slot = Slot { key: key.into(), scope: Scope::from_text(scope) };
            self.set.insert(slot, Held { schema: 1, text: text.into() });
            self.revision += 1;
            self.context.settings.take(Document { revision: self.revision, values: self.set.clone() });
        }

        fn shown(&self, node: &str) -> (Node, Revision, [u64; 2], u64) {
            self.context.view.peek(|reader| {
                let (node, revision) = reader.get::<Node>(&node).unwrap().expect("the node");
                let (provider, _) = reader.get::<Provider>(&node.provider).unwrap().expect("its provider");
                let of = |class: &str| provider.inventories[class].clone();
                let granted = of(VCPU).granted();
                (node, revision, [of(VCPU).capacity(), of(MEMORY_MB).capacity()], granted)
            })
        }

        /// Waits until this can be claimed of processors and memory.
        async fn becomes(&self, node: &str, expected: [u64; 2]) {
            let view = &self.context.view;
            let wait = async {
                loop {
                    let seen = view.revision();
                    if self.shown(node).2 == expected {
                        return;
                    }
                    view.advanced(seen).await;
                }
            };
            let came = self.context.world.timeout(ENOUGH, wait).await;
            assert!(came.is_ok(), "{node}: {:?}, not {expected:?}", self.shown(node).2);
        }

        async fn moves(&self, node: &str, zone: &str) {
            let (node, revision, ..) = self.shown(node);
            let node = Node { zone: zone.into(), ..node };
            let mut txn = Txn::new();
            txn.replace(node.key(), revision, node.encode());
            let revision = self.context.view.store().commit(txn).await.unwrap();
            self.context.view.reach(revision).await.unwrap();
        }
    }

    #[tokio::test]
    async fn what_is_given_out_follows_the_configuration_of_the_nodes_place() {
        let mut cell = cell().await;
        follow(&cell.context);
        cell.attends("n1").await;
        let stream = cell.attends("n2").await;
        assert_eq!((cell.shown("n1").2, cell.shown("n1").3), ([160, 1000], 160), "the defaults");
        cell.context.attendance.left("n2", stream);

        cell.sets("compute.vcpu_ratio", "cell", "2");
        cell.sets("compute.reserved_memory_mib", "cell", "100");
        cell.becomes("n1", [20, 900]).await;
        assert_eq!(cell.shown("n1").3, 160, "what it was is known: so much may be claimed still");
        assert_eq!(cell.shown("n2").2, [160, 1000], "it is away");
        cell.attends("n2").await;
        assert_eq!(cell.shown("n2").2, [20, 900]);

        cell.sets("compute.vcpu_ratio", "node/n2", "1.5");
        cell.becomes("n2", [15, 900]).await;
        cell.sets("compute.vcpu_ratio", "zone/east", "3");
        cell.sets("compute.memory_ratio", "zone/east", "1.1");
        cell.moves("n1", "east").await;
        cell.moves("n2", "east").await;
        cell.becomes("n1", [30, 990]).await;
        cell.becomes("n2", [15, 990]).await;
        cell.sets("compute.reserved_memory_mib", "node/n1", "5000");
        cell.becomes("n1", [30, 0]).await;
        cell.sets("compute.vcpu_ratio", "zone/east", "32");
        cell.becomes("n1", [320, 0]).await;
        assert_eq!(cell.shown("n1").3, 320, "it was raised above what it was");
    }

    #[tokio::test]
    async fn what_is_so_already_is_not_written() {
        let mut cell = cell().await;
        cell.attends("n1").await;
        let NodesContext { world, view, settings, .. } = &cell.context;
        let before = view.revision();
        again(world, view, settings, "n1").await;
        again(world, view, settings, "unknown").await;
        assert_eq!(view.revision(), before);
        cell.sets("compute.vcpu_ratio", "node/n2", "1");
        cell.attends("n1").await;
        assert_eq!(cell.context.view.revision(), before);
    }
}
