//! `conun devnet`: a local chain with the contracts deployed and ten funded accounts.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use alloy::{
    primitives::{Address, B256, U256, keccak256},
    providers::DynProvider,
    signers::local::PrivateKeySigner,
};
use clap::Args;
use conun_bindings::{
    Contracts,
    abi::{ConunToken, Deployment::Settings},
    deploy::{self, Plan, TOKEN, devnet_settings},
};
use conun_chain::{ChainConfig, ServerHandle, SharedChain, dev_accounts};
use eyre::{Context as _, ensure};
use serde::Serialize;

use crate::{
    context::{Context, parse_address},
    output::{self, Table},
};

/// Tokens that each devnet account but the first gets, whole tokens.
const GRANT: u128 = 1_000_000;

#[derive(Debug, Args)]
pub(crate) struct DevnetArgs {
    /// Loopback address and port of the JSON-RPC server (HTTP and WebSocket).
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8545")]
    listen: SocketAddr,
    /// Seconds between blocks when nothing happens; a transaction is mined at once.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    block_time: f64,
    /// EIP-155 chain id.
    #[arg(long, value_name = "ID", default_value_t = 31337)]
    chain_id: u64,
    /// Start from this file if it is there, and write the chain to it at the end.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Contract that decides challenges; it has to be there already, on the chain in --state.  [default: none, nothing can be challenged]
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address, requires = "state")]
    arbiter: Option<Address>,
}

/// A chain of this process, served, with the contracts on it.
pub(crate) struct Devnet {
    pub(crate) chain: SharedChain,
    pub(crate) server: ServerHandle,
    pub(crate) market: Market,
}

/// The contracts on a chain, and the devnet's accounts with tokens in them.
pub(crate) struct Market {
    /// JSON-RPC endpoint.
    pub(crate) url: String,
    pub(crate) contracts: Contracts,
    /// Signs for all devnet accounts.
    pub(crate) provider: DynProvider,
    pub(crate) accounts: Vec<PrivateKeySigner>,
}

impl Market {
    /// Deploys the contracts as any chain gets them, where they are not there yet, and gives every account tokens. `arbiter` decides
    /// challenges; zero for nobody.
    pub(crate) async fn open(
        url: String,
        provider: DynProvider,
        record: Option<&Path>,
        arbiter: Address,
    ) -> eyre::Result<Self> {
        let accounts = dev_accounts();
        let holder = accounts[0].address();
        let plan = Plan::new(Settings { arbiter, ..devnet_settings(holder) }, salt());
        let contracts = deploy::deploy(&provider, holder, &plan, record, |_| {}).await?;
        let token = ConunToken::new(contracts.token, &provider);
        for account in &accounts[1..] {
            if token.balanceOf(account.address()).call().await?.is_zero() {
                let grant = U256::from(GRANT) * U256::from(TOKEN);
                let receipt = token.transfer(account.address(), grant).from(holder).send().await?.get_receipt().await?;
                ensure!(receipt.status(), "could not fund {}", account.address());
            }
        }
        Ok(Self { url, contracts, provider, accounts })
    }
}

/// Starts and serves a chain, and opens the market on it.
pub(crate) async fn start(
    config: ChainConfig,
    listen: SocketAddr,
    record: Option<&Path>,
    arbiter: Address,
) -> eyre::Result<Devnet> {
    ensure!(
        listen.ip().is_loopback(),
        "the devnet's keys are known to everyone: it listens on loopback addresses only"
    );
    let chain = SharedChain::new(config);
    let server = chain.serve(listen).await.wrap_err_with(|| {
        format!(
            "cannot listen on {listen}: is another node there already? Choose another port with --listen 127.0.0.1:PORT"
        )
    })?;
    let market = Market::open(server.url(), chain.dev_provider(), record, arbiter).await?;
    Ok(Devnet { chain, server, market })
}

/// The salt of the devnet's and the demo's deployment.
pub(crate) fn salt() -> B256 {
    keccak256("conun")
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    rpc_url: String,
    contracts: Contracts,
    deployment: PathBuf,
    accounts: Vec<Account>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Account {
    number: usize,
    address: alloy::primitives::Address,
    private_key: String,
    holds: &'static str,
}

pub(crate) async fn run(context: &Context, args: DevnetArgs) -> eyre::Result<ExitCode> {
    ensure!((0.01..=86_400.0).contains(&args.block_time), "--block-time must be from 0.01 to 86400 seconds");
    let mut config = ChainConfig {
        chain_id: args.chain_id,
        block_time: Some(Duration::from_secs_f64(args.block_time)),
        ..ChainConfig::default()
    };
    if let Some(state) = args.state.as_ref().filter(|state| state.exists()) {
        config = config.load(state)?;
    }
    let record = context.deployment_path(args.chain_id);
    let devnet = start(config, args.listen, Some(&record), args.arbiter.unwrap_or_default()).await?;
    let report = Report {
        rpc_url: devnet.market.url,
        contracts: devnet.market.contracts,
        deployment: record,
        accounts: devnet
            .market
            .accounts
            .iter()
            .enumerate()
            .map(|(number, signer)| Account {
                number,
                address: signer.address(),
                private_key: signer.to_bytes().to_string(),
                holds: if number == 0 { "the rest of the supply" } else { "1000000 CON" },
            })
            .collect(),
    };
    output::result(context.json(), &report, text)?;
    crate::exit::signalled().await;
    devnet.server.stop().await;
    if let Some(state) = &args.state {
        devnet.chain.dump(state)?;
        output::note(format_args!("the chain is in {}", state.display()));
    }
    Ok(ExitCode::SUCCESS)
}

fn text(report: &Report) -> String {
    let mut contracts = Table::new(["contract", "address"]);
    for (name, address) in [
        ("Deployment", report.contracts.deployment),
        ("ConunToken", report.contracts.token),
        ("Escrow", report.contracts.escrow),
        ("ProviderRegistry", report.contracts.providers),
        ("JobRegistry", report.contracts.jobs),
        ("Reputation", report.contracts.reputation),
        ("ReplicaRegistry", report.contracts.replicas),
        ("Disputes", report.contracts.disputes),
        ("JobRules", report.contracts.rules),
    ] {
        contracts.row([name.to_owned(), address.to_string()]);
    }
    let mut accounts = Table::new([
        "#",
        "account (10000 ether each)",
        "holds",
        "private key (public knowledge: never use it elsewhere)",
    ]);
    for account in &report.accounts {
        accounts.row([
            account.number.to_string(),
            account.address.to_string(),
            account.holds.to_owned(),
            account.private_key.clone(),
        ]);
    }
    format!(
        "{contracts}\n{accounts}\nJSON-RPC: {} (chain {}), contracts recorded in {}\n\
         Next, in another terminal:\n  conun account import me --devnet 1\n  conun provider init --account me --run-always\n  conun provider run\n\
         Control-C ends the chain.",
        report.rpc_url,
        report.contracts.chain_id,
        report.deployment.display()
    )
}
