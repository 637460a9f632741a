//! Every role as a process of its own: what they have of each other, they have over mutual TLS.

use std::time::Duration;

use cell_tests::{Cell, Process, free_port};

/// The roles as processes, with what each needs of the others.
struct Apart<'a> {
    cell: &'a Cell,
    listen: String,
    store: String,
    scheduler: String,
    coordinator: String,
    api: String,
}

impl Apart<'_> {
    fn new(cell: &Cell) -> Apart<'_> {
        let place = || format!("127.0.0.1:{}", free_port());
        Apart {
            cell,
            listen: cell.url().replace("https://", ""),
            store: place(),
            scheduler: place(),
            coordinator: place(),
            api: place(),
        }
    }

    fn serve(&self, role: &str, place: &str, peers: &[(&str, &str)]) -> Process {
        let words = ["serve", "--roles", role, "--name", "one", "--rpc-listen", place, "--listen", &self.listen];
        self.start(role, &words, peers)
    }

    fn start(&self, name: &str, words: &[&str], peers: &[(&str, &str)]) -> Process {
        let mut words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        words.extend(["--home".to_owned(), self.cell.home().display().to_string()]);
        for (role, place) in peers {
            words.extend(["--peer".to_owned(), format!("{role}/one={place}")]);
        }
        let mut process = Process::start(&words, &self.cell.log(name));
        process.ready();
        process
    }

    fn coordinator(&self) -> Process {
        let peers = [("store", &*self.store), ("scheduler", &*self.scheduler), ("api", &*self.api)];
        self.serve("coordinator", &self.coordinator, &peers)
    }
}

#[test]
fn roles_in_processes_of_their_own_finish_what_a_killed_coordinator_began() {
    let mut cell = Cell::start(2);
    cell.stop();
    cell.agent_ends();
    let apart = Apart::new(&cell);
    let _store = apart.serve("store", &apart.store, &[]);
    let _scheduler = apart.serve("scheduler", &apart.scheduler, &[("store", &apart.store)]);
    let mut coordinator = apart.coordinator();
    let _api = apart.serve("api", &apart.api, &[("store", &apart.store), ("coordinator", &apart.coordinator)]);
    let nodes = ["agent", "--driver", "fake", "--node", "node-1", "--node", "node-2"];
    let _agent = apart.start("agent", &nodes, &[("coordinator", &apart.coordinator), ("api", &apart.api)]);
    cell.all_nodes_up();

    let admin = cell.admin();
    let first = admin.create("first");
    admin.reaches(&first, "ACTIVE");
    let mut servers = vec![first];
    for round in 0..3 {
        // Creates go on while nobody coordinates: the api needs only the store to accept them.
        servers.push(admin.create(&format!("before-{round}")));
        servers.push(admin.create(&format!("at-{round}")));
        coordinator.kill();
        servers.push(admin.create(&format!("after-{round}")));
        coordinator = apart.coordinator();
    }
    servers.iter().for_each(|id| drop(admin.reaches(id, "ACTIVE")));
    assert_eq!(cell.guests().len(), servers.len());
    servers.iter().for_each(|id| drop(admin.delete(&format!("/compute/v2.1/servers/{id}")).is(204)));
    servers.iter().for_each(|id| admin.vanishes(id));
    cell.settles_empty(Duration::from_secs(30));
}
