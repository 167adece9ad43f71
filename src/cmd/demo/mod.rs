//! `conun demo`: a whole market on this machine, from nothing to a paid picture.

mod agents;
mod books;
mod scene;

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Args;
use conun_agent::{
    chain::{BatchStage, JobEntry},
    requester::{JobFile, Ledger, Prepared, Progress, Requester, assemble},
};
use conun_bindings::deploy::TOKEN;
use conun_chain::ChainConfig;
use eyre::{Context as _, ensure};
use serde::Serialize;

use super::{devnet, job::show};
use crate::{
    context::Context,
    exit::Ending,
    output::{self, Board},
};
use agents::Agents;
use books::{Books, Holdings};

/// Time between blocks when nothing happens.
const BLOCK_TIME: Duration = Duration::from_millis(250);

/// Time between looks at the chain.
const POLL: Duration = Duration::from_millis(150);

/// Price, token wei for 10^9 fuel: one token.
const PRICE: u128 = TOKEN;

/// Most tasks that the demo's chain and patience are made for.
const MAX_TASKS: u32 = 4_096;

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Tiles to cut the picture into, a task each.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_TASKS)))]
    tasks: u32,
    /// Provider processes.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=8))]
    providers: u32,
    /// Kill none of them.
    #[arg(long)]
    no_fault: bool,
    /// Leave chain and agents running afterwards, until Control-C.
    #[arg(long)]
    keep: bool,
    /// Folder for the picture.
    #[arg(long, value_name = "DIR", default_value = "demo-out")]
    out: PathBuf,
}

/// Wall time of one part of the demo.
#[derive(Serialize)]
struct Phase {
    name: &'static str,
    seconds: f64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Picture {
    path: PathBuf,
    width: u32,
    height: u32,
    samples: u32,
    /// keccak256 of the raw pixels.
    hash: alloy::primitives::B256,
    /// Whether that is what it has to be.
    correct: bool,
}

/// The provider that was killed.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Killed {
    provider: u32,
    /// Batches that it held.
    held: Vec<u32>,
    /// Batches that were paid by then.
    after: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    contracts: conun_bindings::Contracts,
    picture: Picture,
    ledger: Ledger,
    killed: Option<Killed>,
    books: Books,
    phases: Vec<Phase>,
}

/// Measures phases.
struct Clock {
    phases: Vec<Phase>,
    since: Instant,
}

impl Clock {
    fn lap(&mut self, name: &'static str) {
        self.phases.push(Phase { name, seconds: self.since.elapsed().as_secs_f64() });
        self.since = Instant::now();
    }
}

pub(crate) async fn run(context: &Context, args: DemoArgs) -> eyre::Result<ExitCode> {
    std::fs::create_dir_all(&args.out).wrap_err_with(|| format!("cannot make the folder {}", args.out.display()))?;
    let folder = tempfile::Builder::new().prefix("conun-demo-").tempdir()?;
    let path = folder.path().to_owned();
    let played = tokio::select! {
        played = play(context, &args, &path) => played,
        () = crate::exit::signalled() => Err(Ending::Interrupted.into()),
    };
    if let Err(error) = &played
        && error.downcast_ref::<Ending>().is_none()
    {
        output::note(format_args!("the agents' logs are in {}", folder.keep().display()));
    }
    played
}

