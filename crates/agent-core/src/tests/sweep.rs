//! Crashes at every boundary between effects. What must hold whenever it comes: orders that are sent again converge, no
//! run is started twice, no guest is lost, and what was answered stays so.

use proptest::prelude::*;

use super::model::{World, guest, network, order, spec};
use crate::{Act, Answer, Life, Order, Refusal};

#[derive(Clone, Copy, Debug)]
enum Crash {
    /// The agent dies; the next append has not begun.
    Kill,
    /// The agent dies, and of the next append the first entry is durable.
    Torn,
    /// So does the machine.
    Power,
}

/// Sends `orders` one after the other, each again until it has an end, and crashes after each of the effects whose
/// numbers are in `crashes` (counted over the whole run). Returns the answers.
fn play(world: &mut World, orders: &[Order], crashes: &[usize], kind: Crash) -> Vec<Answer> {
    let mut crashes = crashes.iter().copied().peekable();
    let mut answers = Vec::new();
    for sent in orders {
        let mut ticket = world.send(sent.clone());
        let answer = loop {
            let more = world.step();
            if crashes.next_if(|at| world.steps >= *at).is_some() {
                match kind {
                    Crash::Kill => world.crash(),
                    Crash::Torn => {
                        world.tear();
                        world.crash();
                    }
                    Crash::Power => world.power_cut(),
                }
                ticket = world.send(sent.clone());
                continue;
            }
            match world.answers.get(&ticket) {
                Some(Err(Refusal::NotNow(_) | Refusal::Unknown(_))) => ticket = world.send(sent.clone()),
                Some(answer) => break answer.clone(),
                None => assert!(more, "an order is answered: {sent:?}"),
            }
        };
        answers.push(answer);
    }
    world.settle();
    answers
}

fn story() -> Vec<Order> {
    let build = |number| Act::Build(spec(number));
    vec![
        order(1, 1, 1, 11, build(11)),
        order(2, 1, 2, 12, build(12)),
        order(3, 1, 1, 11, Act::Stop(None)),
        order(4, 1, 1, 11, Act::Start),
        order(5, 1, 1, 12, Act::Reboot(None)),
        order(6, 1, 1, 12, Act::Pause),
        order(7, 1, 1, 11, Act::Destroy(vec![network(1)])),
    ]
}

fn lives(answers: &[Answer]) -> Vec<Life> {
    answers.iter().map(|answer| answer.as_ref().map_or(Life::Absent, |reached| reached.life)).collect()
}

#[test]
fn a_crash_between_any_two_effects_changes_nothing_that_is_told() {
    let mut smooth = World::new();
    let told = lives(&play(&mut smooth, &story(), &[], Crash::Kill));
    let total = smooth.steps;
    assert!(total > 30, "the story has {total} boundaries");
    for (at, kind) in (1..=total).flat_map(|at| [(at, Crash::Kill), (at, Crash::Torn)]) {
        let mut world = World::new();
        let answers = play(&mut world, &story(), &[at], kind);
        assert_eq!(lives(&answers), told, "crash at {at}, {kind:?}");
        assert_eq!(world.machine.ran_twice, [], "crash at {at}, {kind:?}");
        assert_eq!(world.machine.guests.keys().collect::<Vec<_>>(), [&guest(12)], "crash at {at}, {kind:?}");
        assert!(matches!(world.machine.guests[&guest(12)], driver::Observed::Paused(_)), "crash at {at}, {kind:?}");
        assert_eq!(world.machine.networks.len(), 1, "crash at {at}, {kind:?}");
        assert!(world.core.is_idle(), "crash at {at}, {kind:?}");
    }
}

