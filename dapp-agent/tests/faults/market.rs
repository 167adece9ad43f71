//! A chain with the contracts, accounts with tokens, agents on machines, and jobs. The chain is the in-process one or anvil; both are
//! talked to by their URL alone.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use alloy::{
    network::EthereumWallet,
    primitives::{Address, B256, U256},
    providers::{DynProvider, Provider, ProviderBuilder},
    signers::local::PrivateKeySigner,
};
use conun_agent::{
    chain::{BallotStage, BatchStage, Follower, Index, JobEntry, ReplicaStage},
    core::Policy,
    fabric::{Preferences, Readings, Sensors},
    net::NetworkSettings,
    provider::{self, ProviderConfig, Running},
    requester::{JobFile, Ledger, Prepared, Requester, assemble},
    sandbox::Sandbox,
    store::Journal,
};
use conun_bindings::{
    Contracts,
    abi::{ConunToken, Deployment::Settings, Escrow},
    deploy::{Plan, TOKEN, deploy, devnet_settings, standard_settings},
};
use conun_chain::{ChainConfig, Clock, ServerHandle, SharedChain, dev_accounts};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};

use crate::machine::Machine;

/// What does not happen within this time does not happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Time between blocks, each a second of block time after the last.
const TICK: Duration = Duration::from_millis(100);

/// Account of the requester.
const REQUESTER: usize = 9;

pub(crate) const HELLO: &[u8] = include_bytes!("../../../examples/hello/hello.wasm");

/// A node.
#[derive(Debug)]
enum Node {
    InProcess { _server: ServerHandle },
    Anvil(Child),
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Self::Anvil(child) = self {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A chain whose time goes on by itself, unless it is held.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    url: String,
    node: Arc<Node>,
    /// No block is mined.
    stopped: Arc<AtomicBool>,
    /// Blocks are mined, but no time passes.
    timeless: Arc<AtomicBool>,
    /// Block time that [`Chain::skip_to`] has gone to, whether or not there is a block that shows it.
    skipped_to: Arc<AtomicU64>,
}

impl Chain {
    async fn start(anvil: Option<&Path>, ahead: i64) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().saturating_add_signed(ahead);
        let (url, node) = match anvil {
            Some(program) => start_anvil(program, now),
            None => {
                let chain = SharedChain::new(ChainConfig { clock: Clock::Manual(now), ..ChainConfig::default() });
                let server = chain.serve(([127, 0, 0, 1], 0).into()).await.unwrap();
                (server.url(), Node::InProcess { _server: server })
            }
        };
        Self {
            url,
            node: Arc::new(node),
            stopped: Arc::default(),
            timeless: Arc::default(),
            skipped_to: Arc::default(),
        }
    }

    pub(crate) fn provider(&self) -> DynProvider {
        ProviderBuilder::new().connect_http(self.url.parse().unwrap()).erased()
    }

    pub(crate) fn wallet(&self, signers: &[PrivateKeySigner]) -> DynProvider {
        let mut wallet = EthereumWallet::from(signers[0].clone());
        signers[1..].iter().for_each(|signer| wallet.register_signer(signer.clone()));
        ProviderBuilder::new().wallet(wallet).connect_http(self.url.parse().unwrap()).erased()
    }

    pub(crate) async fn rpc(&self, method: &'static str, params: Value) -> Value {
        self.provider().raw_request(method.into(), params).await.unwrap()
    }

    /// Has transactions wait, or mines them again.
    pub(crate) async fn hold(&self, on: bool) {
        self.stopped.store(on, Ordering::Relaxed);
        self.rpc("evm_setAutomine", json!([!on])).await;
    }

    /// No blocks but for transactions, or one each tick.
    pub(crate) fn stop(&self, on: bool) {
        self.stopped.store(on, Ordering::Relaxed);
    }

    /// Blocks with no time between them, or a second each.
    pub(crate) fn stop_time(&self, on: bool) {
        self.timeless.store(on, Ordering::Relaxed);
    }

    /// Lets that much block time pass at once.
    pub(crate) async fn skip(&self, seconds: u64) {
        self.rpc("evm_increaseTime", json!([seconds])).await;
        self.mine().await;
    }

