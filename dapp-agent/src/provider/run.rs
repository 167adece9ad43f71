//! The loop: chain and finished work in, the core's decisions out.

mod act;
mod ahead;
mod disk;
mod start;
mod status;
mod tidy;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    future::Future,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use alloy::{
    primitives::{Address, B256, U256},
    signers::local::PrivateKeySigner,
};
use tokio::{
    sync::mpsc,
    task::{self, AbortHandle, JoinSet},
    time::MissedTickBehavior,
};

pub use disk::disk_trouble;

use super::{
    Error, ProviderConfig, Status,
    books::Books,
    clean,
    events::{EventLog, Look, Running},
    groups::{self, Groups},
    guest::{Guest, gives_back},
    held::Held,
    io_error, is_draining,
    metrics::Metrics,
    peers::Peers,
    registration::connect,
    registration::is_registered,
    report::Reporter,
    work::{Executor, Line, Prepared, Unprepared, Workers},
};
use crate::{
    access::Access,
    chain::{Follower, Head, SendError, Sender, endpoint},
    core::{Action, BatchId, Conditions, Core, Event, Policy, Verdict, Worth},
    fabric::{self, Sensors, Shared},
    net::{self, Node, NodeConfig},
    sandbox::Sandbox,
    store::{Journal, ResultRecord},
};

/// Time between looks at what the guest may do, however seldom the chain is looked at.
const GUEST_CHECK: Duration = Duration::from_millis(500);

/// Time until an agent whose blob store has failed starts anew, and until it tries that again.
const BEGIN_AGAIN: Duration = Duration::from_secs(1);

/// Time until lost outputs that could not be made anew are tried again.
const AGAIN: Duration = Duration::from_secs(60);

/// The same of outputs that could not be published.
const PUBLISH_AGAIN: Duration = Duration::from_secs(10);

