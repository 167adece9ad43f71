//! Outputs that are demanded on the chain.

use alloy::primitives::{B256, U256};
use conun_agent::{
    chain::{BallotStage, BatchStage},
    core::Policy,
    provider::Running,
    requester::{Error, Requester},
};
use conun_bindings::{abi::Disputes, deploy::TOKEN};

use crate::{
    ballots::voted,
    world::{PATIENCE, World, greetings},
};

pub(crate) fn did(kind: &'static str) -> impl Fn(&Running) -> Option<()> {
    move |event| matches!(event, Running::Did(what, ..) if *what == kind).then_some(())
}

/// What the case says that was shown.
async fn shown(world: &World, case: B256) -> Disputes::Answered {
    let disputes = Disputes::new(world.contracts.disputes, world.provider());
    let answers = disputes.Answered_filter().topic1(case).from_block(0).query().await.unwrap();
    answers.into_iter().next().expect("it was answered").0
}

async fn refused(requester: &mut Requester, (job, batch, task): (B256, u32, u32), words: &str) {
    let error = requester.demand(job, batch, task, 0).await.unwrap_err().to_string();
    assert!(error.contains(words), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demand_is_answered_by_the_agent_and_the_batch_is_paid_all_the_same() {
    let world = World::new().await;
    let mut agent = world.register(1, Policy::default()).await.start();
    agent.ready().await;
    let mut requester = world.requester().await;
    let posted = requester.post(&greetings(3)).await.unwrap();
    refused(&mut requester, (posted.job, 7, 0), "batches 0 to 1, none 7").await;
    world
        .until(|follower| {
            follower.index().jobs[&posted.job].batches.iter().all(|batch| batch.stage == BatchStage::Submitted)
        })
        .await;
    refused(&mut requester, (posted.job, 1, 0), "batch 1 has tasks 2 to 2, none 0").await;
    let (case, _) = requester.demand(posted.job, 0, 1, 0).await.unwrap();
    agent.until(did("answer")).await;
    let answer = shown(&world, case).await;
    let output = conun_vm::Output::decode(&answer.part).unwrap();
    assert_eq!((answer.leaf.index, output.stdout), (1, &b"Hello, Person 1! (2 words)\n"[..]));
    // The same once more, and a chunk that is not there: the leaf alone proves it.
    refused(&mut requester, (posted.job, 0, 1), "CaseExists").await;
    let (case, _) = requester.demand(posted.job, 0, 0, 9).await.unwrap();
    agent.until(did("answer")).await;
    assert!(shown(&world, case).await.part.is_empty());

    // When the window is over the agent sees to its payment.
    world.skip(125);
    agent.until(did("resolve")).await;
    agent.until(did("finalise")).await;
    let over = world.until(|follower| follower.index().jobs[&posted.job].is_over()).await;
    assert!(over.index().jobs[&posted.job].batches.iter().all(|batch| batch.stage == BatchStage::Settled));
    world.assert_index_is_right(posted.job).await;
    let error = requester.challenge(posted.job, 0, 0, B256::ZERO).await.unwrap_err();
    assert!(matches!(error, Error::NoArbiter), "{error}");
    assert!(error.to_string().contains("no arbiter"), "{error}");
    refused(&mut requester, (posted.job, 0, 0), "no result in its window").await;
    agent.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demand_about_a_vote_is_answered_by_one_of_its_makers() {
    let world = World::new().await;
    let mut agents = Vec::new();
    for account in 1..=2 {
        let mut agent = world.register(account, Policy::default()).await.start();
        agent.ready().await;
        agents.push(agent);
    }
    let mut requester = world.requester().await;
    let posted = requester.post(&voted(2, "replicas = 2\nlimit = 3\nwiden-seconds = 2")).await.unwrap();
    refused(&mut requester, (posted.job, 0, 0), "no result in its window").await;
    world.until_ballot(posted.job, 0, |ballot| ballot.revealed() == 2).await;
    let (case, _) = requester.demand(posted.job, 0, 1, 0).await.unwrap();
    let follower = world.until(|follower| follower.index().cases.get(&case).is_some_and(|case| !case.open)).await;
    let (_, ballot) = follower.index().jobs[&posted.job].ballot(0).unwrap();
    assert_eq!(ballot.stage, BallotStage::Frozen);
    let answer = shown(&world, case).await;
    assert!(
        ballot
            .makers((ballot.tally(0).votes[0].root, ballot.tally(0).votes[0].fuel))
            .any(|(maker, _)| maker == answer.provider)
    );
    world.assert_ballots_are_right(posted.job).await;
    world.skip(125);
    world.until_ballot(posted.job, 0, |ballot| ballot.stage == BallotStage::Settled).await;
    world.assert_ballots_are_right(posted.job).await;
    for agent in agents {
        tokio::time::timeout(PATIENCE, agent.stop()).await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demand_that_nobody_answers_costs_the_provider_its_payment_and_nobody_else_anything() {
    let world = World::new().await;
    let mut agent = world.register(1, Policy::default()).await.start();
    agent.ready().await;
    let mut requester = world.requester().await;
    let posted = requester.post(&greetings(2)).await.unwrap();
    world.until(|follower| follower.index().jobs[&posted.job].batches[0].stage == BatchStage::Submitted).await;
    agent.stop().await.unwrap();
    let (case, deadline) = requester.demand(posted.job, 0, 0, 0).await.unwrap();
    assert_eq!(
        world.escrowed(requester.account()).await,
        (U256::ZERO, posted.deposit),
        "the bond is pulled by a permit"
    );
    let error = requester.claim(posted.job).await.unwrap_err();
    assert!(error.to_string().contains("no dispute about job"), "{error}");
    // The devnet's ten minutes.
    world.skip(605);
    let follower = world.follower().await;
    assert!(follower.head().unwrap().timestamp > deadline && follower.index().cases[&case].open);
    let bond = U256::from(5 * TOKEN);
    assert_eq!(requester.claim(posted.job).await.unwrap(), bond);
    assert_eq!(world.escrowed(requester.account()).await, (bond, posted.deposit));
    world.assert_index_is_right(posted.job).await;
    assert_eq!(world.follower().await.index().jobs[&posted.job].batches[0].stage, BatchStage::Open, "done once more");
    assert!(requester.claim(posted.job).await.is_err(), "once");
}
