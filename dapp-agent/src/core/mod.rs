//! The provider's decisions: (state, what the chain says, event) -> actions. No clock, no file, no socket, no randomness, so that
//! the agent and a simulator drive the very same code.
//!
//! What is held is read from the chain's index each time; the core itself remembers only what the chain cannot tell: which jobs
//! were looked at, what is being executed, what is finished, and that a transaction is under way (at most one).

mod breaker;
mod decide;
mod policy;
mod replicas;
mod verdict;
mod view;
mod worth;

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{Address, B256, U256, map::B256Map};

pub use policy::{Policy, SkipReason};
pub use verdict::{Disputed, Overview, Taken, Verdict};
pub use worth::{Conditions, Worth};

use breaker::Breaker;
use replicas::Turn;
use view::View;

use crate::{chain::Index, store::ResultRecord};

/// A batch of a job.
pub type BatchId = (B256, u32);

/// Looks at the chain to wait after a lost race; doubled each time in a row, up to [`MAX_BACKOFF`].
const BACKOFF: u64 = 1;

/// Most looks to wait after transactions that came to nothing.
const MAX_BACKOFF: u64 = 8;

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
        /// How long it took, milliseconds; 0 if it was known before.
        millis: u64,
    },
    /// A batch could not be executed here; its inputs may be missing.
    NotExecuted(BatchId, String),
    /// The transaction under way was mined, and the index shows what it changed.
    Sent,
    /// Somebody was faster.
    LostRace,
    /// The transaction under way came to nothing.
    NotSent(String),
    /// The hash of a block that decides a lot or a draw; `None` if it could not be read.
    BlockHash(u64, Option<B256>),
    /// Take nothing new.
    Paused(bool),
    /// Take nothing new any more: the agent stops once no stake is locked.
    Draining(bool),
    /// A result from before a restart.
    Remembered(BatchId, ResultRecord),
    /// A remembered result whose outputs were lost has them again.
    Restored(BatchId),
    /// Nothing more can happen to a job: what was known of it is forgotten.
    Over(B256),
    /// Whether these requesters belong to one of the groups that the policy names; it counts from the next look at the chain on.
    Members(BTreeMap<Address, bool>),
    /// What was measured has changed.
    Conditions(Conditions),
    /// A batch of the job has so many bytes of inputs that are not here yet, on the average.
    Download(B256, u64),
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Fetch and check program and input manifest.
    Prepare(B256),
    /// Read the hash of this block.
    BlockHash(u64),
    /// Let others have the outputs of a batch.
    Publish(BatchId),
    /// Execute a batch.
    Execute(BatchId),
    /// Stop executing a batch: its result is of no more use.
    Abandon(BatchId),
    /// Send: lease these batches.
    Lease(B256, Vec<u32>),
    /// Send: lease a backup of this provider's lease.
    BackUp(BatchId, Address),
    /// Send: submit these results.
    Submit(B256, Vec<(u32, ResultRecord)>),
    /// Send: commit to these results.
    Commit(B256, Vec<(u32, ResultRecord)>),
    /// Send: find out whether the only commit is audited.
    Draw(BatchId),
    /// Send: show these results.
    Reveal(B256, Vec<(u32, ResultRecord)>),
    /// Send: show this result, and the leaf that was drawn.
    RevealOpened(BatchId, ResultRecord),
    /// Send: give these batches back.
    Release(B256, Vec<u32>),
    /// Send: end this provider's lease, which ran out.
    Expire(BatchId, Address),
    /// Send: finalise these batches.
    Finalise(B256, Vec<u32>),
    /// Send: bring a batch whose disputes are over on its way again.
    Resolve(BatchId),
    /// Send: show the chunk that this case demands.
    Answer(B256),
}

impl Action {
    /// The job and the batches that a transaction is about; `None` for what is no transaction, or about a case.
    pub fn batches(&self) -> Option<(B256, Vec<u32>)> {
        use Action as A;
        let of = |results: &[(u32, ResultRecord)]| results.iter().map(|(number, _)| *number).collect();
        match self {
            A::Lease(job, batches) | A::Release(job, batches) | A::Finalise(job, batches) => {
                Some((*job, batches.clone()))
            }
            A::Submit(job, results) | A::Commit(job, results) | A::Reveal(job, results) => Some((*job, of(results))),
            A::BackUp(id, _) | A::Draw(id) | A::RevealOpened(id, _) | A::Expire(id, _) | A::Resolve(id) => {
                Some((id.0, vec![id.1]))
            }
            A::Prepare(_) | A::BlockHash(_) | A::Publish(_) | A::Execute(_) | A::Abandon(_) | A::Answer(_) => None,
        }
    }
}

