//! `conun deploy`: the contracts on any chain, once.

use std::process::ExitCode;

use alloy::primitives::{Address, B256, U256, keccak256, utils::format_ether};
use alloy::providers::Provider;
use clap::Args;
use conun_bindings::{
    abi::Deployment::Settings,
    deploy::{self, Plan, Progress, devnet_settings, standard_settings},
};
use eyre::ensure;
use serde::Serialize;

use crate::{
    context::{Context, parse_address},
    output::{self, Table, parse_tokens},
};

#[derive(Debug, Args)]
pub(crate) struct DeployArgs {
    /// Send the transactions; without it nothing is sent.
    #[arg(long)]
    broadcast: bool,
    /// Who receives the whole token supply.  [default: the account]
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    token_holder: Option<Address>,
    /// Text whose hash is the CREATE2 salt: another text, other addresses.
    #[arg(long, value_name = "TEXT", default_value = "conun")]
    salt: String,
    /// Short delays that a person can wait for: for tests only.
    #[arg(long)]
    devnet_settings: bool,
    /// Least stake of a provider, in tokens.  [default: 100]
    #[arg(long, value_name = "TOKENS", value_parser = parse_tokens)]
    min_stake: Option<U256>,
    /// Contract that decides challenges (`IArbiter`), on this chain already.  [default: none, nothing can be challenged]
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    arbiter: Option<Address>,
    /// The account's address, for a dry run without its key.
    #[arg(long, value_name = "ADDRESS", env = "ETH_FROM", value_parser = parse_address)]
    from: Option<Address>,
}

impl DeployArgs {
    fn settings(&self, deployer: Address) -> eyre::Result<Settings> {
        let holder = self.token_holder.unwrap_or(deployer);
        let mut settings = if self.devnet_settings { devnet_settings(holder) } else { standard_settings(holder) };
        if let Some(stake) = self.min_stake {
            ensure!(!stake.is_zero(), "--min-stake 0 would let providers in that can never hold a lease");
            ensure!(stake <= settings.tokenSupply, "--min-stake is more than the whole supply");
            settings.minStake = stake.to();
        }
        settings.arbiter = self.arbiter.unwrap_or_default();
        Ok(settings)
    }

    fn salt(&self) -> B256 {
        keccak256(&self.salt)
    }
}

/// The result of the command.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    chain_id: u64,
    broadcast: bool,
    record: std::path::PathBuf,
    contracts: Vec<Progress>,
}

pub(crate) async fn run(context: &Context, args: DeployArgs) -> eyre::Result<ExitCode> {
    let (provider, chain_id, from) = match args.from {
        Some(from) if !args.broadcast => {
            let (provider, chain_id) = context.reader().await?;
            (provider, chain_id, from)
        }
        wanted => {
            let signer = context.signer()?;
            let from = signer.address();
            ensure!(
                wanted.is_none_or(|wanted| wanted == from),
                "--account is {from}, but --from (or ETH_FROM) names another account; nothing was sent"
            );
            let (provider, chain_id) = context.writer(signer).await?;
            (provider, chain_id, from)
        }
    };
    let plan = Plan::new(args.settings(from)?, args.salt());
    let record = context.deployment_path(chain_id);
    let states = deploy::inspect(&provider, from, &plan).await?;
    let mut report = Report { chain_id, broadcast: args.broadcast, record, contracts: states };
    let missing = report.contracts.iter().filter(|state| matches!(state, Progress::Missing { .. })).count();
    if args.broadcast {
        let balance = provider.get_balance(from).await?;
        ensure!(
            missing == 0 || !balance.is_zero(),
            "{from} has no ether on chain {chain_id} to pay for gas: send it some first; nothing was sent"
        );
        report.contracts.clear();
        deploy::deploy(&provider, from, &plan, Some(&report.record), |progress| {
            output::note(line(progress));
            report.contracts.push(progress.clone());
        })
        .await?;
    }
    output::result(context.json(), &report, |report| text(report, missing))?;
    if !args.broadcast {
        let price = provider.get_gas_price().await?;
        let gas: u64 = report.contracts.iter().map(gas_of).sum();
        output::note(format_args!(
            "dry run: nothing was sent. {missing} contracts are missing{}. Send with --broadcast.",
            if gas == 0 {
                String::new()
            } else {
                format!(
                    "; what can be estimated now takes {gas} gas, {} ether at the present price",
                    format_ether(u128::from(gas) * price)
                )
            }
        ));
    }
    Ok(ExitCode::SUCCESS)
}

fn gas_of(progress: &Progress) -> u64 {
    match progress {
        Progress::Missing { gas, .. } => gas.unwrap_or(0),
        Progress::Created { gas, .. } => *gas,
        Progress::Present { .. } => 0,
    }
}

fn line(progress: &Progress) -> String {
    match progress {
        Progress::Present { name, address } => format!("{name} is at {address}"),
        Progress::Missing { name, address, .. } => format!("{name} will be at {address}"),
        Progress::Created { name, address, gas, .. } => format!("{name} created at {address}, {gas} gas"),
    }
}

fn text(report: &Report, missing: usize) -> String {
    let mut table = Table::new(["contract", "address", "state"]);
    for progress in &report.contracts {
        let (name, address, state) = match progress {
            Progress::Present { name, address } => (name, address, "there"),
            Progress::Missing { name, address, .. } => (name, address, "missing"),
            Progress::Created { name, address, .. } => (name, address, "created"),
        };
        table.row([(*name).to_owned(), address.to_string(), state.to_owned()]);
    }
    let record = if report.broadcast || missing == 0 {
        format!("recorded in {}", report.record.display())
    } else {
        String::new()
    };
    format!("{table}{record}")
}
