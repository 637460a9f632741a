//! By what, other than their keys, identity's records are found.

use bytes::Bytes;
use store::{Index, Key, Record};

use crate::record::{ApplicationCredential, Grant, Membership};

/// Grants by where they are: the term is [`crate::record::Target`]'s part of the key.
pub(crate) const GRANTS_BY_TARGET: &str = "grant.target";
/// Grants by role.
pub(crate) const GRANTS_BY_ROLE: &str = "grant.role";
/// Memberships by group.
pub(crate) const MEMBERS_BY_GROUP: &str = "membership.group";
/// Application credentials by user.
pub(crate) const CREDENTIALS_BY_USER: &str = "application-credential.user";
/// Application credentials by project.
pub(crate) const CREDENTIALS_BY_PROJECT: &str = "application-credential.project";

/// What a view has to be opened with so that identity can work on it.
pub fn indexes() -> Vec<Index> {
    vec![
        Index::new(GRANTS_BY_TARGET, Grant::TABLE, |_, bytes| term(bytes, |grant: Grant| grant.target.part())),
        Index::new(GRANTS_BY_ROLE, Grant::TABLE, |_, bytes| term(bytes, |grant: Grant| grant.role.to_string())),
        Index::new(MEMBERS_BY_GROUP, Membership::TABLE, |_, bytes| {
            term(bytes, |membership: Membership| membership.group.to_string())
        }),
        Index::new(CREDENTIALS_BY_USER, ApplicationCredential::TABLE, |_: &Key, bytes| {
            term(bytes, |credential: ApplicationCredential| credential.user.to_string())
        }),
        Index::new(CREDENTIALS_BY_PROJECT, ApplicationCredential::TABLE, |_, bytes| {
            term(bytes, |credential: ApplicationCredential| credential.project.to_string())
        }),
    ]
}

fn term<R: Record>(bytes: &Bytes, term: impl FnOnce(R) -> String) -> Vec<String> {
    R::decode(bytes).map_or_else(|_| Vec::new(), |record| vec![term(record)])
}
