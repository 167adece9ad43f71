//! Contracts: deployment, calls, logs, reverts, gas estimates. The contracts are CONUN's own.

use alloy::{
    network::TransactionBuilder,
    primitives::{B256, U256, keccak256},
    providers::Provider,
    rpc::types::{Filter, TransactionRequest},
    sol_types::SolEvent,
};
use conun_bindings::{
    abi::{ConunToken, JobRegistry},
    deploy::{Plan, deploy, devnet_settings},
};
use serde_json::json;

use crate::{STRANGER, chain, first, mined, raw};

async fn deployed(provider: &alloy::providers::DynProvider) -> conun_bindings::Contracts {
    deploy(provider, first(), &Plan::new(devnet_settings(first()), B256::ZERO), None, |_| {}).await.unwrap()
}

#[tokio::test]
async fn contracts_are_deployed_called_and_their_logs_found() {
    let provider = chain().dev_provider();
    let contracts = deployed(&provider).await;
    let token = ConunToken::new(contracts.token, &provider);
    let filter = Filter::new().address(contracts.token).event_signature(ConunToken::Transfer::SIGNATURE_HASH);
    let watched = provider.new_filter(&filter).await.unwrap();

    let receipt = token.transfer(STRANGER, U256::from(5)).send().await.unwrap().get_receipt().await.unwrap();
    assert!(receipt.status());
    assert_eq!(token.balanceOf(STRANGER).call().await.unwrap(), U256::from(5));

    let logs = provider.get_logs(&filter.clone().select(receipt.block_hash.unwrap())).await.unwrap();
    assert_eq!(logs.len(), 1);
    assert_eq!(logs[0].transaction_hash, Some(receipt.transaction_hash));
    assert_eq!(ConunToken::Transfer::decode_log(&logs[0].inner).unwrap().value, U256::from(5));
    assert_eq!(provider.get_filter_changes::<alloy::rpc::types::Log>(watched).await.unwrap(), logs);
    assert!(provider.get_filter_changes::<alloy::rpc::types::Log>(watched).await.unwrap().is_empty());
    let to_stranger = filter.from_block(0).topic2(STRANGER);
    assert_eq!(provider.get_logs(&to_stranger).await.unwrap(), logs);
    assert!(provider.uninstall_filter(watched).await.unwrap());
    assert!(!provider.uninstall_filter(watched).await.unwrap());
}

#[tokio::test]
async fn a_revert_carries_its_data() {
    let provider = chain().dev_provider();
    let contracts = deployed(&provider).await;
    let registry = JobRegistry::new(contracts.jobs, &provider);
    let job = JobRegistry::Job { requester: STRANGER, ..empty_job() };
    let error = registry.batchState(job.clone(), 7).call().await.unwrap_err();
    assert!(error.as_revert_data().is_some(), "{error}");
    let unknown = registry.finalise(job, Vec::new()).call().await.map(drop).unwrap_err();
    let unknown = conun_bindings::revert::describe(&unknown.as_revert_data().unwrap());
    assert!(unknown.starts_with("UnknownJob"), "{unknown}");
}

fn empty_job() -> JobRegistry::Job {
    JobRegistry::Job {
        requester: STRANGER,
        nonce: 0,
        spec: keccak256("spec"),
        taskCount: 1,
        batchSize: 1,
        fuelLimit: 1,
        startPrice: 1,
        maxPrice: 1,
        rampStart: 0,
        rampSeconds: 0,
        leaseSeconds: 1,
        windowSeconds: 1,
    }
}

#[tokio::test]
async fn an_estimate_is_enough_and_no_more_than_needed() {
    let provider = chain().dev_provider();
    // Runtime: call oneself with one word of calldata less as long as there is any, with all gas; revert if that failed.
    // Under the 63/64 rule each level keeps a 64th, so that the call needs more gas than it uses.
    let runtime = "36602010600857005b5f5f602036035f5f305af1601a575f5ffd5b00";
    let code = format!("0x{runtime}");
    let address = STRANGER;
    raw(&provider, "anvil_setCode", json!([address, code])).await;
    for words in [1usize, 3, 9] {
        let call = TransactionRequest::default().with_from(first()).with_to(address).with_input(vec![1; 32 * words]);
        let estimate = provider.estimate_gas(call.clone()).await.unwrap();
        assert!(
            provider.call(call.clone().with_gas_limit(estimate)).await.is_ok(),
            "{words} words: {estimate} is too little"
        );
        assert!(
            provider.call(call.clone().with_gas_limit(estimate - 1)).await.is_err(),
            "{words} words: {estimate} is too much"
        );
        assert!(mined(&provider, call.with_gas_limit(estimate)).await.status());
    }
}
