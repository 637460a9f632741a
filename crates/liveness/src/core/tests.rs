//! The decisions of one instance, and that several come to the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use names::{Cause, Change, Directory, Dying, Listing, Speaks, Status, Version};
use pki::{Identity, Role};
use proptest::prelude::*;
use world::{Mono, Wall};

use super::{Admitted, Attend, Core, Effect, Lock, Now, Refusal, Said, Settings, Statement, Told, Tried, Wanted, Who};

const SECOND: Duration = Duration::from_secs(1);

/// An instance under test, and its clock.
struct Bench {
    core: Core,
    now: Duration,
}

/// A process, in one of its lives.
#[derive(Clone)]
struct Life {
    name: &'static str,
    lock: u8,
    session: u64,
    turn: u64,
}

impl Life {
    fn new(name: &'static str, lock: u8) -> Life {
        Life { name, lock, session: 0, turn: 1 }
    }

    fn lock(&self) -> Lock {
        [self.lock; 32]
    }

    fn who(&self) -> Who {
        Arc::new((Role::Agent, self.name.to_owned()))
    }

    fn listing(&self) -> Listing {
        Listing {
            who: Identity { cell: "c".into(), role: Role::Agent, name: self.name.into() },
            session: self.session,
            roles: BTreeSet::from([Role::Agent]),
            endpoints: BTreeMap::from([(Listing::RPC.to_owned(), format!("{}:1", self.name))]),
            zone: String::new(),
            machine: format!("machine of {}", self.name),
            release: "1".into(),
            speaks: Speaks::NOW,
            load: 0,
            serving: true,
            config: 0,
            status: Status::Alive,
        }
    }

    fn attend(&self) -> Attend {
        let (lock, session, turn) = (self.lock(), self.session, self.turn);
        Attend { listing: self.listing(), lock, session, turn, change: turn << 32 }
    }

    /// What an instance says of it.
    fn said(&self, status: Status) -> Statement {
        let listing = Arc::new(Listing { status, ..self.listing() });
        Statement { listing, lock: self.lock(), turn: self.turn, change: self.turn << 32 }
    }
}

impl Bench {
    fn new(name: &str) -> Bench {
        Bench { core: Core::new(name.to_owned(), 7, Settings::default()), now: SECOND }
    }

    fn clocks(&self) -> Now {
        let nanos = u64::try_from(self.now.as_nanos()).unwrap();
        Now { mono: Mono::from_nanos(nanos), wall: Wall::from_micros(nanos / 1000) }
    }

    fn attend(&mut self, life: &Life) -> Result<Admitted, Refusal> {
        self.core.attend(self.clocks(), &life.attend())
    }

    fn broken(&mut self, life: &Life) {
        self.core.broken(self.clocks(), &life.who(), life.turn);
    }

    /// A round of tries of this instance and another comes to `tried`.
    fn tried(&mut self, life: &Life, tried: Tried) {
        let rounds = self.core.effects().into_iter().filter_map(|effect| match effect {
            Effect::Try(who, _, round) if who == life.who() => Some(round),
            Effect::Try(..) | Effect::Look(..) | Effect::Nudge(_) | Effect::Ask(..) | Effect::Close(..) => None,
        });
        if let Some(round) = rounds.last() {
            let (now, own) = (self.clocks(), self.core.own().clone());
            self.core.tried(now, &life.who(), round, &own, true, tried);
            self.core.tried(now, &life.who(), round, &"liveness/b".to_owned(), true, tried);
        }
    }

