//! Following a job to its end: results in, acceptance out.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use alloy::primitives::{Address, B256};
use conun_bindings::{abi::JobRegistry::Job, job};
use tokio::{
    task::JoinSet,
    time::{Instant, Interval, MissedTickBehavior},
};

use super::{
    Error, Progress, Requester,
    collect::{Collected, Rejection, collect},
    io_error,
    outputs::{Form, keep},
};
use crate::chain::{BatchEntry, BatchStage, JobEntry};

/// Batches fetched at once.
const MAX_COLLECTING: usize = 4;

/// Time between attempts at a result that could not be had.
const RETRY: Duration = Duration::from_secs(5);

/// Attempts after which a result counts as lost, once it is paid or its window is over.
const MAX_ATTEMPTS: u32 = 3;

/// How long a verified batch waits for others, so that one transaction accepts them all.
const ACCEPT_DELAY: Duration = Duration::from_secs(2);

/// How long a job that a re-org has taken away may stay away.
const MAX_ABSENCE: Duration = Duration::from_secs(600);

/// An attempt at a batch's result that failed.
#[derive(Debug)]
struct Failure {
    attempts: u32,
    next: Instant,
    reason: String,
}

/// What following a job needs to remember; all of it can be found again.
#[derive(Debug)]
struct Following {
    /// What was told of each batch.
    told: Vec<Option<(BatchStage, Address)>>,
    /// Batches whose results are here, with the root they were checked against: after a re-org there may be another.
    verified: BTreeMap<u32, B256>,
    failures: BTreeMap<u32, Failure>,
    collecting: JoinSet<(u32, B256, Result<Collected, Rejection>)>,
    under_way: BTreeSet<u32>,
    failed_tasks: BTreeSet<u32>,
    /// What the program's outputs are made of.
    form: Form,
    /// Since when a verified batch waits to be accepted.
    ready_since: Option<Instant>,
    ticks: Interval,
}

fn has_result(batch: &BatchEntry) -> bool {
    matches!(batch.stage, BatchStage::Submitted | BatchStage::Frozen | BatchStage::Settled)
}

impl Following {
    fn is_verified(&self, number: u32, batch: &BatchEntry) -> bool {
        self.verified.get(&number) == Some(&batch.root)
    }

    /// Whether the batch's result will hardly ever be had.
    fn is_lost(&self, number: u32, batch: &BatchEntry, now: u64) -> bool {
        let tried = self.failures.get(&number).is_some_and(|failure| failure.attempts >= MAX_ATTEMPTS);
        tried && (batch.stage == BatchStage::Settled || batch.stage == BatchStage::Submitted && now >= batch.deadline)
    }

    /// The batches without a result once nothing more is to be waited for.
    fn end(&self, entry: &JobEntry, now: u64) -> Option<Vec<u32>> {
        let mut lost = Vec::new();
        for (number, batch) in (0..).zip(&entry.batches) {
            match batch.stage {
                BatchStage::Cancelled => {}
                BatchStage::Settled if self.is_verified(number, batch) => {}
                _ if !self.is_verified(number, batch) && self.is_lost(number, batch, now) => lost.push(number),
                _ => return None,
            }
        }
        Some(lost)
    }

    /// Verified batches that are to be accepted now.
    fn acceptable(&mut self, entry: &JobEntry) -> BTreeSet<u32> {
        let numbered = || (0..).zip(&entry.batches);
        let is_ready = |(number, batch): &(u32, &BatchEntry)| {
            batch.stage == BatchStage::Submitted && self.is_verified(*number, batch)
        };
        let ready: BTreeSet<u32> = numbered().filter(is_ready).map(|(number, _)| number).collect();
        if ready.is_empty() {
            self.ready_since = None;
            return ready;
        }
        let none_to_come = numbered().all(|(number, batch)| batch.is_final() || ready.contains(&number));
        let since = *self.ready_since.get_or_insert_with(Instant::now);
        if none_to_come || since.elapsed() >= ACCEPT_DELAY { ready } else { BTreeSet::new() }
    }

