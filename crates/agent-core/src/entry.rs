//! What the log says, one fact at a time.

use std::sync::Arc;

use driver::{GroupId, GroupState, GuestId, GuestSpec, NetworkId, NetworkSpec, PortState, Run};

use crate::described::Told;
use crate::order::{Act, Epoch, Life, Outcome, Step, WorkId};

/// An act that has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// The work.
    pub work: WorkId,
    /// Its owner's epoch.
    pub epoch: Epoch,
    /// The step.
    pub step: Step,
    /// The creation revision of the work.
    pub created: u64,
    /// The floor that came with the order.
    pub floor: u64,
    /// The guest.
    pub guest: GuestId,
    /// What is done.
    pub act: Act,
    /// The run that the act starts or keeps; 0: it starts none.
    pub run: Run,
    /// Networks as they must be here with it, where the log does not say so already. In one record with the rest, so
    /// that no crash leaves a network that no act answers for.
    pub networks: Vec<Told<NetworkSpec>>,
    /// The guest's ports, likewise.
    pub ports: Vec<Told<PortState>>,
}

/// One record of a node's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The machine's boot in which the guests were last seen to.
    Boot(String),
    /// Numbers that only rise, as a rewritten log starts with them.
    Counters {
        /// Works created below it have ended.
        floor: u64,
        /// The highest number given to a run here.
        run: Run,
    },
    /// A network as it must be here, but for its ports.
    Network(Told<NetworkSpec>),
    /// A port of a guest of this node. Says nothing if the guest is gone.
    Port(Told<PortState>),
    /// The members of a group that rules name.
    Group(Told<GroupState>),
    /// No rule here names the group any more.
    GroupGone(GroupId),
    /// An act begins.
    Begun(Begun),
    /// The act under way cannot be done: it is undone from here on, also by the next process.
    Undoing {
        /// The guest.
        guest: GuestId,
        /// Why.
        reason: String,
    },
    /// An act has ended.
    Ended {
        /// The work.
        work: WorkId,
        /// The step.
        step: Step,
        /// The guest.
        guest: GuestId,
        /// How.
        outcome: Outcome,
        /// Networks that went with it.
        networks_gone: Vec<NetworkId>,
    },
    /// A newer owner or floor was seen by an order that began nothing.
    Seen {
        /// The work.
        work: WorkId,
        /// Its owner's epoch.
        epoch: Epoch,
        /// Its creation revision.
        created: u64,
        /// The floor.
        floor: u64,
    },
    /// A guest is about to be started under a new number, within the act that is under way or after a boot.
    RunRaised {
        /// The guest.
        guest: GuestId,
        /// The number.
        run: Run,
    },
    /// A run ended by itself.
    RunEnded {
        /// The guest.
        guest: GuestId,
        /// The run.
        run: Run,
        /// Why, for people.
        cause: String,
    },
    /// The cell knows that a run ended.
    Reported {
        /// The guest.
        guest: GuestId,
        /// The run.
        run: Run,
    },
    /// A guest as it stood when the log was rewritten.
    Guest {
        /// What it is.
        spec: Arc<GuestSpec>,
        /// Its newest run.
        run: Run,
        /// How it stands.
        life: Life,
        /// An end that the cell does not know yet.
        news: Option<(Run, String)>,
    },
    /// A work as it stood when the log was rewritten.
    Work {
        /// The work.
        work: WorkId,
        /// Its creation revision.
        created: u64,
        /// The highest epoch seen.
        epoch: Epoch,
        /// The highest step begun.
        step: Step,
        /// Steps that ended.
        ended: Vec<(Step, Outcome)>,
    },
}
