//! `conun replay`: a deployment's blocks once more, here.

mod page;

use std::{path::PathBuf, process::ExitCode};

use alloy::primitives::{Address, U256};
use clap::{Args, ValueEnum};
use conun_replay::{Changes, Flow, Ledger, Outcome, Recording, Report, SpecId, replay, what_if};
use eyre::WrapErr as _;
use serde_json::json;

use crate::{
    context::Context,
    output::{self, Table, short, tokens},
};

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// First block.  [default: that of the deployment, or 1]
    #[arg(long, value_name = "BLOCK")]
    from_block: Option<u64>,
    /// Last block.  [default: the latest]
    #[arg(long, value_name = "BLOCK")]
    to_block: Option<u64>,
    /// Keep the blocks, and what was looked at of the state, in this file.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Replay what --save kept, without an endpoint.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["from_block", "to_block", "save"])]
    recording: Option<PathBuf>,
    /// Replay once more with the changes in this file: transactions left out, calls added.
    #[arg(long, value_name = "FILE")]
    what_if: Option<PathBuf>,
    /// Write what was found to this file, as one HTML page that needs no network.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Hard fork whose rules the blocks follow.
    #[arg(long, value_name = "FORK", value_enum, default_value_t = Fork::Osaka)]
    rules: Fork,
}

/// Hard forks that the contracts work under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fork {
    Cancun,
    Prague,
    Osaka,
}

impl From<Fork> for SpecId {
    fn from(fork: Fork) -> Self {
        match fork {
            Fork::Cancun => Self::CANCUN,
            Fork::Prague => Self::PRAGUE,
            Fork::Osaka => Self::OSAKA,
        }
    }
}

pub(crate) async fn run(context: &Context, args: ReplayArgs) -> eyre::Result<ExitCode> {
    let spec = args.rules.into();
    let changes = args.what_if.as_deref().map(Changes::load).transpose()?;
    let (mut recording, endpoint) = match &args.recording {
        Some(path) => (Recording::load(path)?, None),
        None => {
            let (provider, chain_id) = context.reader().await?;
            let contracts = context.contracts(&provider, chain_id).await?;
            let first = args.from_block.unwrap_or_else(|| contracts.block.max(1));
            (Recording::take(&provider, contracts, first, args.to_block).await?, Some(provider))
        }
    };
    let report = replay(&mut recording, endpoint.clone(), spec).await?;
    let outcome = changes.map(|changes| what_if(&mut recording, endpoint, spec, &changes)).transpose()?;
    if let Some(path) = &args.save {
        recording.save(path)?;
        output::note(format_args!("replay it without an endpoint: conun replay --recording {}", path.display()));
    }
    if let Some(path) = &args.report {
        std::fs::write(path, page::html(&report, outcome.as_ref()))
            .wrap_err_with(|| format!("cannot write {}", path.display()))?;
        output::note(format_args!("the report is in {}", path.display()));
    }
    let document = json!({ "replay": report, "whatIf": outcome });
    output::result(context.json(), &document, |_| text(&report, outcome.as_ref()))?;
    if report.differences.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    output::note(format_args!(
        "error: {} differences: the chain is not what its blocks lead to, or an invariant is broken",
        report.differences.len()
    ));
    Ok(ExitCode::FAILURE)
}

fn text(report: &Report, outcome: Option<&Outcome>) -> String {
    let mut lines = vec![
        format!(
            "blocks {} to {}: {} transactions, {} logs and {} storage values compared, invariants checked after {} blocks",
            report.first, report.last, report.transactions, report.logs, report.slots, report.checked
        ),
        String::new(),
    ];
    lines.extend(report.differences.iter().map(ToString::to_string));
    lines.push(match report.differences.len() {
        0 => "no difference: every transaction did what its receipt says".to_owned(),
        count => format!("{count} differences"),
    });
    let mut calls = Table::new(["call", "transactions", "failed", "gas", "gas each"]);
    for (function, calls_of) in &report.calls {
        let counts =
            [calls_of.transactions, calls_of.failed, calls_of.gas, calls_of.gas / calls_of.transactions.max(1)];
        let [transactions, failed, gas, each] = counts.map(|count| count.to_string());
        calls.row([function.clone(), transactions, failed, gas, each]);
    }
    lines.extend([String::new(), calls.to_string(), books(&report.ledger)]);
    if let Some(outcome) = outcome {
        lines.push("With the changes:".to_owned());
        for changed in &outcome.changed {
            let what = match (&changed.function, changed.transaction) {
                (Some(function), Some(hash)) => format!("{function} ({})", short(hash)),
                (None, Some(hash)) => short(hash),
                _ => "the added call".to_owned(),
            };
            lines.push(format!("block {}: {what} {}", changed.block, output::printable(&changed.outcome)));
        }
        lines.extend(outcome.broken.iter().map(ToString::to_string));
        lines.extend([String::new(), books(&outcome.ledger)]);
    }
    lines.join("\n")
}

/// Who paid whom for which work.
fn books(ledger: &Ledger) -> String {
    let mut flows = Table::new(["job", "requester", "provider", "batches", "tasks", "fuel", "CON"]);
    for Flow { requester, provider, job, batches, tasks, fuel, paid } in &ledger.flows {
        let [batches, tasks, fuel] = [batches.to_string(), tasks.to_string(), fuel.to_string()];
        flows.row([short(job), short(requester), short(provider), batches, tasks, fuel, tokens(*paid)]);
    }
    let sum = |by: &std::collections::BTreeMap<Address, U256>| tokens(by.values().copied().sum());
    let flows = if flows.is_empty() { "nobody was paid for work\n".to_owned() } else { flows.to_string() };
    format!(
        "{flows}{} jobs posted, {} ended; CON deposited {}, withdrawn {}, paid out {}, burned {}\n",
        ledger.jobs,
        ledger.ended,
        sum(&ledger.deposited),
        sum(&ledger.withdrawn),
        sum(&ledger.paid_out),
        tokens(ledger.burned)
    )
}
