//! An act under way: where it stands, and which stage follows which.
//!
//! ```text
//!   build, start   Logging ▶            Networks ▶ Prepare ▶ Run ▶ Recording
//!   reboot         Logging ▶ Halt     ▶ Networks ▶ Prepare ▶ Run ▶ Recording
//!   stop           Logging ▶ Halt     ▶ Recording        where it failed: Look ▶ Recording
//!   pause, unpause Logging ▶ Hold     ▶ Recording        where it failed: Look ▶ Recording
//!   snapshot       Logging ▶ Snapshot ▶ Recording
//!   destroy        Logging ▶ Absent   ▶ Unplug ▶ Recording
//!   undo of build           Absent ▶ Unplug ▶ Recording      undo of start, reboot       Halt ▶ Recording
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use driver::{GuestId, GuestSpec, NetworkId, Run, StopCause};

use crate::core::{Then, Ticket};
use crate::entry::{Begun, Entry};
use crate::order::{Act, ImageId, Life, Outcome, Reached, Step, WorkId};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The log is to say that it begins, or under which number it starts the guest.
    Logging,
    Halt,
    Networks,
    Prepare,
    Run,
    Hold,
    /// What failed may have been done all the same: how the guest stands is looked at.
    Look,
    Snapshot,
    Absent,
    Unplug,
    /// The log is to say how it ended.
    Recording,
}

/// Why a guest is acted on.
#[derive(Clone, Debug)]
pub(crate) enum Cause {
    /// An order, which the log knows.
    Order(Begun),
    /// The machine was booted: the guest is to run as before.
    Boot { guest: GuestId, run: Run },
}

/// An act under way.
#[derive(Clone, Debug)]
pub(crate) struct Doing {
    pub(crate) cause: Cause,
    pub(crate) tickets: Vec<Ticket>,
    pub(crate) stage: Stage,
    /// Failures of this stage in a row.
    pub(crate) tries: u32,
    /// Whether it pauses after a failure.
    pub(crate) resting: bool,
    /// Why it is being undone.
    pub(crate) undoing: Option<String>,
    /// An end of the run that came while the act was under way.
    pub(crate) news: Option<(Run, StopCause)>,
    /// Versions of its networks that it waits for: what was wanted when it came to wait, so that a stream of newer
    /// descriptions does not hold it up for ever.
    pub(crate) needs: BTreeMap<NetworkId, u64>,
    /// Whether an earlier run may still be there and must end first.
    pub(crate) halt_first: bool,
    /// How the guest was seen to stand after the act had failed.
    pub(crate) seen: Option<Life>,
    /// An append that found the disk full, to be made again.
    pub(crate) owed: Option<(Vec<Entry>, Then)>,
}

impl Doing {
    pub(crate) fn new(begun: Begun, tickets: Vec<Ticket>) -> Doing {
        Doing::of(Cause::Order(begun), tickets)
    }

    pub(crate) fn after_boot(guest: GuestId, run: Run) -> Doing {
        Doing::of(Cause::Boot { guest, run }, Vec::new())
    }

    fn of(cause: Cause, tickets: Vec<Ticket>) -> Doing {
        let stage = Stage::Logging;
        Doing {
            cause,
            tickets,
            stage,
            tries: 0,
            resting: false,
            undoing: None,
            news: None,
            needs: BTreeMap::new(),
            halt_first: false,
            seen: None,
            owed: None,
        }
    }

    pub(crate) fn is_step(&self, work: WorkId, step: Step) -> bool {
        match &self.cause {
            Cause::Order(begun) => begun.work == work && begun.step == step,
            Cause::Boot { .. } => false,
        }
    }

    pub(crate) fn is_of(&self, work: WorkId) -> bool {
        match &self.cause {
            Cause::Order(begun) => begun.work == work,
            Cause::Boot { .. } => false,
        }
    }

    pub(crate) fn run(&self) -> Run {
        match &self.cause {
            Cause::Order(begun) => begun.run,
            Cause::Boot { run, .. } => *run,
        }
    }

    pub(crate) fn raise(&mut self, to: Run) {
        match &mut self.cause {
            Cause::Order(begun) => begun.run = to,
            Cause::Boot { run, .. } => *run = to,
        }
    }

    pub(crate) fn removes(&self) -> bool {
        match &self.cause {
            Cause::Order(begun) => begun.act.removes(),
            Cause::Boot { .. } => false,
        }
    }

    fn first(&self) -> Stage {
        match &self.cause {
            Cause::Boot { .. } | Cause::Order(_) if self.halt_first => Stage::Halt,
            Cause::Boot { .. } => Stage::Networks,
            Cause::Order(begun) => match &begun.act {
                Act::Build(_) | Act::Start => Stage::Networks,
                Act::Reboot(_) | Act::Stop(_) => Stage::Halt,
                Act::Pause | Act::Unpause => Stage::Hold,
                Act::Snapshot(_) => Stage::Snapshot,
                Act::Destroy(_) => Stage::Absent,
            },
        }
    }

