//! An agent on computers made of files: it works when the owner does not need them, and loses nothing when it must not.
#![cfg(target_os = "linux")]

use std::{path::Path, time::Duration};

use conun_agent::{
    chain::BatchStage,
    core::Policy,
    fabric::{Preferences, linux::Computer},
    provider::{Running, read_status, set_paused},
    requester::Ledger,
};
use serde_json::Value;

use crate::{
    fabric::{NO_BUS, lay},
    world::{PATIENCE, Seat, World, assert_greeted, follow, greetings, long_work},
};

/// As a laptop's owner has them, but that work competes with what else this machine does.
fn preferences() -> Preferences {
    Preferences { suspend_cpu_usage: 0, ..Preferences::default() }
}

fn laptop(root: &Path, seat: &Seat) -> Computer {
    Computer::at(root, &seat.folder, 4711, Some(NO_BUS))
}

fn guest(seat: &Seat) -> Value {
    read_status(&seat.folder).unwrap().map(|status| status["guest"].clone()).unwrap_or_default()
}

/// The next word about what the guest may do that has `part` in it.
fn told(part: &str) -> impl Fn(&Running) -> Option<String> {
    let part = part.to_owned();
    move |event| match event {
        Running::Guest(text) => text.contains(&part).then(|| text.clone()),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_laptop_on_battery_takes_nothing_says_so_and_works_once_it_is_plugged_in() {
    let world = World::new().await;
    let root = tempfile::tempdir().unwrap();
    lay("laptop", root.path());
    lay("laptop-unplugged", root.path());
    let seat = world.register_guest(1, Policy::default(), preferences()).await;
    let mut agent = seat.start_on(laptop(root.path(), &seat));
    agent.ready().await;
    let mut requester = world.requester().await;
    let posted = requester.post(&greetings(6)).await.unwrap();
    world.pass(20).await;
    let follower = world.follower().await;
    assert!(follower.index().jobs[&posted.job].batches.iter().all(|batch| batch.stage == BatchStage::Open));
    let status = guest(&seat);
    assert_eq!((&status["state"], &status["reason"]["reason"]), (&"suspended".into(), &"onBattery".into()), "{status}");
    assert_eq!(status["text"], "suspended: on battery; runs again on mains (run-on-batteries)");

    lay("laptop", root.path());
    agent.until(told("running")).await;
    let out = world.folder("out");
    follow(&mut requester, posted.job, &out).await;
    assert_greeted(&out, 6);
    // The status is written once a second.
    let shown = async {
        while guest(&seat)["state"] != "running" {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, shown).await.expect("the status shows it");
    agent.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_work_is_given_back_while_that_costs_nothing_and_done_later() {
    let world = World::new().await;
    let root = tempfile::tempdir().unwrap();
    lay("laptop", root.path());
    let seat = world.register_guest(1, Policy::default(), preferences()).await;
    let stake = world.stake(1).await;
    let mut requester = world.requester().await;
    let posted = requester.post(&long_work()).await.unwrap();
    let mut agent = seat.start_on(laptop(root.path(), &seat));
    agent.ready().await;
    agent.until(|event| matches!(event, Running::Leased(..)).then_some(())).await;
    // The plug is drawn in the middle of it.
    lay("laptop-unplugged", root.path());
    agent.until(told("on battery")).await;
    let why = agent.until(|event| match event {
        Running::NotExecuted(_, why) => Some(why.clone()),
        _ => None,
    });
    assert!(why.await.contains("given back: suspended: on battery"));
    let back = |stage| stage == BatchStage::Open;
    world.until(|follower| back(follower.index().jobs[&posted.job].batches[0].stage)).await;
    assert_eq!(guest(&seat)["state"], "suspended");

    lay("laptop", root.path());
    let out = world.folder("out");
    follow(&mut requester, posted.job, &out).await;
    agent.stop().await.unwrap();
    let ledger = Ledger::of(requester.provider(), requester.follower().index(), posted.job).await.unwrap();
    assert!(ledger.adds_up() && ledger.expired_leases == 0, "{ledger:?}");
    assert_eq!(world.stake(1).await, stake, "no bond was lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_stops_work_in_the_middle_and_a_resume_has_it_go_on() {
    let world = World::new().await;
    let seat = world.register(1, Policy::default()).await;
    let mut requester = world.requester().await;
    let posted = requester.post(&long_work()).await.unwrap();
    let mut agent = seat.start();
    agent.ready().await;
    agent.until(|event| matches!(event, Running::Leased(..)).then_some(())).await;
    set_paused(&seat.folder, true).unwrap();
    agent.until(told("paused until `conun provider resume`")).await;
    // Twice the time that the whole of it takes.
    world.pass(80).await;
    let paused = world.follower().await;
    assert_eq!(paused.index().jobs[&posted.job].batches[0].stage, BatchStage::Leased);
    let status = guest(&seat);
    assert_eq!((&status["state"], &status["limits"]), (&"paused".into(), &Value::Null));

    set_paused(&seat.folder, false).unwrap();
    agent.until(told("running")).await;
    let out = world.folder("out");
    follow(&mut requester, posted.job, &out).await;
    agent.stop().await.unwrap();
    let ledger = Ledger::of(requester.provider(), requester.follower().index(), posted.job).await.unwrap();
    assert!(ledger.adds_up() && ledger.expired_leases == 0, "{ledger:?}");
}
