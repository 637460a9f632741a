//! The words between a coordinator and a node: orders, outcomes, answers.

use std::sync::Arc;
use std::time::Duration;

use driver::{GuestId, GuestSpec, NetworkId, NetworkSpec, PortState, Run};

use crate::described::Told;

ids::uuid_id! {
    /// A work of the cell's coordinators.
    pub struct WorkId;
}

ids::uuid_id! {
    /// An image that awaits content, as in the API.
    pub struct ImageId;
}

/// The fencing number of a work's owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub u64);

/// The number of an order within its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Step(pub u32);

/// One step of a work, to be done on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The work.
    pub work: WorkId,
    /// Its owner's epoch.
    pub epoch: Epoch,
    /// Which order of the work this is.
    pub step: Step,
    /// Works created below this revision have ended.
    pub floor: u64,
    /// The creation revision of this work.
    pub created: u64,
    /// The guest that it is about.
    pub guest: GuestId,
    /// What to do.
    pub act: Act,
    /// Networks as they must be here with it.
    pub networks: Vec<Told<NetworkSpec>>,
    /// The guest's ports. Those of others stay as they are.
    pub ports: Vec<Told<PortState>>,
}

/// What to do with a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Make it and start it.
    Build(Arc<GuestSpec>),
    /// Remove everything of it, then these networks if no other guest here is on them.
    Destroy(Vec<NetworkId>),
    /// Start it.
    Start,
    /// Stop it; its system may take as long as given, `None`: at once.
    Stop(Option<Duration>),
    /// Stop it (as [`Act::Stop`]) and start it.
    Reboot(Option<Duration>),
    /// Hold its processors.
    Pause,
    /// Release its processors.
    Unpause,
    /// Upload its disk as the content of an image.
    Snapshot(ImageId),
}

impl Act {
    /// Whether the act starts the guest.
    pub(crate) fn starts(&self) -> bool {
        match self {
            Act::Build(_) | Act::Start | Act::Reboot(_) => true,
            Act::Destroy(_) | Act::Stop(_) | Act::Pause | Act::Unpause | Act::Snapshot(_) => false,
        }
    }

    /// Whether the act removes the guest.
    pub(crate) fn removes(&self) -> bool {
        match self {
            Act::Destroy(_) => true,
            Act::Build(_)
            | Act::Start
            | Act::Reboot(_)
            | Act::Stop(_)
            | Act::Pause
            | Act::Unpause
            | Act::Snapshot(_) => false,
        }
    }
}

/// How a guest stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Nothing of it is on the node.
    Absent,
    /// It exists, or parts of it do, and it does not run.
    Stopped,
    /// It runs.
    Running,
    /// It is held.
    Paused,
}

impl Life {
    /// Whether it has a run: its processors run or are held.
    pub fn is_up(self) -> bool {
        match self {
            Life::Running | Life::Paused => true,
            Life::Absent | Life::Stopped => false,
        }
    }
}

/// How a step ended, for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is so.
    Done(Reached),
    /// It was not done, or undone again: the guest stands as `left` says. A refused build has left nothing.
    Refused {
        /// Why, for the tenant's fault message.
        reason: String,
        /// How the guest stands.
        left: Life,
    },
    /// It was left half way because the guest is to be removed.
    Abandoned {
        /// Why, for people.
        reason: String,
    },
}

/// How a guest stands after an act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// How it stands.
    pub life: Life,
    /// Its run, if it is up; else 0.
    pub run: Run,
}

/// Why an order was not done, and what its sender may conclude.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is not so and will not be.
    #[error("{0}")]
    No(String),
    /// Nothing happened; later perhaps.
    #[error("{0}")]
    NotNow(String),
    /// It may be so, or not, or become so.
    #[error("{0}")]
    Unknown(String),
}

/// What the sender of an order is told.
pub type Answer = Result<Reached, Refusal>;

impl Outcome {
    /// The answer that this outcome is.
    pub fn answer(&self) -> Answer {
        match self {
            Outcome::Done(reached) => Ok(*reached),
            Outcome::Refused { reason, .. } => Err(Refusal::No(reason.clone())),
            Outcome::Abandoned { reason } => Err(Refusal::Unknown(reason.clone())),
        }
    }
}

/// What the node says of one guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The guest.
    pub guest: GuestId,
    /// How it stands.
    pub life: Life,
    /// The run that this is about.
    pub run: Run,
    /// Why the run ended, if it did by itself.
    pub cause: String,
    /// Whether the log knows it; false: found on the node, kept and shown.
    pub known: bool,
}
