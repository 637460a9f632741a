//! One process, as the cell knows it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use pki::{Identity, Role};
use rpc::Target;
use world::Wall;

/// What is known of one process. Its role and name are those of its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Who it is.
    pub who: Identity,
    /// Which process of that name: each is one above the last that was known.
    pub session: u64,
    /// What it plays: its own role, or the parts of one that holds them all.
    pub roles: BTreeSet<Role>,
    /// Where it answers, by kind: [`Listing::RPC`] and whatever else it offers.
    pub endpoints: BTreeMap<String, String>,
    /// The availability zone that it is in; empty: none.
    pub zone: String,
    /// The machine that it runs on. Several agents may share one.
    pub machine: String,
    /// The release that it runs.
    pub release: String,
    /// The versions of the calls between processes that it understands.
    pub speaks: Speaks,
    /// How much of what it can take it has, in thousandths; coarse, so that it changes seldom.
    pub load: u32,
    /// Whether it takes calls: not while it starts, and no new ones when it is about to leave.
    pub serving: bool,
    /// The revision of the configuration that it runs.
    pub config: u64,
    /// Whether it is there.
    pub status: Status,
}

/// A range of versions, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speaks {
    /// The oldest.
    pub least: u32,
    /// The newest.
    pub most: u32,
}

impl Speaks {
    /// What this release speaks.
    pub const NOW: Speaks = Speaks { least: 1, most: 1 };

    /// Whether both understand some version.
    pub fn meets(self, other: Speaks) -> bool {
        self.least <= other.most && other.least <= self.most
    }
}

impl Listing {
    /// A process of this release at `endpoint`, that plays `roles`, is alive and takes calls.
    pub fn new(who: Identity, roles: impl IntoIterator<Item = Role>, endpoint: impl Into<String>) -> Listing {
        Listing {
            who,
            session: 0,
            roles: roles.into_iter().collect(),
            endpoints: BTreeMap::from([(Listing::RPC.to_owned(), endpoint.into())]),
            zone: String::new(),
            machine: String::new(),
            release: String::new(),
            speaks: Speaks::NOW,
            load: 0,
            serving: true,
            config: 0,
            status: Status::Alive,
        }
    }

    /// The kind of endpoint for calls between processes.
    pub const RPC: &str = "rpc";
    /// The kind of endpoint of the public API.
    pub const HTTPS: &str = "https";
    /// The kind of endpoint of Prometheus metrics.
    pub const METRICS: &str = "metrics";

    /// How to call it as a player of `role`.
    pub fn target(&self) -> Option<Target> {
        let endpoint = self.endpoints.get(Listing::RPC)?;
        Some(Target { role: self.who.role, name: self.who.name.clone(), endpoint: endpoint.clone() })
    }

    /// Whether it may be sent a new call.
    pub fn takes_calls(&self) -> bool {
        self.serving && self.status.permits(Purpose::Call)
    }
}

/// Who has seen something: the name of a process.
pub type Observer = String;

/// Whether a process is there, and how that is known.
///
/// None of these says anything of the guests on an agent's machine: that an agent is dead is no reason to start its
/// guests elsewhere. Times are of the observer's wall clock, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Its session stands, or has just been lost with a liveness instance and may be resumed.
    Alive,
    /// Its session broke, or it does not answer, and nobody knows yet why.
    Suspected {
        /// Since when.
        since: Wall,
        /// Why.
        cause: Cause,
    },
    /// Nobody who tried could reach it. It may be dead, its host may be, or the network between.
    Unreachable {
        /// Since when.
        since: Wall,
        /// Who tried.
        by: BTreeSet<Observer>,
    },
    /// Its end was seen. Final for this session.
    Dead {
        /// Since when.
        since: Wall,
        /// How its end was seen, and by whom.
        seen: Dying,
        /// By whom.
        by: Observer,
    },
    /// It said that it was leaving. Final for this session.
    Left {
        /// Since when.
        since: Wall,
    },
}

/// Why a process is suspected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The connection of its session broke.
    Broken,
    /// Its liveness instance hears nothing from its host, but somebody can reach it.
    CutOff,
    /// Its host answers and it does not: it hangs, or is stopped.
    Silent,
}

/// How the end of a process was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dying {
    /// Its host answered that nobody listens at its address any more.
    Refused,
    /// Another process of its name has begun, with its certificate, while it was not alive.
    Replaced,
}

/// What somebody wants to do, which not every status permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Send it a call.
    Call,
    /// Place something new on it.
    Place,
    /// Take over work that it owns. The epoch protects against a wrong suspicion.
    TakeOver,
}

impl Status {
    /// Whether it permits `purpose`. None permits the start of an agent's guests elsewhere: for that, a *node* must be
    /// fenced.
    pub fn permits(&self, purpose: Purpose) -> bool {
        match purpose {
            Purpose::Call | Purpose::Place => matches!(self, Status::Alive),
            Purpose::TakeOver => matches!(self, Status::Unreachable { .. } | Status::Dead { .. } | Status::Left { .. }),
        }
    }

    /// Whether this session can never be alive again.
    pub fn is_final(&self) -> bool {
        matches!(self, Status::Dead { .. } | Status::Left { .. })
    }

    /// Its name, for people and programs.
    pub fn name(&self) -> &'static str {
        match self {
            Status::Alive => "alive",
            Status::Suspected { .. } => "suspected",
            Status::Unreachable { .. } => "unreachable",
            Status::Dead { .. } => "dead",
            Status::Left { .. } => "left",
        }
    }

    /// Since when, for all but those that are alive.
    pub fn since(&self) -> Option<Wall> {
        match self {
            Status::Alive => None,
            Status::Suspected { since, .. }
            | Status::Unreachable { since, .. }
            | Status::Dead { since, .. }
            | Status::Left { since } => Some(*since),
        }
    }

    /// What speaks for it, for people; empty where nothing has to.
    pub fn evidence(&self) -> String {
        match self {
            Status::Alive => String::new(),
            Status::Suspected { cause, .. } => match cause {
                Cause::Broken => "its connection broke".into(),
                Cause::CutOff => "its liveness instance hears nothing from it, others reach it".into(),
                Cause::Silent => "its host answers, the process does not".into(),
            },
            Status::Unreachable { by, .. } => {
                format!("not reached by {}", by.iter().map(String::as_str).collect::<Vec<_>>().join(", "))
            }
            Status::Dead { seen: Dying::Refused, by, .. } => {
                format!("its host told {by} that nobody listens at its address")
            }
            Status::Dead { seen: Dying::Replaced, by, .. } => format!("{by} took in another process of its name"),
            Status::Left { .. } => "it said that it was leaving".into(),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_permits_what_it_can_answer_for() {
        let since = Wall::from_micros(1);
        let all = [
            (Status::Alive, true, false),
            (Status::Suspected { since, cause: Cause::Broken }, false, false),
            (Status::Unreachable { since, by: BTreeSet::from(["liveness/one".into()]) }, false, true),
            (Status::Dead { since, seen: Dying::Refused, by: "liveness/one".into() }, false, true),
            (Status::Left { since }, false, true),
        ];
        for (status, place, take_over) in all {
            assert_eq!(status.permits(Purpose::Place), place, "{status:?}");
            assert_eq!(status.permits(Purpose::TakeOver), take_over, "{status:?}");
        }
    }
}
