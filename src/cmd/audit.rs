//! `conun audit`: results that are on the chain, executed once more here.

use std::{io::IsTerminal, path::PathBuf, process::ExitCode};

use alloy::primitives::{Address, B256, U256};
use clap::{ArgGroup, Args};
use conun_agent::{
    audit::{Auditor, BatchAudit, Blobs, Engine as Executes, Pick, Stage, TaskAudit, Verdict, WHOLE, pick},
    chain::Follower,
    requester::{self, Requester},
    sandbox::Sandbox,
    store::Salt,
};
use conun_bindings::abi::Deployment;
use dialoguer::{Confirm, theme::ColorfulTheme};
use eyre::{ensure, eyre};
use serde::Serialize;

use super::{
    job::{find, visitor},
    network::NetworkArgs,
    wasm::Engine,
};
use crate::{
    context::{Context, parse_address},
    exit::Ending,
    output::{self, date, printable, short, tokens},
};

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("which").required(true).multiple(true).args(["job", "provider", "share"])))]
pub(crate) struct AuditArgs {
    /// The first digits of a job's id: results of this job.
    job: Option<String>,
    /// Results that this provider has given.
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    provider: Option<Address>,
    /// So many of the batches, drawn by lot: `5%`.
    #[arg(long, value_name = "PERCENT", value_parser = parse_share)]
    share: Option<u32>,
    /// What the lot is drawn with: the same number, the same batches.  [default: any, and shown]
    #[arg(long, value_name = "NUMBER", requires = "share")]
    seed: Option<u64>,
    /// Files to look into before anybody is asked, by what is in them; may be given several times. Without --data-dir nobody is asked then.
    #[arg(long = "folder", value_name = "DIR")]
    folders: Vec<PathBuf>,
    /// Folder of a requester or provider: what it keeps is used, and peers are asked as that one.  [default: ~/.conun/requester]
    #[arg(long, value_name = "DIR", env = "CONUN_REQUESTER_DIR")]
    data_dir: Option<PathBuf>,
    /// Write all that is used into this folder, so that others can audit with --folder.
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
    /// What executes the tasks.
    #[arg(long, value_enum, default_value_t = Engine::Wasmer)]
    engine: Engine,
    /// How many batches are executed at the same time.  [default: as many as there are processors]
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// Challenge each batch that differs, with a bond: the deployment's arbiter decides.
    #[arg(long)]
    challenge: bool,
    /// Do not ask before challenging.
    #[arg(long, short, requires = "challenge")]
    yes: bool,
    #[command(flatten)]
    network: NetworkArgs,
}

fn parse_share(text: &str) -> Result<u32, String> {
    let percent = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
    let share = percent.map(|percent| (percent / 100.0 * f64::from(WHOLE)).round());
    match share {
        Some(share) if (1.0..=f64::from(WHOLE)).contains(&share) => Ok(share as u32),
        _ => Err(format!("`{text}` is no share: write it as 5%, from 0.0001% to 100%")),
    }
}

/// The result of the command.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    /// The chain as of this block.
    block: u64,
    block_hash: B256,
    /// What the lot was drawn with, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    batches: Vec<BatchAudit>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    challenges: Vec<Challenged>,
    summary: Summary,
}

/// Batches, and tasks by verdict.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    batches: usize,
    tasks: usize,
    agree: usize,
    differ: usize,
    cannot_tell: usize,
    /// Batches with something that differs, be it known of which task or not.
    batches_that_differ: usize,
}

impl Summary {
    fn of(batches: &[BatchAudit]) -> Self {
        let count =
            |verdict| batches.iter().flat_map(|batch| &batch.tasks).filter(|task| task.verdict == verdict).count();
        Self {
            batches: batches.len(),
            tasks: batches.iter().map(|batch| batch.tasks.len()).sum(),
            agree: count(Verdict::Agrees),
            differ: count(Verdict::Differs),
            cannot_tell: count(Verdict::CannotTell),
            batches_that_differ: batches.iter().filter(|batch| batch.verdict == Verdict::Differs).count(),
        }
    }
}

/// What came of challenging a batch.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Challenged {
    job: B256,
    batch: u32,
    task: Option<u32>,
    /// Id of the case, if there is one.
    case: Option<B256>,
    /// Block time until which the arbiter may rule.
    deadline: Option<u64>,
    /// Why there is none.
    reason: Option<String>,
}

