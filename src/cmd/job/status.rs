//! What the chain says of jobs.

use std::process::ExitCode;

use alloy::primitives::{B256, U256};
use conun_agent::{
    chain::{BallotStage, BatchStage, Claim, Follower, JobEntry, ReplicaStage},
    requester::Ledger,
};
use eyre::eyre;
use serde::Serialize;
use serde_json::{Value, json};

use super::find;
use crate::{
    context::Context,
    output::{self, Table, short, tokens},
};

/// A job in a list.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    job: B256,
    requester: alloy::primitives::Address,
    state: &'static str,
    tasks: u32,
    batches: usize,
    settled: usize,
    /// Token wei for 10^9 fuel.
    price: U256,
}

fn state(entry: &JobEntry) -> &'static str {
    match (entry.is_over(), entry.cancelled) {
        (true, true) => "cancelled",
        (true, false) => "done",
        (false, true) => "ending",
        (false, false) => "open",
    }
}

fn listed(id: B256, entry: &JobEntry) -> Listed {
    Listed {
        job: id,
        requester: entry.job.requester,
        state: state(entry),
        tasks: entry.job.taskCount,
        batches: entry.batch_count(),
        settled: entry.batches.iter().filter(|batch| batch.stage == BatchStage::Settled).count()
            + entry.ballots().filter(|ballot| ballot.stage == BallotStage::Settled).count(),
        price: U256::from(entry.job.maxPrice),
    }
}

/// The chain, read and no more.
async fn follower(context: &Context) -> eyre::Result<(alloy::providers::DynProvider, Follower)> {
    let (provider, chain_id) = context.reader().await?;
    let contracts = context.contracts(&provider, chain_id).await?;
    let mut follower = Follower::new(provider.clone(), contracts, 0).await?;
    follower.poll().await?;
    Ok((provider, follower))
}

pub(super) async fn list(context: &Context) -> eyre::Result<ExitCode> {
    let (_, follower) = follower(context).await?;
    let index = follower.index();
    let jobs: Vec<_> = index.order.iter().filter_map(|id| Some(listed(*id, index.job(id)?))).collect();
    output::result(context.json(), &jobs, |jobs| {
        let mut table = Table::new(["job", "state", "tasks", "batches", "paid", "CON/gigafuel", "requester"]);
        for job in jobs {
            table.row([
                short(job.job),
                job.state.to_owned(),
                job.tasks.to_string(),
                job.batches.to_string(),
                job.settled.to_string(),
                tokens(job.price),
                job.requester.to_string(),
            ]);
        }
        if table.is_empty() {
            "no jobs yet: post one with `conun job submit FILE`".to_owned()
        } else {
            table.to_string()
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn status(context: &Context, job: &str) -> eyre::Result<ExitCode> {
    let (provider, follower) = follower(context).await?;
    let id = find(&follower, job)?;
    let entry = follower.index().job(&id).ok_or_else(|| eyre!("no job {id}"))?;
    let ledger = Ledger::of(&provider, follower.index(), id).await?;
    let batches: Vec<_> = (0..)
        .zip(&entry.batches)
        .map(|(number, batch): (u32, _)| {
            json!({
                "batch": number, "stage": batch.stage, "provider": batch.provider, "deadline": batch.deadline,
                "expiries": batch.expiries, "fuel": batch.fuel, "payment": batch.payment,
            })
        })
        .collect();
    let index = follower.index();
    let ballots: Vec<_> = (0..)
        .zip(entry.ballots())
        .map(|(number, ballot): (u32, _)| {
            let votes: Vec<_> = ballot.replicas.iter().map(|(provider, replica)| vote(*provider, replica)).collect();
            let believed = entry.ballot(number).and_then(|(assurance, ballot)| ballot.count(assurance, &index.rules));
            json!({
                "batch": number, "stage": ballot.stage, "until": ballot.time, "wanted": ballot.wanted,
                "expiries": ballot.expiries, "believed": believed.is_some_and(|count| count.accepted),
                "agreed": believed.map_or(0, |count| count.agreed), "votes": votes,
            })
        })
        .collect();
    let disputes: Vec<_> = index
        .cases
        .iter()
        .filter(|(_, case)| case.job == id)
        .map(|(case, entry)| {
            let (kind, chunk) = match entry.claim {
                Claim::Wrong(_) => ("challenge", None),
                Claim::Withheld(chunk) => ("demand", Some(chunk)),
            };
            json!({
                "case": case, "kind": kind, "batch": entry.batch, "task": entry.task, "chunk": chunk,
                "deadline": entry.deadline, "open": entry.open, "concluded": entry.concluded,
            })
        })
        .collect();
    let mut report = json!({ "job": listed(id, entry), "batches": batches, "ledger": ledger });
    if entry.assured.is_some() {
        report["batches"] = ballots.into();
    }
    if !disputes.is_empty() {
        report["disputes"] = disputes.into();
    }
    output::result(context.json(), &report, |report| {
        let mut table = Table::new(["batch", "stage", "provider", "fuel", "CON"]);
        for (number, batch) in entry.batches.iter().enumerate() {
            let stage = format!("{:?}", batch.stage).to_lowercase();
            table.row([
                number.to_string(),
                stage,
                batch.provider.to_string(),
                batch.fuel.to_string(),
                tokens(batch.payment),
            ]);
        }
        for (number, ballot) in entry.ballots().enumerate() {
            let stage = format!("{:?}", ballot.stage).to_lowercase();
            table.row([number.to_string(), stage, String::new(), String::new(), String::new()]);
            for (provider, replica) in &ballot.replicas {
                let (name, fuel) = stage_of(replica.stage);
                let fuel = fuel.map_or(String::new(), |fuel| fuel.to_string());
                table.row([
                    String::new(),
                    name.to_owned(),
                    provider.to_string(),
                    fuel,
                    tokens(ballot.payment(*provider)),
                ]);
            }
        }
        let disputes = report["disputes"].as_array().into_iter().flatten().map(|case| {
            let open = if case["open"] == true { "open" } else { "over" };
            let kind = case["kind"].as_str().unwrap_or_default();
            let name = short(case["case"].as_str().unwrap_or_default());
            format!("\n{kind} {name} about task {} of batch {}: {open}", case["task"], case["batch"])
        });
        format!(
            "job {id}: {}\n{table}\n{} CON deposited, {} spent, {} burned, {} refunded{}",
            state(entry),
            tokens(ledger.deposit),
            tokens(ledger.spent),
            tokens(ledger.burned),
            tokens(ledger.refunded),
            disputes.collect::<String>()
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

/// What a provider does for a batch, and the fuel that it has shown.
fn stage_of(stage: ReplicaStage) -> (&'static str, Option<u64>) {
    match stage {
        ReplicaStage::Leased { active_block: None, .. } => ("leased", None),
        ReplicaStage::Leased { .. } => ("backup", None),
        ReplicaStage::Committed { .. } => ("committed", None),
        ReplicaStage::Revealed { fuel, .. } => ("revealed", Some(fuel)),
        ReplicaStage::Done => ("done", None),
    }
}

fn vote(provider: alloy::primitives::Address, replica: &conun_agent::chain::Replica) -> Value {
    let (state, _) = stage_of(replica.stage);
    let mut vote = json!({ "provider": provider, "state": state, "checks": replica.checks });
    if let ReplicaStage::Revealed { root, fuel, .. } = replica.stage {
        (vote["root"], vote["fuel"]) = (json!(root), json!(fuel));
    }
    vote
}
