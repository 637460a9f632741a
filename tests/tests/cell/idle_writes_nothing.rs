//! A cell in which nothing happens writes nothing: no heartbeat, no lease, no periodic record.

use std::time::Duration;

use cell_tests::{Cell, unchanged, written_bytes};

const NODES: usize = 50;
/// Without a byte for so long the cell counts as settled.
const SETTLED: Duration = Duration::from_secs(3);
const WATCHED: Duration = Duration::from_secs(20);

#[test]
fn an_idle_cell_with_50_nodes_writes_nothing() {
    let cell = Cell::start(NODES);
    let admin = cell.admin();
    let server = admin.create("still");
    admin.reaches(&server, "ACTIVE");
    let pids = [cell.dev_pid(), cell.agent_pid().expect("the agent runs")];
    let written = || pids.map(written_bytes);
    assert!(written().iter().all(|bytes| *bytes > 0), "both have written something by now");
    unchanged("the cell settles", SETTLED, Duration::from_secs(60), written);
    unchanged("nothing is written", WATCHED, WATCHED + SETTLED, written);
    admin.show(&server).is(200);
}