    /// Time passes, on time; hosts were heard `ago`, if streams stand, and tries come to `tried`.
    fn pass(&mut self, span: Duration, life: &Life, ago: impl Fn(Duration) -> Option<Duration>, tried: Tried) {
        let until = self.now + span;
        loop {
            let next = self.core.next().map(|next| Duration::from_nanos(next.as_nanos()));
            let Some(next) = next.filter(|next| *next <= until) else { break };
            self.now = next.max(self.now);
            let now = self.clocks();
            self.core.tick(now);
            let mut effects = self.core.effects();
            while !effects.is_empty() {
                for effect in effects {
                    match effect {
                        Effect::Look(who, turn) => self.core.heard(now, &who, turn, ago(self.now)),
                        Effect::Try(who, _, round) if who == life.who() => {
                            let own = self.core.own().clone();
                            self.core.tried(now, &who, round, &own, true, tried);
                        }
                        Effect::Try(..) | Effect::Nudge(_) | Effect::Ask(..) | Effect::Close(..) => {}
                    }
                }
                effects = self.core.effects();
            }
        }
        self.now = until;
    }

    fn hear(&mut self, from: &str, whole: bool, statements: Vec<Statement>) {
        let said = Said { whole, version: Version { instance: 9, number: 1 }, statements };
        self.core.hear(self.clocks(), &from.to_owned(), said);
    }

    fn status(&self, life: &Life) -> Option<Status> {
        self.core.get(&life.who()).map(|listing| listing.status.clone())
    }

    /// Session, life and kind of status, of everybody.
    fn view(&self) -> Vec<(String, u64, &'static str)> {
        self.core.all().map(|one| (one.who.name.clone(), one.session, one.status.name())).collect()
    }
}

fn never(_: Duration) -> Option<Duration> {
    None
}

#[test]
fn a_session_is_resumed_with_its_secret_and_a_higher_turn() {
    let (mut one, mut life) = (Bench::new("liveness/a"), Life::new("n1", 1));
    assert_eq!(one.attend(&life), Ok(Admitted { session: 1 }));
    life.session = 1;
    assert_eq!(one.attend(&life), Err(Refusal::Overtaken), "the same attempt, again");
    one.broken(&life);
    assert!(matches!(one.status(&life), Some(Status::Suspected { cause: Cause::Broken, .. })));
    life.turn = 3;
    assert_eq!(one.attend(&life), Ok(Admitted { session: 1 }));
    assert_eq!(one.status(&life), Some(Status::Alive));
    let late = Life { turn: 2, ..life.clone() };
    assert_eq!(one.attend(&late), Err(Refusal::Overtaken), "an attempt that was given up comes late");
    one.broken(&late);
    assert_eq!(one.status(&life), Some(Status::Alive), "and what was overtaken ends without harm");
    assert_eq!(one.core.held(), 1);
}

#[test]
fn a_name_in_use_is_free_when_its_process_is_not_alive() {
    let (mut one, first, second) = (Bench::new("liveness/a"), Life::new("n1", 1), Life::new("n1", 2));
    one.attend(&first).unwrap();
    one.core.effects();
    let Err(Refusal::InUse { endpoint, .. }) = one.attend(&second) else { panic!("it was given away") };
    assert_eq!(endpoint, "n1:1");
    assert!(matches!(one.core.effects()[..], [Effect::Ask(..)]), "the owner is asked");
    one.attend(&second).unwrap_err();
    assert!(one.core.effects().is_empty(), "once");
    one.broken(&first);
    assert_eq!(one.attend(&second), Ok(Admitted { session: 2 }));
    // Both are in their first turn; the end of the first stream was told, and says nothing of the second.
    assert_eq!(one.status(&second), Some(Status::Alive));
    assert!(!one.core.told(one.clocks(), &first.who(), &first.lock(), Told { facts: None, answers: None }));
}

