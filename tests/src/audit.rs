//! Whether what a running cell has stored agrees with itself and with its nodes.

use serde_json::Value;

use crate::Cell;

/// Asks `mainstay audit`.
///
/// # Panics
/// With everything that it found.
pub fn audit(cell: &Cell) {
    let (clean, said) = cell.said(&["audit"]);
    if said.contains("unrecognized subcommand") {
        return without_the_command(cell);
    }
    assert!(clean, "the audit found something:\n{said}");
}

/// STAND-IN, to be deleted once the program under test has the command: what nodes and works say of themselves.
fn without_the_command(cell: &Cell) {
    let works = cell.operator(&["work", "list"]);
    assert_eq!(works, Value::Array(Vec::new()), "works that are left");
    let nodes = cell.operator(&["node", "list"]);
    let all = nodes.as_array().cloned().unwrap_or_default();
    let servers: u64 = all.iter().filter_map(|node| node["servers"].as_u64()).sum();
    let guests = cell.guests();
    assert_eq!(servers, guests.len() as u64, "servers placed on nodes and guests there: {nodes} {guests:?}");
    let strange: Vec<_> = all.iter().filter(|node| node["unknown_guests"] != Value::Array(Vec::new())).collect();
    assert!(strange.is_empty(), "guests that nobody knows: {strange:?}");
}
