//! Other terms for what nobody holds.

use std::process::ExitCode;

use alloy::primitives::U256;
use clap::Args;
use conun_agent::requester::{Amended, Amendment};
use eyre::eyre;

use super::{find, visitor};
use crate::{
    context::Context,
    output::{self, parse_tokens, short, tokens},
};

#[derive(Debug, Args)]
#[command(next_help_heading = "Terms; what is not given stays")]
pub(crate) struct AmendArgs {
    /// The first digits of the job's id.
    #[arg(help_heading = "Arguments")]
    job: String,
    /// Tokens for 10^9 fuel.
    #[arg(long, value_name = "TOKENS", value_parser = parse_tokens)]
    price: Option<U256>,
    /// Seconds a provider has for what it leases.
    #[arg(long, value_name = "N")]
    lease_seconds: Option<u32>,
    /// Seconds after which silence pays a result.
    #[arg(long, value_name = "N")]
    window_seconds: Option<u32>,
    /// Of a job with [assurance]: executions of each batch that are asked for at first.
    #[arg(long, value_name = "N")]
    replicas: Option<u8>,
    /// The same: most executions.
    #[arg(long, value_name = "N")]
    limit: Option<u8>,
    /// The same: probability of being right that a result must exceed.
    #[arg(long, value_name = "P")]
    target: Option<f64>,
    /// The same: share of the batches that are executed a second time.
    #[arg(long, value_name = "SHARE")]
    audit_share: Option<f64>,
    /// The same: checks that a provider must have passed.
    #[arg(long, value_name = "N")]
    min_checks: Option<u32>,
    /// The same: seconds in which one provider's turn comes after the other's.
    #[arg(long, value_name = "N")]
    widen_seconds: Option<u32>,
    /// The same: seconds to show what was committed to.
    #[arg(long, value_name = "N")]
    reveal_seconds: Option<u32>,
    /// The same: seconds in which the transaction has to be mined.
    #[arg(long, value_name = "N", default_value_t = 30)]
    post_seconds: u32,
    /// Check everything, show what would be locked, send nothing.
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn amend(context: &Context, args: AmendArgs) -> eyre::Result<ExitCode> {
    let price = args.price.map(|price| u128::try_from(price).map_err(|_| eyre!("--price is more than there can be")));
    let amendment = Amendment {
        price: price.transpose()?,
        lease_seconds: args.lease_seconds,
        window_seconds: args.window_seconds,
        replicas: args.replicas,
        limit: args.limit,
        target: args.target,
        audit_share: args.audit_share,
        min_checks: args.min_checks,
        widen_seconds: args.widen_seconds,
        reveal_seconds: args.reveal_seconds,
    };
    let (mut requester, _folder) = visitor(context).await?;
    let id = find(requester.follower(), &args.job)?;
    let amended = requester.amend(id, &amendment, args.post_seconds, args.dry_run).await;
    requester.shutdown().await;
    output::result(context.json(), &amended?, text)?;
    Ok(ExitCode::SUCCESS)
}

fn text(amended: &Amended) -> String {
    let Amended { from, job, batches, deposit, refunded, burned, .. } = amended;
    let burned =
        if burned.is_zero() { String::new() } else { format!(", {} CON burned for a new lot", tokens(*burned)) };
    let money =
        format!("{} CON locked for them instead of {}{burned}", tokens(*deposit), tokens(*refunded + amended.burned));
    match job {
        Some(job) => format!(
            "{batches} batches of job {} go on as job {job}: {money}\nserve them with: conun job result {} (once what still serves the old job has ended)",
            short(from),
            short(job)
        ),
        None => format!("{batches} batches would go on: {money}; nothing was sent"),
    }
}
