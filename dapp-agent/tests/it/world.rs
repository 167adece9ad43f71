//! A chain with the contracts, funded accounts, agents that can be stopped or killed, and a small job.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    thread::JoinHandle,
    time::Duration,
};

use alloy::{
    primitives::{Address, B256, U256, keccak256},
    providers::{DynProvider, Provider},
    signers::local::PrivateKeySigner,
    sol_types::SolValue,
};
use conun_agent::{
    chain::{BatchStage, Follower},
    core::Policy,
    fabric::{Preferences, Sensors},
    net::NetworkSettings,
    provider::{self, ProviderConfig, Running},
    requester::{JobFile, Prepared, Progress, Requester, assemble},
    sandbox::Sandbox,
    store::Journal,
};
use conun_bindings::{
    Contracts,
    abi::{ConunToken, Deployment::Settings, Escrow, JobRegistry},
    deploy::{Plan, TOKEN, deploy, devnet_settings},
};
use conun_chain::{ChainConfig, ServerHandle, SharedChain, dev_accounts};
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};

/// An event that does not come within this time does not come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Account of the requester.
pub(crate) const REQUESTER: usize = 9;

/// Account without tokens and ether.
pub(crate) fn pauper() -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&B256::repeat_byte(0x77)).unwrap()
}

pub(crate) fn loopback() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

pub(crate) const HELLO: &[u8] = include_bytes!("../../../examples/hello/hello.wasm");

