//! Who gets a call.

use crate::listing::{Listing, Speaks, Status};

/// How good it is to send somebody a call: the least is best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    doubt: Doubt,
    elsewhere: bool,
    in_flight: usize,
    load: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Doubt {
    None,
    /// It has just refused one.
    Refuses,
    /// Nobody knows whether it is there.
    Suspected,
}

/// How good it is to send a call to `listing`, which has `in_flight` of this process, from `zone`. None: it gets none.
pub(super) fn rank(listing: &Listing, zone: &str, in_flight: usize, refuses: bool) -> Option<Rank> {
    if !listing.serving || !listing.speaks.meets(Speaks::NOW) {
        return None;
    }
    let doubt = match listing.status {
        Status::Alive if refuses => Doubt::Refuses,
        Status::Alive => Doubt::None,
        Status::Suspected { .. } => Doubt::Suspected,
        Status::Unreachable { .. } | Status::Dead { .. } | Status::Left { .. } => return None,
    };
    Some(Rank { doubt, elsewhere: listing.zone != zone, in_flight, load: listing.load })
}

/// Which of `ranks` is chosen: the best, and of equals one by `draw`, which gives a number below its argument.
pub(super) fn choose(ranks: &[Option<Rank>], draw: impl FnOnce(u64) -> u64) -> Option<usize> {
    let best = ranks.iter().flatten().min()?;
    let equals: Vec<usize> =
        ranks.iter().enumerate().filter(|(_, rank)| **rank == Some(*best)).map(|(at, _)| at).collect();
    let drawn = usize::try_from(draw(u64::try_from(equals.len()).unwrap_or(1))).unwrap_or(0);
    equals.get(drawn).copied()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use pki::{Identity, Role};
    use world::Wall;

    use super::*;
    use crate::listing::Cause;

    fn listing(zone: &str, load: u32) -> Listing {
        Listing {
            who: Identity { cell: "c".into(), role: Role::Scheduler, name: "s".into() },
            session: 1,
            roles: BTreeSet::from([Role::Scheduler]),
            endpoints: BTreeMap::new(),
            zone: zone.into(),
            machine: String::new(),
            release: "1".into(),
            speaks: Speaks::NOW,
            load,
            serving: true,
            config: 0,
            status: Status::Alive,
        }
    }

    #[test]
    fn the_same_zone_comes_first_then_who_has_least_to_do() {
        let since = Wall::from_micros(1);
        let here = |load| listing("a", load);
        let worst_to_best = [
            rank(&Listing { status: Status::Suspected { since, cause: Cause::Broken }, ..here(0) }, "a", 0, false),
            rank(&here(0), "a", 0, true),
            rank(&listing("b", 0), "a", 0, false),
            rank(&here(0), "a", 2, false),
            rank(&here(500), "a", 1, false),
            rank(&here(100), "a", 1, false),
        ];
        for (worse, better) in worst_to_best.iter().zip(&worst_to_best[1..]) {
            assert!(worse.unwrap() > better.unwrap(), "{worse:?} {better:?}");
        }
        assert_eq!(choose(&worst_to_best, |_| 0), Some(5));
        for none in [
            Listing { serving: false, ..here(0) },
            Listing { speaks: Speaks { least: 99, most: 99 }, ..here(0) },
            Listing { status: Status::Left { since }, ..here(0) },
        ] {
            assert_eq!(rank(&none, "a", 0, false), None);
        }
        let equal = rank(&here(0), "a", 0, false);
        assert_eq!(choose(&[None, equal, equal], |below| below - 1), Some(2));
        assert_eq!(choose(&[None, None], |_| 0), None);
    }
}