#[test]
fn the_end_of_a_stream_that_was_closed_does_not_end_the_next_in_the_same_turn() {
    let (mut one, first, second) = (Bench::new("liveness/a"), Life::new("n1", 1), Life::new("n1", 2));
    one.attend(&first).unwrap();
    one.attend(&second).unwrap_err();
    // It does not answer the question, though its host is heard.
    one.pass(7 * SECOND, &first, |_| Some(Duration::from_millis(100)), Tried::Connected);
    assert!(matches!(one.status(&first), Some(Status::Suspected { cause: Cause::Silent, .. })));
    one.core.effects();
    assert_eq!(one.attend(&second), Ok(Admitted { session: 2 }));
    assert_eq!(one.core.effects(), vec![Effect::Close(first.who(), 1)]);
    one.broken(&first);
    assert_eq!(one.status(&second), Some(Status::Alive));
    one.broken(&second);
    assert!(matches!(one.status(&second), Some(Status::Suspected { .. })), "its own end is");
}

#[test]
fn only_a_refusal_that_an_instance_saw_is_an_end_and_an_end_is_final() {
    let (mut one, life) = (Bench::new("liveness/a"), Life::new("n1", 1));
    one.attend(&life).unwrap();
    one.broken(&life);
    let rounds = one.core.effects().into_iter().filter_map(|effect| match effect {
        Effect::Try(_, _, round) => Some(round),
        Effect::Look(..) | Effect::Nudge(_) | Effect::Ask(..) | Effect::Close(..) => None,
    });
    let round = rounds.last().unwrap();
    let (now, who) = (one.clocks(), life.who());
    one.core.tried(now, &who, round, &"agent/liar".to_owned(), false, Tried::Refused);
    assert!(matches!(one.status(&life), Some(Status::Suspected { .. })), "a process may lie");
    one.core.tried(now, &who, round - 1, &"liveness/b".to_owned(), true, Tried::Refused);
    assert!(matches!(one.status(&life), Some(Status::Suspected { .. })), "an earlier round is no evidence");
    one.core.tried(now, &who, round, &"liveness/b".to_owned(), true, Tried::Refused);
    let dead = one.status(&life).unwrap();
    assert!(matches!(&dead, Status::Dead { seen: Dying::Refused, by, .. } if by == "liveness/b"), "{dead:?}");
    one.hear("liveness/b", false, vec![Life { turn: 9, session: 1, ..life.clone() }.said(Status::Alive)]);
    assert_eq!(one.status(&life), Some(dead));
    let again = Life { session: 1, turn: 10, ..life.clone() };
    assert_eq!(one.attend(&again), Err(Refusal::Over("dead")));
    assert_eq!(one.attend(&Life::new("n1", 2)), Ok(Admitted { session: 2 }));
}

#[test]
fn who_left_is_not_dead_and_is_forgotten_after_a_day() {
    let (mut one, life) = (Bench::new("liveness/a"), Life::new("n1", 1));
    one.attend(&life).unwrap();
    one.core.leave(one.clocks(), &life.who(), &[9; 32]);
    assert_eq!(one.status(&life), Some(Status::Alive), "somebody else said so");
    one.core.leave(one.clocks(), &life.who(), &life.lock());
    one.broken(&life);
    assert!(matches!(one.status(&life), Some(Status::Left { .. })));
    let seen = one.core.version();
    one.pass(23 * 3600 * SECOND, &life, never, Tried::Silent);
    assert!(one.status(&life).is_some());
    one.pass(2 * 3600 * SECOND, &life, never, Tried::Silent);
    assert_eq!(one.status(&life), None);
    let news = one.core.news(seen, &Wanted::All);
    assert_eq!(news.changes, vec![Change::Forget(Role::Agent, "n1".into())]);
}

#[test]
fn a_host_that_nobody_reaches_is_unreachable_within_two_seconds() {
    let (mut one, life) = (Bench::new("liveness/a"), Life::new("n1", 1));
    one.attend(&life).unwrap();
    let gone = one.now;
    one.pass(Duration::from_millis(1200), &life, |now| Some(now - gone), Tried::Silent);
    assert_eq!(one.status(&life), Some(Status::Alive));
    one.pass(Duration::from_millis(800), &life, |now| Some(now - gone), Tried::Silent);
    assert!(matches!(one.status(&life), Some(Status::Unreachable { .. })), "{:?}", one.status(&life));
    assert_eq!(one.core.held(), 0);
}