pub(crate) struct World {
    pub(crate) chain: SharedChain,
    pub(crate) server: ServerHandle,
    pub(crate) contracts: Contracts,
    pub(crate) folder: TempDir,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|settings| settings).await
    }

    /// On contracts with other settings.
    pub(crate) async fn with(change: impl FnOnce(Settings) -> Settings) -> Self {
        Self::on(Self::chain(), change).await
    }

    /// A chain without the contracts.
    pub(crate) fn chain() -> SharedChain {
        let block_time = Some(Duration::from_millis(100));
        SharedChain::new(ChainConfig { block_time, ..ChainConfig::default() })
    }

    /// The contracts on a chain that has none.
    pub(crate) async fn on(chain: SharedChain, change: impl FnOnce(Settings) -> Settings) -> Self {
        let accounts = dev_accounts();
        let (provider, holder) = (chain.dev_provider(), accounts[0].address());
        let plan = Plan::new(change(devnet_settings(holder)), B256::ZERO);
        let contracts = deploy(&provider, holder, &plan, None, |_| {}).await.unwrap();
        let token = ConunToken::new(contracts.token, &provider);
        for account in &accounts[1..] {
            let amount = U256::from(100_000 * TOKEN);
            token.transfer(account.address(), amount).send().await.unwrap().get_receipt().await.unwrap();
        }
        let server = chain.serve(loopback()).await.unwrap();
        Self { chain, server, contracts, folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn provider(&self) -> DynProvider {
        self.chain.provider()
    }

    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn config(&self, policy: Policy) -> ProviderConfig {
        ProviderConfig {
            account: "test".to_owned(),
            address: None,
            rpc_url: self.server.url(),
            listen: loopback(),
            network: NetworkSettings::default(),
            poll_millis: 50,
            confirmations: 0,
            max_fee_gwei: None,
            second_rpc_url: None,
            metrics: None,
            policy,
            // Whatever else this machine does.
            preferences: Preferences::always(),
            contracts: self.contracts,
        }
    }

    /// Registers a devnet account as a provider, for whom the owner's wishes do not matter.
    pub(crate) async fn register(&self, account: usize, policy: Policy) -> Seat {
        self.register_guest(account, policy, Preferences::always()).await
    }

    /// Registers a devnet account as a provider with these preferences.
    pub(crate) async fn register_guest(&self, account: usize, policy: Policy, preferences: Preferences) -> Seat {
        let signer = dev_accounts()[account].clone();
        let seat = Seat { folder: self.folder(&format!("provider-{account}")), signer };
        let payout = seat.signer.address();
        let config = ProviderConfig { preferences, ..self.config(policy) };
        provider::register(&seat.folder, &config, &seat.signer, payout, None).await.unwrap();
        seat
    }

    pub(crate) async fn requester(&self) -> Requester {
        let signer = dev_accounts()[REQUESTER].clone();
        let folder = self.folder("requester");
        Requester::start(&folder, &self.server.url(), self.contracts, signer, loopback(), NetworkSettings::default())
            .await
            .unwrap()
    }

    /// A view of the chain of its own.
    pub(crate) async fn follower(&self) -> Follower {
        let mut follower = Follower::new(self.provider(), self.contracts, 0).await.unwrap();
        follower.poll().await.unwrap();
        follower
    }

    /// Available and locked token wei in the Escrow.
    pub(crate) async fn escrowed(&self, account: Address) -> (U256, U256) {
        let held = Escrow::new(self.contracts.escrow, self.provider()).balanceOf(account).call().await.unwrap();
        (U256::from(held.available), U256::from(held.locked))
    }

    /// Token wei that a provider earned and has not withdrawn.
    pub(crate) async fn earned(&self, account: Address) -> U256 {
        U256::from(Escrow::new(self.contracts.escrow, self.provider()).balanceOf(account).call().await.unwrap().earned)
    }

    /// Stake of the devnet's account `number`, token wei.
    pub(crate) async fn stake(&self, number: usize) -> U256 {
        self.follower().await.index().providers[&dev_accounts()[number].address()].stake
    }

    /// The index says of every batch what the registry's storage says.
    pub(crate) async fn assert_index_is_right(&self, job: B256) {
        let follower = self.follower().await;
        let registry = JobRegistry::new(self.contracts.jobs, self.provider());
        let entry = &follower.index().jobs[&job];
        for (number, batch) in (0..).zip(&entry.batches) {
            let stored = registry.batchState(entry.job.clone(), number).call().await.unwrap();
            assert_eq!(stored.state, batch.stage as u8, "{batch:?}");
            let hash = U256::from_be_bytes(keccak256(batch.submission(number).abi_encode()).0) % (U256::from(1) << 189);
            match batch.stage {
                BatchStage::Submitted | BatchStage::Frozen | BatchStage::Settled => {
                    assert_eq!(U256::from(stored.submission), hash, "{batch:?}")
                }
                BatchStage::Open | BatchStage::Cancelled => assert_eq!(stored.provider, batch.previous, "{batch:?}"),
                BatchStage::Leased => {
                    assert_eq!((stored.provider, stored.former), (batch.provider, batch.previous), "{batch:?}");
                    assert_eq!((stored.price, u64::from(stored.time)), (batch.price, batch.deadline), "{batch:?}");
                }
            }
            if !matches!(batch.stage, BatchStage::Submitted | BatchStage::Frozen | BatchStage::Settled) {
                assert_eq!(u32::from(stored.expiries), batch.expiries, "{batch:?}");
            }
        }
    }

    /// Waits until the chain shows something.
    pub(crate) async fn until(&self, shows: impl Fn(&Follower) -> bool) -> Follower {
        let mut follower = self.follower().await;
        let waiting = async {
            let mut ticks = tokio::time::interval(Duration::from_millis(50));
            while !shows(&follower) {
                ticks.tick().await;
                follower.poll().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("the chain never shows it");
        follower
    }

    /// Waits until the chain has so many more blocks.
    pub(crate) async fn pass(&self, blocks: u64) {
        let end = self.height().await + blocks;
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        while self.height().await < end {
            ticks.tick().await;
        }
    }

    pub(crate) async fn height(&self) -> u64 {
        self.provider().get_block_number().await.unwrap()
    }
}

/// A registered provider's account and data folder.
#[derive(Clone)]
pub(crate) struct Seat {
    pub(crate) folder: PathBuf,
    pub(crate) signer: PrivateKeySigner,
}

/// How an agent's process would end.
enum End {
    Signal,
    Kill,
}

/// An agent on threads of its own, so that it can be killed with everything it has going.
pub(crate) struct Agent {
    events: mpsc::UnboundedReceiver<Running>,
    end: oneshot::Sender<End>,
    thread: JoinHandle<Result<(), String>>,
}

impl Seat {
    pub(crate) fn config(&self) -> ProviderConfig {
        ProviderConfig::read(&self.folder).unwrap()
    }

    pub(crate) fn start(&self) -> Agent {
        self.start_on(conun_agent::fabric::sensors(&self.folder))
    }

    /// Starts it on the computer that the sensors look at.
    pub(crate) fn start_on(&self, sensors: impl Sensors) -> Agent {
        let (tell, events) = mpsc::unbounded_channel();
        let (end, ended) = oneshot::channel();
        let (seat, config) = (self.clone(), self.config());
        let sandbox = Sandbox::new(env!("CARGO_BIN_EXE_conun-worker").into(), [""; 0]);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            let (signal, signalled) = oneshot::channel::<()>();
            let ending = async {
                match ended.await {
                    Ok(End::Signal) => {
                        let _ = signal.send(());
                        std::future::pending().await
                    }
                    Ok(End::Kill) | Err(_) => {}
                }
            };
            let result = runtime.block_on(async {
                let told = move |event| drop(tell.send(event));
                let shutdown = async { drop(signalled.await) };
                let journal = Journal::open(&seat.folder).map_err(|error| error.to_string())?;
                tokio::select! {
                    result = provider::run_on(sensors, journal, config, seat.signer, sandbox, told, shutdown) => result.map_err(|error| error.to_string()),
                    () = ending => Ok(()),
                }
            });
            runtime.shutdown_timeout(Duration::from_secs(5));
            result
        });
        Agent { events, end, thread }
    }
}

impl Agent {
    /// The next event that `wanted` makes something of.
    pub(crate) async fn until<T>(&mut self, wanted: impl Fn(&Running) -> Option<T>) -> T {
        let mut past = Vec::new();
        let waiting = async {
            loop {
                let event = self.events.recv().await.unwrap_or_else(|| panic!("the agent ended after {past:?}"));
                if let Some(found) = wanted(&event) {
                    return found;
                }
                past.push(event);
            }
        };
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(found) => found,
            Err(_) => panic!("it never happens; what did: {past:?}"),
        }
    }

    pub(crate) async fn ready(&mut self) -> Address {
        self.until(|event| match event {
            Running::Ready { provider, .. } => Some(*provider),
            _ => None,
        })
        .await
    }

    async fn join(thread: JoinHandle<Result<(), String>>) -> Result<(), String> {
        tokio::task::spawn_blocking(|| thread.join().unwrap()).await.unwrap()
    }

    /// As SIGTERM would.
    pub(crate) async fn stop(self) -> Result<(), String> {
        let _ = self.end.send(End::Signal);
        tokio::time::timeout(PATIENCE, Self::join(self.thread)).await.expect("it stops when told to")
    }

    /// As SIGKILL would.
    pub(crate) async fn kill(self) {
        let _ = self.end.send(End::Kill);
        Self::join(self.thread).await.unwrap();
    }

    /// How it ended by itself.
    pub(crate) async fn ended(self) -> Result<(), String> {
        let _still_open = self.end;
        tokio::time::timeout(PATIENCE, Self::join(self.thread)).await.expect("it ends by itself")
    }
}

