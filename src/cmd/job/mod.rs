//! `conun job`: have work done.

mod amend;
mod dispute;
mod logs;
mod status;

use std::{collections::BTreeSet, path::PathBuf, process::ExitCode, time::Duration};

use alloy::primitives::B256;
use clap::{Args, Subcommand};
use conun_agent::{
    chain::{Follower, JobEntry},
    requester::{JobFile, Ledger, Prepared, Progress, Requester, prepare},
};
use conun_bindings::{Rules, abi::Deployment};
use eyre::{WrapErr, eyre};
use serde::Serialize;
use serde_json::json;

use super::network::NetworkArgs;
use crate::{
    context::Context,
    exit::Ending,
    output::{self, Board, Table, short, tokens},
};

#[derive(Debug, Subcommand)]
pub(crate) enum JobCommand {
    /// Post a job, serve it until it is done, and write its outputs.
    Submit(SubmitArgs),
    /// List all jobs.
    #[command(visible_alias = "ls")]
    List,
    /// Show a job: its batches, what is paid.
    Status {
        /// The first digits of its id.
        job: String,
    },
    /// Show what providers told of its tasks, and what the program wrote to standard error there.
    Logs(logs::LogsArgs),
    /// Go on serving a job after an interruption, and write its outputs.
    Result {
        /// The first digits of its id.
        job: String,
        #[command(flatten)]
        serve: ServeArgs,
    },
    /// End what nobody holds, and take its deposit back.
    Cancel {
        /// The first digits of its id.
        job: String,
    },
    /// Give what nobody holds another price, other times, or another assurance: it goes on as another job.
    Amend(amend::AmendArgs),
    /// Accept results in their window without looking at them: of batches that are voted about, those on which all votes agree.
    Accept {
        /// The first digits of its id.
        job: String,
        /// Only these batches: `0,3,4`.
        #[arg(long, value_delimiter = ',', value_name = "LIST")]
        batches: Option<Vec<u32>>,
    },
    /// Bring batches on their way whose time is over, where those whose turn it was do not: end leases, decide votes, pay results.
    Settle {
        /// The first digits of the job's id.
        job: String,
    },
    /// Demand that a part of an output is shown on the chain, with a bond that goes to whoever shows it.
    Demand(dispute::DemandArgs),
    /// Say that a task's result is wrong, with a bond: the deployment's arbiter decides.
    Challenge(dispute::ChallengeArgs),
    /// Bring disputes whose time is over to their end, and take back the bonds that were not lost.
    Claim {
        /// The first digits of the job's id.
        job: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct SubmitArgs {
    /// The job file (TOML); `-` reads it from standard input.
    file: PathBuf,
    /// Check everything, show the deposit, send nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Where to write outputs, a file a task.  [default: out-<job>]
    #[arg(long, short, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Folder that keeps what is served.  [default: ~/.conun/requester]
    #[arg(long, value_name = "DIR", env = "CONUN_REQUESTER_DIR")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    network: NetworkArgs,
    /// Milliseconds between looks at the chain.
    #[arg(long, value_name = "MS", default_value_t = 500)]
    poll_millis: u64,
}

pub(crate) async fn run(context: &Context, command: JobCommand) -> eyre::Result<ExitCode> {
    match command {
        JobCommand::Submit(args) => submit(context, args).await,
        JobCommand::List => status::list(context).await,
        JobCommand::Status { job } => status::status(context, &job).await,
        JobCommand::Logs(args) => logs::logs(context, args).await,
        JobCommand::Result { job, serve } => {
            let requester = requester(context, &serve).await?;
            let id = find(requester.follower(), &job)?;
            follow(context, requester, id, &serve, crate::exit::signalled()).await
        }
        JobCommand::Cancel { job } => cancel(context, &job).await,
        JobCommand::Amend(args) => amend::amend(context, args).await,
        JobCommand::Accept { job, batches } => accept(context, &job, batches).await,
        JobCommand::Settle { job } => settle(context, &job).await,
        JobCommand::Demand(args) => dispute::demand(context, args).await,
        JobCommand::Challenge(args) => dispute::challenge(context, args).await,
        JobCommand::Claim { job } => dispute::claim(context, &job).await,
    }
}

pub(super) fn find(follower: &Follower, job: &str) -> eyre::Result<B256> {
    follower.index().find_job(job).map_err(|text| eyre!(text))
}

async fn requester(context: &Context, serve: &ServeArgs) -> eyre::Result<Requester> {
    let network = serve.network.settings()?;
    let folder = match &serve.data_dir {
        Some(dir) => dir.clone(),
        None => context.data_home()?.join("requester"),
    };
    let signer = context.signer()?;
    let (reader, chain_id) = context.reader().await?;
    let contracts = context.contracts(&reader, chain_id).await?;
    // Two processes cannot serve from one folder.
    let lock = conun_agent::store::Journal::open(&folder)?;
    let listen = serve.network.listen(context.rpc_url());
    let requester = Requester::start(&folder, context.rpc_url(), contracts, signer, listen, network).await?;
    // Held for as long as the process lives.
    std::mem::forget(lock);
    Ok(requester)
}

async fn submit(context: &Context, args: SubmitArgs) -> eyre::Result<ExitCode> {
    let file = if args.file.as_os_str() == "-" {
        JobFile::parse(&std::io::read_to_string(std::io::stdin())?).map_err(|text| eyre!("standard input: {text}"))?
    } else {
        JobFile::read(&args.file)?
    };
    let prepared = prepare(&file)?;
    if args.dry_run {
        let deposit = dry_deposit(context, &prepared).await?;
        let report = json!({ "tasks": prepared.job.taskCount, "batches": conun_bindings::job::batch_count(&prepared.job), "deposit": deposit });
        output::result(context.json(), &report, |report| {
            format!(
                "{} tasks in {} batches; deposit at most {} CON; nothing was sent",
                report["tasks"],
                report["batches"],
                tokens(deposit)
            )
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(out) = &args.serve.out {
        std::fs::create_dir_all(out).wrap_err_with(|| format!("cannot make the folder {}", out.display()))?;
    }
    let mut requester = requester(context, &args.serve).await?;
    // Who interrupts it once the job is posted is told how to go on.
    let stop = crate::exit::signalled();
    let posted = requester.post(&prepared).await?;
    output::note(format_args!(
        "posted job {}: {} tasks in {} batches, {} CON locked{}\nit is served from here until it is done; after an interruption: conun job result {}",
        posted.job,
        posted.tasks,
        posted.batches,
        tokens(posted.deposit),
        match (posted.replicas, posted.min_checks) {
            (1, 0) => String::new(),
            (replicas, 0) => format!("; {replicas} executions of each"),
            (1, checks) => format!("; by providers that passed {checks} checks"),
            (replicas, checks) => format!("; {replicas} executions of each, by providers that passed {checks} checks"),
        },
        short(posted.job)
    ));
    follow(context, requester, posted.job, &args.serve, stop).await
}

/// The deposit that posting would lock. Where several providers execute a batch it depends on the deployment's fee.
async fn dry_deposit(context: &Context, prepared: &Prepared) -> eyre::Result<alloy::primitives::U256> {
    if prepared.assurance.is_none() {
        return Ok(conun_bindings::job::deposit(&prepared.job));
    }
    let (reader, chain_id) = context.reader().await?;
    let contracts = context.contracts(&reader, chain_id).await?;
    let settings = Deployment::new(contracts.deployment, &reader).settings().call().await?;
    Ok(prepared.deposit(&Rules::from(&settings)))
}

async fn follow(
    context: &Context,
    mut requester: Requester,
    id: B256,
    serve: &ServeArgs,
    stop: impl Future<Output = ()>,
) -> eyre::Result<ExitCode> {
    let out = serve.out.clone().unwrap_or_else(|| PathBuf::from(format!("out-{}", short(id))));
    let poll = Duration::from_millis(serve.poll_millis.max(10));
    let mut board = Board::new();
    let followed = tokio::select! {
        followed = requester.follow(id, &out, poll, |progress, entry| show(&mut board, &progress, entry)) => followed,
        () = stop => {
            board.finish();
            requester.shutdown().await;
            output::note(format_args!("job {id} is no longer served; go on with: conun job result {}", short(id)));
            return Err(Ending::Interrupted.into());
        }
    };
    board.finish();
    let failed_tasks = followed?;
    requester.refresh().await?;
    let ledger = Ledger::of(requester.provider(), requester.follower().index(), id).await?;
    requester.shutdown().await;
    let done = Done { ledger, failed_tasks };
    output::result(context.json(), &done, |Done { ledger, failed_tasks }| {
        let mut table = Table::new(["provider", "batches", "tasks", "fuel", "CON"]);
        for provider in &ledger.providers {
            table.row([
                provider.account.to_string(),
                provider.batches.to_string(),
                provider.tasks.to_string(),
                provider.fuel.to_string(),
                tokens(provider.earned),
            ]);
        }
        let tasks = ledger.done_tasks;
        let missing = match ledger.tasks - tasks {
            0 => String::new(),
            missing => format!(", {missing} were cancelled or not decided"),
        };
        let failed = match &failed_tasks[..] {
            [] => String::new(),
            failed => format!("\n{} of them failed or ended with an exit code that is not 0: {failed:?}", failed.len()),
        };
        format!(
            "{table}\n{tasks} tasks are done{missing}: {} CON spent, {} CON refunded to your Escrow balance; outputs are in {}{failed}",
            tokens(ledger.spent + ledger.burned),
            tokens(ledger.refunded),
            out.display()
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

/// What a job came to.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Done {
    #[serde(flatten)]
    ledger: Ledger,
    /// Indices of tasks that failed, or whose program ended with an exit code that is not 0.
    failed_tasks: Vec<u32>,
}

/// One line for each thing that happens.
pub(crate) fn show(board: &mut Board, progress: &Progress, entry: &JobEntry) {
    let line = match progress {
        Progress::Leased { batch, provider } => format!("batch {batch}: leased by {}, executing", short(provider)),
        Progress::Reopened { batch } => {
            format!("batch {batch}: its lease has ended without a result; it is open again")
        }
        Progress::Submitted { batch, provider, fuel } => {
            format!("batch {batch}: submitted by {}, {fuel} fuel", short(provider))
        }
        Progress::Committed { batch, provider } => {
            format!("batch {batch}: {} has committed to a result", short(provider))
        }
        Progress::RoundOpened { batch, wanted } => format!("batch {batch}: executed once more, {wanted} times in all"),
        Progress::Undecided { batch } => format!("batch {batch}: it ended without a result that could be paid"),
        Progress::Verified { batch } => format!("batch {batch}: fetched and verified"),
        Progress::NotTaken { batch, reason } => format!("batch {batch}: not accepted: {reason}"),
        Progress::Settled { batch, provider, payment, accepted } => {
            let how = if *accepted { "accepted, " } else { "" };
            format!("batch {batch}: {how}{} is paid {} CON", short(provider), tokens(*payment))
        }
        Progress::Trouble { reason } => format!("trouble: {reason}"),
    };
    board.line(&line, entry.final_count(), entry.batch_count());
}

/// A requester that serves nothing: in a folder of its own that goes with it.
pub(super) async fn visitor(context: &Context) -> eyre::Result<(Requester, tempfile::TempDir)> {
    let folder = tempfile::tempdir()?;
    let serve = ServeArgs {
        out: None,
        data_dir: Some(folder.path().to_owned()),
        network: NetworkArgs::default(),
        poll_millis: 500,
    };
    Ok((requester(context, &serve).await?, folder))
}

async fn cancel(context: &Context, job: &str) -> eyre::Result<ExitCode> {
    let (mut requester, _folder) = visitor(context).await?;
    let id = find(requester.follower(), job)?;
    let refund = requester.cancel(id).await?;
    requester.shutdown().await;
    let report = json!({ "job": id, "refund": refund });
    output::result(context.json(), &report, |_| {
        format!("cancelled what was open of job {id}; {} CON are back in your Escrow balance", tokens(refund))
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn accept(context: &Context, job: &str, batches: Option<Vec<u32>>) -> eyre::Result<ExitCode> {
    let (mut requester, _folder) = visitor(context).await?;
    let id = find(requester.follower(), job)?;
    let only: Option<BTreeSet<u32>> = batches.map(|batches| batches.into_iter().collect());
    let accepted = requester.accept(id, only.as_ref()).await?;
    requester.shutdown().await;
    let report = json!({ "job": id, "accepted": accepted });
    output::result(context.json(), &report, |_| format!("accepted batches {accepted:?} of job {id}"))?;
    Ok(ExitCode::SUCCESS)
}

async fn settle(context: &Context, job: &str) -> eyre::Result<ExitCode> {
    let (mut requester, _folder) = visitor(context).await?;
    let id = find(requester.follower(), job)?;
    let settled = requester.settle(id).await?;
    requester.shutdown().await;
    let report = json!({ "job": id, "settled": settled });
    output::result(context.json(), &report, |_| {
        let done = [
            ("leases that ran out ended, of", &settled.expired),
            ("drawn whether they are audited:", &settled.drawn),
            ("finalised:", &settled.finalised),
        ];
        let mut lines = vec![format!("job {id}")];
        lines.extend(
            done.iter()
                .filter(|(_, batches)| !batches.is_empty())
                .map(|(what, batches)| format!("  {what} batches {batches:?}")),
        );
        if settled.resolved {
            lines.push("  batches go on whose disputes are over; `conun job claim` takes bonds back".to_owned());
        }
        lines.join("\n")
    })?;
    Ok(ExitCode::SUCCESS)
}
