//! The loop: chain and finished work in, the core's decisions out.

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use alloy::{
    primitives::{Address, B256, U256},
    rpc::types::TransactionRequest,
    signers::local::PrivateKeySigner,
};
use conun_bindings::abi::{Deployment, JobRegistry, ProviderRegistry};
use conun_bindings::job;
use tokio::{
    sync::mpsc,
    task::{self, AbortHandle, JoinSet},
    time::MissedTickBehavior,
};

use super::{
    Error, ProviderConfig, Status,
    guest::{Guest, gives_back},
    registration::connect,
    registration::is_registered,
    work::{Executor, Prepared, Unprepared, Workers},
};
use crate::{
    chain::{BatchStage, Follower, SendError, Sender},
    core::{Action, BatchId, Core, Event, Policy},
    fabric::{self, Sensors},
    net::{Node, NodeConfig, PeerContact},
    sandbox::Sandbox,
    store::Journal,
};

/// Time between looks at what the guest may do, however seldom the chain is looked at.
const GUEST_CHECK: Duration = Duration::from_millis(500);

/// What a provider says while it works.
#[derive(Clone, Debug)]
pub enum Running {
    /// It is ready, as this registration, reachable there.
    Ready {
        /// Its account.
        provider: Address,
        /// Where peers reach it.
        contact: PeerContact,
    },
    /// It holds these batches.
    Leased(B256, Vec<u32>),
    /// A batch is executed: its fuel and how long it took.
    Executed(BatchId, u64, Duration),
    /// A batch could not be executed, and why.
    NotExecuted(BatchId, String),
    /// Results were submitted.
    Submitted(B256, Vec<u32>),
    /// Its owner needs the computer, or does not any more: what it may do now, and why.
    Guest(String),
    /// Something did not work out; it goes on.
    Trouble(String),
}

