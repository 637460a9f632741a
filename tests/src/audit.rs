//! Whether what a running cell has stored agrees with itself and with its nodes.

use crate::Cell;

/// Asks `mainstay audit`.
///
/// # Panics
/// With everything that it found.
pub fn audit(cell: &Cell) {
    let (clean, said) = cell.said(&["audit"]);
    assert!(clean, "the audit found something:\n{said}");
}