/// A job that greets `tasks` people, a task each, in batches of two.
pub(crate) fn greetings(tasks: usize) -> Prepared {
    let text = "program = 'hello.wasm'\nprice = '1'\nbatch-size = 2\nfuel-limit = 1000000\nlease-seconds = 60\nwindow-seconds = 120";
    let file = JobFile::parse(text).unwrap();
    let inputs = (0..tasks).map(|task| format!("Person {task}\n").into()).collect();
    assemble(&file, HELLO.into(), inputs, Vec::new(), TOKEN).unwrap()
}

const PATHTRACER: &[u8] = include_bytes!("../../../examples/pathtracer/pathtracer.wasm");

/// A small picture as 24 tiles, a task and a batch each, about a third of a second of work.
pub(crate) fn picture() -> Prepared {
    let text = "program = 'pathtracer.wasm'\nprice = '1'\nbatch-size = 1\nlease-seconds = 60\nwindow-seconds = 120";
    let tile = |tile: u32| {
        let (x, y) = (tile % 6 * 32, tile / 6 * 32);
        format!("192 128 {x} {y} {} {} 160\n", x + 32, y + 32).into()
    };
    assemble(&JobFile::parse(text).unwrap(), PATHTRACER.into(), (0..24).map(tile).collect(), Vec::new(), TOKEN).unwrap()
}

/// One batch of two tasks, about four seconds of work.
pub(crate) fn long_work() -> Prepared {
    let text = "program = 'pathtracer.wasm'\nprice = '1'\nbatch-size = 2\nfuel-limit = 1_000_000_000_000\n\
        lease-seconds = 60\nwindow-seconds = 120";
    let inputs = [1, 2].map(|seed| format!("192 128 0 0 192 128 {}\n", 900 + seed).into());
    assemble(&JobFile::parse(text).unwrap(), PATHTRACER.into(), inputs.to_vec(), Vec::new(), TOKEN / 1_000).unwrap()
}

/// Whether the folder holds exactly what [`greetings`] say.
pub(crate) fn assert_greeted(out: &Path, tasks: usize) {
    for task in 0..tasks {
        let text = std::fs::read_to_string(out.join(task.to_string())).unwrap();
        assert_eq!(text, format!("Hello, Person {task}! (2 words)\n"));
    }
    assert_eq!(std::fs::read_dir(out).unwrap().count(), tasks);
}

/// Follows a job to its end; what was told.
pub(crate) async fn follow(requester: &mut Requester, job: B256, out: &Path) -> Vec<Progress> {
    let mut told = Vec::new();
    let following = requester.follow(job, out, Duration::from_millis(50), |progress, _| told.push(progress));
    tokio::time::timeout(PATIENCE, following).await.expect("the job comes to its end").unwrap();
    told
}
