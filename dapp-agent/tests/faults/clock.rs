//! Clocks that are wrong, and computers that sleep: what counts is block time alone.

use std::{path::PathBuf, time::Duration};

use alloy::primitives::{Address, B256, U256};
use conun_agent::{
    chain::{BatchStage, Index, ReplicaStage},
    provider::{Running, read_status},
    requester::Ledger,
};
use conun_bindings::deploy::TOKEN;
use serde_json::Value;

use crate::{
    Item, Plan,
    crash::{self, Work, assert_one_commit_a_slot, assert_one_content_a_nonce},
    machine::Machine,
    market::{Market, PATIENCE, greetings, greetings_for},
};

/// Seconds that a clock is off.
const OFF: i64 = 3_600;

/// Seconds of a night.
const NIGHT: u64 = 8 * 3_600;

/// When the computer falls asleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Leased,
    Submitted,
}

/// How an agent is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Away {
    Asleep,
    Killed,
}

pub(crate) fn items(plan: &Plan, round: u64) -> Vec<Item> {
    let mut items = Vec::new();
    for off in [OFF, -OFF] {
        for work in [Work::Once, Work::Voted] {
            let anvil = plan.anvil.clone();
            items.push(Item {
                kind: format!("system clock an hour {}", if off > 0 { "behind" } else { "ahead" }),
                name: format!("{} {round}", work.name()),
                always: work == Work::Voted,
                run: Box::pin(async move {
                    crash::run_at(anvil, work, &[], round, off).await;
                    1
                }),
            });
        }
    }
    for phase in [Phase::Leased, Phase::Submitted] {
        items.push(Item {
            kind: "asleep for eight hours".to_owned(),
            name: format!("{phase:?} {round}"),
            always: true,
            run: Box::pin(sleep(plan.anvil.clone(), phase)),
        });
    }
    for (away, in_time) in [(Away::Asleep, true), (Away::Killed, true), (Away::Asleep, false)] {
        items.push(Item {
            kind: format!("{away:?} for hours between commit and reveal").to_lowercase(),
            name: format!("{} {round}", if in_time { "in time" } else { "too late" }),
            always: true,
            run: Box::pin(away_before_the_reveal(plan.anvil.clone(), away, in_time)),
        });
    }
    items
}

fn shows(index: &Index, job: B256, who: Address, stage: fn(ReplicaStage) -> bool) -> bool {
    index.job(&job).is_some_and(|entry| entry.ballots().all(|ballot| ballot.stage_of(who).is_some_and(stage)))
}

