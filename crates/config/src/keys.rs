//! The table: every key that there is. Whoever needs another one adds a line here and asks [`Settings`] for it.
//!
//! [`Settings`]: crate::Settings

use std::time::Duration;

use crate::key::{Key, Spec, choice, duration, integer, ratio};
use crate::scope::Level::{self, Cell, Node, Role, Zone};
use crate::value::{Ratio, Unit};

/// What concerns every process.
const ANYWHERE: &[Level] = &[Cell, Zone, Role, Node];
/// What concerns nodes, whoever decides about them.
const NODES: &[Level] = &[Cell, Zone, Node];
/// What concerns processes of one role, of which a zone may have its own.
const ZONES: &[Level] = &[Cell, Zone];
/// What all must agree on.
const CELL: &[Level] = &[Cell];

/// The most hours for which a token may be made good.
pub const TOKEN_HOURS_MAX: u64 = 24;

/// Declares each key once: as a static of its type, and as a row of [`TABLE`].
macro_rules! table {
    ($($(#[doc = $doc:literal])+ $name:ident: $type:ty = $text:literal, $shape:expr, schema $schema:literal, $levels:ident;)+) => {
        $($(#[doc = $doc])+ pub static $name: Key<$type> = Key::new($text, concat!($($doc),+), $shape, $schema, $levels);)+

        /// Every key, in the order of their names.
        pub static TABLE: &[&Spec] = &[$($name.spec()),+];
    };
}

table! {
    /// Connections of clients that one process of the public API holds at a time; for a further one the longest idle is
    /// closed. Never more than half of the files that the process may have open.
    API_CONNECTIONS_MAX: u64 = "api.connections_max", integer("connections", 16, 1_000_000, 2048), schema 1, ZONES;
    /// How many times a node's memory is given out.
    MEMORY_RATIO: Ratio = "compute.memory_ratio", ratio(100, 16_000, 1000), schema 1, NODES;
    /// Memory of a node that is not given out: for its own programs.
    RESERVED_MEMORY: u64 = "compute.reserved_memory_mib", integer("MiB", 0, 16 << 20, 0), schema 1, NODES;
    /// How many times a node's processors are given out: most guests wait most of the time.
    VCPU_RATIO: Ratio = "compute.vcpu_ratio", ratio(100, 64_000, 16_000), schema 1, NODES;
    /// Works that one coordinator moves at the same time; the others wait.
    WORKS_MAX: u64 = "coordinator.works_max", integer("works", 1, 65_536, 1024), schema 1, ZONES;
    /// For how long a name that was looked up over DNS may be used before it is looked up again.
    DNS_TTL: Duration = "dns.ttl_seconds", duration(Unit::Seconds, 0, 3600, Duration::from_secs(1)), schema 1, CELL;
    /// How long a token is good, unless it was got with one that ends sooner. Holds for tokens that are issued from then on.
    TOKEN_SPAN: Duration = "identity.token_hours",
        duration(Unit::Hours, 1, TOKEN_HOURS_MAX, Duration::from_secs(3600)), schema 1, CELL;
    /// How long a process whose connection broke may take to come back before others act as if it could not.
    LIVENESS_GRACE: Duration = "liveness.grace_ms",
        duration(Unit::Millis, 1000, 60_000, Duration::from_millis(3000)), schema 1, CELL;
    /// What a process logs: this and what is more severe. Not heeded by a process that was started with MAINSTAY_LOG.
    LOG_LEVEL: &'static str = "log.level",
        choice(&["off", "error", "warn", "info", "debug", "trace"], "info"), schema 1, ANYWHERE;
    /// Calls of other processes that one process serves at a time; more are refused at once, to be tried again.
    CALLS_MAX: u64 = "rpc.calls_max", integer("calls", 64, 1_000_000, 4096), schema 1, ANYWHERE;
}

/// The key of this name.
pub fn find(name: &str) -> Option<&'static Spec> {
    TABLE.iter().copied().find(|spec| spec.name == name)
}

/// The key whose name is most like `name`, if one is.
pub fn nearest(name: &str) -> Option<&'static str> {
    let close = TABLE.iter().map(|spec| (distance(name, spec.name), spec.name)).min()?;
    (close.0 <= close.1.len() / 2).then_some(close.1)
}

/// Single letters that must be put in, taken out or replaced to make `to` out of `from`.
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    // Nobody means a key by a name that is so much longer.
    for (line, letter) in from.bytes().take(2 * to.len()).enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, other) in to.bytes().enumerate() {
            let replaced = diagonal + usize::from(letter != other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_and_every_default_is_allowed() {
        assert!(TABLE.is_sorted_by(|one, two| one.name < two.name));
        for spec in TABLE {
            let text = spec.kind.write(&spec.default());
            assert_eq!(spec.kind.parse(&text), Some(spec.default()), "{}", spec.name);
            assert!(spec.levels.is_sorted() && spec.levels.contains(&Cell) && spec.schema > 0, "{}", spec.name);
            assert!(spec.doc.trim().ends_with('.'), "{}: {}", spec.name, spec.doc);
        }
    }

    #[test]
    fn a_slip_of_the_pen_is_understood() {
        assert_eq!(nearest("compute.vpcu_ratio"), Some("compute.vcpu_ratio"));
        assert_eq!(nearest("vcpu_ratio"), Some("compute.vcpu_ratio"));
        assert_eq!(nearest("log.levle"), Some("log.level"));
        assert_eq!(nearest("colour"), None);
        assert_eq!(nearest(&"x".repeat(100_000)), None);
        assert_eq!((distance("", "abc"), distance("abc", "abc"), distance("kitten", "sitting")), (3, 0, 3));
    }
}
