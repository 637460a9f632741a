//! A quota is an answer, not a hope: whoever asks at the same moment gets exactly what is left.

use std::sync::Barrier;
use std::time::Duration;

use cell_tests::Cell;

/// Nova's default, which a new project has.
const LIMIT: usize = 10;
const CLIENTS: usize = 200;

#[test]
fn of_200_creates_at_once_exactly_10_are_accepted() {
    let mut cell = Cell::start(3);
    let admin = cell.admin();
    let body = admin.server("crowd");
    let together = Barrier::new(CLIENTS);
    let answers: Vec<(u16, String)> = std::thread::scope(|scope| {
        let post = || {
            // The connection is made first: what is to meet is the requests.
            admin.get("/compute/v2.1/").is(200);
            together.wait();
            let answer = admin.post("/compute/v2.1/servers", &body);
            (answer.status, answer.body.to_string())
        };
        let threads: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(post)).collect();
        threads.into_iter().map(|thread| thread.join().expect("each is answered")).collect()
    });
    let with = |status: u16| answers.iter().filter(|(answered, _)| *answered == status).count();
    assert_eq!((with(202), with(403)), (LIMIT, CLIENTS - LIMIT), "{answers:?}");
    assert!(
        answers.iter().filter(|(status, _)| *status == 403).all(|(_, body)| body.contains("instances")),
        "{answers:?}"
    );

    let servers = admin.servers();
    assert_eq!(servers.len(), LIMIT);
    let ids = || servers.iter().filter_map(|server| server["id"].as_str());
    ids().for_each(|id| drop(admin.reaches(id, "ACTIVE")));
    ids().for_each(|id| drop(admin.delete(&format!("/compute/v2.1/servers/{id}")).is(204)));
    ids().for_each(|id| admin.vanishes(id));
    cell.settles_empty(Duration::from_secs(20));
    // What was given back can be had again.
    let again: Vec<String> = (0..LIMIT).map(|_| admin.create("again")).collect();
    admin.post("/compute/v2.1/servers", &body).is(403);
    assert_eq!(again.len(), LIMIT);
    cell.audits_clean(Duration::from_secs(20));
    cell.stop();
    let held = cell.records();
    let instances = format!("quota/used/{}/instances", admin.project);
    assert_eq!(held.counters.get(&instances), Some(&10), "{:?}", held.counters);
}
