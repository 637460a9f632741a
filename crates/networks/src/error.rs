//! Why something about networks cannot be done.

use std::net::IpAddr;

use store::{CommitError, DecodeError, ReadError};

use crate::quota::Resource;

/// What kind of thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A network.
    Network,
    /// A subnet.
    Subnet,
    /// A port.
    Port,
    /// A security group.
    SecurityGroup,
    /// A rule of a security group.
    SecurityRule,
    /// A router.
    Router,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Kind::Network => "network",
            Kind::Subnet => "subnet",
            Kind::Port => "port",
            Kind::SecurityGroup => "security group",
            Kind::SecurityRule => "security group rule",
            Kind::Router => "router",
        })
    }
}

/// Why not. The texts are for tenants.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetError {
    /// There is none, or none that the caller may see.
    #[error("the {kind} {id} could not be found")]
    NotFound {
        /// What was looked for.
        kind: Kind,
        /// Its id.
        id: String,
    },
    /// What was asked for makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The caller may not do this.
    #[error("{0}")]
    Forbidden(String),
    /// Not built yet.
    #[error("{0} is not supported by this cloud")]
    Unsupported(String),
    /// It is in use.
    #[error("the {kind} {id} is in use: {by}")]
    InUse {
        /// What it is.
        kind: Kind,
        /// Its id.
        id: String,
        /// Who uses it.
        by: String,
    },
    /// Somebody has this address.
    #[error("the address {0} is in use")]
    AddressInUse(IpAddr),
    /// Somebody has this hardware address on the network.
    #[error("the hardware address {0} is in use on this network")]
    MacInUse(String),
    /// No address is left.
    #[error("no more addresses are free: {0}")]
    NoAddress(String),
    /// Ranges overlap.
    #[error("{0}")]
    Overlap(String),
    /// The gateway's address lies in a pool.
    #[error("the gateway {gateway} lies in the allocation pool {pool}")]
    GatewayInPool {
        /// The gateway.
        gateway: IpAddr,
        /// The pool, as first-last.
        pool: String,
    },
    /// A router has the gateway's address.
    #[error("the gateway {gateway} is in use by the port {port}")]
    GatewayInUse {
        /// The gateway.
        gateway: IpAddr,
        /// The router's port.
        port: String,
    },
    /// The same rule is there already.
    #[error("the security group has this rule already; its id is {0}")]
    RuleExists(String),
    /// What may not be done to a default group.
    #[error("{0}")]
    DefaultGroup(String),
    /// Groups or address pairs on a port without port security.
    #[error("{0}")]
    PortSecurity(String),
    /// Several networks could be meant.
    #[error("several networks could be meant: name one")]
    AmbiguousNetwork,
    /// The project has as many as it may have.
    #[error("Quota exceeded for resources: ['{}']", .0.name())]
    OverQuota(Resource),
    /// Not now; the same may be asked again.
    #[error("{0}")]
    Busy(String),
    /// A stored record cannot be understood.
    #[error("a stored record cannot be read")]
    Damaged(#[from] DecodeError),
    /// A defect of this program: the store refused the form of a transaction.
    #[error("the change could not be written: {0}")]
    Refused(String),
}

impl NetError {
    pub(crate) fn missing(kind: Kind, id: &impl ToString) -> NetError {
        NetError::NotFound { kind, id: id.to_string() }
    }

    pub(crate) fn in_use(kind: Kind, id: &impl ToString, by: impl Into<String>) -> NetError {
        NetError::InUse { kind, id: id.to_string(), by: by.into() }
    }

    /// What a commit's failure means to the tenant. A conflict that was not resolved by deciding again is `Busy`.
    pub fn of_commit(error: CommitError) -> NetError {
        match error {
            CommitError::Conflict { key, .. } => {
                NetError::Busy(format!("others keep changing the same thing ({key}); try again"))
            }
            CommitError::OverLimit { key, delta, .. } => match Resource::of_use_key(&key) {
                Some(resource) if delta > 0 => NetError::OverQuota(resource),
                Some(_) | None => NetError::Refused(format!("the counter {key} would go below zero")),
            },
            CommitError::NotNow { reason } | CommitError::Unknown { reason } => NetError::Busy(reason),
            CommitError::Invalid(error) => NetError::Invalid(format!("too much for one request: {error}")),
        }
    }
}

impl From<ReadError> for NetError {
    fn from(error: ReadError) -> NetError {
        NetError::Busy(error.reason)
    }
}
