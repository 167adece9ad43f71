//! What is refused before anything is sent.

use alloy::primitives::{Address, U256};
use conun_agent::{
    chain,
    core::Policy,
    net::NetworkSettings,
    provider::{self, ProviderConfig},
    requester::{self, Requester},
};
use conun_bindings::deploy::TOKEN;
use conun_chain::dev_accounts;

use crate::world::{World, greetings, loopback, pauper};

#[tokio::test(flavor = "multi_thread")]
async fn a_requester_that_cannot_pay_is_told_what_is_missing_and_nothing_is_sent() {
    let world = World::new().await;
    let start = |name: &str, signer| {
        let (folder, url) = (world.folder(name), world.server.url());
        async move {
            Requester::start(&folder, &url, world.contracts, signer, loopback(), NetworkSettings::default())
                .await
                .unwrap()
        }
    };
    let error = start("pauper", pauper()).await.post(&greetings(2)).await.unwrap_err();
    assert!(matches!(error, requester::Error::NoEther(_)), "{error}");

    let mut dear = greetings(2);
    (dear.job.startPrice, dear.job.maxPrice) = (100_000_000 * TOKEN, 100_000_000 * TOKEN);
    let mut requester = start("requester", dev_accounts()[9].clone()).await;
    let error = requester.post(&dear).await.unwrap_err();
    let requester::Error::TooFewTokens { have, need, .. } = &error else { panic!("{error}") };
    assert!(have < need && error.to_string().contains("nothing was sent"), "{error}");

    let mut long = greetings(2);
    long.job.leaseSeconds = 1_000_000;
    let error = requester.post(&long).await.unwrap_err();
    assert!(error.to_string().contains("at most 3600"), "{error}");
    assert!(world.follower().await.index().jobs.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_cannot_register_is_told_why_and_nothing_is_sent() {
    let world = World::new().await;
    let register = |signer: alloy::signers::local::PrivateKeySigner, stake| {
        let (folder, config) = (world.folder("p"), world.config(Policy::default()));
        async move { provider::register(&folder, &config, &signer, Address::repeat_byte(1), stake).await }
    };
    let error = register(pauper(), None).await.unwrap_err();
    assert!(matches!(error, provider::Error::NoEther(_)), "{error}");
    let rich = dev_accounts()[1].clone();
    let error = register(rich.clone(), Some(U256::from(1))).await.unwrap_err();
    assert!(matches!(error, provider::Error::StakeTooSmall { .. }), "{error}");
    let error = register(rich.clone(), Some(U256::from(1_000_000_000 * TOKEN))).await.unwrap_err();
    assert!(matches!(error, provider::Error::TooFewTokens { .. }), "{error}");
    assert!(world.follower().await.index().providers.is_empty());
    assert!(!ProviderConfig::file(&world.folder("p")).exists(), "no folder for nothing");

    let registration = register(rich.clone(), None).await.unwrap();
    assert_eq!(registration.payout, Address::repeat_byte(1));
    let error = register(rich, None).await.unwrap_err();
    assert!(matches!(error, provider::Error::AlreadyRegistered(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_refuses_the_wrong_chain_a_foreign_account_and_a_malformed_folder() {
    let world = World::new().await;
    let mut seat = world.register(1, Policy::default()).await;
    let good = seat.config();

    let mut wrong = good.clone();
    wrong.contracts.chain_id = 1;
    wrong.write(&seat.folder).unwrap();
    let error = seat.start().ended().await.unwrap_err();
    assert!(error.contains("serves chain 31337"), "{error}");

    let mut wrong = good.clone();
    wrong.contracts.jobs = Address::repeat_byte(3);
    wrong.write(&seat.folder).unwrap();
    let error = seat.start().ended().await.unwrap_err();
    assert!(error.contains("there are no contracts at"), "{error}");

    good.write(&seat.folder).unwrap();
    seat.signer = dev_accounts()[2].clone();
    let error = seat.start().ended().await.unwrap_err();
    assert!(error.contains("is not a registered provider"), "{error}");

    let file = ProviderConfig::file(&seat.folder);
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("colour = 'red'\n{text}")).unwrap();
    let error = ProviderConfig::read(&seat.folder).unwrap_err();
    assert!(error.to_string().contains("unknown field `colour`"), "{error}");
    let error = ProviderConfig::read(&world.folder("nowhere")).unwrap_err();
    assert!(matches!(error, provider::Error::NoFolder(_)), "{error}");
    assert!(matches!(provider::set_paused(&world.folder("nowhere"), true), Err(provider::Error::NoFolder(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_transaction_costs_nothing_and_says_why_in_the_contracts_words() {
    let world = World::new().await;
    let mut requester = world.requester().await;
    let posted = requester.post(&greetings(2)).await.unwrap();
    let error = requester.accept(posted.job, None).await.unwrap_err();
    assert!(matches!(error, requester::Error::Nothing(_)), "{error}");

    let signer = dev_accounts()[3].clone();
    let provider = world.chain.provider_for(signer.clone());
    let sender = chain::Sender::new(provider.clone(), signer.address());
    let registry = conun_bindings::abi::JobRegistry::new(world.contracts.jobs, &provider);
    let job = world.follower().await.index().jobs[&posted.job].job.clone();
    let error =
        sender.send("lease", registry.lease(job.clone(), vec![0]).into_transaction_request()).await.unwrap_err();
    assert!(error.to_string().contains("NotRegistered"), "{error}");
    assert!(!error.is_lost_race());
    let submission = world.follower().await.index().jobs[&posted.job].batches[0].submission(0);
    let error =
        sender.send("finalise", registry.finalise(job, vec![submission]).into_transaction_request()).await.unwrap_err();
    assert!(error.to_string().contains("WrongState") && error.is_lost_race(), "{error}");
    let nonce = alloy::providers::Provider::get_transaction_count(&provider, signer.address()).await.unwrap();
    assert_eq!((nonce, sender.gas().len()), (0, 0), "nothing was sent");

    let poor = pauper();
    let provider = world.chain.provider_for(poor.clone());
    let sender = chain::Sender::new(provider.clone(), poor.address());
    let token = conun_bindings::abi::ConunToken::new(world.contracts.token, &provider);
    let approve = token.approve(Address::repeat_byte(1), U256::ZERO).into_transaction_request();
    let error = sender.send("approve", approve).await.unwrap_err();
    assert!(matches!(error, chain::SendError::NoGas { .. }), "{error}");
}