/// An agent that is away between commit and reveal, and comes back before the time to reveal is over, or after. In time it loses
/// nothing; else it loses the stake of its votes, and says so.
async fn away_before_the_reveal(anvil: Option<PathBuf>, away: Away, in_time: bool) -> u64 {
    let market = Market::open(anvil.as_deref()).await;
    let seat = market.seat(1, Machine::new(None, 0)).await;
    let other = market.seat(2, Machine::new(None, 0)).await;
    let (account, stake) = (seat.account(), market.stake(seat.account()).await);
    let mut requester = market.requester().await;
    let mut agent = seat.boot().await;
    agent.ready().await;
    market.chain.stop_time(true);
    // One vote is believed.
    let mut terms = greetings(Some("replicas = 2\nlimit = 2\ntarget = 0.7"));
    terms.assurance.as_mut().unwrap().0.revealSeconds = u32::try_from(NIGHT + NIGHT / 4).unwrap();
    let job = requester.post(&terms).await.unwrap().job;
    market.chain.stop_time(false);
    let committed = |stage| matches!(stage, ReplicaStage::Committed { .. });
    let revealed = |stage| matches!(stage, ReplicaStage::Revealed { .. });
    market.until("commits", |index| shows(index, job, account, committed)).await;
    let asleep = match away {
        Away::Asleep => {
            seat.machine.sleep(true);
            Some(agent)
        }
        Away::Killed => {
            agent.crash().await.unwrap();
            None
        }
    };
    let other_agent = other.boot().await;
    market.until("the other's reveals", |index| shows(index, job, other.account(), revealed)).await;
    market.chain.skip(if in_time { NIGHT } else { NIGHT * 2 }).await;
    seat.machine.sleep(false);
    let agent = match asleep {
        Some(agent) => agent,
        None => seat.boot().await,
    };
    if in_time {
        let ledger = market.follow(&mut requester, job).await;
        assert_eq!(ledger.providers.len(), 2, "{ledger:?}");
        assert_eq!(market.stake(account).await, stake);
    } else {
        market.until("the end", |index| index.job(&job).is_some_and(|entry| entry.is_over())).await;
        let lost = stake - market.stake(account).await;
        assert!(!lost.is_zero());
        let told = async {
            loop {
                let status = read_status(&seat.folder).unwrap().unwrap();
                let losses = status["losses"].as_array().cloned().unwrap_or_default();
                let amount = |loss: &Value| serde_json::from_value::<U256>(loss["amount"].clone()).unwrap();
                if losses.iter().map(amount).sum::<U256>() == lost {
                    break assert!(losses.iter().all(|loss| loss["reason"] == "notRevealed"), "{losses:?}");
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, told).await.expect("its status says what was lost, and for what");
    }
    agent.crash().await.unwrap();
    other_agent.crash().await.unwrap();
    assert_one_content_a_nonce(account, &seat.machine.reached());
    assert_one_commit_a_slot(&seat.machine.reached());
    requester.shutdown().await;
    1
}

fn all(index: &Index, job: B256, stage: BatchStage) -> bool {
    index.job(&job).is_some_and(|entry| entry.batches.iter().all(|batch| batch.stage == stage))
}

/// An agent that sleeps in the middle of a job loses the bonds of leases that ran out meanwhile and nothing else, and works as before when
/// it has woken up.
async fn sleep(anvil: Option<PathBuf>, phase: Phase) -> u64 {
    let market = Market::open(anvil.as_deref()).await;
    let seat = market.seat(1, Machine::new(None, 0)).await;
    let other = market.seat(2, Machine::new(None, 0)).await;
    let stake = market.stake(seat.account()).await;
    let mut requester = market.requester().await;
    let mut agent = seat.boot().await;
    agent.ready().await;
    let job = requester.post(&greetings(None)).await.unwrap().job;
    let wanted = |event: &Running| match (phase, event) {
        (Phase::Leased, Running::Leased(..)) => Some(()),
        (Phase::Submitted, Running::Submitted(..)) => Some(()),
        _ => None,
    };
    agent.until("the moment to fall asleep", wanted).await;
    if phase == Phase::Submitted {
        market.until("both results", |index| all(index, job, BatchStage::Submitted)).await;
    }
    seat.machine.sleep(true);
    market.chain.skip(NIGHT).await;
    let mut expired = 0;
    if phase == Phase::Leased {
        // Somebody else does the work meanwhile.
        let mut another = other.boot().await;
        another.ready().await;
        let out = market.folder("out");
        let following = requester.follow(job, &out, Duration::from_millis(50), |_, _| {});
        tokio::time::timeout(crate::market::PATIENCE, following).await.expect("the other one does it").unwrap();
        another.crash().await.unwrap();
        let ledger = Ledger::of(&market.chain.provider(), market.follower().await.index(), job).await.unwrap();
        assert!(ledger.adds_up(), "{ledger:?}");
        expired = ledger.expired_leases;
    }
    seat.machine.sleep(false);
    if phase == Phase::Submitted {
        // Their window is over.
        market.until("both results are paid", |index| all(index, job, BatchStage::Settled)).await;
        let ledger = market.follow(&mut requester, job).await;
        assert_eq!(ledger.providers.len(), 1, "{ledger:?}");
    }
    let next = requester.post(&greetings_for(TOKEN + 1, None)).await.unwrap().job;
    let ledger = market.follow(&mut requester, next).await;
    assert_eq!(ledger.providers.iter().map(|paid| paid.account).collect::<Vec<_>>(), [seat.account()]);
    // A tenth of the worst case of two tasks, 0.002 tokens.
    let bonds = U256::from(2 * TOKEN / 1_000 / 10 * u128::from(expired));
    assert_eq!(stake - market.stake(seat.account()).await, bonds, "{expired} leases ran out");
    agent.crash().await.unwrap();
    assert_one_content_a_nonce(seat.account(), &seat.machine.reached());
    requester.shutdown().await;
    1
}
