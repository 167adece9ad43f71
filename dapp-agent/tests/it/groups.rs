//! A provider that keeps to groups: whose jobs it takes is what member lists on the chain say.

use std::time::Duration;

use alloy::primitives::{Address, B256, U256};
use conun_agent::{
    chain::BatchStage,
    core::Policy,
    provider::{Running, read_verdicts},
};
use conun_bindings::{
    abi::ConunToken,
    deploy::{Plan, deploy, devnet_settings},
};
use conun_chain::dev_accounts;

use crate::world::{PATIENCE, REQUESTER, World, assert_greeted, follow, greetings};

#[tokio::test(flavor = "multi_thread")]
async fn a_providers_groups_say_for_whom_it_works_and_whoever_joins_is_served() {
    let world = World::new().await;
    // Another deployment's token is a list of those who have some: its holder alone.
    let holder = dev_accounts()[8].address();
    let other = Plan::new(devnet_settings(holder), B256::repeat_byte(1));
    let list = deploy(&world.provider(), holder, &other, None, |_| {}).await.unwrap().token;
    // The first is no contract: it lets nobody in, and does not keep the other from it.
    let policy = Policy { groups: [Address::repeat_byte(1), list].into(), ..Policy::default() };
    let seat = world.register(1, policy).await;
    let mut agent = seat.start();
    agent.ready().await;
    let mut requester = world.requester().await;
    let posted = requester.post(&greetings(6)).await.unwrap();
    let told = |event: &Running| match event {
        Running::Trouble(text) => text.contains("does not say who its members are").then_some(()),
        _ => None,
    };
    agent.until(told).await;
    let job = format!("{:#x}", posted.job);
    let skipped = async {
        while read_verdicts(&seat.folder).unwrap().is_none_or(|known| known[&job]["reason"] != "group") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, skipped).await.expect("the owner is told why the job is left alone");
    let follower = world.follower().await;
    assert!(follower.index().jobs[&posted.job].batches.iter().all(|batch| batch.stage == BatchStage::Open));

    let token = ConunToken::new(list, world.provider());
    let joins = token.transfer(dev_accounts()[REQUESTER].address(), U256::ONE).from(holder);
    joins.send().await.unwrap().get_receipt().await.unwrap();
    let out = world.folder("out");
    follow(&mut requester, posted.job, &out).await;
    assert_greeted(&out, 6);
    agent.stop().await.unwrap();
}