#[test]
fn a_slow_connection_to_a_host_that_answers_is_not_ended() {
    let (mut one, life) = (Bench::new("liveness/a"), Life::new("n1", 1));
    one.attend(&life).unwrap();
    let gone = one.now;
    one.pass(3 * SECOND, &life, |now| Some(now - gone), Tried::Connected);
    assert_eq!((one.status(&life), one.core.held()), (Some(Status::Alive), 1));
    // For ever it is not believed.
    one.pass(6 * SECOND, &life, |now| Some(now - gone), Tried::Connected);
    assert!(matches!(one.status(&life), Some(Status::Suspected { .. })), "{:?}", one.status(&life));
}

#[test]
fn an_instance_that_was_held_judges_nobody() {
    let (mut one, life) = (Bench::new("liveness/a"), Life::new("n1", 1));
    one.attend(&life).unwrap();
    let gone = one.now;
    // The doubt begins on time, and then the instance itself stands still.
    one.pass(Duration::from_millis(1300), &life, |now| Some(now - gone), Tried::Silent);
    one.core.effects();
    one.now += 5 * SECOND;
    one.core.tick(one.clocks());
    let judged = one.core.effects();
    assert!(judged.iter().all(|effect| matches!(effect, Effect::Try(..))), "{judged:?}");
    assert_eq!(one.status(&life), Some(Status::Alive), "what seems late may lie in its own buffers");
    one.pass(2 * SECOND, &life, |now| Some(now - gone), Tried::Silent);
    assert!(matches!(one.status(&life), Some(Status::Unreachable { .. })), "then it is judged like any other");
}

#[test]
fn who_is_cut_off_from_everybody_doubts_itself() {
    let mut one = Bench::new("liveness/a");
    let lives: Vec<Life> = ["n1", "n2", "n3", "n4", "n5", "n6"].map(|name| Life::new(name, 1)).to_vec();
    for life in &lives {
        one.attend(life).unwrap();
    }
    one.hear("liveness/b", true, Vec::new());
    one.core.deaf_to(one.clocks(), &"liveness/b".to_owned());
    let gone = one.now;
    for _ in 0..20 {
        one.pass(SECOND / 2, &lives[0], |now| Some(now - gone), Tried::Silent);
    }
    for life in &lives {
        let status = one.status(life);
        assert!(matches!(status, Some(Status::Suspected { cause: Cause::CutOff, .. } | Status::Alive)), "{status:?}");
    }
}

#[test]
fn what_a_lost_instance_held_is_alive_until_grace_is_over_and_again_when_it_is_heard() {
    let (mut one, life) = (Bench::new("liveness/a"), Life { session: 1, ..Life::new("n1", 1) });
    one.hear("liveness/b", true, vec![life.said(Status::Alive)]);
    one.core.deaf_to(one.clocks(), &"liveness/b".to_owned());
    one.pass(Duration::from_millis(2900), &life, never, Tried::Silent);
    assert_eq!(one.status(&life), Some(Status::Alive));
    one.pass(3 * SECOND, &life, never, Tried::Silent);
    assert!(matches!(one.status(&life), Some(Status::Unreachable { .. })));
    // It was the way between the instances: the other holds it as before, and has nothing new to say of it.
    one.hear("liveness/b", false, Vec::new());
    assert_eq!(one.status(&life), Some(Status::Alive));
    assert!(one.core.say(Version::default()).statements.is_empty(), "only its holder speaks of it");
    // And resumed here, it is this instance's.
    one.core.deaf_to(one.clocks(), &"liveness/b".to_owned());
    assert_eq!(one.attend(&Life { turn: 2, ..life.clone() }), Ok(Admitted { session: 1 }));
    one.hear("liveness/b", false, Vec::new());
    assert_eq!(one.core.say(Version::default()).statements.len(), 1);
}