pub(crate) async fn run(context: &Context, args: AuditArgs) -> eyre::Result<ExitCode> {
    let network = args.network.settings()?;
    let (reader, chain_id) = context.reader().await?;
    let contracts = context.contracts(&reader, chain_id).await?;
    let mut follower = Follower::new(reader, contracts, 0).await?;
    let head = follower.poll().await?;
    let mut challenger = match args.challenge {
        false => None,
        true => Some(challenger(context, &follower, args.yes).await?),
    };
    let seed = match (args.share, args.seed) {
        (None, _) => None,
        (_, Some(seed)) => Some(seed),
        (Some(_), None) => Some(random()?),
    };
    let which = Pick {
        job: args.job.as_deref().map(|job| find(&follower, job)).transpose()?,
        provider: args.provider,
        share: args.share.unwrap_or(WHOLE),
        seed: seed.unwrap_or(0),
    };
    let targets = pick(follower.index(), head.timestamp, &which);
    ensure!(
        !targets.is_empty(),
        "there is no such result on the chain: batches can be audited once their result is submitted, or voted for and believed (`conun job status` shows it)"
    );
    let mut blobs = Blobs::new();
    for folder in &args.folders {
        let count = blobs.add_folder(folder)?;
        ensure!(count > 0, "there is no file in {}", folder.display());
    }
    if let Some(folder) = data_dir(context, &args)? {
        blobs.open(&folder, args.network.listen(context.rpc_url()), network).await?;
    }
    if let Some(folder) = &args.save {
        blobs.save_to(folder)?;
    }
    let engine = match args.engine {
        Engine::Wasmer => Executes::Native(Sandbox::new(std::env::current_exe()?, ["worker"])),
        Engine::Step => Executes::Step,
    };
    let workers =
        args.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
    let auditor = Auditor::new(follower, blobs, engine, workers);
    let all = targets.len();
    let mut number = 0;
    let is_terminal = std::io::stderr().is_terminal();
    let heard = |audit: &BatchAudit| {
        number += 1;
        if is_terminal {
            output::note(format_args!("[{number}/{all}] {}", headline(audit)));
        }
    };
    let audited = tokio::select! {
        audited = auditor.audit(targets, heard) => audited,
        () = crate::exit::signalled() => return Err(Ending::Interrupted.into()),
    };
    auditor.close().await;
    let batches = audited?;
    let challenges = match &mut challenger {
        Some(challenger) => challenge(challenger, &batches, args.yes).await?,
        None => Vec::new(),
    };
    if let Some(challenger) = challenger {
        challenger.requester.shutdown().await;
    }
    let summary = Summary::of(&batches);
    let report = Report { block: head.number, block_hash: head.hash, seed, batches, challenges, summary };
    output::result(context.json(), &report, text)?;
    Ok(match summary {
        Summary { batches_that_differ: 1.., .. } => ExitCode::FAILURE,
        // With what is missing another time may tell.
        Summary { cannot_tell: 1.., .. } => ExitCode::from(75),
        _ => ExitCode::SUCCESS,
    })
}

fn random() -> eyre::Result<u64> {
    let bytes = Salt::random()?.0;
    // Few enough digits to be typed again.
    Ok(u64::from(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])))
}

/// The data folder to open, if there is one.
fn data_dir(context: &Context, args: &AuditArgs) -> eyre::Result<Option<PathBuf>> {
    let is_one = |folder: &PathBuf| folder.join("endpoint.key").exists();
    match &args.data_dir {
        Some(folder) if !is_one(folder) => Err(eyre!(
            "{} is no data folder: give one that `conun job submit` or `conun provider init` has made; files go with --folder",
            folder.display()
        )),
        Some(folder) => Ok(Some(folder.clone())),
        None if !args.folders.is_empty() => Ok(None),
        None => Ok(Some(context.data_home()?.join("requester")).filter(is_one)),
    }
}

/// An account that can challenge, and what that costs.
struct Challenger {
    requester: Requester,
    /// In a folder of its own that goes with it.
    _folder: tempfile::TempDir,
    /// Token wei.
    bond: U256,
}

/// Everything that challenging needs, before hours of work are spent.
async fn challenger(context: &Context, follower: &Follower, yes: bool) -> eyre::Result<Challenger> {
    if follower.index().rules.arbiter.is_zero() {
        return Err(requester::Error::NoArbiter.into());
    }
    if !yes && !std::io::stdin().is_terminal() {
        return Err(Ending::Usage(
            "--challenge asks before it locks a bond: add --yes where there is no terminal; nothing was sent"
                .to_owned(),
        )
        .into());
    }
    let (requester, folder) = visitor(context).await?;
    let deployment = Deployment::new(follower.contracts().deployment, requester.provider());
    let bond = U256::from(deployment.settings().call().await?.challengeBond);
    Ok(Challenger { requester, _folder: folder, bond })
}

