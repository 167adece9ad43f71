//! From state to actions. Everything here reads the index afresh; nothing trusts what it decided before.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{B256, U256, keccak256};

use super::{Action, BatchId, Core, Looked, SkipReason, requester};
use crate::{
    chain::{BatchEntry, BatchStage, Index, JobEntry},
    store::ResultRecord,
};

/// A kind of transaction: the one that is due, if any.
type Kind = fn(&Core, &Index) -> Option<Action>;

/// In the order of urgency. What must be shown within its time comes first; then work for idle workers: a result that is due loses
/// nothing by the time of one transaction.
const KINDS: [Kind; 13] = [
    Core::reveal,
    Core::reveal_opened,
    Core::answer,
    Core::release,
    Core::lease,
    Core::back_up,
    Core::submit,
    Core::commit,
    Core::draw,
    Core::finalise,
    Core::finalise_ballots,
    Core::resolve,
    Core::expire,
];

/// Most batches submitted, finalised or released in one transaction.
pub(super) const MAX_PER_TRANSACTION: usize = 16;

/// Seconds of block time that a result waits for others, so that one transaction submits them all.
pub(super) const SUBMIT_DELAY: u64 = 4;

/// Most batches in the queue of one worker.
const MAX_ROUNDS: u64 = 8;

/// Share of a lease's time that the queue may be expected to take, percent; the rest is margin.
const QUEUE_PERCENT: u64 = 60;

/// A batch that takes more than this share of a lease, percent, is not begun: its lease might run out.
const BATCH_PERCENT: u64 = 90;

fn entry(index: &Index, (job, batch): BatchId) -> Option<(&JobEntry, &BatchEntry)> {
    let entry = index.job(&job)?;
    Some((entry, entry.batches.get(batch as usize)?))
}

impl Core {
    pub(super) fn decide(&mut self, index: &Index) -> Vec<Action> {
        self.look_around(index);
        if self.view.is_small() && !self.ranked {
            self.rank(index);
        }
        let mut actions = self.publish(index);
        actions.extend(self.abandon(index));
        self.execute(index, &mut actions);
        self.prepare(index, &mut actions);
        self.ask_hashes(index, &mut actions);
        if !self.sending && self.looks >= self.not_before {
            // After a failure another kind comes first: what is refused must not hold up the rest.
            let first = self.fruitless as usize % KINDS.len();
            let mut kinds = KINDS[first..].iter().chain(&KINDS[..first]);
            let action = kinds.find_map(|kind| kind(self, index));
            (self.sending, self.sent_at) = (action.is_some(), self.now);
            actions.extend(action);
        }
        actions
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

    /// Whether a held batch can still be given back without a mark.
    fn may_release(&self, entry: &JobEntry, number: u32) -> bool {
        if let Some((_, ballot)) = entry.ballot(number) {
            return self.may_release_replica(entry, ballot);
        }
        let Some(batch) = entry.batches.get(number as usize) else { return false };
        let leased_at = batch.deadline.saturating_sub(entry.job.leaseSeconds.into());
        self.now <= leased_at + u64::from(entry.job.leaseSeconds / 4)
    }

    /// Whether program or inputs of a job cannot be had, or are refused: after a restart there may be leases of such a job.
    fn is_out_of_reach(&self, job: &B256) -> bool {
        match self.looked.get(job) {
            Some(Looked::Ready | Looked::Preparing) => false,
            Some(Looked::Refused(_)) => true,
            None => self.breaker.rests(job, self.now),
        }
    }

    /// Forgets what has become useless.
    fn abandon(&mut self, index: &Index) -> Vec<Action> {
        let useful = |(job, number): &BatchId| {
            index.job(job).is_some_and(|entry| match entry.batches.get(*number as usize) {
                Some(batch) => self.may_submit(entry, batch),
                None => entry.ballot(*number).is_some_and(|(_, ballot)| self.may_commit(ballot)),
            })
        };
        let useless: Vec<_> = self.executing.iter().copied().filter(|id| !useful(id)).collect();
        for id in &useless {
            self.executing.remove(id);
            // Too slow, it seems: the next attempt waits, longer each time.
            self.lost += 1;
            let text = "its lease was lost before it was executed".to_owned();
            self.breaker.failed(id.0, requester(index, &id.0), self.now, text);
            self.ranked = false;
        }
        // Not those of a job that a re-org has taken away: it may come back.
        let is_final = |(job, number): &BatchId| {
            index.job(job).is_some_and(|entry| match entry.batches.get(*number as usize) {
                Some(batch) => batch.is_final(),
                None => entry.ballot(*number).is_some_and(|(_, ballot)| ballot.is_final()),
            })
        };
        self.executed.retain(|id, _| !is_final(id));
        self.published.retain(|id| !is_final(id));
        let held: BTreeSet<_> = self.held(index).map(|(id, ..)| id).collect();
        self.failed.retain(|id| held.contains(id));
        useless.into_iter().map(Action::Abandon).collect()
    }

    /// Batches whose results are due by this account: job, and block time at which the lease runs out.
    pub(super) fn held<'a>(&'a self, index: &'a Index) -> impl Iterator<Item = (BatchId, &'a JobEntry, u64)> {
        self.view.mine(index).flat_map(|(job, entry)| {
            let mine = |batch: &BatchEntry| {
                (batch.stage == BatchStage::Leased && batch.provider == self.me).then_some(batch.deadline)
            };
            let batches = entry.batches.iter().map(mine);
            let ballots = entry.ballots().map(|ballot| self.replica_deadline(ballot));
            let numbered = (0..).zip(batches.chain(ballots));
            numbered.filter_map(move |(number, deadline)| Some(((job, number), entry, deadline?)))
        })
    }

