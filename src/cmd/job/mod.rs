//! `conun job`: have work done.

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use alloy::primitives::{B256, U256};
use clap::{Args, Subcommand};
use conun_agent::{
    chain::{BatchStage, Follower, JobEntry},
    requester::{JobFile, Ledger, Progress, Requester, prepare},
};
use eyre::{WrapErr, eyre};
use serde::Serialize;
use serde_json::json;

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
    /// Accept submitted batches without looking at them.
    Accept {
        /// The first digits of its id.
        job: String,
        /// Only these batches: `0,3,4`.
        #[arg(long, value_delimiter = ',', value_name = "LIST")]
        batches: Option<Vec<u32>>,
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
    /// Where to listen for peers (UDP).
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Milliseconds between looks at the chain.
    #[arg(long, value_name = "MS", default_value_t = 500)]
    poll_millis: u64,
}

pub(crate) async fn run(context: &Context, command: JobCommand) -> eyre::Result<ExitCode> {
    match command {
        JobCommand::Submit(args) => submit(context, args).await,
        JobCommand::List => list(context).await,
        JobCommand::Status { job } => status(context, &job).await,
        JobCommand::Result { job, serve } => {
            let requester = requester(context, &serve).await?;
            let id = find(requester.follower(), &job)?;
            follow(context, requester, id, &serve).await
        }
        JobCommand::Cancel { job } => cancel(context, &job).await,
        JobCommand::Accept { job, batches } => accept(context, &job, batches).await,
    }
}

fn find(follower: &Follower, job: &str) -> eyre::Result<B256> {
    follower.index().find_job(job).map_err(|text| eyre!(text))
}

async fn requester(context: &Context, serve: &ServeArgs) -> eyre::Result<Requester> {
    let folder = match &serve.data_dir {
        Some(dir) => dir.clone(),
        None => context.data_home()?.join("requester"),
    };
    let signer = context.signer()?;
    let (reader, chain_id) = context.reader().await?;
    let contracts = context.contracts(&reader, chain_id).await?;
    // Two processes cannot serve from one folder.
    let lock = conun_agent::store::Journal::open(&folder)?;
    let requester = Requester::start(&folder, context.rpc_url(), contracts, signer, serve.listen).await?;
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
    let deposit = conun_bindings::job::deposit(&prepared.job);
    if args.dry_run {
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
    let posted = requester.post(&prepared).await?;
    output::note(format_args!(
        "posted job {}: {} tasks in {} batches, {} CON locked\nit is served from here until it is done; after an interruption: conun job result {}",
        posted.job,
        posted.tasks,
        posted.batches,
        tokens(posted.deposit),
        short(posted.job)
    ));
    follow(context, requester, posted.job, &args.serve).await
}

async fn follow(context: &Context, mut requester: Requester, id: B256, serve: &ServeArgs) -> eyre::Result<ExitCode> {
    let out = serve.out.clone().unwrap_or_else(|| PathBuf::from(format!("out-{}", short(id))));
    let poll = Duration::from_millis(serve.poll_millis.max(10));
    let mut board = Board::new();
    let followed = tokio::select! {
        followed = requester.follow(id, &out, poll, |progress, entry| show(&mut board, &progress, entry)) => followed,
        () = crate::exit::signalled() => {
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
        let tasks: u32 = ledger.providers.iter().map(|provider| provider.tasks).sum();
        let cancelled = match ledger.tasks - tasks {
            0 => String::new(),
            missing => format!(", {missing} were cancelled"),
        };
        let failed = match &failed_tasks[..] {
            [] => String::new(),
            failed => format!("\n{} of them failed or ended with an exit code that is not 0: {failed:?}", failed.len()),
        };
        format!(
            "{table}\n{tasks} tasks are done{cancelled}: {} CON spent, {} CON refunded to your Escrow balance; outputs are in {}{failed}",
            tokens(ledger.spent),
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
    let done = entry.batches.iter().filter(|batch| batch.is_final()).count();
    let line = match progress {
        Progress::Leased { batch, provider } => format!("batch {batch}: leased by {}, executing", short(provider)),
        Progress::Reopened { batch } => {
            format!("batch {batch}: its lease has ended without a result; it is open again")
        }
        Progress::Submitted { batch, provider, fuel } => {
            format!("batch {batch}: submitted by {}, {fuel} fuel", short(provider))
        }
        Progress::Verified { batch } => format!("batch {batch}: fetched and verified"),
        Progress::NotTaken { batch, reason } => format!("batch {batch}: not accepted: {reason}"),
        Progress::Settled { batch, provider, payment, accepted } => {
            let how = if *accepted { "accepted" } else { "its window is over" };
            format!("batch {batch}: {how}, {} is paid {} CON", short(provider), tokens(*payment))
        }
        Progress::Trouble { reason } => format!("trouble: {reason}"),
    };
    board.line(&line, done, entry.batches.len());
}

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
        batches: entry.batches.len(),
        settled: entry.batches.iter().filter(|batch| batch.stage == BatchStage::Settled).count(),
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

async fn list(context: &Context) -> eyre::Result<ExitCode> {
    let (_, follower) = follower(context).await?;
    let index = follower.index();
    let jobs: Vec<_> = index.order.iter().filter_map(|id| Some(listed(*id, index.jobs.get(id)?))).collect();
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

async fn status(context: &Context, job: &str) -> eyre::Result<ExitCode> {
    let (provider, follower) = follower(context).await?;
    let id = find(&follower, job)?;
    let entry = follower.index().jobs.get(&id).ok_or_else(|| eyre!("no job {id}"))?;
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
    let report = json!({ "job": listed(id, entry), "batches": batches, "ledger": ledger });
    output::result(context.json(), &report, |_| {
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
        format!(
            "job {id}: {}\n{table}\n{} CON deposited, {} spent, {} refunded",
            state(entry),
            tokens(ledger.deposit),
            tokens(ledger.spent),
            tokens(ledger.refunded)
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

/// A requester that serves nothing: in a folder of its own that goes with it.
async fn visitor(context: &Context) -> eyre::Result<(Requester, tempfile::TempDir)> {
    let folder = tempfile::tempdir()?;
    let serve = ServeArgs {
        out: None,
        data_dir: Some(folder.path().to_owned()),
        listen: ([127, 0, 0, 1], 0).into(),
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
