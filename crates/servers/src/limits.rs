//! What an administrator lets a project have.

use std::collections::BTreeMap;

use placement::quota::{self, Limits};
use store::{Reader, Record};
use telemetry::Cx;

use crate::accept::{AcceptError, Servers};

/// What `project` holds of `resource`.
pub fn used(reader: &Reader<'_>, project: &str, resource: &str) -> u64 {
    reader.counter(&quota::used_key(project, resource))
}

impl Servers {
    /// Sets limits of a project; negative: none. Without `force` a limit below what is held is refused.
    pub async fn set_limits(
        &self,
        cx: &Cx,
        project: &str,
        limits: &BTreeMap<String, i64>,
        force: bool,
    ) -> Result<(), AcceptError> {
        self.decide(cx, |reader, txn| {
            let in_force = quota::in_force(reader, project)?;
            let mut own: Limits = in_force.own().clone();
            for (resource, limit) in limits {
                let used = used(reader, project, resource);
                if !force && u64::try_from(*limit).is_ok_and(|limit| limit < used) {
                    return Err(AcceptError::Invalid(format!(
                        "Quota limit {limit} for {resource} must be greater than or equal to already used and reserved {used}."
                    )));
                }
                own.limits.insert(resource.clone(), *limit);
            }
            if own != *in_force.own() {
                match in_force.revision() {
                    Some(revision) => txn.replace(own.key(), revision, own.encode()),
                    None => txn.create(own.key(), own.encode()),
                };
            }
            Ok(())
        })
        .await
    }

    /// Forgets all limits of a project: the defaults hold again.
    pub async fn reset_limits(&self, cx: &Cx, project: &str) -> Result<(), AcceptError> {
        self.decide(cx, |reader, txn| {
            let in_force = quota::in_force(reader, project)?;
            if let Some(revision) = in_force.revision() {
                txn.remove(in_force.own().key(), revision);
            }
            Ok(())
        })
        .await
    }
}
