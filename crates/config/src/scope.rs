//! Where a value is set, and whom that reaches.

use std::collections::BTreeSet;
use std::fmt;

use pki::Role;

/// The most bytes of a zone's or node's name.
pub const NAME_BYTES_MAX: usize = 255;

/// A kind of scope, from the widest to the most specific.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Everything.
    Cell,
    /// What is in one availability zone.
    Zone,
    /// The processes that play one role.
    Role,
    /// One node.
    Node,
}

impl Level {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Cell => "cell",
            Level::Zone => "zone",
            Level::Role => "role",
            Level::Node => "node",
        }
    }
}

/// Where a value is set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// For everything.
    Cell,
    /// For what is in this availability zone.
    Zone(String),
    /// For the processes that play this role.
    Role(Role),
    /// For this node.
    Node(String),
    /// Written by another release; reaches nobody here.
    Other(String),
}

impl Scope {
    /// From its text form. What makes no sense to this release is kept as it is.
    pub fn from_text(text: &str) -> Scope {
        let known = match text.split_once('/') {
            None => (text == "cell").then_some(Scope::Cell),
            Some(("zone", name)) => Some(Scope::Zone(name.to_owned())),
            Some(("role", name)) => name.parse().ok().map(Scope::Role),
            Some(("node", name)) => Some(Scope::Node(name.to_owned())),
            Some(_) => None,
        };
        known.unwrap_or_else(|| Scope::Other(text.to_owned()))
    }

    /// Its kind, if this release knows it.
    pub fn level(&self) -> Option<Level> {
        match self {
            Scope::Cell => Some(Level::Cell),
            Scope::Zone(_) => Some(Level::Zone),
            Scope::Role(_) => Some(Level::Role),
            Scope::Node(_) => Some(Level::Node),
            Scope::Other(_) => None,
        }
    }

    /// Whether its name can be the name of something.
    pub fn is_named_well(&self) -> bool {
        match self {
            Scope::Cell | Scope::Role(_) => true,
            Scope::Zone(name) | Scope::Node(name) => {
                !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.contains(|c: char| c.is_control() || c == '/')
            }
            Scope::Other(_) => false,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scope::Cell => f.write_str("cell"),
            Scope::Zone(name) => write!(f, "zone/{name}"),
            Scope::Role(role) => write!(f, "role/{role}"),
            Scope::Node(name) => write!(f, "node/{name}"),
            Scope::Other(text) => f.write_str(text),
        }
    }
}

/// Where something is: a process, or a node that is decided about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Its availability zone.
    pub zone: Option<String>,
    /// The roles that it plays.
    pub roles: BTreeSet<Role>,
    /// The node that it is, or that it serves alone.
    pub node: Option<String>,
}

impl Place {
    /// The scopes that reach it, the most specific first: node, role, zone, cell. Of several roles the first in the order
    /// of [`Role`] counts, so that a process with all of them obeys what is set for `control` before what is set for a part.
    pub fn scopes(&self) -> impl Iterator<Item = Scope> {
        let node = self.node.iter().cloned().map(Scope::Node);
        let roles = self.roles.iter().copied().map(Scope::Role);
        let zone = self.zone.iter().cloned().map(Scope::Zone);
        node.chain(roles).chain(zone).chain([Scope::Cell])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_scope_is_read_again() {
        let all = [
            (Scope::Cell, "cell"),
            (Scope::Zone("a b".into()), "zone/a b"),
            (Scope::Role(Role::Api), "role/api"),
            (Scope::Node("n1".into()), "node/n1"),
            (Scope::Other("role/astronomer".into()), "role/astronomer"),
            (Scope::Other("planet/mars".into()), "planet/mars"),
        ];
        for (scope, text) in all {
            assert_eq!((scope.to_string().as_str(), Scope::from_text(text)), (text, scope));
        }
    }

    #[test]
    fn the_most_specific_comes_first() {
        let place = Place { zone: Some("z".into()), roles: [Role::Api, Role::Control].into(), node: Some("n".into()) };
        let all: Vec<String> = place.scopes().map(|scope| scope.to_string()).collect();
        assert_eq!(all, ["node/n", "role/control", "role/api", "zone/z", "cell"]);
    }
}
