//! The name service, as those see it who look something up: what processes there are, by role.
//!
//! - A [`Listing`] is what is known of one process: where it answers, what it plays, how it is, and the [`Status`] that
//!   liveness gives it, with its evidence.
//! - A [`Directory`] holds the listings that this process was told, in the order of one liveness instance; a change is
//!   applied if it is the next one, and otherwise everything is asked for again.
//! - [`Balanced`] hands out channels by role: each call goes to one process that takes calls, of those in the same zone to
//!   the one with the fewest calls in flight, and no call fails because a process left.
//!
//! Deliberately absent: any judgement of who is alive (`liveness` has that), and any disk. Who starts knows a few static
//! addresses, and all else from here.

mod balance;
mod directory;
mod listing;

pub use balance::{Balanced, Here};
pub use directory::{Change, Directory, OutOfOrder, Version};
pub use listing::{Cause, Dying, Listing, Observer, Purpose, Speaks, Status};
