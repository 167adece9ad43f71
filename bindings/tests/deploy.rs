//! Deployment against a real anvil: nothing is sent twice, interrupted deployments resume, records are checked.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use alloy::{
    network::EthereumWallet,
    primitives::{Address, B256, U256, keccak256},
    providers::{DynProvider, Provider, ProviderBuilder},
    signers::local::PrivateKeySigner,
};
use conun_bindings::{
    Contracts, Record,
    abi::{ConunToken, Deployment, Escrow, JobRegistry},
    deploy::{self, Error, Plan, Progress, devnet_settings, standard_settings},
};

/// The first of anvil's well-known accounts.
const KEY: &str = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";

/// A real anvil on a free port; ends with the test.
struct Anvil {
    child: Child,
    provider: DynProvider,
    from: Address,
}

impl Anvil {
    async fn start() -> Self {
        let packages = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("node_modules/@foundry-rs");
        let bin = std::fs::read_dir(&packages)
            .into_iter()
            .flatten()
            .flatten()
            .map(|package| package.path().join("bin/anvil"))
            .find(|path| path.exists())
            .unwrap_or_else(|| "anvil".into());
        let mut child = Command::new(bin)
            .args(["--port", "0"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("anvil: `scripts/test` installs it, or foundryup");
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut lines = lines.map(Result::unwrap);
        let address = lines.find_map(|line| line.strip_prefix("Listening on ").map(str::to_owned)).unwrap();
        std::thread::spawn(move || lines.for_each(drop));
        let signer: PrivateKeySigner = KEY.parse().unwrap();
        let from = signer.address();
        let provider = ProviderBuilder::new().wallet(EthereumWallet::from(signer));
        let provider = provider.connect(&format!("http://{address}")).await.unwrap().erased();
        Self { child, provider, from }
    }

    async fn deploy(&self, plan: &Plan, path: &Path) -> (Result<Contracts, Error>, Vec<Progress>) {
        let mut seen = Vec::new();
        let result = deploy::deploy(&self.provider, self.from, plan, Some(path), |step| seen.push(step.clone())).await;
        (result, seen)
    }

    async fn sent(&self) -> u64 {
        self.provider.get_transaction_count(self.from).await.unwrap()
    }
}

impl Drop for Anvil {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn record_path(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("deployments/31337.json")
}

#[tokio::test]
async fn contracts_are_deployed_once_where_the_plan_says_and_know_each_other() {
    let anvil = Anvil::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = record_path(&folder);
    let plan = Plan::new(devnet_settings(anvil.from), B256::ZERO);

    let before = deploy::inspect(&anvil.provider, anvil.from, &plan).await.unwrap();
    assert!(before.iter().all(|step| matches!(step, Progress::Missing { .. })));
    assert_eq!(anvil.sent().await, 0, "a dry run sends nothing");

    let (contracts, seen) = anvil.deploy(&plan, &path).await;
    let contracts = contracts.unwrap();
    assert!(seen.iter().all(|step| matches!(step, Progress::Created { .. })));
    assert_eq!(anvil.sent().await, 6);
    assert_eq!(contracts, plan.contracts(31337, contracts.block));
    assert_eq!(Contracts::read(&path).unwrap(), contracts);

    let token = ConunToken::new(contracts.token, &anvil.provider);
    assert_eq!(token.balanceOf(anvil.from).call().await.unwrap(), plan.settings.tokenSupply);
    assert_eq!(Escrow::new(contracts.escrow, &anvil.provider).token().call().await.unwrap(), contracts.token);
    let deployment = Deployment::new(contracts.deployment, &anvil.provider);
    assert_eq!(deployment.addressOf(3).call().await.unwrap(), contracts.jobs);
    let state = JobRegistry::new(contracts.jobs, &anvil.provider).jobState(B256::ZERO).call().await.unwrap();
    assert!(!state.posted);

    let (again, seen) = anvil.deploy(&plan, &path).await;
    assert_eq!(again.unwrap(), contracts);
    assert!(seen.iter().all(|step| matches!(step, Progress::Present { .. })));
    assert_eq!(anvil.sent().await, 6, "deploying again sends nothing");

    // Without its record, a deployment is found on the chain.
    std::fs::remove_file(&path).unwrap();
    assert_eq!(anvil.deploy(&plan, &path).await.0.unwrap().jobs, contracts.jobs);
    assert_eq!(anvil.sent().await, 6);
    let record = Record::read(&path).unwrap();
    assert!(record.contracts["JobRegistry"].transaction.is_some(), "its log tells the transaction");
}

#[tokio::test]
async fn an_interrupted_deployment_resumes() {
    let anvil = Anvil::start().await;
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
    assert_eq!(states.iter().filter(|step| matches!(step, Progress::Missing { gas: Some(_), .. })).count(), 3);

    let (contracts, seen) = anvil.deploy(&plan, &path).await;
    contracts.unwrap();
    assert_eq!(seen.iter().filter(|step| matches!(step, Progress::Created { .. })).count(), 3);
    assert_eq!(anvil.sent().await, 6);
}

#[tokio::test]
async fn another_deployments_record_is_not_overwritten() {
    let anvil = Anvil::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = record_path(&folder);
    let (first, _) = anvil.deploy(&Plan::new(devnet_settings(anvil.from), B256::ZERO), &path).await;
    first.unwrap();
    let other = Plan::new(devnet_settings(anvil.from), keccak256("other"));
    let error = anvil.deploy(&other, &path).await.0.unwrap_err();
    assert!(matches!(error, Error::OtherRecord { .. }), "{error}");
    assert_eq!(anvil.sent().await, 6);
}

#[tokio::test]
async fn a_chain_without_the_factory_is_named() {
    let anvil = Anvil::start().await;
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
        let anvil = Anvil::start().await;
        let plan = Plan::new(devnet_settings(anvil.from), B256::ZERO);
        found.push(anvil.deploy(&plan, &path).await.0.unwrap());
        assert_eq!(anvil.sent().await, 6);
        assert!(anvil.provider.get_balance(anvil.from).await.unwrap() < U256::from(10).pow(U256::from(22)));
    }
    assert_eq!(found[0], found[1]);
}
