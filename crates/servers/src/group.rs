//! Server groups: which servers shall be kept together or apart.

use identity::{ProjectId, UserId};

ids::uuid_id! {
    /// A server group.
    pub struct ServerGroupId;
}

/// A server group. Its members are the servers that name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerGroup {
    /// Its id.
    pub id: ServerGroupId,
    /// The project.
    pub project: ProjectId,
    /// Who made it.
    pub user: UserId,
    /// Its name.
    pub name: String,
    /// `affinity`, `anti-affinity`, `soft-affinity` or `soft-anti-affinity`.
    pub policy: String,
    /// Most members on one host, for anti-affinity; 0: one.
    pub max_per_host: u32,
}
