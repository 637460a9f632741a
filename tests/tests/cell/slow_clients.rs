//! Clients that are slow, silent or never satisfied cost a bounded share of the process, and nobody else's answers.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use cell_tests::{Cell, resident_bytes, until};

/// Of each kind.
const CLIENTS: usize = 125;
/// What 500 of them may cost in memory, though a quarter of them send half a megabyte each.
const GROWTH_MAX: u64 = 120 << 20;
/// What one of the others may wait for an answer meanwhile, in a debug build on a busy machine.
const ANSWER_MAX: Duration = Duration::from_secs(5);

#[test]
#[expect(clippy::disallowed_methods, reason = "this measures how long real clients wait")]
fn five_hundred_slow_clients_harm_nobody() {
    let cell = Cell::start(1);
    let (admin, door, pid) = (cell.admin(), cell.door(), cell.dev_pid());
    admin.get("/compute/v2.1/servers/detail").is(200);
    let before = resident_bytes(pid);
    let token = format!("host: cell\r\nx-auth-token: {}\r\n", admin.token());

    let mut mute = Vec::new();
    let mut heads = Vec::new();
    let mut bodies = Vec::new();
    let mut readers = Vec::new();
    for _ in 0..CLIENTS {
        // No handshake.
        mute.push(door.knock());
        // Half a head, and more of it now and then.
        let mut head = door.enter();
        head.say(format!("GET /compute/v2.1/servers HTTP/1.1\r\nx-a: {}", "a".repeat(60 << 10)).as_bytes())
            .expect("heard");
        heads.push(head);
        // Half of a body that is not too large.
        let mut body = door.enter();
        let announced = format!("POST /compute/v2.1/servers HTTP/1.1\r\n{token}content-length: 1000000\r\n\r\n");
        body.say(announced.as_bytes()).expect("heard");
        body.say(&vec![b' '; 500_000]).expect("heard");
        bodies.push(body);
        // Many questions, and no interest in the answers.
        let mut reader = door.enter();
        let question = format!("GET /compute/v2.1/flavors/detail HTTP/1.1\r\n{token}\r\n");
        reader.say(question.repeat(50).as_bytes()).expect("heard");
        readers.push(reader);
        let asked = Instant::now();
        admin.get("/compute/v2.1/servers").is(200);
        assert!(asked.elapsed() < ANSWER_MAX, "somebody else waited for {:?}", asked.elapsed());
        for head in &mut heads {
            head.say(b"a").expect("a head may still come");
        }
    }
    let grown = resident_bytes(pid).saturating_sub(before);
    println!("{} slow clients cost {} MiB", 4 * CLIENTS, grown >> 20);
    assert!(grown < GROWTH_MAX, "{} slow clients cost {grown} bytes", 4 * CLIENTS);

    // Each is left in its time: no handshake in 10 s, no body in 20 s (and that is said), no head in 30 s.
    for stream in &mut mute {
        assert_eq!(stream.read(&mut [0; 1]).unwrap_or(0), 0, "nothing is said to who says nothing");
    }
    for body in &mut bodies {
        assert_eq!(body.answer(false).expect("who is too slow is told").status, 408);
    }
    for head in &mut heads {
        until("the slow head is left", Duration::from_secs(60), || match head.say(b"a") {
            Err(_) => Ok(()),
            Ok(()) => Err("it is still heard".to_owned()),
        });
    }
    assert!(admin.create("alive").len() > 10, "the cell works");
    // And whoever comes late to read finds the answers.
    let mut late = readers.pop().expect("there are readers");
    for _ in 0..50 {
        assert_eq!(late.answer(false).expect("it was kept").status, 200);
    }
    let mut last = mute.pop().expect("there are mute ones");
    assert!(last.write_all(b"hello").is_err() || last.read(&mut [0; 1]).unwrap_or(0) == 0);
}
