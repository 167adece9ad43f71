//! Jobs whose batches several agents execute: votes, audits, extra rounds, backups.

use std::{path::Path, time::Duration};

use alloy::primitives::{B256, U256};
use conun_agent::{
    chain::{BallotStage, ReplicaStage},
    core::Policy,
    manifest::MAX_RESULT_MANIFEST,
    provider::{Running, read_verdicts},
    requester::{Ledger, Progress},
    store::Journal,
};

use crate::{
    ballots::{Puppet, blocks, voted},
    net::node,
    world::{PATIENCE, World, assert_greeted, follow},
};

fn did(kind: &'static str) -> impl Fn(&Running) -> Option<()> {
    move |event| matches!(event, Running::Did(what, ..) if *what == kind).then_some(())
}

fn looked(event: &Running) -> Option<()> {
    matches!(event, Running::Looked(_)).then_some(())
}

/// Waits until something is deleted.
async fn gone(path: &Path) {
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let gone = async {
        while path.exists() {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("it is deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn three_agents_vote_all_are_paid_and_the_outputs_come_from_any_of_them() {
    let world = World::new().await;
    let mut agents = Vec::new();
    for account in 1..=3 {
        let mut agent = world.register(account, Policy::default()).await.start();
        agent.ready().await;
        agents.push(agent);
    }
    let mut requester = world.requester().await;
    let before = world.escrowed(requester.account()).await.0;
    // Fees of a token's hundredth and more make records.
    let mut prepared = voted(4, "replicas = 3\nlimit = 4\nwiden-seconds = 2");
    (prepared.job.startPrice, prepared.job.maxPrice) =
        (prepared.job.startPrice * 20_000, prepared.job.maxPrice * 20_000);
    let posted = requester.post(&prepared).await.unwrap();
    assert_eq!(world.escrowed(requester.account()).await, (before, posted.deposit), "the deposit is what was foreseen");
    world
        .until(|follower| {
            follower
                .index()
                .jobs
                .get(&posted.job)
                .is_some_and(|entry| follower.head().is_some_and(|head| head.number > entry.block + 2))
        })
        .await;
    world.assert_lots_are_right(posted.job).await;

    let out = world.folder("out");
    let told = follow(&mut requester, posted.job, &out).await;
    assert_greeted(&out, 4);
    let count = |wanted: fn(&Progress) -> bool| told.iter().filter(|progress| wanted(progress)).count();
    assert_eq!(count(|progress| matches!(progress, Progress::Submitted { .. })), 6, "{told:?}");
    assert_eq!(count(|progress| matches!(progress, Progress::Settled { .. })), 6, "{told:?}");
    world.assert_ballots_are_right(posted.job).await;

    let ledger = Ledger::of(requester.provider(), requester.follower().index(), posted.job).await.unwrap();
    assert!(ledger.adds_up() && ledger.done_tasks == 4 && !ledger.burned.is_zero(), "{ledger:?}");
    assert_eq!(ledger.providers.len(), 3, "{ledger:?}");
    for provider in &ledger.providers {
        assert_eq!((provider.batches, provider.tasks), (2, 4));
        assert_eq!(world.earned(provider.account).await, provider.earned);
        let known = &requester.follower().index().providers[&provider.account];
        assert_eq!(known.checks, 2, "each vote was a check");
    }
    for agent in agents {
        agent.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_cannot_be_fetched_before_the_vote_and_a_liar_is_outvoted_in_an_extra_round() {
    let world = World::new().await;
    let liar = Puppet::new(&world, 3).await;
    let stake = world.stake(3).await;
    let seats = [world.register(1, Policy::default()).await, world.register(2, Policy::default()).await];
    let third = world.register(4, Policy::default()).await;
    let mut requester = world.requester().await;
    // Two against one: 16 / 21. Three against one: 64 / 69 = 0.93.
    let posted = requester.post(&voted(2, "replicas = 3\nlimit = 4\ntarget = 0.9\nwiden-seconds = 2")).await.unwrap();
    liar.lease(&world, posted.job, 0).await;
    let lie = liar.reveal(0, B256::repeat_byte(0x1e), 77);
    liar.commit(&world, posted.job, &lie).await;

    let mut agents = seats.clone().map(|seat| seat.start());
    for agent in &mut agents {
        agent.ready().await;
        agent.until(did("commit")).await;
    }
    // What they have is in their journals; nobody else gets it, not even the liar, who has voted.
    let records = seats.clone().map(|seat| seat.folder).map(|folder| folder.join("held"));
    assert!(records.iter().all(|held| std::fs::read_dir(held).is_ok_and(|jobs| jobs.count() == 1)));
    let contact = world.follower().await.index().providers[&seats[0].signer.address()].contact.clone();
    let nosy = node(&liar.folder).await;
    let revealed = world.until_ballot(posted.job, 0, |ballot| ballot.revealed() >= 2).await;
    let (_, ballot) = revealed.index().jobs[&posted.job].ballot(0).unwrap();
    let Some(ReplicaStage::Revealed { root, outputs, .. }) = ballot.stage_of(seats[0].signer.address()) else {
        panic!("{ballot:?}")
    };
    let fetched = nosy.fetch(&outputs, std::slice::from_ref(&contact), MAX_RESULT_MANIFEST).await;
    let text = fetched.unwrap_err().to_string();
    assert!(text.contains("did not deliver it"), "a voter may have it, and still it is not there: {text}");

    // The vote is in, and not believed: one more slot opens, for whoever made the result without seeing it.
    liar.show(&world, posted.job, lie.clone()).await;
    world.until_ballot(posted.job, 0, |ballot| ballot.opened != 0).await;
    world.assert_ballots_are_right(posted.job).await;
    blocks(&world, 5).await;
    assert!(nosy.fetch(&outputs, std::slice::from_ref(&contact), MAX_RESULT_MANIFEST).await.is_err());
    let mut agent = third.start();
    agent.ready().await;
    agent.until(did("reveal")).await;
    let decided = world.until_ballot(posted.job, 0, |ballot| ballot.revealed() == 4).await;
    let (assurance, ballot) = decided.index().jobs[&posted.job].ballot(0).unwrap();
    let believed = ballot.believed(assurance, &decided.index().rules, 0);
    assert_eq!(believed.map(|(root, _)| root), Some(root));
    assert!(
        matches!(ballot.stage_of(third.signer.address()), Some(ReplicaStage::Revealed { root: same, .. }) if same == root)
    );

    // Now it is served, and collected; it is not unanimous, so that it is paid when its window is over.
    let out = world.folder("out");
    let error = requester.accept(posted.job, None).await.unwrap_err();
    assert!(error.to_string().contains("all votes agree"), "{error}");
    let skipping = async {
        loop {
            let got = nosy.fetch(&outputs, std::slice::from_ref(&contact), MAX_RESULT_MANIFEST).await;
            if got.is_ok() {
                break;
            }
            blocks(&world, 1).await;
        }
        world.skip(130);
    };
    let (told, ()) = tokio::join!(follow(&mut requester, posted.job, &out), skipping);
    assert_greeted(&out, 2);
    assert!(told.iter().any(|progress| matches!(progress, Progress::RoundOpened { wanted: 4, .. })), "{told:?}");
    world.assert_ballots_are_right(posted.job).await;
    let ledger = Ledger::of(requester.provider(), requester.follower().index(), posted.job).await.unwrap();
    assert!(ledger.adds_up() && ledger.providers.len() == 3, "{ledger:?}");
    // It locked what an execution may cost: 2 tasks of 10^6 fuel at 1 token for 10^9.
    assert_eq!(stake - world.stake(3).await, U256::from(2 * conun_bindings::deploy::TOKEN / 1_000));
    assert!(world.earned(liar.account()).await.is_zero());
    nosy.shutdown().await;
    agent.stop().await.unwrap();
    for agent in agents {
        agent.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audited_batch_is_executed_twice_before_anything_is_shown() {
    let world = World::new().await;
    let first = world.register(1, Policy::default()).await;
    let second = world.register(2, Policy::default()).await;
    let mut requester = world.requester().await;
    let job = voted(2, "audit-share = 1\nlimit = 5\nwiden-seconds = 2");
    let posted = requester.post(&job).await.unwrap();
    let mut maker = first.start();
    maker.ready().await;
    maker.until(did("draw")).await;
    let drawn = world.until_ballot(posted.job, 0, |ballot| ballot.opened != 0).await;
    let (_, ballot) = drawn.index().jobs[&posted.job].ballot(0).unwrap();
    assert_eq!((ballot.stage, ballot.wanted, ballot.revealed()), (BallotStage::Committing, 2, 0));
    world.assert_ballots_are_right(posted.job).await;
    let mut auditor = second.start();
    auditor.ready().await;
    let out = world.folder("out");
    let told = follow(&mut requester, posted.job, &out).await;
    assert_greeted(&out, 2);
    let place = |wanted: fn(&Progress) -> bool| told.iter().position(wanted);
    assert!(
        place(|progress| matches!(progress, Progress::RoundOpened { wanted: 2, .. }))
            < place(|progress| matches!(progress, Progress::Submitted { .. })),
        "{told:?}"
    );
    let ledger = Ledger::of(requester.provider(), requester.follower().index(), posted.job).await.unwrap();
    assert!(ledger.adds_up() && ledger.providers.len() == 2, "{ledger:?}");
    world.assert_ballots_are_right(posted.job).await;
    maker.stop().await.unwrap();
    auditor.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promised_error_asks_for_what_the_records_on_the_chain_allow() {
    let world = World::new().await;
    let provider = world.register(1, Policy::default()).await;
    let mut requester = world.requester().await;
    let posted = requester.post(&voted(2, "max-error = 0.001\nwiden-seconds = 2")).await.unwrap();
    assert_eq!((posted.replicas, posted.min_checks), (2, 0), "nobody has a record");
    let index = world.follower().await.index().clone();
    assert_eq!(index.providers[&provider.signer.address()].checks, 0);
    let (assurance, _) = index.jobs[&posted.job].ballot(0).unwrap();
    assert_eq!((assurance.limit, assurance.target, assurance.auditBps), (10, 999_000_000, 500));
}

/// Decision 27: two that agree are audited as well, and so is who stays alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_vote_is_audited_before_anything_is_shown() {
    let world = World::new().await;
    let seats = [
        world.register(1, Policy::default()).await,
        world.register(2, Policy::default()).await,
        world.register(3, Policy::default()).await,
    ];
    let mut requester = world.requester().await;
    let posted =
        requester.post(&voted(2, "replicas = 2\naudit-share = 1\nlimit = 7\nwiden-seconds = 2")).await.unwrap();
    let [first, second, third] = &seats;
    let (mut one, mut two) = (first.start(), second.start());
    one.ready().await;
    two.ready().await;
    let drawn = world.until_ballot(posted.job, 0, |ballot| ballot.opened != 0).await;
    let (_, ballot) = drawn.index().jobs[&posted.job].ballot(0).unwrap();
    assert_eq!((ballot.stage, ballot.wanted, ballot.revealed()), (BallotStage::Committing, 3, 0));
    world.assert_ballots_are_right(posted.job).await;
    let mut auditor = third.start();
    auditor.ready().await;
    let out = world.folder("out");
    follow(&mut requester, posted.job, &out).await;
    assert_greeted(&out, 2);
    let ledger = Ledger::of(requester.provider(), requester.follower().index(), posted.job).await.unwrap();
    assert!(ledger.adds_up() && ledger.providers.len() == 3, "{ledger:?}");
    world.assert_ballots_are_right(posted.job).await;
    for agent in [one, two, auditor] {
        agent.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_not_drawn_is_shown_at_once_and_paid() {
    let world = World::new().await;
    let mut agent = world.register(1, Policy::default()).await.start();
    agent.ready().await;
    let mut requester = world.requester().await;
    // One of ten thousand is audited; with a limit of 1 none.
    let posted = requester.post(&voted(2, "audit-share = 0.0001\nlimit = 5\nwiden-seconds = 2")).await.unwrap();
    let alone = requester.post(&voted(4, "replicas = 1")).await.unwrap();
    for (job, tasks) in [(posted.job, 2), (alone.job, 4)] {
        let out = world.folder(&job.to_string());
        follow(&mut requester, job, &out).await;
        assert_greeted(&out, tasks);
        world.assert_ballots_are_right(job).await;
    }
    agent.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_killed_between_commit_and_reveal_shows_what_it_committed_to() {
    let world = World::new().await;
    let seats = [world.register(1, Policy::default()).await, world.register(2, Policy::default()).await];
    let stake = world.stake(1).await;
    let mut requester = world.requester().await;
    let posted = requester.post(&voted(2, "replicas = 2\nlimit = 3\nwiden-seconds = 2")).await.unwrap();
    let mut agent = seats[0].start();
    agent.ready().await;
    agent.until(did("commit")).await;
    agent.kill().await;
    let committed = Journal::open(&seats[0].folder).unwrap().result(posted.job, 0).unwrap().unwrap();
    assert_ne!((committed.salt.0, committed.bound), (B256::ZERO, B256::ZERO));

    // What it held back is lost as well: it can show its vote without, and makes the outputs anew.
    std::fs::remove_dir_all(seats[0].folder.join("held")).unwrap();
    let mut other = seats[1].start();
    other.ready().await;
    other.until(did("commit")).await;
    other.kill().await;
    let mut agent = seats[0].start();
    agent.ready().await;
    agent.until(did("reveal")).await;
    let mut other = seats[1].start();
    other.ready().await;
    let out = world.folder("out");
    follow(&mut requester, posted.job, &out).await;
    assert_greeted(&out, 2);
    world.assert_ballots_are_right(posted.job).await;
    assert_eq!(world.stake(1).await, stake, "nothing was lost");
    agent.stop().await.unwrap();
    other.stop().await.unwrap();
    let kept = Journal::open(&seats[0].folder).unwrap().result(posted.job, 0).unwrap().unwrap();
    assert_eq!(kept, committed, "never two results, never two salts");

    // What an agent holds of a job that is over, and was not paid for, goes although a restart has forgotten the job.
    let loser = world.register(3, Policy::default()).await;
    let left = loser.folder.join("held").join(alloy::hex::encode(posted.job)).join("0");
    std::fs::create_dir_all(&left).unwrap();
    std::fs::write(left.join("output"), "of a lost vote").unwrap();
    let mut agent = loser.start();
    agent.ready().await;
    agent.until(looked).await;
    gone(&left).await;
    agent.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_that_could_not_be_published_are_published_later() {
    let world = World::new().await;
    let seat = world.register(1, Policy::default()).await;
    let mut requester = world.requester().await;
    let posted = requester.post(&voted(2, "replicas = 1")).await.unwrap();
    // What is named like a blob and cannot be read.
    let held = seat.folder.join("held").join(alloy::hex::encode(posted.job));
    let stray = held.join("0").join("f".repeat(64));
    std::fs::create_dir_all(&stray).unwrap();
    let mut agent = seat.start();
    agent.ready().await;
    agent.until(|event| matches!(event, Running::Trouble(text) if text.contains("ffff")).then_some(())).await;
    assert!(held.exists());
    std::fs::remove_dir(&stray).unwrap();
    gone(&held).await;
    let out = world.folder("out");
    follow(&mut requester, posted.job, &out).await;
    assert_greeted(&out, 2);
    agent.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_of_votes_that_have_long_been_over_are_not_made_anew_after_a_restart() {
    let world = World::new().await;
    let seat = world.register(1, Policy::default()).await;
    let mut requester = world.requester().await;
    let mut agent = seat.start();
    agent.ready().await;
    let mut outputs = Vec::new();
    for tasks in [2, 4] {
        let job = requester.post(&voted(tasks, "replicas = 1")).await.unwrap().job;
        let out = world.folder(&job.to_string());
        follow(&mut requester, job, &out).await;
        assert_greeted(&out, tasks);
        let (_, ballot) = requester.follower().index().jobs[&job].ballot(0).unwrap();
        outputs.extend(ballot.makers(ballot.best).map(|(_, outputs)| outputs));
        if tasks == 2 {
            world.skip(300);
        }
    }
    let contact = world.follower().await.index().providers[&seat.signer.address()].contact.clone();
    agent.stop().await.unwrap();
    requester.shutdown().await;

    // All of it is forgotten. What was decided a moment ago may still be wanted.
    std::fs::remove_dir_all(seat.folder.join("blobs")).unwrap();
    let requester = node(&world.folder("requester")).await;
    let mut agent = seat.start();
    agent.ready().await;
    let has_recent = async {
        while !requester.ask_for(&contact, &outputs[1..]).await.is_ok_and(|has| has == [true]) {
            agent.until(looked).await;
        }
    };
    tokio::time::timeout(PATIENCE, has_recent).await.expect("it is made anew");
    for _ in 0..20 {
        agent.until(looked).await;
    }
    assert_eq!(requester.ask_for(&contact, &outputs).await.unwrap(), [false, true]);
    requester.shutdown().await;
    agent.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_straggler_is_backed_up_and_its_slot_taken() {
    let world = World::new().await;
    let straggler = Puppet::new(&world, 3).await;
    let seats = [world.register(1, Policy::default()).await, world.register(2, Policy::default()).await];
    let mut requester = world.requester().await;
    let posted = requester.post(&voted(2, "replicas = 2\nlimit = 3\nwiden-seconds = 2")).await.unwrap();
    straggler.lease(&world, posted.job, 0).await;
    let mut agents = [seats[0].start()];
    agents[0].ready().await;
    agents[0].until(did("commit")).await;
    let mut backup = seats[1].start();
    backup.ready().await;
    blocks(&world, 5).await;
    let why = read_verdicts(&seats[1].folder).unwrap().unwrap();
    assert_eq!(why[posted.job.to_string()]["reason"], "nothingFree", "{why}");
    // Half of the lease, and the lot of the backup.
    world.skip(33);
    backup.until(did("backup")).await;
    backup.until(did("commit")).await;
    let out = world.folder("out");
    follow(&mut requester, posted.job, &out).await;
    assert_greeted(&out, 2);
    world.assert_ballots_are_right(posted.job).await;
    let index = world.follower().await;
    let (_, ballot) = index.index().jobs[&posted.job].ballot(0).unwrap();
    assert!(ballot.is_beaten(straggler.account()), "{ballot:?}");
    assert_eq!(ballot.makers(ballot.best).count(), 2);
    backup.stop().await.unwrap();
    for agent in agents {
        agent.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_voter_loses_its_stake_and_the_others_go_on_without_it() {
    let world = World::new().await;
    let silent = Puppet::new(&world, 3).await;
    let stake = world.stake(3).await;
    let seats = [world.register(1, Policy::default()).await, world.register(2, Policy::default()).await];
    let mut requester = world.requester().await;
    let posted = requester.post(&voted(2, "replicas = 3\nlimit = 4\ntarget = 0.9\nwiden-seconds = 2")).await.unwrap();
    silent.lease(&world, posted.job, 0).await;
    silent.commit(&world, posted.job, &silent.reveal(0, B256::repeat_byte(1), 1)).await;
    let mut agents = seats.clone().map(|seat| seat.start());
    for agent in &mut agents {
        agent.ready().await;
        agent.until(did("reveal")).await;
    }
    // Time to reveal, then the window.
    let skipping = async {
        world.skip(62);
        blocks(&world, 5).await;
        world.skip(125);
    };
    let out = world.folder("out");
    let (_, ()) = tokio::join!(follow(&mut requester, posted.job, &out), skipping);
    assert_greeted(&out, 2);
    world.assert_ballots_are_right(posted.job).await;
    assert!(world.stake(3).await < stake);
    for agent in agents {
        agent.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vote_that_nothing_decides_costs_no_voter_anything_and_its_price_returns() {
    let world = World::new().await;
    let other = Puppet::new(&world, 3).await;
    let seat = world.register(1, Policy::default()).await;
    let stakes = [world.stake(1).await, world.stake(3).await];
    let mut requester = world.requester().await;
    // One against one, and no third slot.
    let posted = requester.post(&voted(2, "replicas = 2\nlimit = 2\nwiden-seconds = 2")).await.unwrap();
    other.lease(&world, posted.job, 0).await;
    let claim = other.reveal(0, B256::repeat_byte(0x1e), 77);
    other.commit(&world, posted.job, &claim).await;
    let mut agent = seat.start();
    agent.ready().await;
    agent.until(did("commit")).await;
    other.show(&world, posted.job, claim).await;
    agent.until(did("reveal")).await;
    let ending = async {
        blocks(&world, 2).await;
        world.skip(125);
    };
    let out = world.folder("out");
    let (told, ()) = tokio::join!(follow(&mut requester, posted.job, &out), ending);
    assert!(told.iter().any(|progress| matches!(progress, Progress::Undecided { batch: 0 })), "{told:?}");
    world.assert_ballots_are_right(posted.job).await;
    assert_eq!([world.stake(1).await, world.stake(3).await], stakes);
    let ledger = Ledger::of(requester.provider(), requester.follower().index(), posted.job).await.unwrap();
    assert!(ledger.adds_up() && ledger.providers.is_empty() && ledger.done_tasks == 0, "{ledger:?}");
    assert!(ledger.refunded + ledger.burned == posted.deposit && ledger.refunded > ledger.burned, "{ledger:?}");
    agent.stop().await.unwrap();
}