#[test]
fn an_instance_that_begins_anew_is_believed_about_its_own_and_corrected_about_the_rest() {
    // It gives its own new process the number that the one before had; the lock of either may be the greater.
    for (before, after) in [(1, 2), (2, 1)] {
        let (mut one, old) = (Bench::new("liveness/a"), Life { session: 1, ..Life::new("n1", before) });
        one.hear("liveness/b", true, vec![old.said(Status::Alive)]);
        one.core.deaf_to(one.clocks(), &"liveness/b".to_owned());
        let new = Life { session: 1, ..Life::new("n1", after) };
        one.hear("liveness/b", true, vec![new.said(Status::Alive)]);
        one.hear("liveness/b", false, vec![Life { turn: 2, ..new.clone() }.said(Status::Alive)]);
        assert_eq!(one.status(&new), Some(Status::Alive));
        assert!(one.core.told(one.clocks(), &new.who(), &new.lock(), Told { facts: None, answers: None }));
    }
    let (mut one, left) = (Bench::new("liveness/a"), Life { session: 4, ..Life::new("n1", 1) });
    one.hear("liveness/b", true, vec![left.said(Status::Left { since: Wall::from_micros(1) })]);
    let heard = one.core.version();
    one.hear("liveness/b", false, vec![Life { session: 1, ..Life::new("n1", 2) }.said(Status::Alive)]);
    assert!(matches!(one.status(&left), Some(Status::Left { .. })));
    let objections = one.core.say(heard).statements;
    assert_eq!(objections.len(), 1, "who cannot have known is told");
    assert_eq!(objections[0].listing.session, 4);
}

#[test]
fn who_missed_too_much_is_told_everything_and_otherwise_what_was_missed() {
    let (mut one, mut life) = (Bench::new("liveness/a"), Life::new("n1", 1));
    one.attend(&life).unwrap();
    one.attend(&Life::new("n2", 1)).unwrap();
    let (seen, agents) = (one.core.version(), Wanted::Roles(BTreeSet::from([Role::Agent])));
    let apis = Wanted::Roles(BTreeSet::from([Role::Api]));
    let change = |one: &mut Bench, life: &mut Life, number: u64| {
        let facts = Listing { load: u32::try_from(number).unwrap(), ..life.listing() };
        let told = Told { facts: Some((facts, (1 << 32) + number)), answers: None };
        assert!(one.core.told(one.clocks(), &life.who(), &life.lock(), told));
    };
    change(&mut one, &mut life, 1);
    change(&mut one, &mut life, 2);
    let news = one.core.news(seen, &agents);
    assert_eq!((news.whole, news.after, news.changes.len()), (false, seen.number, 1), "each process once");
    for number in 3..65_600 {
        change(&mut one, &mut life, number);
    }
    assert!(one.core.news(seen, &agents).whole, "of those who are wanted too much has changed");
    assert!(one.core.news(seen, &Wanted::All).whole);
    let others = one.core.news(seen, &apis);
    assert!(!others.whole && others.changes.is_empty(), "of the others nothing has");
    let foreign = Version { instance: 8, number: seen.number };
    assert!(one.core.news(foreign, &apis).whole, "another instance's numbers mean nothing");
    let ahead = Version { number: u64::MAX, ..seen };
    assert!(one.core.news(ahead, &apis).whole);
}

#[test]
fn what_comes_late_of_a_change_of_facts_changes_nothing() {
    let (mut one, life) = (Bench::new("liveness/a"), Life::new("n1", 1));
    one.attend(&life).unwrap();
    let mut tell = |load: u32, change: u64| {
        let facts = Some((Listing { load, ..life.listing() }, (1 << 32) + change));
        one.core.told(one.clocks(), &life.who(), &life.lock(), Told { facts, answers: None });
        one.core.get(&life.who()).map(|listing| (listing.load, listing.session))
    };
    assert_eq!(tell(5, 2), Some((5, 1)));
    assert_eq!(tell(4, 1), Some((5, 1)));
    assert_eq!(tell(6, 3), Some((6, 1)));
}