/// What is known of a job beyond the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Looked {
    Preparing,
    Ready,
    Refused(String),
}

/// A result that waits to be submitted, or stands on the chain.
#[derive(Clone, Copy, Debug)]
struct Done {
    record: ResultRecord,
    /// Block time since when it is here.
    since: u64,
}

/// What decisions take from an account's entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Standing {
    /// It takes nothing any more.
    leaving: bool,
    /// Token wei.
    stake: U256,
    /// Block in which it had that.
    staked_block: u64,
    /// Checks that it has passed.
    checks: u32,
}

/// The state. `me` is the provider's account.
#[derive(Debug)]
pub struct Core {
    me: Address,
    policy: Policy,
    /// Requesters that belong to one of the policy's groups.
    members: BTreeSet<Address>,
    view: View,
    looked: B256Map<Looked>,
    breaker: Breaker,
    executing: BTreeSet<BatchId>,
    executed: BTreeMap<BatchId, Done>,
    /// Held batches whose execution failed.
    failed: BTreeSet<BatchId>,
    /// Batches whose outputs others may have.
    published: BTreeSet<BatchId>,
    /// Hashes of blocks that decide lots and draws; `None` while it is being read.
    hashes: BTreeMap<u64, Option<B256>>,
    /// This account's turns in lots, batch by batch, by job.
    turns: B256Map<Vec<Turn>>,
    /// Why jobs were not worked on that are over now.
    passed: B256Map<SkipReason>,
    sending: bool,
    /// Block time at which the last transaction was sent.
    sent_at: u64,
    /// Seconds of block time that the last transaction took.
    mining_seconds: u64,
    paused: bool,
    draining: bool,
    number: u64,
    now: u64,
    free_stake: U256,
    /// Mean time of a batch, milliseconds, by job.
    pace: B256Map<u64>,
    /// Mean fuel of a batch, by job.
    fuel: B256Map<u64>,
    /// Bytes that a batch has to fetch, by job.
    downloads: B256Map<u64>,
    /// Mean fuel a second of a worker, once a batch was executed.
    rate: Option<u64>,
    conditions: Conditions,
    /// Batches executed, and leases lost, since the start.
    done: u64,
    lost: u64,
    /// Whether nothing has happened since open jobs were ranked that could change more than single ones.
    ranked: bool,
    /// Whether something has happened here since reasons were kept.
    acted: bool,
    /// What the chain said of this account when it was looked at last.
    standing: Standing,
    /// Head, free stake and changes of the index for which nothing was to be done, if nothing has happened here since.
    quiet: Option<(u64, u64, U256, u64, Standing)>,
    /// Looks at the chain so far.
    looks: u64,
    /// Nothing is sent before this look.
    not_before: u64,
    /// Transactions in a row that came to nothing.
    fruitless: u32,
}

impl Core {
    /// A core that knows nothing yet.
    pub fn new(me: Address, policy: Policy) -> Self {
        Self {
            me,
            policy,
            members: BTreeSet::new(),
            view: View::default(),
            looked: B256Map::default(),
            breaker: Breaker::default(),
            executing: BTreeSet::new(),
            executed: BTreeMap::new(),
            failed: BTreeSet::new(),
            published: BTreeSet::new(),
            hashes: BTreeMap::new(),
            turns: B256Map::default(),
            passed: B256Map::default(),
            sending: false,
            sent_at: 0,
            mining_seconds: 0,
            paused: false,
            draining: false,
            number: 0,
            now: 0,
            free_stake: U256::ZERO,
            pace: B256Map::default(),
            fuel: B256Map::default(),
            downloads: B256Map::default(),
            rate: None,
            conditions: Conditions::default(),
            done: 0,
            lost: 0,
            ranked: false,
            acted: false,
            standing: Standing::default(),
            quiet: None,
            looks: 0,
            not_before: 0,
            fruitless: 0,
        }
    }

