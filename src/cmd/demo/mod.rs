//! `conun demo`: a whole market on this machine, from nothing to a paid picture.

mod agents;
mod books;
mod scene;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use alloy::{network::EthereumWallet, primitives::Address, providers::Provider as _};
use clap::Args;
use conun_agent::{
    chain::{BatchStage, JobEntry},
    net::NetworkSettings,
    requester::{JobFile, Ledger, Prepared, Progress, Requester, assemble},
};
use conun_bindings::deploy::TOKEN;
use conun_chain::{ChainConfig, dev_accounts};
use eyre::{Context as _, ensure};
use serde::Serialize;

use super::{
    devnet::{self, Market},
    job::show,
};
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

/// After this long without a stopped agent's doing, the chain as last read holds all that it did before.
const SETTLE: Duration = Duration::from_millis(400);

/// The demo takes well under a minute; something is wrong if it takes this long.
const PATIENCE: Duration = Duration::from_secs(600);

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
    /// Kill none of them. Fewer than four tasks have no half-way: nobody is killed then, either.
    #[arg(long)]
    no_fault: bool,
    /// Leave chain and agents running afterwards, until Control-C.
    #[arg(long)]
    keep: bool,
    /// Use the chain at --rpc-url instead of an embedded one. Its first ten accounts must be the devnet's, with ether in them, and
    /// it must make blocks by itself: `conun devnet`, `anvil --block-time 1 --mixed-mining`.
    #[arg(long)]
    external_chain: bool,
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
    provider: Address,
    /// Batches that it held.
    held: Vec<u32>,
    /// Batches whose results were there by then.
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
        () = tokio::time::sleep(PATIENCE), if !args.keep => Err(eyre::eyre!("not done after {PATIENCE:?}")),
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
    let record = folder.join("deployment.json");
    let (market, server) = if args.external_chain {
        output::note(format_args!("deploying the contracts to the chain at {}", context.rpc_url()));
        (external(context, &record).await?, None)
    } else {
        output::note("starting an embedded chain and deploying the contracts");
        let config = ChainConfig { block_time: Some(BLOCK_TIME), ..ChainConfig::default() };
        let devnet = devnet::start(config, ([127, 0, 0, 1], 0).into(), Some(&record), Address::ZERO).await?;
        (devnet.market, Some(devnet.server))
    };
    clock.lap("chain and contracts");

    output::note(format_args!(
        "starting {} provider agents, each a process with its own account, endpoint and folder",
        args.providers
    ));
    let agents = Agents::start(&market, folder, &record, args.providers).await?;
    clock.lap("agents");

    let prepared = job(args.tasks)?;
    // The last of the devnet's accounts; the first pays for the providers.
    let signer = market.accounts[9].clone();
    let mut requester = Requester::start(
        &folder.join("requester"),
        &market.url,
        market.contracts,
        signer,
        ([127, 0, 0, 1], 0).into(),
        NetworkSettings::default(),
    )
    .await?;
    let people = agents.accounts();
    let before = Holdings::read(&market, requester.account(), &people).await?;
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
    let mut fault = (!args.no_fault && args.providers > 1 && args.tasks >= 4).then(Fault::default);
    requester
        .follow(posted.job, &outputs, POLL, |progress, entry| {
            show(&mut board, &progress, entry);
            if let Some(line) = fault.as_mut().and_then(|fault| fault.watch(&agents, &progress, entry)) {
                let done = entry.batches.iter().filter(|batch| batch.is_final()).count();
                board.line(&line, done, entry.batches.len());
            }
        })
        .await?;
    board.finish();
    clock.lap("work");
    let faulty = fault.is_some();
    let killed = fault.and_then(|fault| fault.end(&agents));

    let tiles = scene::tiles(args.tasks);
    let read = |index: usize| std::fs::read(outputs.join(index.to_string()));
    let outputs = (0..tiles.len()).map(read).collect::<Result<Vec<_>, _>>()?;
    let pixels = scene::assemble(&tiles, &outputs)?;
    let hash = scene::hash(&pixels);
    let path = args.out.join("scene.png");
    scene::write_png(&path, &pixels)?;
    requester.refresh().await?;
    let ledger = Ledger::of(requester.provider(), requester.follower().index(), posted.job).await?;
    let after = Holdings::read(&market, requester.account(), &people).await?;
    let books = Books::close(&before, &after, &ledger);
    clock.lap("picture and books");

    let report = Report {
        contracts: market.contracts,
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
    ensure!(report.killed.is_some() == faulty, "nobody could be killed half-way: the machine was too busy, try again");
    ensure!(ok, "the books do not add up: {:?}", report.books);
    if args.keep {
        keep(&market, &agents, &report).await;
    }
    requester.shutdown().await;
    agents.stop().await;
    if let Some(server) = server {
        server.stop().await;
    }
    Ok(ExitCode::SUCCESS)
}

