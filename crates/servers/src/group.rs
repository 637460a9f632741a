//! Server groups: which servers shall be kept together or apart.

use identity::{Caller, ProjectId, UserId};
use placement::quota;
use store::{Reader, Record, Revision};
use telemetry::Cx;

use crate::accept::{AcceptError, Servers};

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

/// The quota of server groups, of a project.
pub const SERVER_GROUPS: &str = "server_groups";
/// Policies that the scheduler knows.
pub const POLICIES: [&str; 4] = ["affinity", "anti-affinity", "soft-affinity", "soft-anti-affinity"];

/// A server group that the caller may see.
pub fn visible(reader: &Reader<'_>, caller: &Caller, id: &str) -> Result<(ServerGroup, Revision), AcceptError> {
    let missing = || AcceptError::NotFound { kind: "Instance group", id: id.to_owned() };
    let parsed: ServerGroupId = id.parse().map_err(|_| missing())?;
    let found = reader.get::<ServerGroup>(&parsed)?;
    found.filter(|(group, _)| caller.may_see(&group.project)).ok_or_else(missing)
}

impl Servers {
    /// Makes a server group in the caller's project.
    pub async fn create_group(
        &self,
        cx: &Cx,
        caller: &Caller,
        name: &str,
        policy: &str,
    ) -> Result<ServerGroup, AcceptError> {
        let project = crate::accept::project_of(caller)?;
        crate::accept::permit_in(caller, &project)?;
        if !POLICIES.contains(&policy) {
            return Err(AcceptError::Invalid(format!("the policy {policy} is not known")));
        }
        let group = ServerGroup {
            id: ServerGroupId::random(cx.world()),
            project,
            user: caller.user_id.clone(),
            name: name.to_owned(),
            policy: policy.to_owned(),
            max_per_host: 0,
        };
        self.decide(cx, |reader, txn| {
            quota::in_force(reader, group.project.as_str())?.charge(SERVER_GROUPS, 1, txn);
            txn.create(group.key(), group.encode());
            Ok(())
        })
        .await?;
        Ok(group)
    }

    /// Removes a server group. Its members stay what they are.
    pub async fn delete_group(&self, cx: &Cx, caller: &Caller, id: &str) -> Result<(), AcceptError> {
        self.decide(cx, |reader, txn| {
            let (group, revision) = visible(reader, caller, id)?;
            crate::accept::permit_in(caller, &group.project)?;
            txn.remove(group.key(), revision);
            quota::refund(group.project.as_str(), SERVER_GROUPS, 1, txn);
            Ok(())
        })
        .await
    }
}
