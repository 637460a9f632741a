//! Why identity does not do what it was asked.

/// A question could not be answered, or a change was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The thing does not exist.
    #[error("Could not find {kind}: {id}.")]
    NotFound {
        /// What kind of thing.
        kind: &'static str,
        /// What it was called.
        id: String,
    },
    /// The name is taken.
    #[error("Conflict occurred attempting to store {kind} - Duplicate entry found with name {name}.")]
    Duplicate {
        /// What kind of thing.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// What was asked for makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// It makes sense, and is not done.
    #[error("{0}")]
    Refused(String),
    /// Too much is going on; nothing happened.
    #[error("too many passwords are being checked at the moment, try again soon")]
    Busy,
    /// The store does not answer.
    #[error(transparent)]
    Read(#[from] store::ReadError),
    /// The store does not take it.
    #[error(transparent)]
    Commit(#[from] store::CommitError),
    /// The store holds something that this release cannot read.
    #[error(transparent)]
    Damaged(#[from] store::DecodeError),
}

impl Error {
    pub(crate) fn not_found(kind: &'static str, id: impl std::fmt::Display) -> Error {
        Error::NotFound { kind, id: id.to_string() }
    }

    pub(crate) fn duplicate(kind: &'static str, name: impl Into<String>) -> Error {
        Error::Duplicate { kind, name: name.into() }
    }
}
