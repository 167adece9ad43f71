//! The loop: chain and finished work in, the core's decisions out.

mod status;

use std::{
    cell::Cell,
    collections::{BTreeMap, HashMap},
    future::Future,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use alloy::{
    primitives::{Address, B256, U256},
    signers::local::PrivateKeySigner,
};
use conun_bindings::abi::ProviderRegistry;
use tokio::{
    sync::mpsc,
    task::{self, AbortHandle, JoinSet},
    time::MissedTickBehavior,
};

use super::{
    Error, ProviderConfig, Status,
    books::Books,
    clean::{self, CLEAN},
    events::{EventLog, Look, Running},
    guest::{Guest, gives_back},
    held::Held,
    io_error, is_draining,
    metrics::Metrics,
    peers::{Peers, holders},
    registration::connect,
    registration::is_registered,
    report::Reporter,
    transactions::{Draft, Drafter, block_hash},
    work::{Executor, Prepared, Terms, Unprepared, Workers},
};
use crate::{
    access::Access,
    chain::{BatchStage, Follower, Head, SendError, Sender, endpoint},
    core::{Action, BatchId, Core, Event, Policy, Verdict},
    fabric::{self, Sensors},
    net::{Node, NodeConfig, PeerContact},
    sandbox::Sandbox,
    store::Journal,
};

/// Time between looks at what the guest may do, however seldom the chain is looked at.
const GUEST_CHECK: Duration = Duration::from_millis(500);

/// Gas of one batch's life from the provider's side, with a margin: lease, result, or commit and reveal for all, finalise.
const LIFE_GAS: u64 = 500_000;

/// Something from a task of the loop.
enum Report {
    Prepared(B256, Result<Box<Prepared>, Unprepared>),
    /// By which task: one that was abandoned may still have reported.
    Executed(BatchId, task::Id, Result<(crate::store::ResultRecord, Duration), String>),
    /// Of which kind, in which block.
    Sent(Action, Result<(&'static str, u64), SendError>),
    /// Nothing was sent.
    NotSent(String),
    /// A block's hash, if it could be read.
    BlockHash(u64, Option<B256>),
    /// Outputs that a crash had lost are here again.
    Restored(BatchId),
    /// Something else did not work out.
    Trouble(String),
}

/// Works until `shutdown` resolves, then stops cleanly: nothing new is begun, running tasks are killed, what is durable stays.
///
/// # Errors
/// If it cannot start: folder in use, not registered, wrong chain, no endpoint. Later failures are told by `tell`, and it goes on.
pub async fn run(
    folder: &Path,
    config: ProviderConfig,
    signer: PrivateKeySigner,
    sandbox: Sandbox,
    tell: impl FnMut(Running),
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    run_on(fabric::sensors(folder), folder, config, signer, sandbox, tell, shutdown).await
}

/// The same on the computer that `sensors` look at.
///
/// # Errors
/// As [`run`].
pub async fn run_on(
    sensors: impl Sensors,
    folder: &Path,
    config: ProviderConfig,
    signer: PrivateKeySigner,
    sandbox: Sandbox,
    mut tell: impl FnMut(Running),
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let journal = Arc::new(Journal::open(folder)?);
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
    follower.poll().await?;
    let guest = Guest::start(folder, config.preferences.clone(), sensors, sandbox.brake().clone(), node.clone()).await;
    // Whoever wants work beside busy programs gets some of it done.
    let sandbox = if config.preferences.suspend_cpu_usage == 0 { sandbox } else { sandbox.as_guest() };
    let access = Access::new(account);
    node.open_to(Arc::new(Peers(access.clone())));
    let (reporter, reporting) = Reporter::new(node.clone(), access.clone());
    tasks.spawn(reporting);
    let policy = Policy { workers: guest.workers(config.policy.workers), ..config.policy };
    let workers = Arc::new(Workers::new(sandbox));
    let (reports, inbox) = mpsc::unbounded_channel();
    let status = Status {
        pid: std::process::id(),
        account,
        paused: guest.standing().paused,
        guest: guest.standing().status(),
        draining: is_draining(folder),
        block: 0,
        block_time: 0,
        stake: U256::ZERO,
        locked: U256::ZERO,
        earnings: Default::default(),
        record: Default::default(),
        lag_seconds: 0,
        peers: 0,
        pending: None,
        leases: Vec::new(),
        work: Default::default(),
        gas: Default::default(),
    };
    let mut agent = Agent {
        folder: folder.to_owned(),
        me: account,
        core: Core::new(account, policy),
        guest,
        executor: Executor { node, workers, journal, held: Held::new(folder), reporter, me: account },
        access,
        most_blob_bytes: clean::most(config.preferences.disk_max_used_gb),
        cleaned: None,
        follower,
        sender,
        prepared: HashMap::new(),
        executing: HashMap::new(),
        mined: None,
        tasks,
        metrics,
        books: Books::open(folder),
        written: None,
        reports,
        status,
        verdicts: None,
        tell,
    };
    agent.announce().await?;
    agent.remember().await?;
    let result = agent.work(inbox, Duration::from_millis(config.poll_millis.max(10)), shutdown).await;
    agent.tasks.shutdown().await;
    agent.executor.workers.clear().await;
    agent.executor.node.shutdown().await;
    result
}

struct Agent<T> {
    folder: PathBuf,
    me: Address,
    core: Core,
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
    /// A transaction that was mined in this block, which the index has not reached yet.
    mined: Option<(u64, &'static str, Action)>,
    tasks: JoinSet<()>,
    metrics: Metrics,
    books: Books,
    written: Option<Instant>,
    reports: mpsc::UnboundedSender<Report>,
    status: Status,
    /// As last written.
    verdicts: Option<BTreeMap<B256, Verdict>>,
    tell: T,
}

impl<T: FnMut(Running)> Agent<T> {
    /// Publishes where this node is reached now, if that is not what the chain says.
    async fn announce(&mut self) -> Result<(), Error> {
        let contact = self.executor.node.contact();
        if self.follower.index().providers.get(&self.me).is_none_or(|entry| entry.contact != contact) {
            let registry = ProviderRegistry::new(self.follower.contracts().providers, self.sender.provider());
            let told = ProviderRegistry::Contact { endpoint: contact.endpoint.into(), hint: contact.hint_text() };
            let call = registry.setContact(told).into_transaction_request();
            self.sender.send("contact", call).await?;
        }
        (self.tell)(Running::Ready { provider: self.me, contact });
        Ok(())
    }

    /// Tells the core of results from before a restart. Those that are on the chain although a crash has lost their bytes are
    /// executed once more, so that the requester gets what it pays for.
    async fn remember(&mut self) -> Result<(), Error> {
        let index = self.follower.index();
        let mut lost: BTreeMap<B256, Vec<u32>> = BTreeMap::new();
        // What several providers executed may still wait to be published once the job is over.
        for (id, entry) in index.jobs.iter().filter(|(_, entry)| !entry.is_over() || entry.assured.is_some()) {
            for number in 0..entry.batch_count() as u32 {
                let Some(record) = self.executor.journal.result(*id, number)? else { continue };
                let is_here = self.executor.has_outputs((*id, number), &record).await.unwrap_or(false);
                let is_given = match entry.ballot(number) {
                    Some((_, ballot)) => ballot.voters().any(|(provider, _)| provider == self.me),
                    None => {
                        let batch = &entry.batches[number as usize];
                        batch.provider == self.me && batch.stage != BatchStage::Leased
                    }
                };
                // What was committed to can be shown without its bytes.
                if is_here || is_given && entry.assured.is_some() {
                    // It does nothing before its first look at the chain.
                    let _ = self.core.step(index, Event::Remembered((*id, number), record));
                }
                if !is_here && is_given {
                    lost.entry(*id).or_default().push(number);
                }
            }
        }
        for (id, batches) in lost {
            self.restore(id, batches);
        }
        Ok(())
    }

    fn restore(&mut self, id: B256, batches: Vec<u32>) {
        let Some(terms) = self.follower.index().job(&id).map(Terms::from) else { return };
        let (executor, peers, reports) = (self.executor.clone(), self.peers(id), self.reports.clone());
        self.tasks.spawn(async move {
            let prepared = match executor.prepare(id, terms, &peers).await {
                Ok(prepared) => Arc::new(prepared),
                Err(Unprepared::Refused(text) | Unprepared::Unavailable(text)) => {
                    // The loop ends before its tasks.
                    let _ = reports.send(Report::Trouble(format!("lost outputs of job {id} cannot be made anew: {text}")));
                    return;
                }
            };
            for batch in batches {
                tracing::warn!(target: "conun::provider", job = %id, batch, "its outputs were lost: executed once more");
                let report = match executor.execute((id, batch), &prepared, &peers).await {
                    Ok(_) => Report::Restored((id, batch)),
                    Err(text) => {
                        let text = format!("lost outputs of batch {batch} of job {id} cannot be made anew: {text}");
                        Report::Trouble(text)
                    }
                };
                let _ = reports.send(report);
            }
        });
    }

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
        self.step(Event::Paused(!standing.may_lease()));
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
                self.books.look(self.sender.provider(), self.follower.contracts(), self.me).await;
            }
            Err(error) => self.trouble(error.to_string()),
        }
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

    /// Lets go of programs and workers of jobs that are over.
    async fn tidy(&mut self) {
        self.clean();
        let index = self.follower.index();
        let over = |id: &B256| index.job(id).is_none_or(|entry| entry.is_over());
        let done: Vec<_> = self.prepared.keys().copied().filter(over).collect();
        for id in done {
            self.prepared.remove(&id);
            self.executor.workers.end(id).await;
            self.discard(id).await;
            self.step(Event::Over(id));
        }
    }

    /// Drops blobs of jobs that are over, if there are too many.
    fn clean(&mut self) {
        let Some(most) = self.most_blob_bytes else { return };
        if self.cleaned.is_some_and(|at| at.elapsed() < CLEAN) {
            return;
        }
        self.cleaned = Some(Instant::now());
        let unread = Cell::new(None);
        let result = |(job, batch)| {
            self.executor.journal.result(job, batch).unwrap_or_else(|error| {
                unread.set(Some(error));
                None
            })
        };
        let stakes = clean::stakes(self.follower.index(), self.me, result);
        if let Some(error) = unread.take() {
            // What is at stake is not known: nothing goes.
            return self.trouble(error.to_string());
        }
        let (node, reports) = (self.executor.node.clone(), self.reports.clone());
        self.tasks.spawn(async move {
            if let Err(error) = clean::clean(&node, stakes, most).await {
                // The loop ends before its tasks.
                let _ = reports.send(Report::Trouble(error.to_string()));
            }
        });
    }

    /// Deletes outputs that will never be published: of a job that is over, those that nobody paid for.
    async fn discard(&self, id: B256) {
        let Some(entry) = self.follower.index().job(&id) else { return };
        for (number, ballot) in (0..).zip(entry.ballots()) {
            if ballot.payment(self.me).is_zero() {
                self.executor.held.discard((id, number)).await;
                self.executor.reporter.discard((id, number));
            }
        }
    }

    fn trouble(&mut self, text: String) {
        tracing::warn!(target: "conun::trouble", %text, "trouble");
        (self.tell)(Running::Trouble(text));
    }

    fn step(&mut self, event: Event) {
        for action in self.core.step(self.follower.index(), event) {
            self.act(action);
        }
    }

    async fn report(&mut self, report: Report) {
        match report {
            Report::Prepared(job, Ok(prepared)) => {
                self.prepared.insert(job, Arc::from(prepared));
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
            Report::Restored(batch) => self.step(Event::Restored(batch)),
            Report::Trouble(text) => self.trouble(text),
        }
    }

    /// Where a job's data may be had.
    fn peers(&self, job: B256) -> Vec<PeerContact> {
        holders(self.follower.index(), job, self.me)
    }

    fn act(&mut self, action: Action) {
        tracing::debug!(target: "conun::provider", ?action, "act");
        let reports = self.reports.clone();
        match action {
            Action::Prepare(id) => {
                let Some(terms) = self.follower.index().job(&id).map(Terms::from) else { return };
                let (executor, peers) = (self.executor.clone(), self.peers(id));
                self.tasks.spawn(async move {
                    let prepared = executor.prepare(id, terms, &peers).await;
                    // The loop ends before its tasks.
                    let _ = reports.send(Report::Prepared(id, prepared.map(Box::new)));
                });
            }
            Action::Execute(batch) => {
                let Some(prepared) = self.prepared.get(&batch.0).cloned() else { return };
                let (executor, peers) = (self.executor.clone(), self.peers(batch.0));
                let clearance = self.guest.clearance();
                let task = self.tasks.spawn(async move {
                    clearance.await;
                    let executed = executor.execute(batch, &prepared, &peers).await;
                    let _ = reports.send(Report::Executed(batch, task::id(), executed));
                });
                self.executing.insert(batch, task);
            }
            Action::Abandon(batch) => {
                if let Some(task) = self.executing.remove(&batch) {
                    task.abort();
                }
            }
            Action::BlockHash(number) => {
                let provider = self.sender.provider().clone();
                self.tasks.spawn(async move {
                    let hash = block_hash(&provider, number).await.unwrap_or_default();
                    let _ = reports.send(Report::BlockHash(number, hash));
                });
            }
            Action::Publish(batch) => {
                let executor = self.executor.clone();
                self.tasks.spawn(async move {
                    executor.reporter.publish(batch).await;
                    if let Err(error) = executor.held.publish(batch, &executor.node).await {
                        let _ = reports.send(Report::Trouble(error.to_string()));
                    }
                });
            }
            transaction => self.send(transaction, reports),
        }
    }

    fn send(&mut self, transaction: Action, reports: mpsc::UnboundedSender<Report>) {
        let journal = &self.executor.journal;
        let intent = match &transaction {
            Action::Lease(job, batches) => journal.intend_lease(*job, batches, self.status.block),
            Action::BackUp((job, batch), _) => journal.intend_lease(*job, &[*batch], self.status.block),
            _ => Ok(()),
        };
        if let Err(error) = intent {
            // Nothing is sent whose intent is not on disk.
            let _ = reports.send(Report::NotSent(error.to_string()));
            return;
        }
        let Some(draft) = self.draft(&transaction) else {
            let _ = reports.send(Report::NotSent("a re-org has taken away what it was about".to_owned()));
            return;
        };
        let (sender, executor, contracts) = (self.sender.clone(), self.executor.clone(), *self.follower.contracts());
        self.tasks.spawn(async move {
            let report = match draft.complete(&contracts, &executor, sender.provider()).await {
                Ok((kind, request)) => {
                    // What is leased has to be paid for to its end.
                    let able = match &transaction {
                        Action::Lease(_, batches) => sender.require_ether(kind, LIFE_GAS * batches.len() as u64).await,
                        Action::BackUp(..) => sender.require_ether(kind, LIFE_GAS).await,
                        _ => Ok(()),
                    };
                    let sent = match able {
                        Ok(()) => sender.send(kind, request).await,
                        Err(error) => Err(error),
                    };
                    Report::Sent(transaction, sent.map(|receipt| (kind, receipt.block_number.unwrap_or_default())))
                }
                Err(text) => Report::NotSent(text),
            };
            let _ = reports.send(report);
        });
    }

    fn draft(&self, action: &Action) -> Option<Draft> {
        let (index, contracts) = (self.follower.index(), self.follower.contracts());
        let drafter = Drafter { index, contracts, me: self.me };
        drafter.draft(action, |(job, batch)| {
            self.executor.journal.result(job, batch).unwrap_or_else(|error| {
                tracing::error!(target: "conun::provider", %error, "nothing is sent");
                None
            })
        })
    }
}