/// The market on the chain at --rpc-url.
async fn external(context: &Context, record: &std::path::Path) -> eyre::Result<Market> {
    let accounts = dev_accounts();
    let mut wallet = EthereumWallet::default();
    accounts.iter().for_each(|signer| wallet.register_signer(signer.clone()));
    let (provider, chain_id) = context.writer(wallet).await?;
    let url = context.rpc_url().to_owned();
    for signer in &accounts {
        let account = signer.address();
        ensure!(
            !provider.get_balance(account).await?.is_zero(),
            "{account} has no ether on chain {chain_id}: --external-chain is for nodes with the devnet's accounts, such as `conun devnet` or anvil; nothing was sent"
        );
    }
    Market::open(url, provider, Some(record), Address::ZERO).await
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
        env: BTreeMap::new(),
        seed: None,
        files: BTreeMap::new(),
        inputs: Vec::new(),
        input_lines: None,
        batch_size: Some(batch_size),
        fuel_limit,
        memory_mib: 64,
        price: String::new(),
        private: false,
        lease_seconds: 10 + 90 / batches,
        window_seconds: 600,
        category: 0,
        assurance: None,
    };
    let inputs = scene::tiles(tasks).into_iter().map(|tile| tile.input().into()).collect();
    Ok(assemble(&file, scene::PROGRAM.into(), inputs, Vec::new(), PRICE)?)
}

/// Kills a provider half-way, while it holds leases and owes no output: otherwise a result might be on the chain whose bytes died
/// with its provider. It is stopped first, so that it cannot submit anything while the chain is looked at once more.
#[derive(Default)]
struct Fault {
    verified: BTreeSet<u32>,
    /// Who is stopped, and since when.
    stopped: Option<(Address, Instant)>,
    killed: Option<Killed>,
}

impl Fault {
    /// Takes note of what happens; a sentence when somebody is killed.
    fn watch(&mut self, agents: &Agents, progress: &Progress, entry: &JobEntry) -> Option<String> {
        if let Progress::Verified { batch } = progress {
            self.verified.insert(*batch);
        }
        if self.killed.is_some() {
            return None;
        }
        let of = |provider: Address, stage: BatchStage| {
            let batches =
                (0..).zip(&entry.batches).filter(move |(_, batch)| batch.stage == stage && batch.provider == provider);
            batches.map(|(number, _)| number)
        };
        let owes = |provider: Address| of(provider, BatchStage::Submitted).any(|batch| !self.verified.contains(&batch));
        let Some((provider, since)) = self.stopped else {
            // Or before, once everything is taken: who works fast may deliver all of the rest at once.
            let half = 2 * self.verified.len() >= entry.batches.len()
                || entry.batches.iter().all(|batch| batch.stage != BatchStage::Open);
            let mut holders =
                entry.batches.iter().filter(|batch| batch.stage == BatchStage::Leased).map(|batch| batch.provider);
            let victim = holders.find(|provider| half && !owes(*provider))?;
            self.stopped = agents.signal(victim, "-STOP").then(|| (victim, Instant::now()));
            return None;
        };
        if since.elapsed() < SETTLE {
            return None;
        }
        let held: Vec<_> = of(provider, BatchStage::Leased).collect();
        self.stopped = None;
        if held.is_empty() || owes(provider) {
            agents.signal(provider, "-CONT");
            return None;
        }
        agents.signal(provider, "-KILL");
        let line = format!("{} is killed (SIGKILL); it holds batches {held:?}", output::short(provider));
        self.killed = Some(Killed { provider, held, after: self.verified.len() });
        Some(line)
    }

    /// Lets whoever is stopped go on.
    fn end(self, agents: &Agents) -> Option<Killed> {
        if let Some((provider, _)) = self.stopped {
            agents.signal(provider, "-CONT");
        }
        self.killed
    }
}

async fn keep(market: &Market, agents: &Agents, report: &Report) {
    let contracts = &report.contracts;
    output::note(format_args!(
        "\nchain and agents go on until Control-C. For instance:\n  \
         cast block-number --rpc-url {url}\n  \
         cast call {token} 'balanceOf(address)(uint256)' {escrow} --rpc-url {url}\n  \
         cast logs --address {jobs} --from-block 0 --rpc-url {url}\n  \
         conun job status {job} --rpc-url {url} --deployment {record}",
        url = market.url,
        token = contracts.token,
        escrow = contracts.escrow,
        jobs = contracts.jobs,
        job = output::short(report.ledger.job),
        record = agents.record().display(),
    ));
    crate::exit::signalled().await;
}
