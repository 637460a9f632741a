//! The shell: reads a state, lets a pure function decide, commits, and decides again when somebody was quicker.

use std::sync::Arc;
use std::time::Duration;

use store::{CommitError, Op, Precondition, Reader, Txn, View};
use world::World;

use crate::error::NetError;
use crate::picks::Picks;
use crate::plan::{Plan, Who};

/// How often one request is decided before it is refused for now. Each time somebody else's commit went through, so
/// the cell as a whole moves on.
const DECISIONS_MAX: usize = 24;
/// How often a transaction with an unknown outcome is sent again.
const RESENDS_MAX: usize = 20;
/// Pause before that.
const RESEND_PAUSE: Duration = Duration::from_millis(100);

/// Networks and what hangs on them. One per process; share it.
#[derive(Clone)]
pub struct Networks {
    world: World,
    view: Arc<View>,
    picks: Picks,
}

impl Networks {
    /// Over this view, which has the indexes of [`crate::indexes`].
    pub fn new(world: &World, view: Arc<View>) -> Networks {
        Networks { world: world.clone(), view, picks: Picks::default() }
    }

    /// The view that is read.
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// The picks of this process; plans for other commits use the same.
    pub fn picks(&self) -> &Picks {
        &self.picks
    }

    /// Reads a state that is at least as new as this call.
    pub async fn read<T>(&self, read: impl FnOnce(&Reader<'_>) -> Result<T, NetError>) -> Result<T, NetError> {
        self.view.read(read).await?
    }

    /// Lets `decide` plan on the newest state and commits the plan. `decide` may run several times; only its last plan
    /// is committed. Killed before the commit nothing has happened, killed after it all has.
    pub async fn decide<T>(
        &self,
        who: &Who,
        decide: impl Fn(&mut Plan<'_>) -> Result<T, NetError>,
    ) -> Result<T, NetError> {
        let mut last = None;
        for _ in 0..DECISIONS_MAX {
            let planned = self.view.read(|reader| {
                let mut plan = Plan::new(reader, &self.world, &self.picks, who);
                let value = decide(&mut plan)?;
                let (txn, picked) = plan.finish();
                Ok::<_, NetError>((value, txn, picked))
            });
            let (value, txn, picked) = planned.await??;
            if txn.ops.is_empty() {
                return Ok(value);
            }
            let outcome = self.commit(txn).await;
            drop(picked);
            match outcome {
                Ok(()) => return Ok(value),
                Err(error @ CommitError::Conflict { .. }) => last = Some(error),
                Err(error) => return Err(NetError::of_commit(error)),
            }
        }
        Err(last.map_or_else(|| NetError::Busy("try again".into()), NetError::of_commit))
    }

    /// Commits until the outcome is known.
    async fn commit(&self, txn: Txn) -> Result<(), CommitError> {
        let mut unknown = None;
        for _ in 0..RESENDS_MAX {
            match self.view.store().commit(txn.clone()).await {
                Ok(_) => return Ok(()),
                Err(error @ CommitError::Unknown { .. }) => {
                    unknown = Some(error);
                    self.world.sleep(RESEND_PAUSE).await;
                }
                Err(error @ CommitError::Conflict { .. }) if unknown.is_some() => {
                    return if self.landed(&txn).await { Ok(()) } else { Err(error) };
                }
                Err(error) => return Err(error),
            }
        }
        Err(unknown.unwrap_or(CommitError::NotNow { reason: "the store did not answer".into() }))
    }

    /// Whether a transaction that now conflicts has happened: then something that it wrote is exactly there (records
    /// carry random ids and their own times, claims the id of their port), or what it deleted is gone.
    async fn landed(&self, txn: &Txn) -> bool {
        for op in &txn.ops {
            let decisive = match op {
                Op::Put(..) => true,
                Op::Delete(key) => {
                    txn.preconditions.iter().any(|p| matches!(p, Precondition::RevisionIs(there, _) if there == key))
                }
                Op::Add { .. } => false,
            };
            if !decisive {
                continue;
            }
            let Ok(there) = self.view.store().get(op.key()).await else { continue };
            let done = match op {
                Op::Put(_, value) => there.is_some_and(|entry| entry.record() == Some(value)),
                Op::Delete(_) | Op::Add { .. } => there.is_none(),
            };
            if done {
                return true;
            }
        }
        false
    }
}
