//! What a provider's agent makes of its processors: `cargo bench -p conun-agent --bench agent [-- --workers N]`.
//!
//! A real agent with real worker processes, real endpoints on loopback, and the contracts on a chain in this process, with a block
//! a second. Prints a table of its own: utilisation of the processors that the agent may use while there is work, tasks a second
//! and gas a task with empty tasks.
//!
//! Other work on the machine takes processors from the workers. That is not the agent's doing: what the kernel says of the time that
//! a worker waited for a processor (`/proc/PID/schedstat`) is left out of the time that it could have used.

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use alloy::primitives::{B256, U256};
use conun_agent::{
    core::Policy,
    fabric::Preferences,
    net::NetworkSettings,
    provider::{self, ProviderConfig, Running},
    requester::{JobFile, Ledger, Prepared, Requester, assemble},
    sandbox::Sandbox,
};
use conun_bindings::{
    Contracts,
    abi::ConunToken,
    deploy::{Plan, TOKEN, deploy, devnet_settings},
};
use conun_chain::{ChainConfig, SharedChain, dev_accounts};
use tokio::sync::{mpsc, oneshot};

const PATHTRACER: &[u8] = include_bytes!("../../examples/pathtracer/pathtracer.wasm");

/// Jobs at once, and batches of each, of about a second.
const JOBS: usize = 3;
const BATCHES: usize = 16;

/// Empty tasks, and how many of them are a batch.
const EMPTY: usize = 16_000;
const EMPTY_BATCH: usize = 1_000;

/// Time between two looks at the workers.
const LOOK: Duration = Duration::from_millis(20);

/// What went wrong is of interest to whoever runs this alone.
type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Batches of one tile each, about a second of work, another picture for each job.
fn pictures(job: usize) -> Outcome<Prepared> {
    let text = "program = 'pathtracer.wasm'\nprice = '0.001'\nbatch-size = 1\nfuel-limit = 20_000_000_000\n\
        lease-seconds = 600\nwindow-seconds = 600";
    let tile = |tile: usize| {
        let (x, y) = (tile % 4 * 48, tile / 4 * 32);
        format!("192 128 {x} {y} {} {} {}\n", x + 48, y + 32, 300 + job).into()
    };
    Ok(assemble(
        &JobFile::parse(text)?,
        PATHTRACER.into(),
        (0..BATCHES).map(tile).collect(),
        Vec::new(),
        TOKEN / 1_000,
    )?)
}