    /// Has block time, which is `now` in the latest block, go on to `time` at once if it is not there yet.
    pub(crate) async fn skip_to(&self, now: u64, time: u64) {
        let before = self.skipped_to.fetch_max(time, Ordering::Relaxed);
        self.skip(time.saturating_sub(now.max(before))).await;
    }

    /// Seconds before a deadline at which a machine comes back: one block's, if time can be stopped. Anvil's goes on with the system's clock.
    pub(crate) fn margin(&self) -> u64 {
        if matches!(*self.node, Node::Anvil(_)) { 60 } else { 1 }
    }

    /// Mines a block, unless transactions have to wait.
    async fn mine(&self) {
        if !self.stopped.load(Ordering::Relaxed) {
            self.rpc("evm_mine", json!([])).await;
        }
    }

    /// Mines, until it is dropped.
    async fn run(self) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if !self.timeless.load(Ordering::Relaxed) {
                self.rpc("evm_increaseTime", json!([1])).await;
            }
            self.mine().await;
        }
    }
}

fn start_anvil(program: &Path, now: u64) -> (String, Node) {
    use std::io::BufRead;

    let mut child = Command::new(program)
        .args(["--port", "0", "--timestamp", &now.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
    let mut lines = lines.map_while(Result::ok);
    let line = lines.find(|line| line.contains("Listening on ")).expect("anvil starts");
    // Whoever writes into a full pipe waits.
    std::thread::spawn(move || lines.for_each(drop));
    (format!("http://{}", line.trim().trim_start_matches("Listening on ")), Node::Anvil(child))
}

/// Chain, contracts, and folders.
#[derive(Debug)]
pub(crate) struct Market {
    pub(crate) chain: Chain,
    pub(crate) contracts: Contracts,
    folder: TempDir,
    clock: tokio::task::JoinHandle<()>,
}

impl Drop for Market {
    fn drop(&mut self) {
        self.clock.abort();
    }
}

impl Market {
    pub(crate) async fn open(anvil: Option<&Path>) -> Self {
        Self::open_at(anvil, 0).await
    }

    /// The same with block time so many seconds ahead of the system's clock.
    pub(crate) async fn open_at(anvil: Option<&Path>, ahead: i64) -> Self {
        let chain = Chain::start(anvil, ahead).await;
        let accounts = dev_accounts();
        let (provider, holder) = (chain.wallet(&accounts), accounts[0].address());
        // Jobs may take as long as on a real network.
        let (long, short) = (standard_settings(holder), devnet_settings(holder));
        let settings = Settings {
            exitDelaySeconds: long.exitDelaySeconds,
            maxCommitmentSeconds: long.maxCommitmentSeconds,
            ..short
        };
        let plan = Plan::new(settings, B256::ZERO);
        let contracts = deploy(&provider, holder, &plan, None, |_| {}).await.unwrap();
        let token = ConunToken::new(contracts.token, &provider);
        for account in [1, 2, REQUESTER] {
            let amount = U256::from(100_000 * TOKEN);
            let sent = token.transfer(accounts[account].address(), amount).send().await.unwrap();
            assert!(sent.get_receipt().await.unwrap().status());
        }
        let clock = tokio::spawn(chain.clone().run());
        Self { chain, contracts, folder: tempfile::tempdir().unwrap(), clock }
    }

    /// Registers a devnet account as a provider, whose machine this is.
    pub(crate) async fn seat(&self, account: usize, machine: Machine) -> Seat {
        self.seat_in(account, machine, self.folder.path().join(format!("provider-{account}"))).await
    }

    /// The same with its data folder there.
    pub(crate) async fn seat_in(&self, account: usize, machine: Machine, folder: PathBuf) -> Seat {
        let signer = dev_accounts()[account].clone();
        let config = ProviderConfig {
            account: "test".to_owned(),
            address: None,
            rpc_url: self.chain.url.clone(),
            listen: ([127, 0, 0, 1], 0).into(),
            network: NetworkSettings::default(),
            poll_millis: 50,
            confirmations: 0,
            max_fee_gwei: None,
            second_rpc_url: None,
            metrics: None,
            policy: Policy::default(),
            preferences: Preferences::always(),
            contracts: self.contracts,
        };
        provider::register(&folder, &config, &signer, signer.address(), None).await.unwrap();
        Seat { folder, signer, machine, real_disk: false, chain: self.chain.clone() }
    }

    pub(crate) async fn requester(&self) -> Requester {
        let signer = dev_accounts()[REQUESTER].clone();
        let folder = self.folder.path().join("requester");
        Requester::start(
            &folder,
            &self.chain.url,
            self.contracts,
            signer,
            ([127, 0, 0, 1], 0).into(),
            NetworkSettings::default(),
        )
        .await
        .unwrap()
    }

    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) async fn follower(&self) -> Follower {
        let mut follower = Follower::new(self.chain.provider(), self.contracts, 0).await.unwrap();
        follower.poll().await.unwrap();
        follower
    }

    pub(crate) async fn stake(&self, account: Address) -> U256 {
        self.follower().await.index().providers[&account].stake
    }

    pub(crate) async fn earned(&self, account: Address) -> U256 {
        let provider = self.chain.provider();
        U256::from(Escrow::new(self.contracts.escrow, provider).balanceOf(account).call().await.unwrap().earned)
    }

    /// Until when `account` has to do something that it would lose stake without, and when the first of it is due; none if there is
    /// nothing.
    pub(crate) async fn due(&self, account: Address) -> Option<u64> {
        let follower = self.follower().await;
        let mut due = Vec::new();
        for entry in follower.index().jobs.values() {
            let mine = |batch: &&conun_agent::chain::BatchEntry| {
                batch.stage == BatchStage::Leased && batch.provider == account
            };
            due.extend(entry.batches.iter().filter(mine).map(|batch| batch.deadline));
            due.extend(entry.ballots().filter_map(|ballot| match (ballot.stage, ballot.stage_of(account)?) {
                (BallotStage::Committing, ReplicaStage::Leased { deadline, .. }) => Some(deadline),
                (BallotStage::Revealing, ReplicaStage::Committed { .. }) => Some(ballot.time),
                _ => None,
            }));
        }
        due.into_iter().min()
    }

    /// Waits until the chain shows something.
    pub(crate) async fn until(&self, what: &str, shows: impl Fn(&Index) -> bool) {
        let waiting = async {
            while !shows(self.follower().await.index()) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("the chain never shows {what}"));
    }

    /// Follows a job to its end, and asserts that its outputs are right and its books add up.
    pub(crate) async fn follow(&self, requester: &mut Requester, job: B256) -> Ledger {
        let out = self.folder(&job.to_string());
        let mut told = Vec::new();
        let tell = |progress, _: &JobEntry| told.push(progress);
        let following = requester.follow(job, &out, Duration::from_millis(50), tell);
        let followed = tokio::time::timeout(PATIENCE, following).await;
        followed.unwrap_or_else(|_| panic!("job {job} never ends; what is known of it: {told:?}")).unwrap();
        assert_greeted(&out);
        let ledger = Ledger::of(&self.chain.provider(), self.follower().await.index(), job).await.unwrap();
        assert!(ledger.adds_up() && ledger.expired_leases == 0, "{ledger:?}");
        ledger
    }

    /// Block time.
    pub(crate) async fn now(&self) -> u64 {
        self.follower().await.head().unwrap().timestamp
    }
}

/// Greetings of four people in two batches, with long leases; each executed once, or as `assurance` says.
pub(crate) fn greetings(assurance: Option<&str>) -> Prepared {
    greetings_for(TOKEN, assurance)
}

/// The same for another price, in token wei for 10^9 fuel: another job.
pub(crate) fn greetings_for(price: u128, assurance: Option<&str>) -> Prepared {
    let mut text = "program = 'hello.wasm'\nprice = '1'\nbatch-size = 2\nfuel-limit = 1000000\nlease-seconds = 400\n\
                    window-seconds = 1200\n"
        .to_owned();
    if let Some(assurance) = assurance {
        text += &format!("[assurance]\nreveal-seconds = 200\npost-seconds = 2\nwiden-seconds = 2\n{assurance}\n");
    }
    let inputs = (0..4).map(|task| format!("Person {task}\n").into()).collect();
    assemble(&JobFile::parse(&text).unwrap(), HELLO.into(), inputs, Vec::new(), price).unwrap()
}

/// Whether the folder holds exactly what [`greetings`] say.
pub(crate) fn assert_greeted(out: &Path) {
    for task in 0..4 {
        let text = std::fs::read_to_string(out.join(task.to_string())).unwrap();
        assert_eq!(text, format!("Hello, Person {task}! (2 words)\n"));
    }
}

/// Sensors that tell nothing: the computer is its agent's, and a full disk comes by surprise.
#[derive(Debug)]
struct Blind;

impl Sensors for Blind {
    async fn read(&mut self) -> Readings {
        Readings::default()
    }
}

/// A registered provider's account, data folder and machine.
#[derive(Clone, Debug)]
pub(crate) struct Seat {
    pub(crate) folder: PathBuf,
    pub(crate) signer: PrivateKeySigner,
    pub(crate) machine: Machine,
    /// The journal is on the folder's own disk instead of the machine's.
    pub(crate) real_disk: bool,
    chain: Chain,
}

/// An agent on threads of its own, so that it ends with everything it has going.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) events: mpsc::UnboundedReceiver<Running>,
    end: oneshot::Sender<()>,
    thread: JoinHandle<Result<(), String>>,
    line: tokio::task::JoinHandle<()>,
}

