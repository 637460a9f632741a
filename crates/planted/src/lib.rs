//! Bugs that were put in on purpose, to prove that the simulator would find such a bug.
//!
//! A simulator that complains of nothing is either right or blind. Each [`Bug`] is one branch in the product, written as
//! somebody would write the mistake, and switched off: `if planted::is(Bug::X)`. The simulator switches one of them on
//! and must complain.
//!
//! Without the feature `switches`, [`is`] is a constant `false`: the compiler removes the branch, and the binary that
//! runs clouds (`cargo build -p mainstay`) has no way to misbehave. With it, a thread-local says which bug is on; a
//! simulated run has one thread. Only the simulator asks for the feature. A build of the whole workspace, as tests make
//! it, has it everywhere, because Cargo builds each crate once with all features that anybody wants; there, nobody plants
//! anything but the simulator.
//!
//! Deliberately absent: two bugs at once, and anything but bugs. What a test needs to see or to fail is handed in through
//! `world::World` and the ports.

#[cfg(feature = "switches")]
mod switch;

#[cfg(feature = "switches")]
pub use switch::{Guard, plant};

macro_rules! bugs {
    ($($bug:ident $name:literal $what:literal)*) => {
        /// A mistake that somebody could have made.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Bug {
            $(#[doc = $what] $bug,)*
        }

        impl Bug {
            /// All of them.
            pub const ALL: &[Bug] = &[$(Bug::$bug),*];

            /// Its name on a command line.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Bug::$bug => $name,)*
                }
            }

            /// What is wrong with it on.
            pub const fn what(self) -> &'static str {
                match self {
                    $(Bug::$bug => $what,)*
                }
            }
        }
    };
}

bugs! {
    // The store.
    RepliesBeforeTheSync "replies-before-the-sync" "The store answers commits before they are durable."
    WatchLosesTheRest "watch-loses-the-rest" "A watch that finds several commits hands out the first and skips the others."
    ReadsDoNotWait "reads-do-not-wait" "A view answers from what it has, however far it is behind the store."
    AddsKnowNoLimit "adds-know-no-limit" "A bounded add ignores its bound."
    ZerosAreRecords "zeros-are-records" "The zeros at the end of a torn log are taken for an empty record."
    // The coordinator.
    SkipsTheName "skips-the-name" "A coordinator takes works over without making sure that it still has its name."
    DrivesAnothersLife "drives-anothers-life" "A coordinator drives works that were given to another life of its name."
    JournalsWithoutTheWork "journals-without-the-work" "A step is committed even if the work has another owner by now, or is to be aborted."
    JournalsAfterwards "journals-afterwards" "A step's change is one transaction, and the journal entry that tells of it the next."
    AFailureIsClean "a-failure-is-clean" "A step that failed is taken for not done, and is not undone."
    ForgetsWhatItSent "forgets-what-it-sent" "A step that is interrupted is taken for not sent."
    UndoIsGivenUp "undo-is-given-up" "An undo that fails is taken for done."
    ReturnIsPossible "return-is-possible" "A work that keeps failing behind its point of no return is undone."
    UnknownIsNo "unknown-is-no" "A call whose outcome is unknown is taken for a refusal: the step fails, and what was claimed is returned."
    // Servers.
    UndoKeepsThePorts "undo-keeps-the-ports" "The undo of a claim returns the capacity and forgets the ports."
    DeleteKeepsTheClaim "delete-keeps-the-claim" "A deletion forgets to return the capacity."
    DeletesWithoutTheNode "deletes-without-the-node" "A deletion whose node is away goes on as if the node had confirmed."
    TriesAnotherNode "tries-another-node" "After an unknown outcome of a build the next node is tried."
    RefundsTwice "refunds-twice" "The quota of a server is returned when its boot fails, and again when it is deleted."
    HandsOverTheEnded "hands-over-the-ended" "A guest that has ended before its server was handed over is shown as running."
    UnknownIsAccepted "unknown-is-accepted" "A request whose commit has an unknown outcome is answered as accepted."
    UnknownIsRefused "unknown-is-refused" "A request whose commit has an unknown outcome is answered as in conflict with another."
    // The agent.
    ActsBeforeTheLog "acts-before-the-log" "The agent goes on before what it has logged is durable."
    AnswersWhenBegun "answers-when-begun" "The agent answers an order when its log knows that it has begun."
    TakesOvertakenOrders "takes-overtaken-orders" "The agent takes an order although a later step of the same work was begun."
    ForgetsEndedSteps "forgets-ended-steps" "The agent does an order again that it has done before."
    ForgetsWhatFoundNothing "forgets-what-found-nothing" "The agent takes no note of an order to remove what is not there."
    SilentAboutEnds "silent-about-ends" "The agent does not tell of guests that ended while it was away."
    StartsUnderTheOldNumber "starts-under-the-old-number" "After its own restart the agent starts a guest under the number that it may have run under."
    DestroysStrangers "destroys-strangers" "The agent removes guests that its log does not know."
}

/// Whether this bug is on. Nothing is on in the product.
#[cfg(not(feature = "switches"))]
#[inline(always)]
pub const fn is(_bug: Bug) -> bool {
    false
}

/// Whether this bug is on, in this thread.
#[cfg(feature = "switches")]
pub fn is(bug: Bug) -> bool {
    switch::is(bug)
}

#[cfg(test)]
mod tests {
    use super::Bug;

    #[test]
    fn names_are_one_of_a_kind() {
        let names: std::collections::BTreeSet<_> = Bug::ALL.iter().map(|bug| bug.name()).collect();
        assert_eq!(names.len(), Bug::ALL.len());
    }
}