    fn rejected(&mut self, number: u32, rejection: &Rejection) -> Option<String> {
        let reason = rejection.to_string();
        let before = self.failures.get(&number);
        let known = before.is_some_and(|failure| failure.reason == reason);
        let attempts = match rejection {
            Rejection::Unavailable(_) => before.map_or(0, |failure| failure.attempts) + 1,
            // The same bytes again would be as wrong.
            Rejection::Wrong(_) => u32::MAX,
        };
        self.failures.insert(number, Failure { attempts, next: Instant::now() + RETRY, reason: reason.clone() });
        (!known).then_some(reason)
    }
}

impl Requester {
    /// Serves a job until all its batches are final: fetches results, checks them, accepts those that are right, and writes each
    /// task's standard output to `out/<task index>`, and files that it left to `out/<task index>.files`. What was fetched before is not fetched again. Returns the indices of tasks that failed, or
    /// whose program ended with an exit code that is not 0.
    ///
    /// # Errors
    /// If the job is not this account's, a file cannot be written, or results cannot be had although they are paid for or
    /// their window is over. A chain that does not answer is waited for.
    ///
    /// # Cancel safety
    /// Cancel safe but for an accept under way: another call goes on from there.
    pub async fn follow(
        &mut self,
        id: B256,
        out: &Path,
        poll: Duration,
        mut tell: impl FnMut(Progress, &JobEntry),
    ) -> Result<Vec<u32>, Error> {
        std::fs::create_dir_all(out).map_err(io_error(out))?;
        self.refresh().await?;
        self.announce(id).await?;
        let mut ticks = tokio::time::interval(poll);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let program = self.own(id)?.spec.program;
        let form = Form::of(self.node.get(&program.0).await?.as_deref());
        let mut following = Following {
            told: Vec::new(),
            verified: BTreeMap::new(),
            failures: BTreeMap::new(),
            collecting: JoinSet::new(),
            under_way: BTreeSet::new(),
            failed_tasks: BTreeSet::new(),
            form,
            ready_since: None,
            ticks,
        };
        let mut absent_since = None;
        loop {
            let entry = match self.own(id) {
                Ok(entry) => entry,
                Err(error) => {
                    if absent_since.get_or_insert_with(Instant::now).elapsed() >= MAX_ABSENCE {
                        return Err(error);
                    }
                    following.ticks.tick().await;
                    // It is asked again at the next tick.
                    let _ = self.follower.poll().await;
                    continue;
                }
            };
            absent_since = None;
            report(entry, &mut following.told, &mut tell);
            let now = self.follower.head().map_or(0, |head| head.timestamp);
            match following.end(entry, now) {
                Some(lost) if lost.is_empty() => return Ok(following.failed_tasks.into_iter().collect()),
                Some(batches) => return Err(Error::OutputsMissing { job: id, batches }),
                None => self.collect(id, entry, &mut following),
            }
            tokio::select! {
                Some(done) = following.collecting.join_next() => {
                    if let Ok((number, root, result)) = done {
                        following.under_way.remove(&number);
                        self.collected(id, out, &mut following, (number, root, result), &mut tell)?;
                    }
                }
                _ = following.ticks.tick() => self.look(id, &mut following, &mut tell).await,
            }
        }
    }

    /// Begins to fetch results that are there and not here.
    fn collect(&self, id: B256, entry: &JobEntry, following: &mut Following) {
        for (number, batch) in (0..).zip(&entry.batches) {
            if following.collecting.len() >= MAX_COLLECTING {
                return;
            }
            let failure = following.failures.get(&number);
            let due = failure.is_none_or(|failure| failure.attempts < u32::MAX && Instant::now() >= failure.next);
            let here = following.is_verified(number, batch);
            if has_result(batch) && !here && due && following.under_way.insert(number) {
                let (node, job, batch) = (self.node.clone(), entry.job.clone(), batch.clone());
                let peers = self.peers(batch.provider);
                following.collecting.spawn(async move {
                    let collected = collect(&node, id, &job, number, &batch, &peers).await;
                    (number, batch.root, collected)
                });
            }
        }
    }

