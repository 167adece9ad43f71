//! Batches whose providers are gone are brought to their end by the requester alone.

use std::collections::BTreeSet;

use alloy::primitives::{B256, U256};
use conun_agent::{chain::BallotStage, core::Policy, provider::Running, requester::Error};

use crate::{
    ballots::{Puppet, voted},
    world::{World, greetings, long_work},
};

fn all(batches: u32) -> BTreeSet<u32> {
    (0..batches).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_of_who_is_gone_are_ended_and_the_deposit_comes_back() {
    let world = World::new().await;
    let mut requester = world.requester().await;
    let before = world.escrowed(requester.account()).await;
    let mut agent = world.register(1, Policy { workers: 8, ..Policy::default() }).await.start();
    agent.ready().await;
    let posted = requester.post(&long_work()).await.unwrap();
    agent.until(|event| matches!(event, Running::Leased(..)).then_some(())).await;
    agent.kill().await;
    let refused = requester.settle(posted.job).await.unwrap_err();
    assert!(matches!(&refused, Error::Nothing(text) if text.contains("is due")), "{refused}");

    world.skip(100_000);
    let settled = requester.settle(posted.job).await.unwrap();
    assert!(!settled.expired.is_empty() && settled.finalised.is_empty(), "{settled:?}");
    requester.cancel(posted.job).await.unwrap();
    assert!(requester.refresh().await.unwrap().index().jobs[&posted.job].is_over());
    let (available, locked) = world.escrowed(requester.account()).await;
    assert_eq!((available + locked, locked), (before.0 + posted.deposit, U256::ZERO));
    requester.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn results_that_nobody_finalises_are_paid() {
    let world = World::new().await;
    let mut requester = world.requester().await;
    let seat = world.register(1, Policy::default()).await;
    let mut agent = seat.start();
    agent.ready().await;
    let posted = requester.post(&greetings(4)).await.unwrap();
    agent.until(|event| matches!(event, Running::Submitted(_, batches) if batches.len() == 2).then_some(())).await;
    agent.kill().await;
    world.skip(100_000);
    let settled = requester.settle(posted.job).await.unwrap();
    assert_eq!((settled.expired.len(), settled.finalised), (0, all(2)));
    assert!(world.earned(seat.signer.address()).await > U256::ZERO);
    requester.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn votes_whose_voters_are_gone_are_drawn_and_decided() {
    let world = World::new().await;
    let (one, other) = (Puppet::new(&world, 1).await, Puppet::new(&world, 2).await);
    let mut requester = world.requester().await;
    let before = world.escrowed(requester.account()).await;
    let posted = requester.post(&voted(2, "replicas = 2\naudit-share = 1\nwiden-seconds = 2")).await.unwrap();
    let job = posted.job;
    for puppet in [&one, &other] {
        puppet.lease(&world, job, 0).await;
        puppet.commit(&world, job, &puppet.reveal(0, B256::repeat_byte(7), 1)).await;
    }
    world.until_ballot(job, 0, |ballot| ballot.stage == BallotStage::Drawing).await;
    world.pass(2).await;
    // It is audited, and a third slot opens.
    let settled = requester.settle(job).await.unwrap();
    assert_eq!((settled.drawn, settled.finalised.len()), (all(1), 0));
    let third = Puppet::new(&world, 3).await;
    world.pass(3).await;
    third.lease(&world, job, 0).await;

    // None of the three comes back: the batch is as nobody had touched it.
    world.skip(1_000);
    let settled = requester.settle(job).await.unwrap();
    assert_eq!((settled.expired, settled.finalised), (all(1), all(1)));
    requester.cancel(job).await.unwrap();
    let follower = world.follower().await;
    let entry = &follower.index().jobs[&job];
    assert!(entry.is_over());
    let (available, locked) = world.escrowed(requester.account()).await;
    assert_eq!((available + entry.burned, locked), (before.0 + posted.deposit, U256::ZERO));
    world.assert_ballots_are_right(job).await;
    requester.shutdown().await;
}
