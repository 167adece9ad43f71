//! Ending: draining, leaving the registry, taking tokens out.

use std::process::ExitCode;

use alloy::primitives::U256;
use clap::Args;
use conun_agent::provider;
use serde_json::json;

use super::{FolderArgs, config};
use crate::{
    context::Context,
    output::{self, tokens},
};

#[derive(Debug, Args)]
pub(crate) struct DrainArgs {
    /// Take new work again.
    #[arg(long)]
    off: bool,
    #[command(flatten)]
    folder: FolderArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ExitArgs {
    /// Stay after all.
    #[arg(long)]
    cancel: bool,
    #[command(flatten)]
    folder: FolderArgs,
}

pub(super) fn drain(context: &Context, args: DrainArgs) -> eyre::Result<ExitCode> {
    let folder = args.folder.folder(context)?;
    provider::set_draining(&folder, !args.off)?;
    let running = conun_agent::store::Journal::is_in_use(&folder);
    let report = json!({ "draining": !args.off, "running": running });
    output::result(context.json(), &report, |_| match (args.off, running) {
        (true, _) => "takes new work again".to_owned(),
        (false, true) => "draining: it takes nothing new, and stops once no stake is locked".to_owned(),
        (false, false) => {
            "draining, but it is not running: `conun provider run` finishes what is held, and stops by itself"
                .to_owned()
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn exit(context: &Context, args: ExitArgs) -> eyre::Result<ExitCode> {
    let folder = args.folder.folder(context)?;
    let config = config(context, &folder)?;
    let signer = context.signer_named(&config.account)?;
    context.require_node(&config.rpc_url).await?;
    let (url, contracts) = (&config.rpc_url, &config.contracts);
    let leaving = if args.cancel {
        provider::cancel_exit(url, contracts, &signer).await?
    } else {
        provider::request_exit(url, contracts, &signer).await?
    };
    output::result(context.json(), &leaving, |leaving| {
        if leaving.exit_at == 0 {
            return "the provider stays registered".to_owned();
        }
        let locked = match leaving.locked {
            U256::ZERO => "nothing is locked".to_owned(),
            locked => format!("{} CON are locked until what it holds is over", tokens(locked)),
        };
        format!(
            "no new leases from now on; {locked}. The stake can be had from {} on, block time: `conun provider withdraw`",
            output::date(leaving.exit_at)
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn withdraw(context: &Context, args: FolderArgs) -> eyre::Result<ExitCode> {
    let folder = args.folder(context)?;
    let config = config(context, &folder)?;
    let signer = context.signer_named(&config.account)?;
    context.require_node(&config.rpc_url).await?;
    let withdrawn = provider::withdraw(&config.rpc_url, &config.contracts, &signer).await?;
    output::result(context.json(), &withdrawn, |withdrawn| match withdrawn.transaction {
        Some(hash) if !withdrawn.stake.is_zero() => format!(
            "the registration is over: {} CON, of which {} were stake, are in the payout address's Escrow balance, by {hash}",
            tokens(withdrawn.amount),
            tokens(withdrawn.stake)
        ),
        Some(hash) => format!("sent {} CON to the payout address in {hash}", tokens(withdrawn.amount)),
        None => "nothing to withdraw".to_owned(),
    })?;
    Ok(ExitCode::SUCCESS)
}
