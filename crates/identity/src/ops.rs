//! What can be asked of identity's records, one file for each kind.
//!
//! Each operation decides on the newest state and commits what it decided on that state's revisions; it validates what
//! it stores, and knows nothing of who asks: callers have been authorized before.

pub mod catalog;
pub mod credentials;
pub mod domains;
pub mod grants;
pub mod groups;
pub mod projects;
pub mod roles;
pub mod users;

use store::{Reader, Record, Revision, Txn};

use crate::error::Error;
use crate::record::{NameClaim, NameOf};
use crate::remove::Doomed;

/// Takes a name that nobody has.
fn claim(
    reader: &Reader<'_>,
    txn: &mut Txn,
    (kind, what): (NameOf, &'static str),
    (scope, name): (&str, &str),
    id: &str,
) -> Result<(), Error> {
    let key = kind.key(scope, name);
    if reader.entry(&key).is_some() {
        return Err(Error::duplicate(what, name));
    }
    txn.create(key, NameClaim { name: name.to_owned(), id: id.to_owned() }.encode());
    Ok(())
}

/// Gives up one name for another.
fn rename(
    reader: &Reader<'_>,
    txn: &mut Txn,
    kind: (NameOf, &'static str),
    scope: &str,
    (old, new): (&str, &str),
    id: &str,
) -> Result<(), Error> {
    if old != new {
        claim(reader, txn, kind, (scope, new), id)?;
        txn.delete(kind.0.key(scope, old));
    }
    Ok(())
}

/// The record, which must not be going away, since something will hang on it.
fn lively<R: Doomed>(reader: &Reader<'_>, id: &impl std::fmt::Display) -> Result<(R, Revision), Error> {
    let found = reader.get::<R>(id)?.filter(|(record, _)| !record.deleting());
    found.ok_or_else(|| Error::not_found(R::KIND, id))
}

/// Requires in `txn` that the record is still as it was, so that it cannot start to go away unnoticed.
fn hang_on<R: Doomed>(reader: &Reader<'_>, txn: &mut Txn, id: &impl std::fmt::Display) -> Result<R, Error> {
    let (record, revision) = lively::<R>(reader, id)?;
    txn.unchanged(record.key(), revision);
    Ok(record)
}

/// Applies a field of a patch.
fn set<T>(field: &mut T, new: &Option<T>)
where
    T: Clone,
{
    if let Some(new) = new {
        field.clone_from(new);
    }
}
