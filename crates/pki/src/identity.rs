//! Who a process is.

use std::fmt;
use std::str::FromStr;

/// What a process is to the cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// One process with every control role; with the embedded store they are one trust domain.
    Control,
    /// Holds the store.
    Store,
    /// Answers tenants over HTTP, and nodes that need image content.
    Api,
    /// Runs work.
    Coordinator,
    /// Chooses hosts.
    Scheduler,
    /// Knows who is alive, and tells everybody.
    Liveness,
    /// Answers who is where over DNS, for programs that know nothing of Mainstay.
    Names,
    /// Runs guests on a node.
    Agent,
    /// A person who operates the cell.
    Operator,
}

impl Role {
    /// Every role.
    pub const ALL: [Role; 9] = [
        Role::Control,
        Role::Store,
        Role::Api,
        Role::Coordinator,
        Role::Scheduler,
        Role::Liveness,
        Role::Names,
        Role::Agent,
        Role::Operator,
    ];

    /// What a process with [`Role::Control`] plays: everything but what belongs to nodes and people.
    pub const PARTS: [Role; 6] =
        [Role::Store, Role::Api, Role::Coordinator, Role::Scheduler, Role::Liveness, Role::Names];

    /// Its name in identities, on command lines and in files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Control => "control",
            Role::Store => "store",
            Role::Api => "api",
            Role::Coordinator => "coordinator",
            Role::Scheduler => "scheduler",
            Role::Liveness => "liveness",
            Role::Names => "names",
            Role::Agent => "agent",
            Role::Operator => "operator",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = String;
    fn from_str(text: &str) -> Result<Role, String> {
        Role::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(|| {
            let known: Vec<_> = Role::ALL.iter().map(|role| role.as_str()).collect();
            format!("{text:?} is no role; the roles are {}", known.join(", "))
        })
    }
}

/// A process of a cell: `spiffe://CELL/ROLE/NAME`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// The cell, as a DNS name.
    pub cell: String,
    /// What it is.
    pub role: Role,
    /// Which one; a DNS label.
    pub name: String,
}

impl Identity {
    /// The SPIFFE id.
    pub fn uri(&self) -> String {
        format!("spiffe://{}/{}/{}", self.cell, self.role, self.name)
    }

    /// The name that TLS clients expect of it as a server.
    pub fn server_name(&self) -> String {
        format!("{}.{}.{}", self.name, self.role, self.cell)
    }

    /// The name that TLS clients expect of any process of `cell` that plays `role`, whichever it is: for who knows an
    /// address and nothing else.
    pub fn any(cell: &str, role: Role) -> String {
        format!("{role}.{cell}")
    }

    /// Every name that it has as a server.
    pub fn server_names(&self) -> Vec<String> {
        let parts: &[Role] = if self.role == Role::Control { &Role::PARTS } else { &[] };
        let roles = std::iter::once(self.role).chain(parts.iter().copied());
        std::iter::once(self.server_name()).chain(roles.map(|role| Identity::any(&self.cell, role))).collect()
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.role, self.name)
    }
}

impl FromStr for Identity {
    type Err = String;
    fn from_str(uri: &str) -> Result<Identity, String> {
        let bad = || format!("{uri:?} is not of the form spiffe://CELL/ROLE/NAME");
        let rest = uri.strip_prefix("spiffe://").ok_or_else(bad)?;
        let mut parts = rest.split('/');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(cell), Some(role), Some(name), None) if !cell.is_empty() && !name.is_empty() => {
                Ok(Identity { cell: cell.to_owned(), role: role.parse()?, name: name.to_owned() })
            }
            _ => Err(bad()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_survives_its_uri_and_nothing_else_is_one() {
        let identity = Identity { cell: "c1.mainstay".into(), role: Role::Agent, name: "node-7".into() };
        assert_eq!(identity.uri().parse(), Ok(identity));
        for bad in
            ["spiffe://c/agent", "spiffe://c/agent/n/x", "spiffe:///agent/n", "http://c/agent/n", "spiffe://c/x/n"]
        {
            assert!(bad.parse::<Identity>().is_err(), "{bad}");
        }
    }
}
