//! Deployment against a real anvil: nothing is sent twice, interrupted deployments resume, records are checked.

use std::path::{Path, PathBuf};

use alloy::{
    primitives::{B256, U256, keccak256},
    providers::Provider,
};
use conun_bindings::{
    Contracts, Record,
    abi::{ConunToken, Deployment, Escrow, JobRegistry},
    deploy::{self, Error, Plan, Progress, devnet_settings, standard_settings},
};

use crate::anvil::Anvil;

async fn deploy(anvil: &Anvil, plan: &Plan, path: &Path) -> (Result<Contracts, Error>, Vec<Progress>) {
    let mut seen = Vec::new();
    let result = deploy::deploy(&anvil.provider, anvil.from, plan, Some(path), |step| seen.push(step.clone())).await;
    (result, seen)
}

fn record_path(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("deployments/31337.json")
}

#[tokio::test]
async fn contracts_are_deployed_once_where_the_plan_says_and_know_each_other() {
    let anvil = Anvil::start(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let path = record_path(&folder);
    let plan = Plan::new(devnet_settings(anvil.from), B256::ZERO);

    let before = deploy::inspect(&anvil.provider, anvil.from, &plan).await.unwrap();
    assert!(before.iter().all(|step| matches!(step, Progress::Missing { .. })));
    assert_eq!(anvil.sent().await, 0, "a dry run sends nothing");

    let (contracts, seen) = deploy(&anvil, &plan, &path).await;
    let contracts = contracts.unwrap();
    assert!(seen.iter().all(|step| matches!(step, Progress::Created { .. })));
    assert_eq!(anvil.sent().await, 9);
    assert_eq!(contracts, plan.contracts(31337, contracts.block));
    assert_eq!(Contracts::read(&path).unwrap(), contracts);

    let token = ConunToken::new(contracts.token, &anvil.provider);
    assert_eq!(token.balanceOf(anvil.from).call().await.unwrap(), plan.settings.tokenSupply);
    assert_eq!(Escrow::new(contracts.escrow, &anvil.provider).token().call().await.unwrap(), contracts.token);
    let deployment = Deployment::new(contracts.deployment, &anvil.provider);
    assert_eq!(deployment.addressOf(3).call().await.unwrap(), contracts.jobs);
    let state = JobRegistry::new(contracts.jobs, &anvil.provider).jobState(B256::ZERO).call().await.unwrap();
    assert!(!state.posted);

    let (again, seen) = deploy(&anvil, &plan, &path).await;
    assert_eq!(again.unwrap(), contracts);
    assert!(seen.iter().all(|step| matches!(step, Progress::Present { .. })));
    assert_eq!(anvil.sent().await, 9, "deploying again sends nothing");

    // Without its record, a deployment is found on the chain.
    std::fs::remove_file(&path).unwrap();
    assert_eq!(deploy(&anvil, &plan, &path).await.0.unwrap().jobs, contracts.jobs);
    assert_eq!(anvil.sent().await, 9);
    let record = Record::read(&path).unwrap();
    assert!(record.contracts["JobRegistry"].transaction.is_some(), "its log tells the transaction");
}

#[tokio::test]
async fn an_interrupted_deployment_resumes() {
    let anvil = Anvil::start(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let path = record_path(&folder);
    let plan = Plan::new(standard_settings(anvil.from), keccak256("salt"));

    // Cut the plan short: three contracts are there when the process dies.
    let cut = Plan { steps: plan.steps[..3].to_vec(), ..plan.clone() };
    for step in &cut.steps {
        let request = alloy::rpc::types::TransactionRequest::default()
            .from(anvil.from)
            .to(step.to)
            .input(step.calldata.clone().into());
        assert!(anvil.provider.send_transaction(request).await.unwrap().get_receipt().await.unwrap().status());
    }
    let states = deploy::inspect(&anvil.provider, anvil.from, &plan).await.unwrap();
    assert_eq!(states.iter().filter(|step| matches!(step, Progress::Missing { gas: Some(_), .. })).count(), 6);

    let (contracts, seen) = deploy(&anvil, &plan, &path).await;
    contracts.unwrap();
    assert_eq!(seen.iter().filter(|step| matches!(step, Progress::Created { .. })).count(), 6);
    assert_eq!(anvil.sent().await, 9);
}

#[tokio::test]
async fn another_deployments_record_is_not_overwritten() {
    let anvil = Anvil::start(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let path = record_path(&folder);
    let (first, _) = deploy(&anvil, &Plan::new(devnet_settings(anvil.from), B256::ZERO), &path).await;
    first.unwrap();
    let other = Plan::new(devnet_settings(anvil.from), keccak256("other"));
    let error = deploy(&anvil, &other, &path).await.0.unwrap_err();
    assert!(matches!(error, Error::OtherRecord { .. }), "{error}");
    assert_eq!(anvil.sent().await, 9);
}

#[tokio::test]
async fn a_chain_without_the_factory_is_named() {
    let anvil = Anvil::start(&[]).await;
    let _: () = anvil.provider.raw_request("anvil_setCode".into(), (deploy::CREATE2_FACTORY, "0x")).await.unwrap();
    let plan = Plan::new(devnet_settings(anvil.from), B256::ZERO);
    let error = deploy::inspect(&anvil.provider, anvil.from, &plan).await.unwrap_err();
    assert!(matches!(error, Error::NoFactory(31337)), "{error}");
}

#[tokio::test]
async fn a_chain_that_was_reset_gets_its_contracts_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = record_path(&folder);
    let mut found = Vec::new();
    for _ in 0..2 {
        let anvil = Anvil::start(&[]).await;
        let plan = Plan::new(devnet_settings(anvil.from), B256::ZERO);
        found.push(deploy(&anvil, &plan, &path).await.0.unwrap());
        assert_eq!(anvil.sent().await, 9);
        assert!(anvil.provider.get_balance(anvil.from).await.unwrap() < U256::from(10).pow(U256::from(22)));
    }
    assert_eq!(found[0], found[1]);
}