#[test]
fn an_undone_build_leaves_nothing_wherever_it_crashes() {
    for (at, kind) in (1..40).flat_map(|at| [(at, Crash::Kill), (at, Crash::Torn), (at, Crash::Power)]) {
        let mut world = World::new();
        let refused = driver::DriverError::Refused("no such image".into());
        world.machine.faults.insert("prepare", std::iter::repeat_n(refused, 3).collect());
        let answers = play(&mut world, &[order(1, 1, 1, 11, Act::Build(spec(11)))], &[at], kind);
        assert_eq!(answers, [Err(Refusal::No("no such image".into()))], "crash at {at}, {kind:?}");
        assert!(world.machine.guests.is_empty() && world.machine.networks.is_empty(), "crash at {at}, {kind:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Many crashes and power cuts in one story, the removal last: nothing is left, nothing ran twice.
    #[test]
    fn any_crashes(mut crashes in proptest::collection::vec(1usize..120, 0..8), kind in prop_oneof![Just(Crash::Kill), Just(Crash::Torn), Just(Crash::Power)], resume in any::<bool>()) {
        crashes.sort_unstable();
        let mut world = World::new();
        world.resume = resume;
        let orders = [
            order(1, 1, 1, 11, Act::Build(spec(11))),
            order(2, 1, 1, 11, Act::Stop(None)),
            order(3, 1, 1, 11, Act::Start),
            order(4, 1, 1, 11, Act::Snapshot(crate::ImageId::from_uuid(ids::uuid::Uuid::from_u128(5)))),
            order(5, 1, 1, 11, Act::Reboot(None)),
            order(6, 1, 1, 11, Act::Destroy(vec![network(1)])),
        ];
        let answers = play(&mut world, &orders, &crashes, kind);
        prop_assert_eq!(lives(&answers).last().copied(), Some(Life::Absent));
        prop_assert_eq!(&world.machine.ran_twice, &[]);
        prop_assert!(world.machine.guests.is_empty() && world.machine.networks.is_empty());
        prop_assert!(world.core.state().guests.is_empty() && world.core.is_idle());
    }
}

/// Three guests on one network at once, what is to happen to each in its own lane; effects overtake each other.
fn lanes(world: &mut World, lanes: &[Vec<Order>], crashes: &[usize]) {
    let mut crashes = crashes.iter().copied().peekable();
    let mut at: Vec<_> = lanes.iter().map(|_| (0, None)).collect();
    while at.iter().zip(lanes).any(|((done, _), orders)| *done < orders.len()) {
        for ((done, ticket), orders) in at.iter_mut().zip(lanes) {
            let Some(order) = orders.get(*done) else { continue };
            match ticket.and_then(|ticket| world.answers.get(&ticket)) {
                Some(Ok(_) | Err(Refusal::No(_))) => (*done, *ticket) = (*done + 1, None),
                Some(Err(Refusal::NotNow(_) | Refusal::Unknown(_))) => *ticket = None,
                None => {}
            }
            if ticket.is_none() && *done < orders.len() {
                *ticket = Some(world.send(orders.get(*done).unwrap_or(order).clone()));
            }
        }
        let more = world.step();
        let ended = at.iter().zip(lanes).all(|((done, _), orders)| *done == orders.len());
        assert!((more || ended) && world.steps < 5_000, "every order is answered: {at:?}");
        if crashes.next_if(|at| world.steps >= *at).is_some() {
            world.crash();
            at.iter_mut().for_each(|(_, ticket)| *ticket = None);
        }
    }
    world.settle();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// Guests that come and go on one network, with failures and crashes: what the log says is what is there, and the
    /// network is there exactly as long as a guest is on it.
    #[test]
    fn neighbours(
        mut crashes in proptest::collection::vec(1usize..200, 0..6),
        seed in any::<u64>(),
        faults in proptest::collection::vec((0usize..6, any::<bool>(), 1usize..5), 0..4),
        stays in any::<bool>(),
    ) {
        crashes.sort_unstable();
        let mut world = World::new();
        world.shuffle = Some(seed);
        for (what, refused, times) in faults {
            let what = ["network", "no network", "prepare", "run", "absent", "stop"][what];
            let error = if refused { driver::DriverError::Refused } else { driver::DriverError::Failed };
            world.machine.faults.insert(what, std::iter::repeat_n(error("fault".into()), times).collect());
        }
        let lane = |number: u32, stays: bool| {
            let (work, number) = (u128::from(number) * 10, u128::from(number));
            let mut orders = vec![
                order(work, 1, 1 + u32::try_from(number).unwrap(), number, Act::Build(spec(number))),
                order(work + 1, 1, 1, number, Act::Reboot(None)),
            ];
            if !stays {
                orders.push(order(work + 2, 1, 1, number, Act::Destroy(vec![network(1)])));
            }
            orders
        };
        lanes(&mut world, &[lane(11, false), lane(12, false), lane(13, stays)], &crashes);
        prop_assert_eq!(&world.machine.ran_twice, &[]);
        let state = world.core.state();
        prop_assert_eq!(state.guests.keys().collect::<Vec<_>>(), world.machine.guests.keys().collect::<Vec<_>>());
        prop_assert_eq!(world.machine.networks.len(), usize::from(!world.machine.guests.is_empty()));
        prop_assert_eq!(state.described.networks.len(), world.machine.networks.len());
        let ports: usize = world.machine.networks.values().map(std::collections::BTreeMap::len).sum();
        prop_assert_eq!(ports, world.machine.guests.len());
        prop_assert!(world.core.is_idle());
    }
}