/// Some instance's words of some process: each instance speaks of a session in one order.
fn words() -> impl Strategy<Value = Vec<(usize, Statement)>> {
    let status = prop_oneof![
        4 => Just(0_u8),
        1 => Just(1),
        1 => Just(2),
    ];
    let word = (0..3_usize, 0..2_usize, 1..4_u64, 1..3_u8, 1..4_u64, status);
    let one = word.prop_map(|(from, name, session, lock, turn, status)| {
        let life = Life { name: ["n1", "n2"][name], lock, session, turn };
        let since = Wall::from_micros(1);
        // One end of one session is seen once.
        let status = match status {
            0 => Status::Alive,
            1 => Status::Suspected { since, cause: Cause::Broken },
            _ => Status::Left { since },
        };
        (from, life.said(status))
    });
    proptest::collection::vec(one, 1..10).prop_map(|words| {
        // No two instances hold one session in one turn, and what one says of it in one turn is one thing.
        let mut first = BTreeMap::new();
        let key = |said: &Statement| {
            (said.listing.who.name.clone(), said.listing.session, said.lock, said.listing.status.is_final(), said.turn)
        };
        words.into_iter().filter(|(_, said)| first.insert(key(said), ()).is_none()).collect()
    })
}

proptest! {
    /// The same statements lead to the same records, in whatever order they are heard.
    #[test]
    fn statements_commute(words in words(), seed in any::<u64>()) {
        let names = ["liveness/b", "liveness/c", "liveness/d"];
        let heard = |order: &[(usize, Statement)]| {
            let mut one = Bench::new("liveness/a");
            for (from, said) in order {
                one.hear(names[*from], false, vec![said.clone()]);
            }
            one.view()
        };
        let mut shuffled = words.clone();
        let mut dice = seed;
        for index in (1..shuffled.len()).rev() {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            shuffled.swap(index, usize::try_from(dice >> 33).unwrap() % (index + 1));
        }
        prop_assert_eq!(heard(&words), heard(&shuffled));
    }

    /// Whoever applies the news of an instance has what it has, however seldom it asks.
    #[test]
    fn news_are_what_an_instance_knows(acts in proptest::collection::vec((0..4_usize, 0..7_u8, any::<bool>()), 1..60)) {
        let mut one = Bench::new("liveness/a");
        let mut lives: Vec<Life> = ["n1", "n2", "n3", "n4"].map(|name| Life::new(name, 1)).to_vec();
        let directory = Directory::new();
        for (number, act, reads) in acts {
            one.now += SECOND / 10;
            let life = lives[number].clone();
            let (now, who) = (one.clocks(), life.who());
            match act {
                0 | 1 => {
                    lives[number].turn += 1;
                    if let Ok(admitted) = one.attend(&lives[number]) {
                        lives[number].session = admitted.session;
                    }
                }
                2 => one.broken(&life),
                3 => one.tried(&life, Tried::Refused),
                4 => one.core.leave(now, &who, &life.lock()),
                5 => lives[number] = Life { lock: life.lock + 1, ..Life::new(life.name, 0) },
                _ => one.core.tick(now),
            }
            if reads {
                let news = one.core.news(directory.version(), &Wanted::All);
                if news.whole {
                    let listings = news.changes.into_iter().filter_map(|change| match change {
                        Change::Put(listing) => Some(listing),
                        Change::Forget(..) => None,
                    });
                    directory.replace(news.version, listings);
                } else {
                    directory.apply(news.after, news.version, news.changes).unwrap();
                }
                prop_assert_eq!(directory.all(), one.core.all().cloned().collect::<Vec<_>>());
            }
        }
    }
}
