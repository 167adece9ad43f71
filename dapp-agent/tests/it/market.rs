//! Jobs that go well.

use std::collections::BTreeSet;

use alloy::primitives::U256;
use conun_agent::{
    chain::BatchStage,
    core::Policy,
    provider::{Withdrawal, is_paused, read_status, set_paused, withdraw},
    requester::{Ledger, Progress},
};
use conun_bindings::{abi::ConunToken, deploy::TOKEN};

use crate::world::{World, assert_greeted, follow, greetings, picture};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_done_by_two_providers_checked_accepted_and_paid_to_the_last_wei() {
    let world = World::new().await;
    let policy = Policy { workers: 2, ..Policy::default() };
    let seats = [world.register(1, Policy::default()).await, world.register(2, policy).await];
    let mut agents = seats.clone().map(|seat| seat.start());
    for agent in &mut agents {
        agent.ready().await;
    }
    let mut requester = world.requester().await;
    let before = world.escrowed(requester.account()).await;
    let prepared = picture();
    let posted = requester.post(&prepared).await.unwrap();
    assert_eq!((posted.tasks, posted.batches), (24, 24));
    assert_eq!(
        world.escrowed(requester.account()).await,
        (before.0, posted.deposit),
        "one transaction locks the deposit"
    );

    let out = world.folder("out");
    let told = follow(&mut requester, posted.job, &out).await;
    let verified = told.iter().filter(|progress| matches!(progress, Progress::Verified { .. })).count();
    assert_eq!(verified, 24);
    assert!(!told.iter().any(|progress| matches!(progress, Progress::NotTaken { .. })), "{told:?}");
    // What came back is what the program makes of its inputs, here as there.
    let program = conun_vm::Program::compile(&prepared.wasm, conun_vm::Limits::default()).unwrap();
    for task in [0, 13, 23] {
        let input = prepared.input(task).unwrap();
        let done = program.execute(&conun_vm::Task { input, fuel_limit: prepared.job.fuelLimit }).unwrap();
        let pixels = conun_vm::Output::decode(&done.output).unwrap().stdout;
        assert_eq!(pixels.len(), 32 * 32 * 3);
        assert!(std::fs::read(out.join(task.to_string())).unwrap() == pixels, "task {task}");
    }

    let ledger = Ledger::of(requester.provider(), requester.follower().index(), posted.job).await.unwrap();
    assert!(ledger.adds_up(), "{ledger:?}");
    assert_eq!((ledger.tasks, ledger.expired_leases), (24, 0));
    assert_eq!(ledger.providers.len(), 2, "both had a part: {ledger:?}");
    assert_eq!(ledger.providers.iter().map(|provider| provider.tasks).sum::<u32>(), 24);
    for provider in &ledger.providers {
        assert_eq!(world.earned(provider.account).await, provider.earned);
    }
    assert_eq!(world.escrowed(requester.account()).await, (before.0 + ledger.refunded, U256::ZERO));
    // Several batches share a transaction.
    for kind in ["lease", "submit", "accept"] {
        assert!(ledger.gas[kind].transactions < 24, "{kind}: {ledger:?}");
    }

    for (agent, seat) in agents.into_iter().zip(&seats) {
        agent.stop().await.unwrap();
        let status = read_status(&seat.folder).unwrap().unwrap();
        assert_eq!(status["work"]["executing"], serde_json::json!([]));
        assert_eq!(status["account"], serde_json::json!(seat.signer.address()));
    }

    let account = seats[0].signer.address();
    let earned = world.earned(account).await;
    let token = ConunToken::new(world.contracts.token, world.provider());
    let held = token.balanceOf(account).call().await.unwrap();
    let url = world.server.url();
    let withdrawn = withdraw(&url, &world.contracts, &seats[0].signer).await.unwrap();
    assert!(withdrawn.amount == earned && withdrawn.stake.is_zero() && withdrawn.transaction.is_some());
    assert_eq!(token.balanceOf(account).call().await.unwrap(), held + earned);
    let nothing = Withdrawal { amount: U256::ZERO, stake: U256::ZERO, transaction: None };
    assert_eq!(withdraw(&url, &world.contracts, &seats[0].signer).await.unwrap(), nothing);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_provider_takes_nothing_until_it_is_resumed_even_after_a_restart() {
    let world = World::new().await;
    let seat = world.register(1, Policy::default()).await;
    set_paused(&seat.folder, true).unwrap();
    let mut agent = seat.start();
    agent.ready().await;
    let mut requester = world.requester().await;
    let posted = requester.post(&greetings(4)).await.unwrap();
    let height = world.height().await;
    // Ten more blocks with the job in sight.
    let later = world.until(|follower| follower.head().is_some_and(|head| head.number >= height + 10)).await;
    assert!(later.index().jobs[&posted.job].batches.iter().all(|batch| batch.stage == BatchStage::Open));
    agent.stop().await.unwrap();
    assert!(is_paused(&seat.folder));
    assert_eq!(read_status(&seat.folder).unwrap().unwrap()["paused"], true);

    let mut agent = seat.start();
    agent.ready().await;
    set_paused(&seat.folder, false).unwrap();
    let out = world.folder("out");
    follow(&mut requester, posted.job, &out).await;
    assert_greeted(&out, 4);
    agent.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_refunds_what_nobody_has_leased() {
    let world = World::new().await;
    let mut requester = world.requester().await;
    let posted = requester.post(&greetings(6)).await.unwrap();
    assert_eq!(requester.cancel(posted.job).await.unwrap(), posted.deposit);
    assert_eq!(world.escrowed(requester.account()).await, (posted.deposit, U256::ZERO));
    let again = requester.cancel(posted.job).await.unwrap_err();
    assert!(again.to_string().contains("cancelled already"), "{again}");
    // Its terms may be posted again: another nonce makes another job, paid from what came back.
    let second = requester.post(&greetings(6)).await.unwrap();
    assert_ne!(second.job, posted.job);
    assert_eq!(world.escrowed(requester.account()).await, (U256::ZERO, posted.deposit));
    let told = follow(&mut requester, posted.job, &world.folder("out")).await;
    assert_eq!(told, [], "a cancelled job is over");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_takes_only_the_jobs_that_its_policy_allows() {
    let world = World::new().await;
    let dear = Policy { min_price: 2 * TOKEN, ..Policy::default() };
    let seat = world.register(1, dear).await;
    let mut agent = seat.start();
    agent.ready().await;
    let mut requester = world.requester().await;
    let cheap = requester.post(&greetings(2)).await.unwrap().job;
    let mut better = greetings(2);
    better.job.startPrice *= 2;
    better.job.maxPrice *= 2;
    let better = requester.post(&better).await.unwrap().job;
    follow(&mut requester, better, &world.folder("out")).await;
    let index = world.follower().await;
    let stages: BTreeSet<_> =
        index.index().jobs[&cheap].batches.iter().map(|batch| format!("{:?}", batch.stage)).collect();
    assert_eq!(stages, ["Open".to_owned()].into());
    agent.stop().await.unwrap();
    let status = read_status(&seat.folder).unwrap().unwrap();
    let skipped = status["work"]["skipped"].as_array().unwrap();
    assert!(skipped.contains(&serde_json::json!([cheap, { "reason": "price" }])), "{status}");
}