    /// The stage after the present one.
    pub(crate) fn following(&self) -> Stage {
        let starts = match &self.cause {
            Cause::Boot { .. } => true,
            Cause::Order(begun) => begun.act.starts(),
        };
        match self.stage {
            Stage::Logging => self.first(),
            Stage::Halt if starts && self.undoing.is_none() => Stage::Networks,
            Stage::Networks => Stage::Prepare,
            Stage::Prepare => Stage::Run,
            Stage::Absent => Stage::Unplug,
            Stage::Halt
            | Stage::Run
            | Stage::Hold
            | Stage::Look
            | Stage::Snapshot
            | Stage::Unplug
            | Stage::Recording => Stage::Recording,
        }
    }

    /// How to undo it, if there is anything to undo; else how to find out what became of it.
    pub(crate) fn undo(&self) -> Stage {
        match &self.cause {
            Cause::Boot { .. } => Stage::Halt,
            Cause::Order(begun) => match &begun.act {
                Act::Build(_) => Stage::Absent,
                Act::Start | Act::Reboot(_) => Stage::Halt,
                Act::Stop(_) | Act::Pause | Act::Unpause => Stage::Look,
                Act::Snapshot(_) | Act::Destroy(_) => Stage::Recording,
            },
        }
    }

    /// Whether the log is told that it is undone: else the next process does it anew, which comes to the same.
    pub(crate) fn logs_its_undoing(&self) -> bool {
        match &self.cause {
            Cause::Order(_) => matches!(self.undo(), Stage::Absent | Stage::Halt),
            Cause::Boot { .. } => false,
        }
    }

    /// How the guest must stand for the act to have been done, where that can be seen of it.
    fn wished(&self) -> Option<Life> {
        match &self.cause {
            Cause::Order(begun) => match &begun.act {
                Act::Stop(_) => Some(Life::Stopped),
                Act::Pause => Some(Life::Paused),
                Act::Unpause => Some(Life::Running),
                Act::Build(_) | Act::Start | Act::Reboot(_) | Act::Snapshot(_) | Act::Destroy(_) => None,
            },
            Cause::Boot { .. } => None,
        }
    }

    /// Networks that its end may leave without a guest: those that an order to remove names, or, where a build is
    /// undone, those that it named.
    pub(crate) fn unplugged(&self) -> Vec<NetworkId> {
        match &self.cause {
            Cause::Order(Begun { act: Act::Destroy(networks), .. }) => networks.clone(),
            Cause::Order(Begun { act: Act::Build(spec), .. }) => spec.nics.iter().map(|nic| nic.network).collect(),
            Cause::Order(_) | Cause::Boot { .. } => Vec::new(),
        }
    }

    /// Whether nothing of the guest is left when this act has ended.
    pub(crate) fn leaves(&self) -> bool {
        self.removes() || (self.undoing.is_some() && self.builds().is_some())
    }

    pub(crate) fn builds(&self) -> Option<&GuestSpec> {
        match &self.cause {
            Cause::Order(Begun { act: Act::Build(spec), .. }) => Some(spec),
            Cause::Order(_) | Cause::Boot { .. } => None,
        }
    }

    pub(crate) fn grace(&self) -> Option<Duration> {
        match &self.cause {
            Cause::Order(Begun { act: Act::Stop(grace) | Act::Reboot(grace), .. }) => *grace,
            Cause::Order(_) | Cause::Boot { .. } => None,
        }
    }

    /// Whether the processors are to be held; else released.
    pub(crate) fn holds(&self) -> bool {
        match &self.cause {
            Cause::Order(begun) => begun.act == Act::Pause,
            Cause::Boot { .. } => false,
        }
    }

    pub(crate) fn image(&self) -> Option<ImageId> {
        match &self.cause {
            Cause::Order(Begun { act: Act::Snapshot(image), .. }) => Some(*image),
            Cause::Order(_) | Cause::Boot { .. } => None,
        }
    }

    /// How it ends, now that no stage is left. `stood`: how the log has the guest.
    pub(crate) fn outcome(&self, stood: Life) -> Outcome {
        let reached = |life: Life| Outcome::Done(Reached { life, run: if life.is_up() { self.run() } else { Run(0) } });
        if let (Some(seen), Some(_)) = (self.seen, &self.undoing)
            && self.wished() == Some(seen)
        {
            return reached(seen);
        }
        match (&self.cause, &self.undoing) {
            (Cause::Boot { .. }, None) => reached(Life::Running),
            (Cause::Boot { .. }, Some(reason)) => Outcome::Refused { reason: reason.clone(), left: Life::Stopped },
            (Cause::Order(begun), Some(reason)) => {
                let left = match &begun.act {
                    Act::Build(_) => Life::Absent,
                    Act::Start | Act::Reboot(_) => Life::Stopped,
                    Act::Stop(_) | Act::Pause | Act::Unpause => self.seen.unwrap_or(stood),
                    Act::Snapshot(_) | Act::Destroy(_) => stood,
                };
                Outcome::Refused { reason: reason.clone(), left }
            }
            (Cause::Order(begun), None) => reached(match &begun.act {
                Act::Build(_) if stood == Life::Paused => Life::Paused,
                Act::Build(_) | Act::Start | Act::Reboot(_) | Act::Unpause => Life::Running,
                Act::Stop(_) => Life::Stopped,
                Act::Pause => Life::Paused,
                Act::Snapshot(_) => stood,
                Act::Destroy(_) => Life::Absent,
            }),
        }
    }
}
