//! The provider's decisions: (state, what the chain says, event) -> actions. No clock, no file, no socket, no randomness, so that
//! the agent and a simulator drive the very same code.
//!
//! What is held is read from the chain's index each time; the core itself remembers only what the chain cannot tell: which jobs
//! were looked at, what is being executed, what is finished, and that a transaction is under way (at most one).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use alloy::primitives::{B256, U256, keccak256};
use conun_bindings::job;
use serde::{Deserialize, Serialize};

use crate::{
    chain::{BatchEntry, BatchStage, Index, JobEntry},
    store::ResultRecord,
};

/// A batch of a job.
pub type BatchId = (B256, u32);

/// Most batches submitted or finalised in one transaction.
const MAX_PER_TRANSACTION: usize = 16;

/// Share of a lease's time that the queue may be expected to take, percent; the rest is margin.
const QUEUE_PERCENT: u64 = 60;

/// Blocks to wait after a lost race; doubled each time in a row, up to [`MAX_BACKOFF`].
const BACKOFF: u64 = 1;

/// Most blocks to wait after lost races.
const MAX_BACKOFF: u64 = 8;

/// Which jobs a provider takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Policy {
    /// Least price, token wei for 10^9 fuel; default 1.
    pub min_price: u128,
    /// Most memory that a task may ask for, bytes; default 2 GiB.
    pub max_memory_bytes: u64,
    /// Most fuel that a task may ask for; default 10^13.
    pub max_fuel: u64,
    /// Categories taken; all if empty (default).
    pub categories: BTreeSet<u32>,
    /// Batches executed at once; default 1.
    pub workers: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            min_price: 1,
            max_memory_bytes: 2 << 30,
            max_fuel: 10_000_000_000_000,
            categories: BTreeSet::new(),
            workers: 1,
        }
    }
}

/// Why a job is not worked on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "reason", rename_all = "camelCase")]
#[non_exhaustive]
pub enum SkipReason {
    /// It pays too little.
    #[error("pays less than min-price")]
    Price,
    /// Its tasks may need too much memory.
    #[error("asks for more memory than max-memory-bytes")]
    Memory,
    /// Its tasks may burn too much fuel.
    #[error("asks for more fuel than max-fuel")]
    Fuel,
    /// Its category is not taken.
    #[error("its category is not among categories")]
    Category,
    /// The free stake does not cover one batch.
    #[error("a batch locks more stake than is free: add stake")]
    Stake,
    /// Its program or inputs cannot be used.
    #[error("its program or inputs were refused: {text}")]
    Refused {
        /// What is wrong.
        text: String,
    },
    /// Its program or inputs could not be fetched yet.
    #[error("its program or inputs cannot be had: {text}")]
    Unavailable {
        /// What happened.
        text: String,
    },
    /// Nothing of it is free.
    #[error("no batch is free")]
    NothingFree,
}

/// Something happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// The index was brought up to this block and block time; `free_stake` is what can be locked, token wei.
    Head {
        /// Block number.
        number: u64,
        /// Block time, UNIX seconds.
        now: u64,
        /// Stake that is not locked, token wei.
        free_stake: U256,
    },
    /// Program and inputs are here and are what the job says.
    Prepared(B256),
    /// They are not what the job says, or cannot be executed: never this job.
    Refused(B256, String),
    /// They could not be fetched: perhaps later.
    Unavailable(B256, String),
    /// A batch is executed and its result kept.
    Executed {
        /// Which.
        batch: BatchId,
        /// The result.
        record: ResultRecord,
        /// How long it took, milliseconds.
        millis: u64,
    },
    /// A batch could not be executed here; its inputs may be missing.
    NotExecuted(BatchId, String),
    /// The transaction under way was mined.
    Sent,
    /// Somebody was faster.
    LostRace,
    /// The transaction under way came to nothing.
    NotSent(String),
    /// Take nothing new.
    Paused(bool),
    /// A result from before a restart.
    Remembered(BatchId, ResultRecord),
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Fetch and check program and input manifest.
    Prepare(B256),
    /// Send: lease these batches.
    Lease(B256, Vec<u32>),
    /// Execute a batch.
    Execute(BatchId),
    /// Stop executing a batch: its result is of no more use.
    Abandon(BatchId),
    /// Send: submit these results.
    Submit(B256, Vec<(u32, ResultRecord)>),
    /// Send: give these batches back.
    Release(B256, Vec<u32>),
    /// Send: finalise these batches.
    Finalise(B256, Vec<u32>),
}

/// What is known of a job beyond the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Looked {
    Preparing,
    Ready,
    Refused(String),
    /// Failed at this block; tried again later.
    Unavailable(u64, String),
}

/// Blocks between attempts at a job whose data could not be had.
const RETRY_UNAVAILABLE: u64 = 10;

