//! Every bug that can be planted, and who finds it.
//!
//! That a simulator finds nothing says little; that it finds each of these, within few seeds, says what kind of mistake it
//! would not miss. A bug that survives shows which fault or which invariant is lacking. What no hunter can find yet stands
//! here with what it would take.

use planted::Bug;

use crate::run::{self, Scenario};
use crate::sweep::{self, Extent, Script};

/// Who is to find a bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hunter {
    /// A scenario, with one seed after the other.
    Seeds {
        /// Which.
        scenario: Scenario,
        /// Seeds within which it must be found.
        within: u64,
    },
    /// The sweep of one script.
    Sweep {
        /// Which.
        script: Script,
        /// Pairs of each kind, at most.
        pairs: usize,
    },
    /// Nobody yet.
    Nobody {
        /// What is lacking.
        lacks: &'static str,
    },
}

/// A bug that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// By this seed.
    pub seed: u64,
    /// The first complaint.
    pub complaint: String,
}

/// Who is to find `bug`.
pub fn hunter(bug: Bug) -> Hunter {
    match bug {
        Bug::RepliesBeforeTheSync => churn(8),
        Bug::WatchLosesTheRest => churn(8),
        Bug::ReadsDoNotWait => churn(8),
        Bug::AddsKnowNoLimit => churn(8),
        Bug::JournalsWithoutTheWork => Hunter::Nobody {
            lacks: "stale owners that come back more often: the scenario apart shows it, and not within forty seeds",
        },
        Bug::LateCommitsGetIn => apart(120),
        Bug::ZerosAreRecords => churn(80),
        Bug::SkipsTheName => apart(30),
        Bug::DrivesAnothersLife => Hunter::Nobody {
            lacks: "stale owners that come back more often: the scenario apart shows it, and not within forty seeds",
        },
        Bug::ChargesAnOldLimit => Hunter::Nobody {
            lacks: "a create at the very edge of a limit that is lowered between its look and its commit, and a bound tight enough to tell",
        },
        Bug::JournalsAfterwards => churn(12),
        Bug::AFailureIsClean => churn(8),
        Bug::ForgetsWhatItSent => churn(8),
        Bug::UndoIsGivenUp => churn(24),
        Bug::ReturnIsPossible => churn(16),
        Bug::TakesOverQuietly => Hunter::Nobody {
            lacks: "an order of an earlier owner that reaches its node only after the next owner has undone that very step; the life in the work, the number of the step and the floor stop every other",
        },
        Bug::UnknownIsNo => churn(8),
        Bug::UndoKeepsThePorts => churn(8),
        Bug::DeleteKeepsTheClaim => churn(8),
        Bug::DeletesWithoutTheNode => churn(120),
        Bug::TriesAnotherNode => churn(8),
        Bug::RefundsTwice => churn(8),
        Bug::HandsOverTheEnded => churn(200),
        Bug::ListensToOldReports => Hunter::Nobody {
            lacks: "a report of an end that arrives again when the guest has been started anew: calls are repeated, and few of them are such reports",
        },
        Bug::UnknownIsAccepted => churn(40),
        Bug::UnknownIsRefused => churn(40),
        Bug::ActsBeforeTheLog => churn(40),
        Bug::AnswersWhenBegun => churn(40),
        Bug::TakesOvertakenOrders => churn(120),
        Bug::ForgetsEndedSteps => churn(60),
        Bug::ForgetsWhatFoundNothing => churn(16),
        Bug::SilentAboutEnds => churn(16),
        Bug::StartsUnderTheOldNumber => churn(24),
        Bug::DestroysStrangers => Hunter::Seeds { scenario: Scenario::LostLog, within: 8 },
    }
}

const fn churn(within: u64) -> Hunter {
    Hunter::Seeds { scenario: Scenario::Churn, within }
}

const fn apart(within: u64) -> Hunter {
    Hunter::Seeds { scenario: Scenario::Apart, within }
}

/// Lets `hunter` look for `bug`; `None`: it survived, or nobody is to find it.
pub fn hunt(bug: Bug, hunter: Hunter) -> Option<Found> {
    match hunter {
        Hunter::Seeds { scenario: what, within } => (1..=within).find_map(|seed| {
            let complaint = run::scenario(what, seed, Some(bug), false).complaints.into_iter().next()?;
            // A seed that has something to complain of anyway proves nothing.
            run::scenario(what, seed, None, false).complaints.is_empty().then_some(Found { seed, complaint })
        }),
        Hunter::Sweep { script, pairs } => {
            // One thread: whoever hunts several bugs at once has others for them.
            let extent = |planted| Extent { pairs_max: pairs, seed: 1, threads: 1, planted };
            let complaint = sweep::sweep(script, extent(Some(bug))).findings.into_iter().next()?;
            sweep::sweep(script, extent(None)).findings.is_empty().then_some(Found { seed: 1, complaint })
        }
        Hunter::Nobody { .. } => None,
    }
}