/// Something from a task of the loop.
enum Report {
    Prepared(B256, Result<Box<Prepared>, Unprepared>),
    /// By which task: one that was abandoned may still have reported.
    Executed(BatchId, task::Id, Result<(crate::store::ResultRecord, Duration), String>),
    /// In which block.
    Sent(Action, Result<u64, SendError>),
    /// Nothing was sent.
    NotSent(String),
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
    tell: impl FnMut(Running),
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let journal = Arc::new(Journal::open(folder)?);
    let provider = connect(&config.rpc_url, &signer).await?;
    let account = signer.address();
    let mut follower = Follower::new(provider.clone(), config.contracts, config.confirmations).await?;
    if !is_registered(&provider, &config.contracts, account).await? {
        return Err(Error::NotRegistered(account));
    }
    let settings = Deployment::new(config.contracts.deployment, &provider).settings().call().await?;
    let node =
        Node::start(NodeConfig { data_dir: folder.to_owned(), bind: config.listen, relay: config.relay }).await?;
    let sender = Sender::new(provider, account);
    follower.poll().await?;
    let guest = Guest::start(folder, config.preferences.clone(), sensors, sandbox.brake().clone(), node.clone()).await;
    // Whoever wants work beside busy programs gets some of it done.
    let sandbox = if config.preferences.suspend_cpu_usage == 0 { sandbox } else { sandbox.as_guest() };
    let policy = Policy { workers: guest.workers(config.policy.workers), ..config.policy };
    let workers = Arc::new(Workers::new(sandbox));
    let (reports, inbox) = mpsc::unbounded_channel();
    let status = Status {
        pid: std::process::id(),
        account,
        paused: guest.standing().paused,
        guest: guest.standing().status(),
        block: 0,
        block_time: 0,
        stake: U256::ZERO,
        locked: U256::ZERO,
        earned: U256::ZERO,
        tasks: 0,
        fuel: 0,
        work: Default::default(),
        gas: Default::default(),
    };
    let mut agent = Agent {
        folder: folder.to_owned(),
        me: account,
        audit_floor_bps: settings.auditFloorBps,
        core: Core::new(account, policy, settings.auditFloorBps),
        guest,
        executor: Executor { node, workers, journal },
        follower,
        sender,
        prepared: HashMap::new(),
        executing: HashMap::new(),
        mined: None,
        tasks: JoinSet::new(),
        reports,
        status,
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
    audit_floor_bps: u16,
    core: Core,
    guest: Guest,
    executor: Executor,
    follower: Follower,
    sender: Sender,
    prepared: HashMap<B256, Arc<Prepared>>,
    executing: HashMap<BatchId, AbortHandle>,
    /// A transaction that was mined in this block, which the index has not reached yet.
    mined: Option<(u64, Action)>,
    tasks: JoinSet<()>,
    reports: mpsc::UnboundedSender<Report>,
    status: Status,
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
        for (id, entry) in index.jobs.iter().filter(|(_, entry)| !entry.is_over()) {
            for (number, batch) in (0..).zip(&entry.batches) {
                let Some(record) = self.executor.journal.result(*id, number)? else { continue };
                if self.executor.has_outputs((*id, number), &record).await.unwrap_or(false) {
                    // It does nothing before its first look at the chain.
                    let _ = self.core.step(index, Event::Remembered((*id, number), record));
                } else if batch.provider == self.me && batch.stage != BatchStage::Leased {
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
        let Some(entry) = self.follower.index().jobs.get(&id) else { return };
        let (job, spec) = (entry.job.clone(), entry.spec.clone());
        let (executor, peers, reports) = (self.executor.clone(), self.peers(id), self.reports.clone());
        self.tasks.spawn(async move {
            let prepared = match executor.prepare(id, job, spec, &peers).await {
                Ok(prepared) => Arc::new(prepared),
                Err(Unprepared::Refused(text) | Unprepared::Unavailable(text)) => {
                    // The loop ends before its tasks.
                    let _ = reports.send(Report::Trouble(format!("lost outputs of job {id} cannot be made anew: {text}")));
                    return;
                }
            };
            for batch in batches {
                tracing::warn!(target: "conun::provider", job = %id, batch, "its outputs were lost: executed once more");
                if let Err(text) = executor.execute((id, batch), &prepared, &peers).await {
                    let text = format!("lost outputs of batch {batch} of job {id} cannot be made anew: {text}");
                    let _ = reports.send(Report::Trouble(text));
                }
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
            tokio::select! {
                biased;
                () = &mut shutdown => return Ok(()),
                () = turn => {}
            }
            self.reap();
            self.write_status();
        }
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
    }

    /// Brings the index up to date and tells the core.
    async fn refresh(&mut self) {
        match self.follower.poll().await {
            Ok(head) => {
                let index = self.follower.index();
                let stake = index.providers.get(&self.me).map_or(U256::ZERO, |entry| entry.stake);
                let exiting = index.providers.get(&self.me).is_none_or(|entry| entry.exiting || !entry.registered);
                let locked = index.locked_stake(self.me, self.audit_floor_bps);
                (self.status.stake, self.status.locked) = (stake, locked);
                self.status.at(head);
                let free_stake = if exiting { U256::ZERO } else { stake.saturating_sub(locked) };
                self.step(Event::Head { number: head.number, now: head.timestamp, free_stake });
                if let Some((_, action)) = self.mined.take_if(|(block, _)| *block <= head.number) {
                    self.sent(action);
                }
                self.tidy().await;
            }
            Err(error) => self.trouble(error.to_string()),
        }
    }

    /// The index shows what the transaction has changed: the core may go on.
    fn sent(&mut self, action: Action) {
        match action {
            Action::Lease(job, batches) => (self.tell)(Running::Leased(job, batches)),
            Action::Submit(job, results) => {
                (self.tell)(Running::Submitted(job, results.iter().map(|(batch, _)| *batch).collect()));
            }
            _ => {}
        }
        self.step(Event::Sent);
    }

    /// Lets go of programs and workers of jobs that are over.
    async fn tidy(&mut self) {
        let index = self.follower.index();
        let over = |id: &B256| index.jobs.get(id).is_none_or(|entry| entry.is_over());
        let done: Vec<_> = self.prepared.keys().copied().filter(over).collect();
        for id in done {
            self.prepared.remove(&id);
            self.executor.workers.end(id).await;
            self.step(Event::Over(id));
        }
    }

    fn trouble(&mut self, text: String) {
        tracing::warn!(target: "conun::provider", %text, "trouble");
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
                        let millis = self.guest.millis(took);
                        self.step(Event::Executed { batch, record, millis });
                    }
                    Err(text) => {
                        (self.tell)(Running::NotExecuted(batch, text.clone()));
                        self.step(Event::NotExecuted(batch, text));
                    }
                }
            }
            Report::Sent(action, Ok(block)) => {
                self.mined = Some((block, action));
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
            Report::Trouble(text) => self.trouble(text),
        }
    }

    /// Where a job's data may be had: its requester.
    fn peers(&self, job: B256) -> Vec<PeerContact> {
        self.follower.index().jobs.get(&job).map(|entry| entry.contact.clone()).into_iter().collect()
    }

    fn act(&mut self, action: Action) {
        tracing::debug!(target: "conun::provider", ?action, "act");
        let reports = self.reports.clone();
        match action {
            Action::Prepare(id) => {
                let Some(entry) = self.follower.index().jobs.get(&id) else { return };
                let (job, spec) = (entry.job.clone(), entry.spec.clone());
                let (executor, peers) = (self.executor.clone(), self.peers(id));
                self.tasks.spawn(async move {
                    let prepared = executor.prepare(id, job, spec, &peers).await;
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
            transaction => {
                let intent = match &transaction {
                    Action::Lease(job, batches) => self.executor.journal.intend_lease(*job, batches, self.status.block),
                    _ => Ok(()),
                };
                if let Err(error) = intent {
                    // Nothing is sent whose intent is not on disk.
                    let _ = reports.send(Report::NotSent(error.to_string()));
                    return;
                }
                let Some((kind, request)) = self.request(&transaction) else {
                    let _ = reports.send(Report::NotSent("a re-org has taken the job away".to_owned()));
                    return;
                };
                let sender = self.sender.clone();
                self.tasks.spawn(async move {
                    let sent = sender.send(kind, request).await;
                    let sent = sent.map(|receipt| receipt.block_number.unwrap_or_default());
                    let _ = reports.send(Report::Sent(transaction, sent));
                });
            }
        }
    }

    /// The transaction of an action.
    fn request(&self, action: &Action) -> Option<(&'static str, TransactionRequest)> {
        let registry = JobRegistry::new(self.follower.contracts().jobs, self.sender.provider());
        let job = |id: &B256| self.follower.index().jobs.get(id).map(|entry| entry.job.clone());
        Some(match action {
            Action::Lease(id, batches) => {
                ("lease", registry.lease(job(id)?, batches.clone()).into_transaction_request())
            }
            Action::Release(id, batches) => {
                ("release", registry.release(job(id)?, batches.clone()).into_transaction_request())
            }
            Action::Finalise(id, batches) => {
                let entries = &self.follower.index().jobs.get(id)?.batches;
                let standing =
                    batches.iter().filter_map(|number| Some(entries.get(*number as usize)?.submission(*number)));
                ("finalise", registry.finalise(job(id)?, standing.collect()).into_transaction_request())
            }
            Action::Submit(id, results) => {
                let results = results.iter().map(|(batch, record)| JobRegistry::Result {
                    batch: *batch,
                    root: record.root,
                    fuel: record.fuel,
                    outputs: record.outputs,
                });
                ("submit", registry.submit(job(id)?, results.collect()).into_transaction_request())
            }
            Action::Prepare(_) | Action::Execute(_) | Action::Abandon(_) => return None,
        })
    }

    fn write_status(&mut self) {
        let index = self.follower.index();
        let (mut earned, mut tasks, mut fuel) = (U256::ZERO, 0, 0);
        for entry in index.jobs.values() {
            for (number, batch) in (0..).zip(&entry.batches) {
                if batch.provider == self.me && batch.stage == BatchStage::Settled {
                    earned += batch.payment;
                    tasks += job::tasks_in(&entry.job, number).len() as u64;
                    fuel += batch.fuel;
                }
            }
        }
        (self.status.earned, self.status.tasks, self.status.fuel) = (earned, tasks, fuel);
        self.status.work = self.core.overview(index);
        self.status.gas = self.sender.gas();
        if let Err(error) = self.status.write(&self.folder) {
            self.trouble(error.to_string());
        }
    }
}