/// Challenges what differs, a task of each batch: one that is upheld ends the whole batch.
async fn challenge(challenger: &mut Challenger, batches: &[BatchAudit], yes: bool) -> eyre::Result<Vec<Challenged>> {
    let differs = |batch: &&BatchAudit| batch.verdict == Verdict::Differs;
    let mut challenged = Vec::new();
    for batch in batches.iter().filter(differs) {
        let (job, number) = (batch.target.job, batch.target.batch);
        let wrong = batch.tasks.iter().find(|task| task.is_wrong());
        let about = Challenged {
            job,
            batch: number,
            task: wrong.map(|task| task.task),
            case: None,
            deadline: None,
            reason: None,
        };
        let refused = |reason: &str| Challenged { reason: Some(reason.to_owned()), ..about };
        challenged.push(match (batch.target.open_until, wrong) {
            (None, _) => refused("its window is over: what is paid or decided cannot be challenged any more"),
            (_, None) => refused("no task is known whose leaf is wrong: a challenge names one"),
            (Some(_), Some(TaskAudit { task, leaf, .. })) => {
                let bond = tokens(challenger.bond);
                let what =
                    format!("Challenge task {task} of batch {number} of job {} with a bond of {bond} CON?", short(job));
                let goes = yes
                    || Confirm::with_theme(&ColorfulTheme::default()).with_prompt(what).default(false).interact()?;
                if !goes {
                    challenged.push(refused("not wanted"));
                    continue;
                }
                match challenger.requester.challenge(job, number, *task, leaf.unwrap_or_default()).await {
                    Ok((case, deadline)) => Challenged { case: Some(case), deadline: Some(deadline), ..about },
                    Err(error) => refused(&error.to_string()),
                }
            }
        });
    }
    Ok(challenged)
}

/// What came of a batch, in a line.
fn headline(audit: &BatchAudit) -> String {
    let target = &audit.target;
    let stage = match (target.stage, target.open_until) {
        (Stage::NotBelieved, _) => "not believed".to_owned(),
        (Stage::Settled, _) => "settled".to_owned(),
        (Stage::Frozen, None) => "disputed".to_owned(),
        (Stage::Frozen, Some(until)) => format!("disputed, open to challenges until {}", date(until)),
        (Stage::Submitted, None) => "its window is over".to_owned(),
        (Stage::Submitted, Some(until)) => format!("open to challenges until {}", date(until)),
    };
    let providers: Vec<_> = target.providers.iter().map(short).collect();
    let verdict = match audit.verdict {
        Verdict::Agrees => "agrees",
        Verdict::Differs => "DIFFERS",
        Verdict::CannotTell => "cannot tell",
    };
    format!("job {} batch {} by {} ({stage}): {verdict}", short(target.job), target.batch, providers.join(", "))
}

/// Its tasks, those that have the same to say together.
fn tasks(audit: &BatchAudit) -> Vec<String> {
    let alike = |a: &TaskAudit, b: &TaskAudit| (a.verdict, &a.reason) == (b.verdict, &b.reason);
    let line = |tasks: &[TaskAudit]| {
        let (first, last) = (tasks[0].task, tasks[tasks.len() - 1].task);
        let which = if first == last { format!("task {first}") } else { format!("tasks {first} to {last}") };
        let verdict = match (tasks[0].verdict, tasks.len()) {
            (Verdict::Agrees, 1) => "agrees",
            (Verdict::Agrees, _) => "agree",
            (Verdict::Differs, 1) => "differs",
            (Verdict::Differs, _) => "differ",
            (Verdict::CannotTell, _) => "cannot tell",
        };
        let reason = tasks[0].reason.as_deref().map(|reason| format!(": {}", printable(reason)));
        format!("  {which} {verdict}{}", reason.unwrap_or_default())
    };
    audit.tasks.chunk_by(alike).map(line).collect()
}

fn text(report: &Report) -> String {
    let mut lines = Vec::new();
    for audit in &report.batches {
        lines.push(headline(audit));
        if audit.verdict == Verdict::Differs
            && let Some(here) = audit.root_here
        {
            lines.push(format!("  result root {} there, {here} here", audit.target.root));
        }
        lines.extend(tasks(audit));
    }
    for Challenged { job, batch, task, case, deadline, reason } in &report.challenges {
        let what = format!("batch {batch} of job {}", short(job));
        lines.push(match (case, deadline, task) {
            (Some(case), Some(deadline), Some(task)) => format!(
                "{what}: task {task} is challenged, the arbiter may rule on case {} until {}; then `conun job claim {}`",
                short(case),
                date(*deadline),
                short(job)
            ),
            _ => format!("{what}: not challenged: {}", reason.as_deref().unwrap_or_default()),
        });
    }
    let Summary { batches, tasks, agree, differ, cannot_tell, .. } = report.summary;
    let seed = report.seed.map(|seed| format!(" (drawn with --seed {seed})")).unwrap_or_default();
    lines.push(format!(
        "{tasks} tasks in {batches} batches{seed} as of block {}: {agree} agree, {differ} differ, {cannot_tell} cannot be told",
        report.block
    ));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_percentages() {
        assert_eq!(parse_share("5%"), Ok(50_000));
        assert_eq!(parse_share("0.5 %"), Ok(5_000));
        assert_eq!(parse_share("100%"), Ok(WHOLE));
        for bad in ["5", "0%", "101%", "-5%", "%", "NaN%", "inf%", "0.00001%"] {
            assert!(parse_share(bad).is_err(), "{bad}");
        }
    }
}
