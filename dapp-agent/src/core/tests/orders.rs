//! Events in any order: what the agent must never do, and what it must have done in the end.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Move {
    Post(u8, u8),
    Prepared(u8, u8),
    Mine,
    LoseTransaction(bool),
    Executed(u8, bool),
    OtherLeases(u8, u8),
    OtherSubmits(u8, u8),
    Expire(u8, u8),
    Accept(u8, u8),
    Cancel(u8),
    Time(u8),
    Pause(bool),
    Restart,
    Look,
}

fn moves() -> impl Strategy<Value = Move> {
    let at = (0..3u8, 0..6u8);
    prop_oneof![
        2 => (0..3u8, 1..6u8).prop_map(|(job, batches)| Move::Post(job, batches)),
        4 => (0..3u8, any::<u8>()).prop_map(|(job, how)| Move::Prepared(job, how)),
        8 => Just(Move::Mine),
        1 => any::<bool>().prop_map(Move::LoseTransaction),
        8 => (any::<u8>(), prop::bool::weighted(0.8)).prop_map(|(which, done)| Move::Executed(which, done)),
        3 => at.clone().prop_map(|(job, batch)| Move::OtherLeases(job, batch)),
        2 => at.clone().prop_map(|(job, batch)| Move::OtherSubmits(job, batch)),
        2 => at.clone().prop_map(|(job, batch)| Move::Expire(job, batch)),
        2 => at.prop_map(|(job, batch)| Move::Accept(job, batch)),
        1 => (0..3u8).prop_map(Move::Cancel),
        6 => (0..120u8).prop_map(Move::Time),
        1 => any::<bool>().prop_map(Move::Pause),
        1 => Just(Move::Restart),
        4 => Just(Move::Look),
    ]
}

fn play(world: &mut World, step: Move) {
    let id = |world: &World, job: u8, batch: u8| -> Option<BatchId> {
        let id = *world.index.order.get(usize::from(job))?;
        (usize::from(batch) < world.index.jobs[&id].batches.len()).then_some((id, batch.into()))
    };
    match step {
        Move::Post(category, batches) => {
            let job = job(category.into(), batches.into());
            if !world.index.jobs.contains_key(&keccak256([category])) {
                world.post(job);
            }
        }
        Move::Prepared(job, how) => {
            if let Some((job, _)) = id(world, job, 0) {
                world.prepared(job, how);
            }
        }
        Move::Mine => world.mine(),
        Move::LoseTransaction(race) => {
            if world.sending.take().is_some() {
                world.step(if race { Event::LostRace } else { Event::NotSent("no gas".to_owned()) });
            }
        }
        Move::Executed(which, done) => {
            let one = world.executing.iter().nth(usize::from(which) % world.executing.len().max(1)).copied();
            if let Some(one) = one {
                world.executed(one, done);
            }
        }
        Move::OtherLeases(job, batch) => {
            if let Some(id) = id(world, job, batch) {
                world.lease_for(OTHER, id);
            }
        }
        Move::OtherSubmits(job, batch) => {
            if let Some(id) = id(world, job, batch) {
                world.submit_for(OTHER, id, record(B256::repeat_byte(9)));
            }
        }
        Move::Expire(job, batch) => {
            if let Some(id) = id(world, job, batch) {
                world.expire(id);
            }
        }
        Move::Accept(job, batch) => {
            if let Some(id) = id(world, job, batch)
                && world.batch(id).stage == BatchStage::Submitted
            {
                world.batch(id).stage = BatchStage::Settled;
            }
        }
        Move::Cancel(job) => {
            if let Some((job, _)) = id(world, job, 0) {
                let entry = world.index.change(&job).unwrap();
                entry.cancelled = true;
                entry.batches.cancel_open();
            }
        }
        Move::Time(seconds) => {
            world.now += u64::from(seconds);
            world.number += u64::from(seconds / 12) + 1;
            world.look();
        }
        Move::Pause(paused) => {
            world.paused = paused;
            world.step(Event::Paused(paused));
        }
        Move::Restart => world.restart(),
        Move::Look => world.look(),
    }
}

proptest! {
    /// [`World::check`] holds of every action, and once others leave it alone the agent ends with nothing in its hands.
    #[test]
    fn no_order_of_events_makes_it_break_a_rule_or_leave_work_undone(steps in prop::collection::vec(moves(), 0..150)) {
        let mut world = World::new();
        steps.into_iter().for_each(|step| play(&mut world, step));
        world.paused = false;
        world.step(Event::Paused(false));
        for _ in 0..400 {
            world.number += 1;
            world.now += 20;
            world.look();
            world.preparing.clone().into_iter().for_each(|job| world.prepared(job, 2));
            world.executing.clone().into_iter().for_each(|id| world.executed(id, true));
            world.mine();
        }
        let refused = |id: &B256| matches!(world.core.looked.get(id), Some(Looked::Refused(_)));
        for (id, entry) in world.index.jobs.iter().filter(|(id, _)| !refused(id)) {
            for batch in &entry.batches {
                prop_assert!(batch.is_final() || batch.provider == OTHER, "{id} {batch:?}");
            }
        }
    }
}