    /// Takes in a batch's result, or why there is none.
    fn collected(
        &self,
        id: B256,
        out: &Path,
        following: &mut Following,
        (number, root, result): (u32, B256, Result<Collected, Rejection>),
        tell: &mut impl FnMut(Progress, &JobEntry),
    ) -> Result<(), Error> {
        // Gone by a re-org: whatever it was, it is fetched again if it comes back.
        let Ok(entry) = self.own(id) else { return Ok(()) };
        match result {
            Ok(collected) => {
                following.failed_tasks.extend(keep_batch(out, following.form, &entry.job, number, &collected)?);
                following.verified.insert(number, root);
                following.failures.remove(&number);
                tell(Progress::Verified { batch: number }, entry);
            }
            Err(rejection) => {
                if let Some(reason) = following.rejected(number, &rejection) {
                    tell(Progress::NotTaken { batch: number, reason }, entry);
                }
            }
        }
        Ok(())
    }

    /// Looks at the chain, and accepts what is verified.
    async fn look(&mut self, id: B256, following: &mut Following, tell: &mut impl FnMut(Progress, &JobEntry)) {
        let done = match self.follower.poll().await {
            Err(error) => Err(error.into()),
            Ok(_) => match self.own(id).map(|entry| following.acceptable(entry)) {
                Ok(ready) if !ready.is_empty() => {
                    following.ready_since = None;
                    let verified = &following.verified;
                    self.accept_if(id, |number, batch| verified.get(&number) == Some(&batch.root)).await.map(drop)
                }
                _ => Ok(()),
            },
        };
        if let Err(error) = done
            && let Ok(entry) = self.own(id)
        {
            tell(Progress::Trouble { reason: error.to_string() }, entry);
        }
    }
}

/// Writes a batch's outputs. Returns the tasks that did not end well.
fn keep_batch(out: &Path, form: Form, job: &Job, number: u32, collected: &Collected) -> Result<Vec<u32>, Error> {
    let mut failed = Vec::new();
    for ((index, output), result) in job::tasks_in(job, number).zip(&collected.outputs).zip(&collected.results) {
        if result.outcome != (conun_vm::Outcome::Ok { exit_code: 0 }) {
            tracing::info!(target: "conun::requester", task = index, outcome = ?result.outcome, "the program did not end well");
            failed.push(index);
        }
        keep(out, index, form, output)?;
    }
    Ok(failed)
}

/// Tells what has changed since the last look.
fn report(entry: &JobEntry, told: &mut Vec<Option<(BatchStage, Address)>>, tell: &mut impl FnMut(Progress, &JobEntry)) {
    told.resize(entry.batches.len(), None);
    for ((number, batch), told) in (0..).zip(&entry.batches).zip(told) {
        let now = (batch.stage, batch.provider);
        let before = told.replace(now);
        if before == Some(now) {
            continue;
        }
        let provider = batch.provider;
        match batch.stage {
            BatchStage::Open if before.is_some() => tell(Progress::Reopened { batch: number }, entry),
            BatchStage::Open | BatchStage::Frozen | BatchStage::Cancelled => {}
            BatchStage::Leased => tell(Progress::Leased { batch: number, provider }, entry),
            BatchStage::Submitted => tell(Progress::Submitted { batch: number, provider, fuel: batch.fuel }, entry),
            BatchStage::Settled => {
                let (payment, accepted) = (batch.payment, batch.accepted);
                tell(Progress::Settled { batch: number, provider, payment, accepted }, entry);
            }
        }
    }
}