    /// Begins as many held batches as there are workers, those first whose leases end first. A batch is begun even when its lease
    /// may run out: a late result counts until a successor is active, and without one the bond is lost for certain.
    fn execute(&mut self, index: &Index, actions: &mut Vec<Action>) {
        let free = (self.policy.workers as usize).saturating_sub(self.executing.len());
        if free == 0 {
            return;
        }
        // What failed is given back while that leaves no mark; after that it is tried again.
        let again = |id: &BatchId, entry: &JobEntry| {
            !self.failed.contains(id) || (!self.may_release(entry, id.1) && !self.breaker.rests(&id.0, self.now))
        };
        let ready = |id: &BatchId, entry: &JobEntry| {
            !self.executing.contains(id)
                && !self.executed.contains_key(id)
                && self.looked.get(&id.0) == Some(&Looked::Ready)
                && again(id, entry)
        };
        let held = self.held(index).filter(|(id, entry, _)| ready(id, entry));
        let mut next: Vec<_> = held.map(|(id, _, deadline)| (deadline, id)).collect();
        next.sort_unstable();
        for (_, id) in next.into_iter().take(free) {
            self.failed.remove(&id);
            self.executing.insert(id);
            actions.push(Action::Execute(id));
        }
    }

    /// Held batches that are executed next, as many as there are workers: those whose leases end first.
    pub fn next(&self, index: &Index) -> Vec<BatchId> {
        let waits =
            |id: &BatchId| !self.executing.contains(id) && !self.executed.contains_key(id) && !self.failed.contains(id);
        let waiting = self.held(index).filter(|(id, ..)| waits(id) && self.is_ready(&id.0));
        let mut next: Vec<_> = waiting.map(|(id, _, deadline)| (deadline, id)).collect();
        next.sort_unstable();
        next.into_iter().map(|(_, id)| id).take(self.policy.workers as usize).collect()
    }

    fn prepare(&mut self, index: &Index, actions: &mut Vec<Action>) {
        let held = self.held(index).map(|((job, _), ..)| job);
        let wanted = held.chain(self.to_prepare(index));
        let unknown = |id: &B256| !self.looked.contains_key(id) && !self.breaker.rests(id, self.now);
        for id in wanted.filter(unknown).collect::<BTreeSet<_>>() {
            self.looked.insert(id, Looked::Preparing);
            actions.push(Action::Prepare(id));
        }
    }

    /// What speaks against new leases of a job, whatever its batches are doing.
    pub(super) fn objection(&self, index: &Index, id: &B256, entry: &JobEntry) -> Option<SkipReason> {
        if self.draining {
            Some(SkipReason::Draining)
        } else if self.paused {
            Some(SkipReason::Paused)
        } else if self.is_leaving(index) {
            Some(SkipReason::Exiting)
        } else {
            let by_terms = self.terms(index, entry).or_else(|| self.loses(index, id, entry));
            by_terms.or_else(|| self.breaker.objection(id, entry.job.requester, self.now))
        }
    }

    /// Whether this account is leaving, or has left.
    pub(super) fn is_leaving(&self, index: &Index) -> bool {
        index.providers.get(&self.me).is_some_and(|me| me.is_exiting() || !me.registered)
    }