/// Tasks that do nothing.
fn empty() -> Outcome<Prepared> {
    let wasm = wat::parse_str(r#"(module (memory (export "memory") 1) (func (export "_start")))"#)?;
    let text = format!(
        "program = 'empty.wasm'\nprice = '0.001'\nbatch-size = {EMPTY_BATCH}\nfuel-limit = 1000000\n\
        lease-seconds = 600\nwindow-seconds = 600"
    );
    Ok(assemble(&JobFile::parse(&text)?, wasm.into(), vec!["".into(); EMPTY], Vec::new(), TOKEN / 1_000)?)
}

/// Nanoseconds that a thread ran, and that it waited for a processor.
fn schedstat(path: &Path) -> Option<(u64, u64)> {
    let text = std::fs::read_to_string(path.join("schedstat")).ok()?;
    let mut numbers = text.split_whitespace().map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// The processes that this one has started.
fn children() -> Vec<u32> {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let told = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    told.flat_map(|text| text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
}

/// Nanoseconds that all workers have run and waited so far, those that ended included.
#[derive(Clone, Debug, Default)]
struct Workers(HashMap<u32, (u64, u64)>);

impl Workers {
    fn look(&mut self) {
        for pid in children() {
            let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
            let sum = |(ran, waited): (u64, u64), (more, longer): (u64, u64)| (ran + more, waited + longer);
            let (ran, waited) = threads.filter_map(|thread| schedstat(&thread.path())).fold((0, 0), sum);
            let known = self.0.entry(pid).or_default();
            *known = (known.0.max(ran), known.1.max(waited));
        }
    }

    fn sum(&self) -> (f64, f64) {
        let sum = |(ran, waited): (u64, u64), (more, longer): &(u64, u64)| (ran + more, waited + longer);
        let (ran, waited) = self.0.values().fold((0, 0), sum);
        (ran as f64 / 1e9, waited as f64 / 1e9)
    }
}

/// What the workers did, moment by moment.
fn watch(end: Arc<AtomicBool>) -> std::thread::JoinHandle<Vec<(Instant, f64, f64)>> {
    std::thread::spawn(move || {
        let mut workers = Workers::default();
        let mut seen = Vec::new();
        while !end.load(Ordering::Relaxed) {
            workers.look();
            let (ran, waited) = workers.sum();
            seen.push((Instant::now(), ran, waited));
            std::thread::sleep(LOOK);
        }
        seen
    })
}

/// An agent on a thread of its own, which tells when what happened.
struct Agent {
    events: mpsc::UnboundedReceiver<(Instant, Running)>,
    end: oneshot::Sender<()>,
    thread: std::thread::JoinHandle<Result<(), String>>,
}

impl Agent {
    async fn start(folder: &Path, url: String, contracts: Contracts, workers: u32) -> Outcome<Self> {
        let signer = dev_accounts()[1].clone();
        let config = ProviderConfig {
            account: "bench".to_owned(),
            address: None,
            rpc_url: url,
            second_rpc_url: None,
            listen: ([127, 0, 0, 1], 0).into(),
            network: NetworkSettings::default(),
            poll_millis: 250,
            confirmations: 0,
            max_fee_gwei: None,
            metrics: None,
            policy: Policy { workers, ..Policy::default() },
            preferences: Preferences::always(),
            contracts,
        };
        provider::register(folder, &config, &signer, signer.address(), Some(U256::from(50_000 * TOKEN))).await?;
        let sandbox = Sandbox::new(env!("CARGO_BIN_EXE_conun-worker").into(), [""; 0]);
        let (tell, events) = mpsc::unbounded_channel();
        let (end, ended) = oneshot::channel();
        let folder = folder.to_owned();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .map_err(|error| error.to_string())?;
            let told = move |event| drop(tell.send((Instant::now(), event)));
            let shutdown = async { drop(ended.await) };
            let running = provider::run(&folder, config, signer, sandbox, told, shutdown);
            runtime.block_on(running).map_err(|error| error.to_string())
        });
        let mut agent = Self { events, end, thread };
        agent.count(|event| usize::from(matches!(event, Running::Ready { .. })), 1).await?;
        Ok(agent)
    }

    /// When the first and the last of `wanted` events came.
    async fn count(&mut self, of: impl Fn(&Running) -> usize, wanted: usize) -> Outcome<(Instant, Instant)> {
        let (mut count, mut first) = (0, None);
        loop {
            let (at, event) = self.events.recv().await.ok_or("the agent ended")?;
            if let Running::Trouble(text) = &event {
                eprintln!("trouble: {text}");
            }
            if of(&event) > 0 {
                count += of(&event);
                let first = *first.get_or_insert(at);
                if count >= wanted {
                    return Ok((first, at));
                }
            }
        }
    }

    fn stop(self) -> Outcome<()> {
        let _ = self.end.send(());
        Ok(self.thread.join().map_err(|_| "the agent panicked")??)
    }
}

fn executed(event: &Running) -> usize {
    usize::from(matches!(event, Running::Executed(..)))
}

/// What the workers did between two moments: seconds that they ran and that they waited for a processor.
fn between(seen: &[(Instant, f64, f64)], from: Instant, to: Instant) -> (f64, f64) {
    let at = |when: Instant| seen[seen.partition_point(|(at, ..)| *at < when).min(seen.len() - 1)];
    let ((_, ran, waited), (_, before, waited_before)) = (at(to), at(from));
    (ran - before, waited - waited_before)
}

async fn utilisation(agent: &mut Agent, requester: &mut Requester, workers: u32) -> Outcome<()> {
    let end = Arc::new(AtomicBool::new(false));
    let watching = watch(end.clone());
    let mut posted = Vec::new();
    for job in 0..JOBS {
        posted.push(requester.post(&pictures(job)?).await?);
    }
    // From the first result, when all is prepared, to the last but as many as there are workers: after that there is no work.
    agent.count(executed, 1).await?;
    let from = Instant::now();
    let (_, to) = agent.count(executed, JOBS * BATCHES - 1 - workers as usize).await?;
    agent.count(executed, workers as usize).await?;
    end.store(true, Ordering::Relaxed);
    let seen = watching.join().map_err(|_| "the watcher panicked")?;
    let wall = (to - from).as_secs_f64() * f64::from(workers);
    let (ran, waited) = between(&seen, from, to);
    println!("{JOBS} jobs of {BATCHES} batches, {workers} workers, {:.1} s", (to - from).as_secs_f64());
    println!("  workers ran, of the time                       {:>6.1} %", 100.0 * ran / wall);
    println!("  workers waited for a processor, of the time    {:>6.1} %", 100.0 * waited / wall);
    println!("  utilisation: ran, of the time they could have  {:>6.1} %", 100.0 * ran / (wall - waited));
    Ok(())
}

async fn empty_tasks(agent: &mut Agent, requester: &mut Requester) -> Outcome<B256> {
    let posted = requester.post(&empty()?).await?;
    let start = Instant::now();
    let (_, to) = agent.count(executed, EMPTY / EMPTY_BATCH).await?;
    let executed = (to - start).as_secs_f64();
    println!("{EMPTY} empty tasks in batches of {EMPTY_BATCH}, from the post on");
    println!("  tasks executed a second                        {:>6.0}", EMPTY as f64 / executed);
    Ok(posted.job)
}

async fn measure(workers: u32) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let block_time = Some(Duration::from_secs(1));
    let chain = SharedChain::new(ChainConfig { block_time, ..ChainConfig::default() });
    let (provider, holder) = (chain.dev_provider(), dev_accounts()[0].address());
    let contracts = deploy(&provider, holder, &Plan::new(devnet_settings(holder), B256::ZERO), None, |_| {}).await?;
    let token = ConunToken::new(contracts.token, &provider);
    for account in [1, 9] {
        let amount = U256::from(100_000 * TOKEN);
        token.transfer(dev_accounts()[account].address(), amount).send().await?.get_receipt().await?;
    }
    let server = chain.serve(([127, 0, 0, 1], 0).into()).await?;
    let mut agent = Agent::start(&folder.path().join("provider"), server.url(), contracts, workers).await?;
    let (data, signer) = (folder.path().join("requester"), dev_accounts()[9].clone());
    let mut requester = Requester::start(
        &data,
        &server.url(),
        contracts,
        signer,
        ([127, 0, 0, 1], 0).into(),
        NetworkSettings::default(),
    )
    .await?;
    utilisation(&mut agent, &mut requester, workers).await?;
    let job = empty_tasks(&mut agent, &mut requester).await?;
    // Results are on the chain; the requester pays them at once.
    let mut waiting = tokio::time::interval(Duration::from_millis(200));
    loop {
        waiting.tick().await;
        requester.refresh().await?;
        let stands = |batch: &conun_agent::chain::BatchEntry| batch.stage == conun_agent::chain::BatchStage::Submitted;
        if requester.follower().index().job(&job).is_some_and(|entry| entry.batches.iter().all(stands)) {
            break;
        }
    }
    requester.accept(job, None).await?;
    requester.refresh().await?;
    let ledger = Ledger::of(requester.provider(), requester.follower().index(), job).await?;
    println!("  gas a task, whole life                         {:>6}", ledger.gas_per_task);
    for (kind, used) in &ledger.gas {
        println!("    {kind}: {} transactions, {} gas", used.transactions, used.gas);
    }
    requester.shutdown().await;
    agent.stop()
}

fn main() -> Outcome<()> {
    // `cargo test` runs benchmarks, too: without its own flag it is only built.
    let args: Vec<_> = std::env::args().collect();
    if !args.iter().any(|arg| arg == "--bench") {
        return Ok(());
    }
    let given = args.iter().position(|arg| arg == "--workers").and_then(|at| args.get(at + 1));
    let workers = given.map_or(Ok(1), |given| given.parse())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(measure(workers))
}
