//! Power that goes at every point: each sync of the journal and each transaction of a job's life.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use alloy::{
    primitives::{Address, B256, keccak256},
    sol_types::{SolCall, SolValue},
};
use conun_agent::{requester::Ledger, store::Journal};
use conun_bindings::abi::ReplicaRegistry::commitCall;
use serde_json::json;

use crate::{
    Item, Plan,
    machine::{Machine, Point, Reached},
    market::{Agent, Market, PATIENCE, Seat, assert_greeted, greetings},
    random::Random,
};

/// Seconds of block time: what is due later than this after the first has time of its own.
const LATER: u64 = 100;

/// What a machine works on when its power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// A job whose batches are executed once: lease, submit.
    Once,
    /// One whose batches two execute: lease, commit, reveal.
    Voted,
}

impl Work {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Once => "one replica",
            Self::Voted => "voted",
        }
    }

    fn assurance(self) -> Option<&'static str> {
        (self == Self::Voted).then_some("replicas = 2\nlimit = 2")
    }
}

/// The crashes of a round: each point of a job's life, found by living it once without a crash. In later rounds the power goes a
/// second time soon after the first.
pub(crate) async fn items(plan: &Plan, round: u64) -> Vec<Item> {
    let mut items = Vec::new();
    for work in [Work::Once, Work::Voted] {
        let lived = run(plan.anvil.clone(), work, &[], 0).await;
        let points = Point::all(lived.counts);
        let mut random = Random::new(round);
        let middle = |count: u64| (count * 2).div_ceil(3);
        for point in &points {
            let mut crashes = vec![*point];
            if round > 0 {
                // A life after a crash begins with fewer writes.
                crashes.push(points[random.below(points.len() as u64) as usize]);
            }
            let kind = format!("power gone {}, {} job", if round > 0 { "twice" } else { point.kind() }, work.name());
            let name = crashes.iter().map(|point| format!("{point:?}")).collect::<Vec<_>>().join(" ");
            let anvil = plan.anvil.clone();
            items.push(Item {
                kind,
                name,
                // One of each kind.
                always: point.is_sync() == (work == Work::Voted)
                    && point.number() == middle(if point.is_sync() { lived.counts.0 } else { lived.counts.1 }),
                run: Box::pin(async move { run(anvil, work, &crashes, round).await.crashes }),
            });
        }
    }
    items
}

/// Does a job while so many blocks are replaced by others, with the same transactions, at moments that the seed chooses; nothing is lost.
/// Returns the number of re-orgs.
pub(crate) async fn run_with_reorg(work: Work, depth: u64, seed: u64) -> u64 {
    let market = Market::open(None).await;
    let seat = market.seat(1, Machine::new(None, seed)).await;
    let stake = market.stake(seat.account()).await;
    let mut requester = market.requester().await;
    let other = market.seat(2, Machine::new(None, seed)).await;
    // What is lost begins after the registrations.
    market.chain.rpc("anvil_mine", json!([depth])).await;
    let mut agents = vec![seat.boot().await];
    if work == Work::Voted {
        agents.push(other.boot().await);
    }
    for agent in &mut agents {
        agent.ready().await;
    }
    market.chain.stop_time(true);
    let job = requester.post(&greetings(work.assurance())).await.unwrap().job;
    market.chain.stop_time(false);
    let mut reorgs = 0;
    let ledger = {
        let mut random = Random::new(seed ^ depth << 32);
        let following = market.follow(&mut requester, job);
        let mut following = std::pin::pin!(following);
        loop {
            let pause = Duration::from_millis(100 + random.below(900));
            tokio::select! {
                ledger = &mut following => break ledger,
                () = tokio::time::sleep(pause) => {}
            }
            if reorgs < 3 {
                market.chain.rpc("anvil_reorg", json!([depth, true])).await;
                reorgs += 1;
            }
        }
    };
    assert_eq!(market.stake(seat.account()).await, stake);
    assert_eq!(ledger.done_tasks, 4, "{ledger:?}");
    for agent in agents {
        agent.crash().await.unwrap();
    }
    assert_one_content_a_nonce(seat.account(), &seat.machine.reached());
    assert_one_commit_a_slot(&seat.machine.reached());
    requester.shutdown().await;
    reorgs
}

/// What one job came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ran {
    /// Syncs and transactions of its last life.
    counts: (u64, u64),
    /// How often the power went.
    crashes: u64,
}

async fn run(anvil: Option<PathBuf>, work: Work, points: &[Point], seed: u64) -> Ran {
    run_at(anvil, work, points, seed, 0).await
}