/// The state. `me` is the registration index.
#[derive(Debug)]
pub struct Core {
    me: u32,
    policy: Policy,
    audit_floor_bps: u16,
    looked: HashMap<B256, Looked>,
    executing: BTreeSet<BatchId>,
    executed: BTreeMap<BatchId, ResultRecord>,
    failed: BTreeMap<BatchId, String>,
    sending: bool,
    paused: bool,
    number: u64,
    now: u64,
    free_stake: U256,
    /// Mean time of a batch, milliseconds, by job.
    pace: HashMap<B256, u64>,
    not_before: u64,
    lost_in_a_row: u32,
}

/// What the core would tell its owner.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Overview {
    /// Batches being executed.
    pub executing: Vec<BatchId>,
    /// Batches held on chain.
    pub held: usize,
    /// Results whose window is open.
    pub submitted: usize,
    /// Jobs not worked on, and why.
    pub skipped: Vec<(B256, SkipReason)>,
}

impl Core {
    /// A core that knows nothing yet.
    ///
    /// `audit_floor_bps` is the deployment's, in 1/10,000: it decides how much stake a lease locks.
    pub fn new(me: u32, policy: Policy, audit_floor_bps: u16) -> Self {
        Self {
            me,
            policy,
            audit_floor_bps,
            looked: HashMap::new(),
            executing: BTreeSet::new(),
            executed: BTreeMap::new(),
            failed: BTreeMap::new(),
            sending: false,
            paused: false,
            number: 0,
            now: 0,
            free_stake: U256::ZERO,
            pace: HashMap::new(),
            not_before: 0,
            lost_in_a_row: 0,
        }
    }

    /// Takes in an event and says what to do.
    pub fn step(&mut self, index: &Index, event: Event) -> Vec<Action> {
        match event {
            Event::Head { number, now, free_stake } => {
                (self.number, self.now, self.free_stake) = (number, now, free_stake)
            }
            Event::Prepared(job) => drop(self.looked.insert(job, Looked::Ready)),
            Event::Refused(job, text) => drop(self.looked.insert(job, Looked::Refused(text))),
            Event::Unavailable(job, text) => drop(self.looked.insert(job, Looked::Unavailable(self.number, text))),
            Event::Executed { batch, record, millis } => {
                self.executing.remove(&batch);
                self.executed.entry(batch).or_insert(record);
                let pace = self.pace.entry(batch.0).or_insert(millis);
                *pace = (*pace * 3 + millis) / 4;
            }
            Event::NotExecuted(batch, text) => {
                self.executing.remove(&batch);
                self.failed.insert(batch, text);
            }
            Event::Sent => (self.sending, self.lost_in_a_row) = (false, 0),
            Event::LostRace => {
                self.sending = false;
                self.not_before = self.number + (BACKOFF << self.lost_in_a_row.min(8)).min(MAX_BACKOFF);
                self.lost_in_a_row += 1;
            }
            Event::NotSent(_) => {
                self.sending = false;
                self.not_before = self.number + MAX_BACKOFF;
            }
            Event::Paused(paused) => self.paused = paused,
            Event::Remembered(batch, record) => drop(self.executed.insert(batch, record)),
        }
        self.decide(index)
    }

    fn decide(&mut self, index: &Index) -> Vec<Action> {
        let mut actions = self.abandon(index);
        self.execute(index, &mut actions);
        self.prepare(index, &mut actions);
        if !self.sending {
            let action = self.submit(index).or_else(|| self.release(index)).or_else(|| self.finalise(index));
            let action = action.or_else(|| self.lease(index));
            self.sending = action.is_some();
            actions.extend(action);
        }
        actions
    }