/// Something from a task of the loop.
enum Report {
    Prepared(B256, Result<Box<Prepared>, Unprepared>),
    /// By which task: one that was abandoned may still have reported.
    Executed(BatchId, task::Id, Result<(ResultRecord, Duration), String>),
    /// Of which kind, in which block.
    Sent(Action, Result<(&'static str, u64), SendError>),
    /// Nothing was sent.
    NotSent(String),
    /// A block's hash, if it could be read.
    BlockHash(u64, Option<B256>),
    /// Outputs that a crash had lost are here again.
    Restored(BatchId, ResultRecord),
    /// They could not be made anew, and why.
    NotRestored(BatchId, String),
    /// Outputs are still held back, though they may be had from there; and what went wrong, if that is news.
    NotPublished(BatchId, Option<String>),
    /// What member lists say of requesters.
    Members(groups::Answers),
    /// Something else did not work out.
    Trouble(String),
}

/// Works until `shutdown` resolves, then stops cleanly: nothing new is begun, running tasks are killed, what is durable stays.
///
/// # Errors
/// If it cannot start: folder in use, not registered, wrong chain, no endpoint. Later failures are told by `tell`, and it goes on; also if
/// its blob store fails and cannot be opened anew for a while.
pub async fn run(
    folder: &Path,
    config: ProviderConfig,
    signer: PrivateKeySigner,
    sandbox: Sandbox,
    tell: impl FnMut(Running),
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let journal = Journal::open(folder)?;
    run_on(fabric::sensors(folder), journal, config, signer, sandbox, tell, shutdown).await
}

/// The same on the computer that `sensors` look at, in the journal's folder.
///
/// # Errors
/// As [`run`].
pub async fn run_on(
    sensors: impl Sensors,
    journal: Journal,
    config: ProviderConfig,
    signer: PrivateKeySigner,
    sandbox: Sandbox,
    mut tell: impl FnMut(Running),
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let (sensors, journal) = (Shared::new(sensors), Arc::new(journal));
    let mut shutdown = std::pin::pin!(shutdown);
    let mut lost_for_no_reason = false;
    let mut begun = false;
    loop {
        let (config, signer, sandbox) = (config.clone(), signer.clone(), sandbox.clone());
        let life = live(sensors.clone(), journal.clone(), config, signer, sandbox, &mut tell, shutdown.as_mut());
        let text = match life.await {
            Err(Error::StoreLost { path, disk_failed }) => {
                begun = true;
                let again = !disk_failed && lost_for_no_reason;
                lost_for_no_reason = !disk_failed;
                // What it cannot read makes it fail each time.
                match again.then(|| net::set_aside(&path)) {
                    None => format!("the blob store in {} has failed: it is opened anew", path.display()),
                    Some(Ok(aside)) => {
                        lost_for_no_reason = false;
                        format!(
                            "{} has failed again: it is damaged, and set aside as {}, which may be deleted",
                            path.display(),
                            aside.display()
                        )
                    }
                    Some(Err(error)) => format!("{} has failed again: {error}", path.display()),
                }
            }
            // The disk may be full again, or the chain away just now.
            Err(error) if begun => format!("{error}; it is tried again"),
            ended => return ended,
        };
        tell(Running::Trouble(text));
        tokio::select! {
            () = shutdown.as_mut() => return Ok(()),
            () = tokio::time::sleep(BEGIN_AGAIN) => {}
        }
    }
}

/// Works until the end, or until it has to start anew.
async fn live(
    sensors: impl Sensors,
    journal: Arc<Journal>,
    config: ProviderConfig,
    signer: PrivateKeySigner,
    sandbox: Sandbox,
    mut tell: impl FnMut(Running),
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let folder = &journal.folder().to_owned();
    let mut log = EventLog::open(folder).map_err(io_error(folder))?;
    let metrics = Metrics::new();
    let provider = connect(&config.rpc_url, &signer).await?;
    let account = signer.address();
    let mut follower = Follower::new(provider.clone(), config.contracts, config.confirmations).await?;
    if let Some(url) = &config.second_rpc_url {
        follower = follower.with_witness(endpoint::reader(url).await.map_err(crate::chain::Error::from)?).await?;
    }
    if !is_registered(&provider, &config.contracts, account).await? {
        return Err(Error::NotRegistered(account));
    }
    let node =
        Node::start(NodeConfig { data_dir: folder.to_owned(), bind: config.listen, network: config.network.clone() })
            .await?;
    let max_fee = config.max_fee_gwei.map(|gwei| u128::from(gwei) * 1_000_000_000);
    let sender = Sender::new(provider, account).with_journal(journal.clone())?.with_max_fee(max_fee);
    let mut tasks = JoinSet::new();
    if let Some(address) = config.metrics {
        let refused = |source| Error::Metrics { address, source };
        tasks.spawn(metrics.clone().serve(address, sender.clone()).await.map_err(refused)?);
    }
    let counted = metrics.clone();
    let tell = move |event: Running| {
        counted.note(&event);
        if let Some(Err(error)) = event.record().map(|record| log.append(record)) {
            tracing::warn!(target: "conun::provider", %error, "events.jsonl cannot be written");
        }
        tell(event);
    };
    let head = follower.poll().await?;
    let guest = Guest::start(folder, config.preferences.clone(), sensors, sandbox.brake().clone(), node.clone()).await;
    // Whoever wants work beside busy programs gets some of it done.
    let sandbox = if config.preferences.suspend_cpu_usage == 0 { sandbox } else { sandbox.as_guest() };
    let access = Access::new(account).with_deployment(&config.contracts);
    access.look(head, follower.index());
    node.open_to(Arc::new(Peers(access.clone())));
    let (reporter, reporting) = Reporter::new(node.clone(), access.clone());
    tasks.spawn(reporting);
    let policy = Policy { workers: guest.workers(config.policy.workers), ..config.policy };
    let workers = Arc::new(Workers::new(sandbox, policy.workers as usize));
    let fuel_per_second = fabric::bench::Rate::read(folder).map(|rate| rate.fuel_per_second);
    let conditions = Conditions {
        fuel_per_second: fuel_per_second.unwrap_or(Conditions::default().fuel_per_second),
        ..Conditions::default()
    };
    let weighs_gas = policy.tokens_per_ether.is_some();
    let (reports, inbox) = mpsc::unbounded_channel();
    let status = Status {
        pid: std::process::id(),
        account,
        paused: guest.standing().paused,
        guest: guest.standing().status(),
        draining: is_draining(folder),
        disk: None,
        block: 0,
        block_time: 0,
        stake: U256::ZERO,
        locked: U256::ZERO,
        earnings: Default::default(),
        record: Default::default(),
        lag_seconds: 0,
        peers: 0,
        heard: 0,
        pending: None,
        leases: Vec::new(),
        disputes: Vec::new(),
        losses: Vec::new(),
        work: Default::default(),
        gas: Default::default(),
    };
    let mut agent = Agent {
        folder: folder.to_owned(),
        me: account,
        groups: Groups::new(policy.groups.clone()),
        core: Core::new(account, policy),
        guest,
        executor: Executor {
            node,
            workers,
            journal,
            held: Held::new(folder),
            reporter,
            me: account,
            line: Line::default(),
        },
        access,
        most_blob_bytes: clean::most(config.preferences.disk_max_used_gb),
        cleaned: None,
        disk_looked: None,
        disk_failed: false,
        follower,
        sender,
        prepared: HashMap::new(),
        executing: HashMap::new(),
        mined: None,
        ahead: HashSet::new(),
        conditions,
        weighs_gas,
        priced: None,
        lost: BTreeMap::new(),
        unpublished: BTreeMap::new(),
        swept: None,
        tasks,
        metrics,
        books: Books::open(folder),
        written: None,
        reports,
        status,
        verdicts: None,
        tell,
    };
    if let Some(text) = agent.executor.node.damage().map(str::to_owned) {
        (agent.tell)(Running::Trouble(text));
    }
    let begun = match agent.announce().await {
        Ok(()) => agent.remember(head.timestamp).await,
        failed => failed,
    };
    // Whatever has failed: the next life needs what this one has open.
    let result = match begun {
        Ok(()) => agent.work(inbox, Duration::from_millis(config.poll_millis.max(10)), shutdown).await,
        failed => failed,
    };
    agent.tasks.shutdown().await;
    agent.executor.workers.clear().await;
    agent.executor.node.shutdown().await;
    result
}

struct Agent<T> {
    folder: PathBuf,
    me: Address,
    core: Core,
    groups: Groups,
    guest: Guest,
    executor: Executor,
    follower: Follower,
    sender: Sender,
    prepared: HashMap<B256, Arc<Prepared>>,
    executing: HashMap<BatchId, AbortHandle>,
    access: Access,
    /// Most bytes of blobs, if the owner has set a limit.
    most_blob_bytes: Option<u64>,
    /// When that was looked at last.
    cleaned: Option<Instant>,
    /// When it was looked at last whether the disk can be written.
    disk_looked: Option<Instant>,
    /// Whether it could not be at any time.
    disk_failed: bool,
    /// A transaction that was mined in this block, which the index has not reached yet.
    mined: Option<(u64, &'static str, Action)>,
    /// Batches whose inputs are fetched before they are executed.
    ahead: HashSet<BatchId>,
    /// What the core knows of gas and data.
    conditions: Conditions,
    /// Whether the owner has said what an ether is worth.
    weighs_gas: bool,
    /// When gas was priced last.
    priced: Option<Instant>,
    /// Results on the chain whose outputs were lost, with the time at which they are made anew.
    lost: BTreeMap<BatchId, Instant>,
    /// Results that are believed and whose outputs are not in the store yet, with the time at which they are tried again.
    unpublished: BTreeMap<BatchId, Instant>,
    /// When outputs were looked for last that no job needs any more.
    swept: Option<Instant>,
    tasks: JoinSet<()>,
    metrics: Metrics,
    books: Books,
    written: Option<Instant>,
    reports: mpsc::UnboundedSender<Report>,
    status: Status,
    /// As last written.
    verdicts: Option<(BTreeMap<B256, Verdict>, BTreeMap<B256, Worth>)>,
    tell: T,
}

impl<T: FnMut(Running)> Agent<T> {
    async fn work(
        &mut self,
        mut inbox: mpsc::UnboundedReceiver<Report>,
        poll: Duration,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), Error> {
        let mut shutdown = std::pin::pin!(shutdown);
        let mut ticks = tokio::time::interval(poll);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut flags = tokio::time::interval(GUEST_CHECK);
        flags.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let turn = async {
                tokio::select! {
                    biased;
                    Some(report) = inbox.recv() => self.report(report).await,
                    _ = flags.tick() => self.heed_owner().await,
                    _ = ticks.tick() => self.refresh().await,
                }
            };
            // An endpoint that does not answer must not hold up the end.
            let ended = tokio::select! {
                biased;
                () = &mut shutdown => true,
                () = turn => false,
            };
            if ended {
                self.written = None;
                self.write_status();
                return Ok(());
            }
            self.reap();
            self.fetch_ahead();
            self.watch_disk().await?;
            self.write_status();
            if self.is_drained() {
                return Ok(());
            }
        }
    }

    /// Whether nothing is left to do for an agent that takes nothing new any more.
    fn is_drained(&self) -> bool {
        self.status.draining && self.status.block > 0 && self.status.locked.is_zero() && self.executing.is_empty()
    }

    /// Forgets ended tasks; a bug in one is a batch that was not executed, not an agent that waits for ever.
    fn reap(&mut self) {
        while let Some(ended) = self.tasks.try_join_next() {
            let Err(error) = ended else { continue };
            let batch = self.executing.iter().find(|(_, task)| task.id() == error.id()).map(|(batch, _)| *batch);
            if let Some(batch) = batch.filter(|_| error.is_panic()) {
                // The loop ends before its tasks.
                let _ = self.reports.send(Report::Executed(batch, error.id(), Err(format!("a bug: {error}"))));
            }
        }
    }

    /// Takes nothing new, or gives back what it holds, as the guest has to.
    async fn heed_owner(&mut self) {
        let standing = self.guest.standing();
        let status = standing.status();
        if status.state != self.status.guest.state {
            tracing::info!(target: "conun::provider", text = %status.text, "guest");
            (self.tell)(Running::Guest(status.text.clone()));
            if status.limits.is_none() {
                // Idle workers would only hold memory.
                self.executor.workers.clear().await;
            }
        }
        (self.status.paused, self.status.guest) = (standing.paused, status);
        self.step(Event::Paused(!standing.may_lease() || self.status.disk.is_some()));
        if standing.is_away() {
            let now = self.status.block_time;
            for batch in gives_back(self.follower.index(), self.me, now, self.executing.keys()) {
                if let Some(task) = self.executing.remove(&batch) {
                    task.abort();
                }
                let text = format!("given back: {}", self.status.guest.text);
                (self.tell)(Running::NotExecuted(batch, text.clone()));
                self.step(Event::NotExecuted(batch, text));
            }
        }
        self.status.draining = is_draining(&self.folder);
        self.step(Event::Draining(self.status.draining));
    }

    /// Brings the index up to date and tells the core.
    async fn refresh(&mut self) {
        match self.follower.poll().await {
            Ok(head) => {
                let index = self.follower.index();
                self.access.look(head, index);
                let stake = index.providers.get(&self.me).map_or(U256::ZERO, |entry| entry.stake);
                let locked = self.core.locked_stake(index);
                (self.status.stake, self.status.locked) = (stake, locked);
                let look = self.look(head);
                self.status.at(head, look.lag_seconds);
                (self.tell)(Running::Looked(look));
                let free_stake = stake.saturating_sub(locked);
                self.step(Event::Head { number: head.number, now: head.timestamp, free_stake });
                if let Some((_, kind, action)) = self.mined.take_if(|(block, ..)| *block <= head.number) {
                    self.sent(kind, action);
                }
                self.tidy().await;
                self.restore();
                self.publish_again();
                self.measure().await;
                self.ask_groups();
                self.books.look(self.sender.provider(), self.follower.contracts(), self.me).await;
            }
            Err(error) => self.trouble(error.to_string()),
        }
    }

    /// Asks the member lists that the owner keeps to about requesters that may be new, or not be members any more.
    fn ask_groups(&mut self) {
        if !self.groups.may_ask() {
            return;
        }
        let open = self.follower.index().jobs.values().filter(|entry| !entry.cancelled && !entry.is_over());
        let requesters = self.groups.due(open.map(|entry| entry.job.requester).collect(), Instant::now());
        if requesters.is_empty() {
            return;
        }
        let asking = groups::ask(self.sender.provider().clone(), self.groups.lists.clone(), requesters);
        let reports = self.reports.clone();
        self.tasks.spawn(async move { drop(reports.send(Report::Members(asking.await))) });
    }

    fn look(&self, head: Head) -> Look {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Look {
            head,
            lag_seconds: now.saturating_sub(head.timestamp),
            reorgs: self.follower.reorgs(),
            reorg_depth: self.follower.reorg_depth(),
        }
    }

    /// The index shows what the transaction has changed: the core may go on.
    fn sent(&mut self, kind: &'static str, action: Action) {
        let case = |case| self.follower.index().cases.get(case).map(|case| (case.job, vec![case.batch]));
        let about = if let Action::Answer(id) = &action { case(id) } else { action.batches() };
        if let Some((job, batches)) = about {
            (self.tell)(match action {
                Action::Lease(..) => Running::Leased(job, batches),
                Action::Submit(..) => Running::Submitted(job, batches),
                _ => Running::Did(kind, job, batches),
            });
        }
        self.step(Event::Sent);
    }

    fn trouble(&mut self, text: String) {
        tracing::warn!(target: "conun::trouble", %text, "trouble");
        (self.tell)(Running::Trouble(text));
        // It may be the disk's fault.
        if self.status.disk.is_none() {
            self.disk_looked = None;
        }
    }

    fn step(&mut self, event: Event) {
        for action in self.core.step(self.follower.index(), event) {
            self.act(action);
        }
    }

    async fn report(&mut self, report: Report) {
        match report {
            Report::Prepared(job, Ok(prepared)) => {
                let bytes = prepared.bytes_a_batch;
                self.prepared.insert(job, Arc::from(prepared));
                self.offer();
                self.step(Event::Download(job, bytes));
                self.step(Event::Prepared(job));
            }
            Report::Prepared(job, Err(Unprepared::Refused(text))) => {
                self.trouble(format!("job {job} is refused: {text}"));
                self.step(Event::Refused(job, text));
            }
            Report::Prepared(job, Err(Unprepared::Unavailable(text))) => {
                self.trouble(format!("job {job} cannot be had: {text}"));
                self.step(Event::Unavailable(job, text));
            }
            Report::Executed(batch, task, result) => {
                if self.executing.get(&batch).map(AbortHandle::id) != Some(task) {
                    return;
                }
                self.executing.remove(&batch);
                match result {
                    Ok((record, took)) => {
                        (self.tell)(Running::Executed(batch, record.fuel, took));
                        self.books.executed(record.fuel);
                        let millis = self.guest.millis(took);
                        self.step(Event::Executed { batch, record, millis });
                    }
                    Err(text) => {
                        (self.tell)(Running::NotExecuted(batch, text.clone()));
                        self.step(Event::NotExecuted(batch, text));
                    }
                }
            }
            Report::Sent(action, Ok((kind, block))) => {
                self.mined = Some((block, kind, action));
                self.refresh().await;
            }
            Report::Sent(_, Err(error)) => {
                // The core decides on what has happened meanwhile, not on what was before it.
                self.refresh().await;
                if error.is_lost_race() {
                    tracing::debug!(target: "conun::provider", %error, "lost a race");
                    self.step(Event::LostRace);
                } else {
                    self.trouble(error.to_string());
                    self.step(Event::NotSent(error.to_string()));
                }
            }
            Report::NotSent(text) => {
                self.trouble(text.clone());
                self.step(Event::NotSent(text));
            }
            Report::BlockHash(number, hash) => self.step(Event::BlockHash(number, hash)),
            Report::Restored(batch, record) => {
                self.step(Event::Remembered(batch, record));
                self.step(Event::Restored(batch));
            }
            Report::NotRestored((job, batch), text) => {
                self.trouble(format!("lost outputs of batch {batch} of job {job} cannot be made anew: {text}"));
                if self.follower.index().job(&job).is_some_and(|entry| !entry.is_over()) {
                    self.lost.insert((job, batch), Instant::now() + AGAIN);
                }
            }
            Report::NotPublished(batch, text) => {
                self.unpublished.insert(batch, Instant::now() + PUBLISH_AGAIN);
                text.into_iter().for_each(|text| self.trouble(text));
            }
            Report::Members(answers) => {
                let (known, trouble) = self.groups.learn(answers, Instant::now());
                self.step(Event::Members(known));
                trouble.into_iter().for_each(|text| self.trouble(text));
            }
            Report::Trouble(text) => self.trouble(text),
        }
    }
}
