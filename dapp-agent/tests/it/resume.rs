//! Agents and requesters that are killed and come back.

use std::time::Duration;

use alloy::primitives::U256;
use conun_agent::{
    core::Policy,
    provider::Running,
    requester::{Ledger, Progress},
    store::Journal,
};
use conun_bindings::{abi::JobRegistry, deploy::TOKEN};
use conun_chain::dev_accounts;

use crate::world::{World, assert_greeted, follow, greetings, picture};

fn leased(event: &Running) -> Option<()> {
    matches!(event, Running::Leased(..)).then_some(())
}

fn executed(event: &Running) -> Option<()> {
    matches!(event, Running::Executed(..)).then_some(())
}

fn submitted(event: &Running) -> Option<()> {
    matches!(event, Running::Submitted(..)).then_some(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_killed_at_any_point_goes_on_where_it_was_and_loses_nothing() {
    let world = World::new().await;
    let seat = world.register(1, Policy::default()).await;
    let stake = world.stake(1).await;
    let mut requester = world.requester().await;
    let posted = requester.post(&picture()).await.unwrap();
    for point in [leased, executed, leased, executed, submitted] {
        let mut agent = seat.start();
        agent.ready().await;
        agent.until(point).await;
        agent.kill().await;
        world.assert_index_is_right(posted.job).await;
    }
    let mut agent = seat.start();
    agent.ready().await;
    let out = world.folder("out");
    follow(&mut requester, posted.job, &out).await;
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), 24);
    agent.stop().await.unwrap();

    let ledger = Ledger::of(requester.provider(), requester.follower().index(), posted.job).await.unwrap();
    assert!(ledger.adds_up() && ledger.expired_leases == 0, "{ledger:?}");
    assert_eq!(world.stake(1).await, stake, "no bond was lost");
    // What was submitted is what the journal has: no batch had two results.
    let journal = Journal::open(&seat.folder).unwrap();
    for (number, batch) in (0..).zip(&requester.follower().index().jobs[&posted.job].batches) {
        let kept = journal.result(posted.job, number).unwrap().unwrap();
        assert_eq!((kept.root, kept.fuel, kept.outputs.0), (batch.root, batch.fuel, batch.outputs));
        assert!(journal.intended(posted.job, number).unwrap(), "a lease without an intent");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_requester_that_comes_back_elsewhere_is_found_and_loses_nothing() {
    let world = World::new().await;
    let mut requester = world.requester().await;
    let posted = requester.post(&greetings(8)).await.unwrap();
    let contact = requester.follower().index().job(&posted.job).map(|entry| entry.contact.clone());
    requester.shutdown().await;

    // It comes back on another port, under the same endpoint id.
    std::fs::remove_file(world.folder("requester").join("endpoint.port")).unwrap();
    let seat = world.register(1, Policy::default()).await;
    let mut agent = seat.start();
    agent.ready().await;
    // Nobody serves the program now.
    agent.until(|event| matches!(event, Running::Trouble(text) if text.contains("cannot be had")).then_some(())).await;

    let mut requester = world.requester().await;
    let out = world.folder("out");
    let told = follow(&mut requester, posted.job, &out).await;
    assert_greeted(&out, 8);
    assert_ne!(requester.follower().index().job(&posted.job).map(|entry| entry.contact.clone()), contact);
    agent.stop().await.unwrap();
    requester.shutdown().await;

    // Everything received is still here: nobody has to serve it again.
    std::fs::remove_dir_all(&out).unwrap();
    let mut requester = world.requester().await;
    let again = follow(&mut requester, posted.job, &out).await;
    assert_greeted(&out, 8);
    let count =
        |told: &[Progress]| told.iter().filter(|progress| matches!(progress, Progress::Verified { .. })).count();
    assert_eq!((count(&told), count(&again)), (4, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leases_of_a_provider_that_stays_away_go_to_another_and_its_bond_is_burned() {
    let world = World::new().await;
    let gone = world.register(1, Policy::default()).await;
    let stake = world.stake(1).await;
    let mut job = greetings(5);
    job.job.leaseSeconds = 3;
    let mut requester = world.requester().await;
    let posted = requester.post(&job).await.unwrap();
    let registry = JobRegistry::new(world.contracts.jobs, world.chain.provider_for(gone.signer.clone()));
    let job = world.follower().await.index().jobs[&posted.job].job.clone();
    registry.lease(job, vec![0, 1]).send().await.unwrap().get_receipt().await.unwrap();

    let mut other = world.register(2, Policy::default()).await.start();
    other.ready().await;
    let out = world.folder("out");
    let told = follow(&mut requester, posted.job, &out).await;
    assert_greeted(&out, 5);
    for batch in [0, 1] {
        let providers = [1, 2].map(|number: usize| dev_accounts()[number].address());
        let taken = providers
            .map(|provider| told.iter().position(|progress| *progress == Progress::Leased { batch, provider }));
        assert!(taken[0].is_some() && taken[0] < taken[1], "first one, then the other: {told:?}");
    }
    let ledger = Ledger::of(requester.provider(), requester.follower().index(), posted.job).await.unwrap();
    assert!(ledger.adds_up() && ledger.expired_leases == 2 && ledger.providers.len() == 1, "{ledger:?}");
    world.assert_index_is_right(posted.job).await;
    // A tenth of the worst case of two tasks, 0.002 tokens, for each batch.
    assert_eq!(stake - world.stake(1).await, U256::from(2 * TOKEN / 1_000 / 10 * 2));
    other.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_agent_on_the_same_folder_is_told_so() {
    let world = World::new().await;
    let seat = world.register(1, Policy::default()).await;
    let mut agent = seat.start();
    agent.ready().await;
    let error = seat.start().ended().await.unwrap_err();
    assert!(error.contains("is in use by another agent"), "{error}");
    agent.stop().await.unwrap();
    let mut agent = seat.start();
    agent.ready().await;
    agent.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_stops_in_time_although_its_endpoint_is_gone() {
    let world = World::new().await;
    let seat = world.register(1, Policy::default()).await;
    let mut agent = seat.start();
    agent.ready().await;
    world.server.stop().await;
    agent.until(|event| matches!(event, Running::Trouble(text) if text.contains("RPC endpoint")).then_some(())).await;
    tokio::time::timeout(Duration::from_secs(10), agent.stop()).await.unwrap().unwrap();
    // And it says what is wrong when it cannot start.
    let error = seat.start().ended().await.unwrap_err();
    assert!(error.contains("RPC endpoint"), "{error}");
}
