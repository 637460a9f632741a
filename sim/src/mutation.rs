//! Every bug that can be planted, and who finds it.
//!
//! That a simulator finds nothing says little; that it finds each of these, within few seeds, says what kind of mistake it
//! would not miss. A bug that survives shows which fault or which invariant is lacking.

use planted::Bug;

use crate::run::{self, Scenario};

/// Who is to find a bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hunter {
    /// A scenario, with one seed after the other.
    Seeds {
        /// Which.
        scenario: Scenario,
        /// The first of them.
        first: u64,
        /// Seeds within which it must be found.
        within: u64,
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

/// Who is to find `bug`. Where a bug shows seldom, the seeds begin where it was found when this was last measured.
pub fn hunter(bug: Bug) -> Hunter {
    match bug {
        Bug::RepliesBeforeTheSync => churn(6, 8),
        Bug::WatchLosesTheRest => churn(1, 8),
        Bug::ReadsDoNotWait => churn(1, 8),
        Bug::AddsKnowNoLimit => churn(1, 8),
        Bug::JournalsWithoutTheWork => apart(1, 12),
        Bug::ZerosAreRecords => apart(6, 12),
        Bug::SkipsTheName => apart(24, 8),
        Bug::DrivesAnothersLife => apart(29, 8),
        Bug::JournalsAfterwards => churn(1, 8),
        Bug::AFailureIsClean => churn(1, 8),
        Bug::ForgetsWhatItSent => churn(1, 8),
        Bug::UndoIsGivenUp => churn(1, 12),
        Bug::ReturnIsPossible => churn(1, 12),
        Bug::UnknownIsNo => churn(1, 8),
        Bug::UndoKeepsThePorts => churn(1, 8),
        Bug::DeleteKeepsTheClaim => churn(1, 8),
        Bug::DeletesWithoutTheNode => churn(3, 12),
        Bug::TriesAnotherNode => churn(1, 8),
        Bug::RefundsTwice => churn(1, 8),
        Bug::HandsOverTheEnded => churn(4, 24),
        Bug::UnknownIsAccepted => churn(3, 12),
        Bug::UnknownIsRefused => churn(1, 8),
        Bug::ActsBeforeTheLog => apart(4, 12),
        Bug::AnswersWhenBegun => churn(35, 8),
        Bug::TakesOvertakenOrders => churn(25, 12),
        Bug::ForgetsEndedSteps => churn(1, 12),
        Bug::ForgetsWhatFoundNothing => churn(1, 8),
        Bug::SilentAboutEnds => churn(1, 12),
        Bug::StartsUnderTheOldNumber => churn(14, 16),
        Bug::DestroysStrangers => Hunter::Seeds { scenario: Scenario::LostLog, first: 1, within: 8 },
    }
}

const fn churn(first: u64, within: u64) -> Hunter {
    Hunter::Seeds { scenario: Scenario::Churn, first, within }
}

const fn apart(first: u64, within: u64) -> Hunter {
    Hunter::Seeds { scenario: Scenario::Apart, first, within }
}

/// Lets `hunter` look for `bug`; `None`: it survived.
pub fn hunt(bug: Bug, hunter: Hunter) -> Option<Found> {
    match hunter {
        Hunter::Seeds { scenario: what, first, within } => (first..first + within).find_map(|seed| {
            let complaint = run::scenario(what, seed, Some(bug), false).complaints.into_iter().next()?;
            // A seed that has something to complain of anyway proves nothing.
            run::scenario(what, seed, None, false).complaints.is_empty().then_some(Found { seed, complaint })
        }),
    }
}
