//! Demands and challenges.

use std::process::ExitCode;

use alloy::primitives::B256;
use clap::Args;
use serde_json::json;

use super::{find, visitor};
use crate::{
    context::Context,
    output::{self, short, tokens},
};

#[derive(Debug, Args)]
pub(crate) struct DemandArgs {
    /// The first digits of the job's id.
    job: String,
    /// The batch's number.
    batch: u32,
    /// The task's index in the job.
    task: u32,
    /// Which 4 KiB of its output, from 0.
    chunk: u32,
}

#[derive(Debug, Args)]
pub(crate) struct ChallengeArgs {
    /// The first digits of the job's id.
    job: String,
    /// The batch's number.
    batch: u32,
    /// The task's index in the job.
    task: u32,
    /// What the arbiter is told of the right result, 32 bytes in hexadecimal.
    #[arg(long, value_name = "HASH", default_value_t = B256::ZERO)]
    commitment: B256,
}

pub(super) async fn demand(context: &Context, args: DemandArgs) -> eyre::Result<ExitCode> {
    let (mut requester, _folder) = visitor(context).await?;
    let id = find(requester.follower(), &args.job)?;
    let (case, deadline) = requester.demand(id, args.batch, args.task, args.chunk).await?;
    requester.shutdown().await;
    let report = json!({ "job": id, "case": case, "deadline": deadline });
    output::result(context.json(), &report, |_| {
        format!(
            "demanded chunk {} of the output of task {}: case {} can be answered until block time {deadline}; if nobody does, \
             nobody is paid for batch {}",
            args.chunk,
            args.task,
            short(case),
            args.batch
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn challenge(context: &Context, args: ChallengeArgs) -> eyre::Result<ExitCode> {
    let (mut requester, _folder) = visitor(context).await?;
    let id = find(requester.follower(), &args.job)?;
    let (case, deadline) = requester.challenge(id, args.batch, args.task, args.commitment).await?;
    requester.shutdown().await;
    let report = json!({ "job": id, "case": case, "deadline": deadline });
    output::result(context.json(), &report, |_| {
        format!(
            "challenged task {}: the arbiter may rule on case {} until block time {deadline}",
            args.task,
            short(case)
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn claim(context: &Context, job: &str) -> eyre::Result<ExitCode> {
    let (mut requester, _folder) = visitor(context).await?;
    let id = find(requester.follower(), job)?;
    let amount = requester.claim(id).await?;
    requester.shutdown().await;
    let report = json!({ "job": id, "amount": amount });
    output::result(context.json(), &report, |_| {
        format!("the disputes that were due are over; {} CON are back in your Escrow balance", tokens(amount))
    })?;
    Ok(ExitCode::SUCCESS)
}