    fn entry<'a>(index: &'a Index, (job, batch): BatchId) -> Option<(&'a JobEntry, &'a BatchEntry)> {
        let entry = index.jobs.get(&job)?;
        Some((entry, entry.batches.get(batch as usize)?))
    }

    /// Whether a result for the batch could be submitted, now or once the lease is active.
    fn may_submit(&self, entry: &JobEntry, batch: &BatchEntry) -> bool {
        match batch.stage {
            BatchStage::Leased if batch.provider == self.me => true,
            // Late, but no successor is active yet.
            BatchStage::Leased => batch.previous == self.me && self.number + 1 < batch.active_block,
            BatchStage::Open => batch.previous == self.me && !entry.cancelled,
            _ => false,
        }
    }

    /// Forgets what has become useless.
    fn abandon(&mut self, index: &Index) -> Vec<Action> {
        let useful = |id: &BatchId| Self::entry(index, *id).is_some_and(|(entry, batch)| self.may_submit(entry, batch));
        let useless: Vec<_> = self.executing.iter().copied().filter(|id| !useful(id)).collect();
        let over = |id: &BatchId| Self::entry(index, *id).is_some_and(|(_, batch)| batch.is_final());
        let done: Vec<_> = self.executed.keys().copied().filter(over).collect();
        self.executed.retain(|id, _| !done.contains(id));
        self.failed.retain(|id, _| {
            Self::entry(index, *id)
                .is_some_and(|(_, batch)| batch.stage == BatchStage::Leased && batch.provider == self.me)
        });
        self.executing.retain(|id| !useless.contains(id));
        useless.into_iter().map(Action::Abandon).collect()
    }

    fn held<'a>(&'a self, index: &'a Index) -> impl Iterator<Item = (BatchId, &'a JobEntry, &'a BatchEntry)> {
        index.order.iter().filter_map(|job| Some((*job, index.jobs.get(job)?))).flat_map(|(job, entry)| {
            let batches = (0..).zip(&entry.batches).map(move |(number, batch)| ((job, number), entry, batch));
            batches.filter(|(_, _, batch)| batch.stage == BatchStage::Leased && batch.provider == self.me)
        })
    }

    fn execute(&mut self, index: &Index, actions: &mut Vec<Action>) {
        let free = (self.policy.workers as usize).saturating_sub(self.executing.len());
        let ready = |id: &BatchId| {
            !self.executing.contains(id)
                && !self.executed.contains_key(id)
                && !self.failed.contains_key(id)
                && self.looked.get(&id.0) == Some(&Looked::Ready)
        };
        let mut next: Vec<_> =
            self.held(index).filter(|(id, ..)| ready(id)).map(|(id, _, batch)| (batch.deadline, id)).collect();
        next.sort_unstable();
        for (_, id) in next.into_iter().take(free) {
            self.executing.insert(id);
            actions.push(Action::Execute(id));
        }
    }

    fn prepare(&mut self, index: &Index, actions: &mut Vec<Action>) {
        let held: BTreeSet<_> = self.held(index).map(|((job, _), ..)| job).collect();
        for id in &index.order {
            let Some(entry) = index.jobs.get(id) else { continue };
            let again = match self.looked.get(id) {
                None => true,
                Some(Looked::Unavailable(at, _)) => self.number >= at + RETRY_UNAVAILABLE,
                Some(_) => false,
            };
            let wanted = held.contains(id)
                || (!self.paused && self.objection(entry).is_none() && self.free(entry).next().is_some());
            if again && wanted {
                self.looked.insert(*id, Looked::Preparing);
                actions.push(Action::Prepare(*id));
            }
        }
    }

    /// What speaks against a job, by its terms alone.
    fn objection(&self, entry: &JobEntry) -> Option<SkipReason> {
        let job = &entry.job;
        let policy = &self.policy;
        if job.pricePerGigafuel < policy.min_price {
            Some(SkipReason::Price)
        } else if job.memoryLimit > policy.max_memory_bytes {
            Some(SkipReason::Memory)
        } else if job.fuelLimit > policy.max_fuel {
            Some(SkipReason::Fuel)
        } else if !policy.categories.is_empty() && !policy.categories.contains(&job.category) {
            Some(SkipReason::Category)
        } else {
            None
        }
    }

    /// Numbers of the batches that could be leased now.
    fn free<'a>(&self, entry: &'a JobEntry) -> impl Iterator<Item = u32> + use<'a> {
        let (now, cancelled) = (self.now, entry.cancelled);
        (0..).zip(&entry.batches).filter(move |(_, batch)| !cancelled && batch.is_free(now)).map(|(number, _)| number)
    }

    fn submit(&self, index: &Index) -> Option<Action> {
        let mut found: BTreeMap<B256, Vec<(u32, ResultRecord)>> = BTreeMap::new();
        for (id, record) in &self.executed {
            let Some((entry, batch)) = Self::entry(index, *id) else { continue };
            let active =
                batch.stage != BatchStage::Leased || batch.provider != self.me || self.number + 1 >= batch.active_block;
            if active && self.may_submit(entry, batch) && self.number >= self.not_before {
                found.entry(id.0).or_default().push((id.1, *record));
            }
        }
        let (job, mut results) = found.into_iter().next()?;
        results.truncate(MAX_PER_TRANSACTION);
        Some(Action::Submit(job, results))
    }

    /// Batches whose inputs cannot be had go back while that leaves no mark.
    fn release(&self, index: &Index) -> Option<Action> {
        let early = |id: &BatchId| {
            let (entry, batch) = Self::entry(index, *id)?;
            let leased_at = batch.deadline.saturating_sub(entry.job.leaseSeconds.into());
            (self.now <= leased_at + u64::from(entry.job.leaseSeconds / 4)).then_some(*id)
        };
        let (job, batch) = self.failed.keys().find_map(early)?;
        Some(Action::Release(job, vec![batch]))
    }

    fn finalise(&self, index: &Index) -> Option<Action> {
        let due = |batch: &BatchEntry| {
            batch.stage == BatchStage::Submitted && batch.provider == self.me && self.now >= batch.deadline
        };
        if self.number < self.not_before {
            return None;
        }
        index.order.iter().find_map(|job| {
            let batches = &index.jobs.get(job)?.batches;
            let numbers = (0..).zip(batches).filter(|(_, batch)| due(batch)).map(|(number, _)| number);
            let numbers: Vec<_> = numbers.take(MAX_PER_TRANSACTION).collect();
            (!numbers.is_empty()).then_some(Action::Finalise(*job, numbers))
        })
    }

    fn lease(&mut self, index: &Index) -> Option<Action> {
        if self.paused || self.number < self.not_before {
            return None;
        }
        let waiting = self.held(index).filter(|(id, ..)| !self.executed.contains_key(id)).count();
        let mut jobs: Vec<_> = index
            .order
            .iter()
            .filter(|id| self.looked.get(*id) == Some(&Looked::Ready))
            .filter_map(|id| Some((id, index.jobs.get(id)?)))
            .filter(|(_, entry)| self.objection(entry).is_none())
            .collect();
        // The best price first; among equals the oldest.
        jobs.sort_by_key(|(_, entry)| std::cmp::Reverse(entry.job.pricePerGigafuel));
        for (id, entry) in jobs {
            let room = self.capacity(*id, entry).saturating_sub(waiting);
            let batches = self.choose(*id, entry, room);
            if !batches.is_empty() {
                return Some(Action::Lease(*id, batches));
            }
        }
        None
    }

    /// Unexecuted batches to hold at once: one for each worker until the job's pace is known, then one more each, if all of them
    /// end well within a lease.
    fn capacity(&self, id: B256, entry: &JobEntry) -> usize {
        let workers = self.policy.workers as usize;
        match self.pace.get(&id) {
            None => workers,
            Some(pace) => {
                let time = u64::from(entry.job.leaseSeconds) * 1_000 * QUEUE_PERCENT / 100;
                let rounds = usize::try_from(time / (*pace).max(1)).unwrap_or(usize::MAX);
                (2 * workers).min(workers.saturating_mul(rounds).max(workers))
            }
        }
    }

    /// Up to `room` free batches that the free stake covers, starting at a place of one's own, so that providers seldom want the
    /// same ones.
    fn choose(&self, id: B256, entry: &JobEntry, room: usize) -> Vec<u32> {
        let free: Vec<_> = self.free(entry).collect();
        if free.is_empty() || room == 0 {
            return Vec::new();
        }
        let place = keccak256([id.as_slice(), &self.me.to_be_bytes(), &self.lost_in_a_row.to_be_bytes()].concat());
        let start =
            U256::from_be_bytes(place.0).checked_rem(U256::from(free.len())).map_or(0, |start| start.to::<usize>());
        let mut stake = self.free_stake;
        let mut chosen = Vec::new();
        for number in free[start..].iter().chain(&free[..start]).take(room) {
            let lock = job::lease_lock(&entry.job, *number, self.audit_floor_bps);
            let Some(rest) = stake.checked_sub(lock) else { break };
            stake = rest;
            chosen.push(*number);
        }
        chosen.sort_unstable();
        chosen
    }

    /// What the owner may want to know.
    pub fn overview(&self, index: &Index) -> Overview {
        let submitted = |entry: &JobEntry| {
            entry
                .batches
                .iter()
                .filter(|batch| batch.stage == BatchStage::Submitted && batch.provider == self.me)
                .count()
        };
        let skipped =
            index.order.iter().filter_map(|id| Some((*id, index.jobs.get(id)?))).filter(|(_, entry)| !entry.is_over());
        Overview {
            executing: self.executing.iter().copied().collect(),
            held: self.held(index).count(),
            submitted: index.jobs.values().map(submitted).sum(),
            skipped: skipped.filter_map(|(id, entry)| Some((id, self.skip_reason(id, entry)?))).collect(),
        }
    }

    fn skip_reason(&self, id: B256, entry: &JobEntry) -> Option<SkipReason> {
        if let Some(reason) = self.objection(entry) {
            return Some(reason);
        }
        match self.looked.get(&id) {
            Some(Looked::Refused(text)) => return Some(SkipReason::Refused { text: text.clone() }),
            Some(Looked::Unavailable(_, text)) => return Some(SkipReason::Unavailable { text: text.clone() }),
            _ => {}
        }
        let Some(first) = self.free(entry).next() else { return Some(SkipReason::NothingFree) };
        let lock = job::lease_lock(&entry.job, first, self.audit_floor_bps);
        (lock > self.free_stake).then_some(SkipReason::Stake)
    }
}

#[cfg(test)]
mod tests;
