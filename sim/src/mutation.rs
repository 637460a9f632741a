//! Every bug that can be planted, and who finds it.
//!
//! That a simulator finds nothing says little; that it finds each of these, within few seeds, says what kind of mistake it
//! would not miss. A bug that survives shows which fault or which invariant is lacking. What no hunter can find yet stands
//! here with what it would take.

use planted::Bug;

use crate::run;

/// Who is to find a bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hunter {
    /// The scenario `churn`.
    Churn {
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
        Bug::RepliesBeforeTheSync => Hunter::Churn { within: 8 },
        Bug::WatchLosesTheRest => Hunter::Churn { within: 8 },
        Bug::ReadsDoNotWait => Hunter::Churn { within: 8 },
        Bug::AddsKnowNoLimit => Hunter::Churn { within: 8 },
        Bug::JournalsWithoutTheWork => Hunter::Nobody {
            lacks: "a second coordinator of the same name that believes to be the first: a stale owner",
        },
        Bug::JournalsAfterwards => Hunter::Churn { within: 12 },
        Bug::AFailureIsClean => Hunter::Churn { within: 8 },
        Bug::ForgetsWhatItSent => Hunter::Churn { within: 8 },
        Bug::UndoIsGivenUp => Hunter::Churn { within: 24 },
        Bug::ReturnIsPossible => Hunter::Churn { within: 16 },
        Bug::TakesOverQuietly => Hunter::Nobody {
            lacks: "a stale owner, or an agent that stays away longer than an order waits for it just when the coordinator starts",
        },
        Bug::UnknownIsNo => Hunter::Churn { within: 8 },
        Bug::UndoKeepsThePorts => Hunter::Churn { within: 8 },
        Bug::DeleteKeepsTheClaim => Hunter::Churn { within: 8 },
        Bug::DeletesWithoutTheNode => Hunter::Churn { within: 120 },
        Bug::TriesAnotherNode => Hunter::Churn { within: 8 },
        Bug::RefundsTwice => Hunter::Churn { within: 8 },
        Bug::HandsOverTheEnded => Hunter::Churn { within: 200 },
        Bug::ListensToOldReports => Hunter::Nobody {
            lacks: "a report that arrives twice, the second time when the guest has been started again",
        },
        Bug::UnknownIsAccepted => Hunter::Churn { within: 40 },
        Bug::UnknownIsRefused => Hunter::Churn { within: 40 },
        Bug::ActsBeforeTheLog => Hunter::Churn { within: 40 },
        Bug::AnswersWhenBegun => Hunter::Churn { within: 40 },
        Bug::TakesOvertakenOrders => Hunter::Churn { within: 120 },
        Bug::ForgetsEndedSteps => Hunter::Churn { within: 60 },
        Bug::ForgetsWhatFoundNothing => Hunter::Churn { within: 16 },
        Bug::SilentAboutEnds => Hunter::Churn { within: 16 },
        Bug::StartsUnderTheOldNumber => Hunter::Churn { within: 24 },
        Bug::DestroysStrangers => Hunter::Nobody {
            lacks: "a node whose log is lost while its guests run, and the invariant that they still run",
        },
    }
}

/// Lets `hunter` look for `bug`; `None`: it survived, or nobody is to find it.
pub fn hunt(bug: Bug, hunter: Hunter) -> Option<Found> {
    match hunter {
        Hunter::Churn { within } => (1..=within).find_map(|seed| {
            let complaint = run::churn(seed, Some(bug), false).complaints.into_iter().next()?;
            // A seed that has something to complain of anyway proves nothing.
            run::churn(seed, None, false).complaints.is_empty().then_some(Found { seed, complaint })
        }),
        Hunter::Nobody { .. } => None,
    }
}