    /// Takes in an event and says what to do.
    pub fn step(&mut self, index: &Index, event: Event) -> Vec<Action> {
        match event {
            Event::Head { number, now, free_stake } => {
                self.looks += 1;
                let seen = (number, now, free_stake, index.revision(), self.standing_in(index));
                if self.quiet == Some(seen) {
                    return Vec::new();
                }
                self.acted |= self.free_stake != free_stake;
                (self.number, self.now, self.free_stake) = (number, now, free_stake);
                self.look_around(index);
                if !self.ranked {
                    self.rank(index);
                }
                self.keep_reasons(index);
                let actions = self.decide(index);
                let waits = !actions.is_empty() || self.looks < self.not_before;
                self.quiet = (!waits && !self.view.is_plain()).then_some(seen);
                return actions;
            }
            Event::Prepared(job) => {
                self.looked.insert(job, Looked::Ready);
                self.view.touch(job);
            }
            Event::Refused(job, text) => {
                self.looked.insert(job, Looked::Refused(text));
                self.view.touch(job);
            }
            Event::Unavailable(job, text) => {
                self.looked.remove(&job);
                self.breaker.unavailable(job, self.now, text);
                self.view.touch(job);
            }
            Event::Executed { batch, record, millis } => {
                self.ranked = false;
                self.executing.remove(&batch);
                self.executed.entry(batch).or_insert(Done { record, since: self.now });
                self.breaker.succeeded(batch.0, requester(index, &batch.0));
                if millis > 0 {
                    self.done += 1;
                    settle(self.pace.entry(batch.0).or_insert(millis), millis);
                    settle(self.fuel.entry(batch.0).or_insert(record.fuel), record.fuel);
                    let rate = record.fuel.saturating_mul(1_000) / millis;
                    settle(self.rate.get_or_insert(rate), rate);
                    self.view.touch(batch.0);
                }
            }
            Event::NotExecuted(batch, text) => {
                if self.executing.remove(&batch) {
                    self.ranked = false;
                    self.failed.insert(batch);
                    self.breaker.failed(batch.0, requester(index, &batch.0), self.now, text);
                }
            }
            Event::Sent => {
                (self.sending, self.fruitless) = (false, 0);
                self.mining_seconds = self.now.saturating_sub(self.sent_at);
            }
            Event::LostRace => self.fruitless(BACKOFF),
            Event::NotSent(_) => self.fruitless(MAX_BACKOFF),
            Event::BlockHash(number, hash) => {
                self.quiet = None;
                match hash {
                    Some(_) => {
                        self.hashes.insert(number, hash);
                        self.ranked = false;
                    }
                    None => drop(self.hashes.remove(&number)),
                }
                // Most often several are asked for at once: one decision for all of them.
                if self.hashes.values().any(Option::is_none) {
                    return Vec::new();
                }
            }
            // Told twice a second, and mostly nothing new.
            Event::Paused(paused) if self.paused == paused => return Vec::new(),
            Event::Paused(paused) => (self.paused, self.ranked) = (paused, false),
            Event::Draining(draining) if self.draining == draining => return Vec::new(),
            Event::Draining(draining) => (self.draining, self.ranked) = (draining, false),
            Event::Restored(batch) => drop(self.published.remove(&batch)),
            Event::Over(job) => {
                self.looked.remove(&job);
                self.breaker.forget(&job);
                self.pace.remove(&job);
                self.fuel.remove(&job);
                self.downloads.remove(&job);
                self.view.touch(job);
            }
            Event::Members(answers) => {
                let changed = |(requester, is_member): &(Address, bool)| match is_member {
                    true => self.members.insert(*requester),
                    false => self.members.remove(requester),
                };
                let changed: BTreeSet<_> =
                    answers.into_iter().filter(changed).map(|(requester, _)| requester).collect();
                if changed.is_empty() {
                    return Vec::new();
                }
                let theirs = index.jobs.iter().filter(|(_, entry)| changed.contains(&entry.job.requester));
                theirs.for_each(|(id, _)| self.view.touch(*id));
                (self.acted, self.quiet) = (true, None);
                return Vec::new();
            }
            Event::Conditions(conditions) if self.conditions == conditions => return Vec::new(),
            Event::Conditions(conditions) => (self.conditions, self.ranked) = (conditions, false),
            Event::Download(job, bytes) => {
                self.downloads.insert(job, bytes);
                self.view.touch(job);
            }
            Event::Remembered(batch, record) => {
                self.executed.entry(batch).or_insert(Done { record, since: 0 });
            }
        }
        (self.acted, self.quiet) = (true, None);
        // Before the first look nothing is known of time, and so of no batch whose it is.
        if self.looks == 0 { Vec::new() } else { self.decide(index) }
    }

    fn fruitless(&mut self, backoff: u64) {
        self.sending = false;
        // A re-org may have changed what they decide.
        self.ranked &= self.hashes.is_empty();
        self.hashes.clear();
        self.not_before = self.looks + (backoff << self.fruitless.min(8)).min(MAX_BACKOFF);
        self.fruitless += 1;
    }
}

/// Moves a mean towards what was seen last.
fn settle(mean: &mut u64, seen: u64) {
    *mean = (mean.saturating_mul(3)).saturating_add(seen) / 4;
}

fn requester(index: &Index, job: &B256) -> Option<Address> {
    index.job(job).map(|entry| entry.job.requester)
}

#[cfg(test)]
mod tests;