impl Seat {
    pub(crate) fn account(&self) -> Address {
        self.signer.address()
    }

    /// Starts the agent on its machine.
    pub(crate) async fn boot(&self) -> Agent {
        let (url, line) = self.machine.line(&self.chain).await;
        let (tell, events) = mpsc::unbounded_channel();
        let (end, ended) = oneshot::channel::<()>();
        let seat = self.clone();
        let config = ProviderConfig { rpc_url: url, ..ProviderConfig::read(&self.folder).unwrap() };
        let sandbox = Sandbox::new(env!("CARGO_BIN_EXE_conun-worker").into(), [""; 0]);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            let working = async {
                let machine = seat.machine.clone();
                let journal = if seat.real_disk {
                    Journal::open(&seat.folder)
                } else {
                    Journal::open_on(&seat.folder, move |file| machine.disk(file))
                };
                let journal = journal.map_err(|error| error.to_string())?;
                let last = tell.clone();
                let told = move |event| drop(tell.send(event));
                let never = std::future::pending();
                let running = provider::run_on(Blind, journal, config, seat.signer, sandbox, told, never);
                let ended = running.await.map_err(|error| error.to_string());
                // Whoever waits for an event learns why none comes any more.
                ended.inspect_err(|error| drop(last.send(Running::Trouble(format!("ended: {error}")))))
            };
            let result = runtime.block_on(async {
                tokio::select! {
                    result = working => result,
                    _ = ended => Ok(()),
                }
            });
            runtime.shutdown_timeout(Duration::from_secs(5));
            result
        });
        Agent { events, end, thread, line }
    }
}

