//! Following a job to its end: results in, acceptance out.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use alloy::primitives::B256;
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
    view::{End, Found, Told, View},
};
use crate::chain::JobEntry;

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
    told: Told,
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

impl Following {
    fn is_verified(&self, number: u32, found: &Found) -> bool {
        self.verified.get(&number) == Some(&found.root)
    }

    fn is_here(&self, number: u32, view: &View) -> bool {
        view.found.as_ref().is_some_and(|found| self.is_verified(number, found))
    }

    /// Whether the batch's result will hardly ever be had.
    fn is_lost(&self, number: u32, view: &View) -> bool {
        let tried = self.failures.get(&number).is_some_and(|failure| failure.attempts >= MAX_ATTEMPTS);
        tried && view.due
    }

    /// The batches without a result once nothing more is to be waited for.
    fn end(&self, views: &[View]) -> Option<Vec<u32>> {
        let mut lost = Vec::new();
        for (number, view) in (0..).zip(views) {
            match view.end {
                End::Nothing => {}
                End::Paid if self.is_here(number, view) => {}
                _ if !self.is_here(number, view) && self.is_lost(number, view) => lost.push(number),
                _ => return None,
            }
        }
        Some(lost)
    }

    /// Whether verified batches are to be accepted now.
    fn accepts_now(&mut self, views: &[View]) -> bool {
        let is_ready = |number: u32, view: &View| view.acceptable && self.is_here(number, view);
        let numbered = || (0..).zip(views);
        if !numbered().any(|(number, view)| is_ready(number, view)) {
            self.ready_since = None;
            return false;
        }
        let none_to_come = numbered().all(|(number, view)| view.end != End::Going || is_ready(number, view));
        let since = *self.ready_since.get_or_insert_with(Instant::now);
        none_to_come || since.elapsed() >= ACCEPT_DELAY
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
            told: Told::default(),
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
                    let _ = self.refresh().await;
                    continue;
                }
            };
            absent_since = None;
            following.told.report(entry, &mut tell);
            let views = self.views(id)?;
            match following.end(&views) {
                Some(lost) if lost.is_empty() => return Ok(following.failed_tasks.into_iter().collect()),
                Some(batches) => return Err(Error::OutputsMissing { job: id, batches }),
                None => self.collect(id, entry, &views, &mut following),
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
    fn collect(&self, id: B256, entry: &JobEntry, views: &[View], following: &mut Following) {
        for (number, view) in (0..).zip(views) {
            if following.collecting.len() >= MAX_COLLECTING {
                return;
            }
            let Some(found) = &view.found else { continue };
            let failure = following.failures.get(&number);
            let due = failure.is_none_or(|failure| failure.attempts < u32::MAX && Instant::now() >= failure.next);
            if !following.is_verified(number, found) && due && following.under_way.insert(number) {
                let (node, job, found) = (self.node.clone(), entry.job.clone(), found.clone());
                let mut makers: BTreeMap<[u8; 32], Vec<_>> = BTreeMap::new();
                for (provider, outputs) in &found.makers {
                    makers.entry(*outputs).or_default().extend(self.peers(*provider));
                }
                following.collecting.spawn(async move {
                    let collected = collect(&node, id, &job, number, &found, makers.into_iter().collect()).await;
                    (number, found.root, collected)
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
        let done = match self.refresh().await {
            Err(error) => Err(error),
            Ok(_) => match self.views(id).map(|views| following.accepts_now(&views)) {
                Ok(true) => {
                    following.ready_since = None;
                    let verified = &following.verified;
                    self.accept_if(id, |number, root| verified.get(&number) == Some(&root)).await.map(drop)
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
