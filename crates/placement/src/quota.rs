//! What a project may hold: claimed in the commit that accepts a request, because the refusal is the answer.
//!
//! Usage is a counter per project and resource, limits are one record per project that holds only what differs from the
//! defaults. A charge has that record's revision (or absence) as a precondition, so that a lowered limit holds from its
//! commit on; lowering it under what is in use is allowed and stops increases only.

use std::collections::BTreeMap;

use proto::placement::state::v1 as stored;
use store::{DecodeError, Key, Reader, Record, Revision, Txn};

/// Resources that are counted, with their default limits; negative: none. Names are Nova's.
pub const DEFAULTS: &[(&str, i64)] = &[
    ("instances", 10),
    ("cores", 20),
    ("ram", 51_200),
    ("metadata_items", 128),
    ("injected_files", 5),
    ("injected_file_content_bytes", 10_240),
    ("injected_file_path_bytes", 255),
    ("key_pairs", 100),
    ("server_groups", 10),
    ("server_group_members", 10),
];

/// Limits of one project.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The project.
    pub project: String,
    /// What differs from the defaults.
    pub limits: BTreeMap<String, i64>,
}

impl Record for Limits {
    const TABLE: &'static str = "quota/limits/";
    type Stored = stored::QuotaLimits;

    fn id(&self) -> String {
        self.project.clone()
    }

    fn to_stored(&self) -> stored::QuotaLimits {
        stored::QuotaLimits { project: self.project.clone(), limits: self.limits.clone() }
    }

    fn from_stored(stored: stored::QuotaLimits) -> Result<Limits, String> {
        Ok(Limits { project: stored.project, limits: stored.limits })
    }
}

/// The counter of what `project` holds of `resource`.
pub fn used_key(project: &str, resource: &str) -> Key {
    Key::from(format!("quota/used/{project}/{resource}"))
}

/// The limits that hold for a project.
pub struct InForce {
    key: Key,
    revision: Option<Revision>,
    limits: Limits,
}

/// The limits that hold for `project`.
pub fn in_force(reader: &Reader<'_>, project: &str) -> Result<InForce, DecodeError> {
    let found = reader.get::<Limits>(&project)?;
    let key = Limits::key_of(&project);
    Ok(match found {
        Some((limits, revision)) => InForce { key, revision: Some(revision), limits },
        None => InForce { key, revision: None, limits: Limits { project: project.to_owned(), ..Limits::default() } },
    })
}

impl InForce {
    /// The limit of `resource`; `None`: no limit.
    pub fn limit(&self, resource: &str) -> Option<u64> {
        let default = DEFAULTS.iter().find(|(name, _)| *name == resource).map(|(_, limit)| *limit);
        let limit = self.limits.limits.get(resource).copied().or(default).unwrap_or(-1);
        u64::try_from(limit).ok()
    }

    /// What differs from the defaults, for changing it.
    pub fn own(&self) -> &Limits {
        &self.limits
    }

    /// The revision of the project's record, if it has one.
    pub fn revision(&self) -> Option<Revision> {
        self.revision
    }

    /// Adds to `txn` that the project takes `amount` of `resource`, within its limit at the moment of the commit.
    pub fn charge(&self, resource: &str, amount: u64, txn: &mut Txn) {
        self.charge_to(&self.limits.project, resource, amount, txn);
    }

    /// The same for what each `holder` in the project may have for itself.
    pub fn charge_to(&self, holder: &str, resource: &str, amount: u64, txn: &mut Txn) {
        match self.revision {
            Some(revision) => txn.unchanged(self.key.clone(), revision),
            None => txn.absent(self.key.clone()),
        };
        let amount = i64::try_from(amount).unwrap_or(i64::MAX);
        txn.add(used_key(holder, resource), amount, self.limit(resource));
    }
}

/// Adds to `txn` that `project` returns `amount` of `resource`.
pub fn refund(project: &str, resource: &str, amount: u64, txn: &mut Txn) {
    txn.add(used_key(project, resource), -i64::try_from(amount).unwrap_or(i64::MAX), None);
}

/// The resource and project of a quota counter's key, for error messages.
pub fn parse_used_key(key: &Key) -> Option<(String, String)> {
    let text = key.to_text();
    let (project, resource) = text.strip_prefix("quota/used/")?.rsplit_once('/')?;
    Some((project.to_owned(), resource.to_owned()))
}