    /// What speaks against it by its terms and this account's record.
    pub(super) fn terms(&self, index: &Index, entry: &JobEntry) -> Option<SkipReason> {
        self.policy.objection(entry, self.now, &self.members).or_else(|| self.record_too_small(index, entry))
    }

    /// Whether any of its batches can be leased, now or when its lot says so.
    pub(super) fn has_room(&self, id: B256, entry: &JobEntry) -> bool {
        self.free_batches(entry).next().is_some()
            || entry.ballots().any(|ballot| self.has_slot(id, entry, ballot))
            || !self.stragglers(entry).is_empty()
    }

    /// Numbers of the batches that could be leased now.
    pub(super) fn free<'a>(&'a self, index: &'a Index, id: B256, entry: &'a JobEntry) -> impl Iterator<Item = u32> {
        let turns = self.turns(index, id, entry);
        let turn = move |number: u32| turns(number).is_some_and(|at| self.now >= at);
        let slots = (0..).zip(entry.ballots());
        let slots = slots.filter(move |(number, ballot)| self.has_slot(id, entry, ballot) && turn(*number));
        self.free_batches(entry).chain(slots.map(|(number, _)| number))
    }

    fn free_batches<'a>(&self, entry: &'a JobEntry) -> impl Iterator<Item = u32> + use<'a> {
        let (now, cancelled) = (self.now, entry.cancelled);
        // One that was leased before keeps that lease's price.
        let min_price = self.policy.min_price;
        let pays = move |batch: &BatchEntry| batch.price == 0 || batch.price >= min_price;
        let free = move |batch: &BatchEntry| !cancelled && batch.is_free(now) && pays(batch);
        (0..).zip(&entry.batches).filter(move |(_, batch)| free(batch)).map(|(number, _)| number)
    }

    /// As many of `found` as fit into a transaction. One that the contract refuses takes all others of its transaction with it:
    /// after a failure they go one by one, another one first each time.
    pub(super) fn portion<T>(&self, mut found: Vec<T>) -> Vec<T> {
        if self.fruitless > 0 && !found.is_empty() {
            let first = self.fruitless as usize % found.len();
            found.swap(0, first);
            found.truncate(1);
        }
        found.truncate(MAX_PER_TRANSACTION);
        found
    }

    /// The job of `found` whose turn it is: the first, or another one after a failure.
    pub(super) fn turn<T>(&self, found: BTreeMap<B256, Vec<T>>) -> Option<(B256, Vec<T>)> {
        let turn = (self.fruitless as usize).checked_rem(found.len())?;
        found.into_iter().nth(turn).map(|(job, batches)| (job, self.portion(batches)))
    }

    /// Results, once there is a transaction full of them, one has waited long enough, or no other will come soon.
    fn submit(&self, index: &Index) -> Option<Action> {
        let mut found: BTreeMap<B256, Vec<(u32, ResultRecord)>> = BTreeMap::new();
        let mut due = self.executing.is_empty() && self.queue(index) == 0;
        let mut stake = self.free_stake;
        for (id, done) in &self.executed {
            let Some((entry, batch)) = entry(index, *id) else { continue };
            let mine = batch.stage == BatchStage::Leased && batch.provider == self.me;
            let active = !mine || self.number + 1 >= batch.active_block;
            if active && self.may_submit(entry, batch) {
                if !mine {
                    // Its stake was unlocked with the lease: it has to be locked once more.
                    let lock = entry.lease_lock(id.1, &index.rules);
                    let Some(rest) = stake.checked_sub(lock) else { continue };
                    stake = rest;
                }
                // A late one may be too late at any moment.
                let last_quarter = self.now + u64::from(entry.job.leaseSeconds / 4) >= batch.deadline;
                due |= !mine || last_quarter || self.now >= done.since + SUBMIT_DELAY;
                found.entry(id.0).or_default().push((id.1, done.record));
            }
        }
        due |= found.values().any(|results| results.len() >= MAX_PER_TRANSACTION);
        if !due {
            return None;
        }
        self.turn(found).map(|(job, results)| Action::Submit(job, results))
    }

    /// Number of held batches that are still to be executed, or are being executed.
    pub(super) fn queue(&self, index: &Index) -> usize {
        let ahead = |id: &BatchId| !self.executed.contains_key(id) && !self.is_out_of_reach(&id.0);
        self.held(index).filter(|(id, ..)| ahead(id)).count()
    }

    /// Batches that could not be executed go back while that leaves no mark.
    fn release(&self, index: &Index) -> Option<Action> {
        let mut found: BTreeMap<B256, Vec<u32>> = BTreeMap::new();
        for (id, entry, _) in self.held(index) {
            let failed = self.failed.contains(&id) || (!self.executed.contains_key(&id) && self.is_out_of_reach(&id.0));
            if failed && self.may_release(entry, id.1) {
                found.entry(id.0).or_default().push(id.1);
            }
        }
        for id in self.beaten(index) {
            found.entry(id.0).or_default().push(id.1);
        }
        self.turn(found).map(|(job, batches)| Action::Release(job, batches))
    }

    fn finalise(&self, index: &Index) -> Option<Action> {
        let due = |batch: &BatchEntry| {
            batch.stage == BatchStage::Submitted && batch.provider == self.me && self.now >= batch.deadline
        };
        let mut found: BTreeMap<B256, Vec<u32>> = BTreeMap::new();
        for (id, entry) in self.view.mine(index) {
            let numbers: Vec<_> =
                (0..).zip(&entry.batches).filter(|(_, batch)| due(batch)).map(|(number, _)| number).collect();
            if !numbers.is_empty() {
                found.insert(id, numbers);
            }
        }
        self.turn(found).map(|(job, batches)| Action::Finalise(job, batches))
    }

    fn lease(&self, index: &Index) -> Option<Action> {
        let waiting = self.queue(index);
        self.best(index).filter(|(id, _)| self.is_ready(id)).find_map(|(id, entry)| {
            let capacity = self.capacity(id, entry);
            // Half a queue at a time rather than one by one: a transaction costs about the same.
            let room = if 2 * waiting <= capacity { capacity - waiting } else { 0 };
            let batches = self.choose(index, id, entry, room);
            (!batches.is_empty()).then_some(Action::Lease(id, batches))
        })
    }

    /// Unexecuted batches to hold at once: one for each worker until the job's pace is known, then as many more as keep the
    /// workers busy while the next lease is mined, if all of them end well within a lease.
    pub(super) fn capacity(&self, id: B256, entry: &JobEntry) -> usize {
        let workers = self.policy.workers as usize;
        let Some(pace) = self.pace.get(&id).map(|pace| (*pace).max(1)) else { return workers };
        if self.is_too_slow(id, entry).is_some() {
            return 0;
        }
        // Block time counts in seconds: anything below one looks like none.
        let wanted = 1 + (self.mining_seconds.max(1) * 1_000).div_ceil(pace);
        let possible = u64::from(entry.job.leaseSeconds) * 1_000 * QUEUE_PERCENT / 100 / pace;
        workers.saturating_mul(wanted.min(possible).clamp(1, MAX_ROUNDS) as usize)
    }

    /// The job's pace, if a batch would hardly be executed within its lease.
    pub(super) fn is_too_slow(&self, id: B256, entry: &JobEntry) -> Option<u64> {
        let lease = u64::from(entry.job.leaseSeconds) * 1_000 * BATCH_PERCENT / 100;
        self.pace.get(&id).copied().filter(|pace| *pace > lease)
    }

    /// Up to `room` free batches that the free stake covers, starting at a place of one's own, so that providers seldom want the
    /// same ones. Whoever holds more than one keeps the stake for another one free: a late result locks it anew.
    fn choose(&self, index: &Index, id: B256, entry: &JobEntry, room: usize) -> Vec<u32> {
        let free: Vec<_> = if room == 0 { Vec::new() } else { self.free(index, id, entry).collect() };
        if free.is_empty() {
            return Vec::new();
        }
        let place = keccak256([id.as_slice(), self.me.as_slice(), &self.fruitless.to_be_bytes()].concat());
        let start =
            U256::from_be_bytes(place.0).checked_rem(U256::from(free.len())).map_or(0, |start| start.to::<usize>());
        let holds = self.held(index).next().is_some();
        let mut stake = self.free_stake;
        let mut chosen = Vec::new();
        for number in free[start..].iter().chain(&free[..start]).take(room.min(MAX_PER_TRANSACTION)) {
            let lock = entry.lease_lock(*number, &index.rules);
            let Some(rest) = stake.checked_sub(lock) else { break };
            if rest < lock && (holds || !chosen.is_empty()) {
                break;
            }
            stake = rest;
            chosen.push(*number);
        }
        chosen.sort_unstable();
        chosen
    }
}