impl Agent {
    /// The next event that `wanted` makes something of.
    pub(crate) async fn until<T>(&mut self, what: &str, wanted: impl Fn(&Running) -> Option<T>) -> T {
        let mut past = Vec::new();
        let waiting = async {
            loop {
                let event = self.events.recv().await;
                let event = event.unwrap_or_else(|| panic!("{what}: the agent ended after {past:?}"));
                if let Some(found) = wanted(&event) {
                    return found;
                }
                if !matches!(event, Running::Looked(_)) {
                    past.push(event);
                }
            }
        };
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(found) => found,
            Err(_) => panic!("{what} never happens; what did: {past:?}"),
        }
    }

    pub(crate) async fn ready(&mut self) {
        self.until("ready", |event| matches!(event, Running::Ready { .. }).then_some(())).await;
    }

    /// What it has said since it was asked last.
    pub(crate) fn said(&mut self) -> Vec<Running> {
        let said = std::iter::from_fn(|| self.events.try_recv().ok());
        said.filter(|event| !matches!(event, Running::Looked(_))).collect()
    }

    /// As a crash would end it; what it said of an end of its own.
    pub(crate) async fn crash(self) -> Result<(), String> {
        // It may have ended because its machine failed.
        let _ = self.end.send(());
        let result = tokio::task::spawn_blocking(|| self.thread.join().unwrap()).await.unwrap();
        self.line.abort();
        result
    }
}
