//! The shell around [`crate::plan`]: looks, commits, and looks again if somebody else was faster.

use store::{CommitError, DecodeError, ReadError, View};
use world::World;

use crate::plan::{Planned, Refusal, Stamp, Wish, plan};
use crate::stored::{Change, Line};

/// How often a change is planned again because another one came first, or its outcome is unknown.
const TRIES_MAX: usize = 32;

/// Why a change was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is not allowed. Nothing was changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The present state cannot be seen now. Nothing was changed.
    #[error("the configuration cannot be read now")]
    Read(#[source] ReadError),
    /// Something in the store makes no sense to this release. Nothing was changed.
    #[error("the configuration cannot be changed by this release")]
    Damaged(#[source] DecodeError),
    /// The store did not take it. After an unknown outcome it may have been made, or not; it can be asked for again.
    #[error("the change could not be committed")]
    Commit(#[source] CommitError),
}

/// A change that was made, or was not needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The configuration's revision since.
    pub revision: u64,
    /// What is different; nothing: all was so already.
    pub lines: Vec<Line>,
}

/// A transaction whose outcome is unknown: the change of this number, if it happened.
struct Doubt {
    number: u64,
    lines: Vec<Line>,
}

/// Grants `wish` for `who`, in one transaction; when this returns, this process's view shows it. May be repeated: what is
/// so already is not changed.
pub async fn change(world: &World, view: &View, who: &str, wish: &Wish) -> Result<Changed, Error> {
    let stamp = Stamp { who: who.to_owned(), at: world.wall(), token: world.random() };
    let mut doubt: Option<Doubt> = None;
    let mut failed = CommitError::NotNow { reason: "others keep changing the configuration".into() };
    for _ in 0..TRIES_MAX {
        let (planned, landed) = view
            .read(|reader| {
                let landed = doubt.as_ref().and_then(|doubt| {
                    let (change, revision) = reader.get::<Change>(&Change::id_of(doubt.number)).ok().flatten()?;
                    (change.token == stamp.token).then_some(revision)
                });
                (plan(reader, wish, &stamp), landed)
            })
            .await
            .map_err(Error::Read)?;
        if let (Some(revision), Some(doubt)) = (landed, doubt.take()) {
            return Ok(Changed { revision: revision.as_u64(), lines: doubt.lines });
        }
        let (txn, number, lines) = match planned.map_err(Error::Damaged)?? {
            Planned::Nothing(document) => return Ok(Changed { revision: document.revision, lines: Vec::new() }),
            Planned::Write { txn, number, lines } => (txn, number, lines),
        };
        match commit(view, txn).await {
            Ok(revision) => return Ok(Changed { revision, lines }),
            Err(error @ CommitError::Conflict { .. }) => {
                // What was sent before may be what is in the way: the next look tells.
                doubt = Some(Doubt { number, lines });
                failed = error;
            }
            Err(error) => return Err(Error::Commit(error)),
        }
    }
    Err(Error::Commit(failed))
}

/// Sends `txn` until its outcome is known. It can happen once only, so a conflict after an unknown outcome may be with
/// itself.
async fn commit(view: &View, txn: store::Txn) -> Result<u64, CommitError> {
    let mut tries = 0;
    loop {
        tries += 1;
        match view.store().commit(txn.clone()).await {
            Ok(revision) => {
                // If the view is late, the change is made all the same.
                let _late = view.reach(revision).await;
                return Ok(revision.as_u64());
            }
            Err(CommitError::Unknown { .. }) if tries < TRIES_MAX => {}
            Err(error) => return Err(error),
        }
    }
}
