//! Which of several jobs is leased, and what that goes by.

use super::*;

const GWEI: u128 = 1_000_000_000;

/// A world whose jobs are all prepared before anything is leased.
fn market(policy: Policy, jobs: Vec<Job>) -> (World, Vec<B256>) {
    let mut world = World::new();
    world.stake = u64::MAX;
    world.core = Core::new(ME, policy);
    world.step(Event::Paused(true));
    let ids: Vec<_> = jobs.into_iter().map(|job| world.post(job)).collect();
    world.step(Event::Paused(false));
    (world, ids)
}

/// What it leases once everything is prepared.
fn choice(world: &mut World) -> Option<B256> {
    world.step(Event::Paused(true));
    while let Some(id) = world.preparing.first().copied() {
        world.prepared(id, 2);
    }
    world.step(Event::Paused(false));
    match &world.sending {
        Some(Action::Lease(id, _)) => Some(*id),
        _ => None,
    }
}

fn one(nonce: u32, price: u128) -> Job {
    Job { startPrice: price, maxPrice: price, ..job(nonce, 4) }
}

#[test]
fn the_better_price_comes_first_and_among_equals_the_older() {
    let (mut world, ids) = market(POLICY, vec![one(1, 1_500), one(2, 1_700), one(3, 1_000)]);
    assert_eq!(choice(&mut world), Some(ids[1]));
    let mut world = World::new();
    let first = world.post(one(9, 1_000));
    world.number += 1;
    world.post(one(1, 1_000));
    assert_eq!(choice(&mut world), Some(first));
}

#[test]
fn what_was_measured_counts_more_than_the_limit_says() {
    // The same price, but a batch of the first one takes thrice as long for its fuel.
    let (mut world, ids) = market(POLICY, vec![one(1, 1_000), one(2, 1_000)]);
    for (id, millis) in [(ids[0], 3_000), (ids[1], 1_000)] {
        let record = ResultRecord { fuel: 500_000_000, ..record(B256::repeat_byte(1)) };
        world.step(Event::Executed { batch: (id, 0), record, millis });
    }
    assert_eq!(choice(&mut world), Some(ids[1]));
    let worth = |world: &World, id| world.core.worth(&world.index, id, &world.index.jobs[id]);
    assert_eq!(worth(&world, &ids[0]).payment, U256::from(500), "what it burned, not what it might");
    assert_eq!((worth(&world, &ids[0]).millis, worth(&world, &ids[1]).millis), (1_500, 500), "two workers");
}

#[test]
fn gas_counts_where_the_owner_says_what_an_ether_is_worth() {
    // Small batches at a good price, large ones at a lesser one.
    let small = Job { fuelLimit: 100_000_000, ..one(1, 1_000_000 * GWEI) };
    let large = Job { fuelLimit: 10_000_000_000, leaseSeconds: 1_000, ..one(2, 900_000 * GWEI) };
    let jobs = vec![small, large];
    let (mut world, ids) = market(POLICY, jobs.clone());
    assert_eq!(choice(&mut world), Some(ids[0]));

    let policy = Policy { tokens_per_ether: Some(1_000_000_000_000_000_000), ..POLICY };
    let (mut world, ids) = market(policy.clone(), jobs.clone());
    let cheap = Conditions { gas_price: GWEI / 2, ..Conditions::default() };
    world.step(Event::Conditions(cheap));
    assert_eq!(choice(&mut world), Some(ids[1]), "gas takes half of the small one's payment");
    let worth = world.core.worth(&world.index, &ids[0], &world.index.jobs[&ids[0]]);
    // Of 163,000 of one batch alone, 47,000 come with each.
    assert_eq!(worth.gas, U256::from((47_000 + 116_000 / 4) * GWEI / 2));
    assert!(worth.per_second() > 0);

    // Dearer gas than it pays: it is left, and says why.
    let (mut world, ids) = market(policy, jobs);
    world.step(Event::Conditions(Conditions { gas_price: 2 * GWEI, ..cheap }));
    assert_eq!(choice(&mut world), Some(ids[1]));
    let worth = world.core.worth(&world.index, &ids[0], &world.index.jobs[&ids[0]]);
    assert!(worth.per_second() < 0, "{worth:?}");
    assert_eq!(world.core.verdicts(&world.index)[&ids[0]], Verdict::Skipped(SkipReason::Gas));
}

#[test]
fn a_slow_line_counts_and_what_is_here_already_does_not() {
    let (mut world, ids) = market(POLICY, vec![one(1, 1_100), one(2, 1_000)]);
    let line = Conditions { bytes_per_second: 1_000_000, ..Conditions::default() };
    world.step(Event::Conditions(line));
    // Twenty seconds to fetch what is computed in half a second.
    world.step(Event::Download(ids[0], 20_000_000));
    assert_eq!(choice(&mut world), Some(ids[1]));
    let (mut world, ids) = market(POLICY, vec![one(1, 1_100), one(2, 1_000)]);
    world.step(Event::Conditions(line));
    world.step(Event::Download(ids[0], 0));
    assert_eq!(choice(&mut world), Some(ids[0]));
}

#[test]
fn who_has_lost_leases_shuns_those_that_lock_more() {
    // The dearer limit of the first locks four times the stake for the same expected payment.
    let jobs = vec![Job { fuelLimit: 4_000_000_000, ..one(1, 1_010) }, one(2, 1_000)];
    let ran = |world: &mut World, ids: &[B256]| {
        for id in ids {
            let record = ResultRecord { fuel: 1_000_000_000, ..record(B256::repeat_byte(1)) };
            world.step(Event::Executed { batch: (*id, 0), record, millis: 1_000 });
        }
    };
    let (mut world, ids) = market(POLICY, jobs.clone());
    ran(&mut world, &ids);
    world.core.done = 100_000;
    assert_eq!(choice(&mut world), Some(ids[0]), "it has never lost one");
    let (mut world, ids) = market(POLICY, jobs);
    ran(&mut world, &ids);
    (world.core.done, world.core.lost) = (1_000, 100);
    assert_eq!(choice(&mut world), Some(ids[1]), "it loses one in ten");
}

#[test]
fn of_many_jobs_only_the_best_are_prepared() {
    let (mut world, ids) = market(POLICY, (1..=100).map(|nonce| one(nonce, 1_000 + u128::from(nonce))).collect());
    assert_eq!(world.preparing.len(), 4);
    let best = |world: &World| world.preparing.iter().all(|id| ids[90..].contains(id));
    assert!(best(&world));
    for _ in 0..3 {
        let id = *world.preparing.first().unwrap();
        world.prepared(id, 2);
    }
    assert!(world.preparing.len() <= 4 && best(&world));
    // With three to choose from, two workers need no more.
    assert_eq!(world.prepared.len(), 3);
    let prepared = world.preparing.len();
    world.look();
    assert_eq!(world.preparing.len(), prepared);
}