/// Does a job from its post to its payment on a machine whose power goes at each of the points, one a life, and asserts that nothing
/// was lost. Block time is `ahead` seconds before the system's clock.
pub(crate) async fn run_at(anvil: Option<PathBuf>, work: Work, points: &[Point], seed: u64, ahead: i64) -> Ran {
    let market = Market::open_at(anvil.as_deref(), ahead).await;
    let mut points = points.iter().copied();
    let mut point = points.next();
    let seat = market.seat(1, Machine::new(point, seed)).await;
    let stake = market.stake(seat.account()).await;
    let mut requester = market.requester().await;
    let mut other = None;
    if work == Work::Voted {
        let machine = Machine::new(None, seed);
        let mut agent = market.seat(2, machine).await.boot().await;
        agent.ready().await;
        other = Some(agent);
    }
    // The lot is at a time that is chosen before the transaction is sent.
    market.chain.stop_time(true);
    let posted = requester.post(&greetings(work.assurance())).await.unwrap();
    market.chain.stop_time(false);
    let (job, out) = (posted.job, market.folder("out"));

    let mut agent = seat.boot().await;
    let machine = seat.machine.clone();
    let mut crashes = 0;
    {
        let following = requester.follow(job, &out, Duration::from_millis(50), |_, _| {});
        let mut following = std::pin::pin!(tokio::time::timeout(PATIENCE, following));
        let done = loop {
            tokio::select! {
                done = &mut following => break done,
                () = machine.died() => {}
            }
            // How it ends is of no account.
            let _ = agent.crash().await;
            point = points.next();
            agent = back(&market, &seat, point).await;
            crashes += 1;
        };
        let Ok(done) = done else {
            let index = market.follower().await;
            let batches = index.index().job(&job).map(|entry| (&entry.batches, entry.ballots().collect::<Vec<_>>()));
            panic!("{work:?} with a crash at {point:?} never ends: {batches:?}; it said {:?}", agent.said());
        };
        done.unwrap();
    }
    assert_greeted(&out);
    let counts = machine.spare();
    if machine.is_dead() {
        let _ = agent.crash().await;
        agent = back(&market, &seat, None).await;
        crashes += 1;
    }
    let index = market.follower().await;
    let ledger = Ledger::of(&market.chain.provider(), index.index(), job).await.unwrap();
    assert!(ledger.adds_up() && ledger.expired_leases == 0, "{point:?}: {ledger:?}");
    let mine = ledger.providers.iter().find(|provider| provider.account == seat.account());
    assert_eq!(mine.map(|mine| (mine.batches, mine.tasks)), Some((2, 4)), "{point:?}: {ledger:?}");
    assert_eq!(market.earned(seat.account()).await, mine.unwrap().earned, "{point:?}");
    assert_eq!(market.stake(seat.account()).await, stake, "{point:?}: stake was lost");
    agent.crash().await.unwrap();
    if let Some(other) = other {
        other.crash().await.unwrap();
    }
    let reached = machine.reached();
    assert_one_content_a_nonce(seat.account(), &reached);
    assert_one_commit_a_slot(&reached);
    // What was shown is what the journal has.
    let journal = Journal::open(&seat.folder).unwrap();
    for number in 0..2 {
        let kept = journal.result(job, number).unwrap().unwrap_or_else(|| panic!("{point:?}: no result is kept"));
        assert!(journal.intended(job, number).unwrap(), "{point:?}: a lease without an intent");
        let entry = index.index().job(&job).unwrap();
        match entry.batches.get(number as usize) {
            Some(batch) => assert_eq!((kept.root, kept.fuel, kept.outputs.0), (batch.root, batch.fuel, batch.outputs)),
            None => assert_eq!((kept.root, kept.fuel), entry.ballot(number).unwrap().1.best),
        }
    }
    requester.shutdown().await;
    Ran { counts, crashes }
}

/// The machine comes back with one block's margin before the first of what is due, if anything is. Ends when that is done, or
/// the power goes again.
async fn back(market: &Market, seat: &Seat, point: Option<Point>) -> Agent {
    market.chain.stop_time(true);
    let due = market.due(seat.account()).await;
    if let Some(due) = due {
        let now = market.now().await;
        // A second life may come before there is a block that shows what the first has skipped.
        market.chain.skip_to(now, due - market.chain.margin()).await;
        assert!(market.now().await < due, "no margin is left");
    }
    seat.machine.revive(point);
    let mut agent = seat.boot().await;
    // Time stands still until that is done.
    let doing = async {
        agent.ready().await;
        market.chain.hold(false).await;
        while let (Some(first), Some(next)) = (due, market.due(seat.account()).await)
            && next < first + LATER
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let doing = async {
        tokio::select! {
            biased;
            () = seat.machine.died() => {}
            () = doing => {}
        }
    };
    if tokio::time::timeout(PATIENCE, doing).await.is_err() {
        panic!("what is due is not done; it said {:?}", agent.said());
    }
    if !seat.machine.is_dead() {
        market.chain.stop_time(false);
    }
    agent
}

pub(crate) fn assert_one_content_a_nonce(account: Address, reached: &[Reached]) {
    let mut contents = BTreeMap::new();
    for tx in reached {
        assert_eq!(tx.signer, account);
        let first = contents.entry(tx.nonce).or_insert((tx.to, &tx.input));
        assert_eq!(*first, (tx.to, &tx.input), "two transactions for nonce {}", tx.nonce);
    }
}

pub(crate) fn assert_one_commit_a_slot(reached: &[Reached]) {
    let mut commits: BTreeMap<(B256, u32), B256> = BTreeMap::new();
    for call in reached.iter().filter_map(|tx| commitCall::abi_decode(&tx.input).ok()) {
        for commitment in &call.commitments {
            let slot = (keccak256(call.job.abi_encode()), commitment.batch);
            assert_eq!(*commits.entry(slot).or_insert(commitment.hash), commitment.hash, "two commits for {slot:?}");
        }
    }
}