async fn play(context: &Context, args: &DemoArgs, folder: &std::path::Path) -> eyre::Result<ExitCode> {
    let mut clock = Clock { phases: Vec::new(), since: Instant::now() };
    output::note("starting an embedded chain and deploying the contracts");
    let config = ChainConfig { block_time: Some(BLOCK_TIME), ..ChainConfig::default() };
    let record = folder.join("deployment.json");
    let devnet = devnet::start(config, ([127, 0, 0, 1], 0).into(), Some(record.clone())).await?;
    clock.lap("chain and contracts");

    output::note(format_args!(
        "starting {} provider agents, each a process with its own account, endpoint and folder",
        args.providers
    ));
    let mut agents = Agents::start(&devnet, folder, &record, args.providers).await?;
    clock.lap("agents");

    let prepared = job(args.tasks)?;
    // The last of the devnet's accounts; the first pay for the providers.
    let signer = devnet.accounts[9].clone();
    let mut requester = Requester::start(
        &folder.join("requester"),
        &devnet.server.url(),
        devnet.contracts,
        signer,
        ([127, 0, 0, 1], 0).into(),
    )
    .await?;
    let people = agents.accounts();
    let before = Holdings::read(&devnet, requester.account(), &people).await?;
    let posted = requester.post(&prepared).await?;
    output::note(format_args!(
        "posted job {}: {} tiles in {} batches, {} CON locked, 1 CON for 10^9 fuel",
        posted.job,
        posted.tasks,
        posted.batches,
        output::tokens(posted.deposit)
    ));
    clock.lap("post");

    let outputs = folder.join("outputs");
    let mut board = Board::new();
    let mut killed = None;
    let fault = !args.no_fault && args.providers > 1;
    requester
        .follow(posted.job, &outputs, POLL, |progress, entry| {
            show(&mut board, &progress, entry);
            if fault && killed.is_none() {
                killed = kill(&mut agents, entry, &progress);
                if let Some(killed) = &killed {
                    let line =
                        format!("provider {} is killed (SIGKILL); it holds batches {:?}", killed.provider, killed.held);
                    board.line(&line, killed.after, entry.batches.len());
                }
            }
        })
        .await?;
    board.finish();
    clock.lap("work");

    let tiles = scene::tiles(args.tasks);
    let read = |index: usize| std::fs::read(outputs.join(index.to_string()));
    let outputs = (0..tiles.len()).map(read).collect::<Result<Vec<_>, _>>()?;
    let pixels = scene::assemble(&tiles, &outputs)?;
    let hash = scene::hash(&pixels);
    let path = args.out.join("scene.png");
    scene::write_png(&path, &pixels)?;
    requester.refresh().await?;
    let ledger = Ledger::of(requester.provider(), requester.follower().index(), posted.job).await?;
    let after = Holdings::read(&devnet, requester.account(), &people).await?;
    let books = Books::close(&before, &after, &ledger);
    clock.lap("picture and books");

    let report = Report {
        contracts: devnet.contracts,
        picture: Picture {
            path,
            width: scene::WIDTH,
            height: scene::HEIGHT,
            samples: scene::SAMPLES,
            hash,
            correct: hash == scene::EXPECTED,
        },
        ledger,
        killed,
        books,
        phases: clock.phases,
    };
    output::result(context.json(), &report, books::text)?;
    output::note(format_args!("the picture is in {}", report.picture.path.display()));
    let ok = report.picture.correct && report.books.add_up && report.ledger.adds_up();
    ensure!(report.picture.correct, "the picture's hash is {hash}, expected {}", scene::EXPECTED);
    ensure!(ok, "the books do not add up: {:?}", report.books);
    if args.keep {
        keep(&devnet, &mut agents, &report).await;
    }
    requester.shutdown().await;
    agents.stop().await;
    devnet.server.stop().await;
    Ok(ExitCode::SUCCESS)
}

/// The job: the path tracer, and a tile for each task.
fn job(tasks: u32) -> eyre::Result<Prepared> {
    let batch_size = tasks.div_ceil(16);
    let batches = tasks.div_ceil(batch_size);
    // Tiles differ by what is in them, so the limit leaves a lot of room; what is not used is not paid for.
    let fuel_limit = 20_000_000_000 + 2 * scene::FUEL / u64::from(tasks);
    let file = JobFile {
        program: PathBuf::new(),
        args: Vec::new(),
        inputs: Vec::new(),
        input_lines: None,
        batch_size: Some(batch_size),
        fuel_limit,
        memory_mib: 64,
        price: String::new(),
        lease_seconds: 10 + 90 / batches,
        window_seconds: 600,
        category: 0,
    };
    let inputs = scene::tiles(tasks).into_iter().map(|tile| tile.input().into()).collect();
    Ok(assemble(&file, scene::PROGRAM.into(), inputs, PRICE)?)
}

/// Half-way, kills a provider that holds something.
fn kill(agents: &mut Agents, entry: &JobEntry, progress: &Progress) -> Option<Killed> {
    let done = entry.batches.iter().filter(|batch| batch.is_final()).count();
    let Progress::Leased { provider, .. } = progress else { return None };
    if 2 * done < entry.batches.len() {
        return None;
    }
    let holds =
        |batch: &conun_agent::chain::BatchEntry| batch.stage == BatchStage::Leased && batch.provider == *provider;
    let held = (0..).zip(&entry.batches).filter(|(_, batch)| holds(batch)).map(|(number, _)| number).collect();
    agents.kill(*provider).then_some(Killed { provider: *provider, held, after: done })
}

async fn keep(devnet: &devnet::Devnet, agents: &mut Agents, report: &Report) {
    let contracts = &report.contracts;
    output::note(format_args!(
        "\nchain and agents go on until Control-C. For instance:\n  \
         cast block-number --rpc-url {url}\n  \
         cast call {token} 'balanceOf(address)(uint256)' {escrow} --rpc-url {url}\n  \
         cast logs --address {jobs} --from-block 0 --rpc-url {url}\n  \
         conun job status {job} --rpc-url {url} --deployment {record}",
        url = devnet.server.url(),
        token = contracts.token,
        escrow = contracts.escrow,
        jobs = contracts.jobs,
        job = output::short(report.ledger.job),
        record = agents.record().display(),
    ));
    crate::exit::signalled().await;
}
