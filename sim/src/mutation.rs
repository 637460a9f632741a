//! Every bug that can be planted, and who finds it.
//!
//! That a simulator finds nothing says little; that it finds each of these, within few seeds, says what kind of mistake it
//! would not miss. A bug that survives shows which fault or which invariant is lacking. What no hunter can find yet stands
//! here with what it would take.

use planted::Bug;

use crate::run::{self, Scenario};

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
            lacks: "a second coordinator of the same name that believes to be the first: a stale owner",
        },
        Bug::JournalsAfterwards => churn(12),
        Bug::AFailureIsClean => churn(8),
        Bug::ForgetsWhatItSent => churn(8),
        Bug::UndoIsGivenUp => churn(24),
        Bug::ReturnIsPossible => churn(16),
        Bug::TakesOverQuietly => Hunter::Nobody {
            lacks: "a stale owner, or an agent that stays away longer than an order waits for it just when the coordinator starts",
        },
        Bug::UnknownIsNo => churn(8),
        Bug::UndoKeepsThePorts => churn(8),
        Bug::DeleteKeepsTheClaim => churn(8),
        Bug::DeletesWithoutTheNode => churn(120),
        Bug::TriesAnotherNode => churn(8),
        Bug::RefundsTwice => churn(8),
        Bug::HandsOverTheEnded => churn(200),
        Bug::ListensToOldReports => Hunter::Nobody {
            lacks: "a report that arrives twice, the second time when the guest has been started again",
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
        Bug::DestroysStrangers => Hunter::Nobody {
            lacks: "a node whose log is lost while its guests run, and the invariant that they still run",
        },
    }
}

const fn churn(within: u64) -> Hunter {
    Hunter::Seeds { scenario: Scenario::Churn, within }
}

/// Lets `hunter` look for `bug`; `None`: it survived, or nobody is to find it.
pub fn hunt(bug: Bug, hunter: Hunter) -> Option<Found> {
    match hunter {
        Hunter::Seeds { scenario: what, within } => (1..=within).find_map(|seed| {
            let complaint = run::scenario(what, seed, Some(bug), false).complaints.into_iter().next()?;
            // A seed that has something to complain of anyway proves nothing.
            run::scenario(what, seed, None, false).complaints.is_empty().then_some(Found { seed, complaint })
        }),
        Hunter::Nobody { .. } => None,
    }
}
