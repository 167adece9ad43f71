//! Which jobs a decision has to look at: those in which this account has a part, and those of which it might lease something now.
//!
//! All others are passed over until they change, or until their time comes: a decision costs what concerns this account, not what
//! is on the market. Who looks still asks for itself whether there is something to do: a job too many in here changes nothing.

use std::collections::{BTreeSet, HashSet};

use alloy::primitives::{B256, U256};
use conun_bindings::{abi::JobRegistry::Job, job};

use super::{Core, SkipReason};
use crate::chain::{Ballot, BallotStage, BatchEntry, BatchStage, Index, JobEntry, ReplicaStage};

/// Open jobs that each event may go through; more are gone through once a block.
const SMALL: usize = 512;

/// Where jobs stand for one account.
#[derive(Debug, Default)]
pub(super) struct View {
    /// Changes of the index that are taken in; `None` before it was looked at.
    seen: Option<u64>,
    /// Block time as of which that is.
    now: u64,
    /// Checks that the account had passed.
    checks: u32,
    /// Jobs in which the account has a part that is not over.
    mine: BTreeSet<B256>,
    /// Jobs that are welcome by their terms, with room for one more lease.
    open: BTreeSet<B256>,
    /// Jobs that are welcome by their terms, of which a lot says when something can be leased.
    lots: BTreeSet<B256>,
    /// Jobs that may become so at a block time.
    later: BTreeSet<(u64, B256)>,
    /// Jobs that become so with so many checks passed.
    harder: BTreeSet<(u32, B256)>,
    /// Jobs about which something else was learnt.
    touched: HashSet<B256>,
    /// For tests: every job is looked at each time.
    #[cfg(test)]
    pub(super) plain: bool,
}

impl View {
    /// Something beyond the chain was learnt about a job.
    pub(super) fn touch(&mut self, job: B256) {
        self.touched.insert(job);
    }

    /// Whether so few jobs are open to it that each event may go through them.
    pub(super) fn is_small(&self) -> bool {
        self.open.len().max(self.lots.len()) <= SMALL
    }

    /// Jobs in which the account has a part.
    pub(super) fn mine<'a>(&'a self, index: &'a Index) -> impl Iterator<Item = (B256, &'a JobEntry)> {
        self.mine.iter().filter_map(|id| Some((*id, index.job(id)?)))
    }

    /// Jobs of which it might lease something.
    pub(super) fn open<'a>(&'a self, index: &'a Index) -> impl Iterator<Item = (B256, &'a JobEntry)> {
        self.open.iter().filter_map(|id| Some((*id, index.job(id)?)))
    }

    /// Jobs of which a lot says when.
    pub(super) fn lots<'a>(&'a self, index: &'a Index) -> impl Iterator<Item = (B256, &'a JobEntry)> {
        self.lots.iter().filter_map(|id| Some((*id, index.job(id)?)))
    }

    fn anew(&self) -> Self {
        Self {
            #[cfg(test)]
            plain: self.plain,
            ..Self::default()
        }
    }

    /// Jobs to be looked at again, if what is known still counts.
    fn stale(&mut self, index: &Index, now: u64, checks: u32) -> Option<BTreeSet<B256>> {
        #[cfg(test)]
        if self.plain {
            return None;
        }
        // Time goes back with a re-org, checks with a wrong result.
        if now < self.now || checks < self.checks {
            return None;
        }
        let mut stale: BTreeSet<_> = index.changed_since(self.seen?)?.collect();
        stale.extend(self.touched.drain());
        // A slot may have too little time left.
        if now > self.now && self.is_small() {
            stale.extend(&self.open);
        }
        while let Some((_, id)) = self.later.first().copied().filter(|(time, _)| *time <= now) {
            self.later.pop_first();
            stale.insert(id);
        }
        while let Some((_, id)) = self.harder.first().copied().filter(|(need, _)| *need <= checks) {
            self.harder.pop_first();
            stale.insert(id);
        }
        Some(stale)
    }
}

impl Core {
    /// Takes in what has changed.
    pub(super) fn look_around(&mut self, index: &Index) {
        let checks = index.providers.get(&self.me).map_or(0, |me| me.checks);
        let leaving = self.is_leaving(index);
        self.ranked &= std::mem::replace(&mut self.leaving, leaving) == leaving;
        let mut view = std::mem::take(&mut self.view);
        if let Some(stale) = view.stale(index, self.now, checks) {
            self.ranked &= stale.is_empty();
            for id in stale {
                view.mine.remove(&id);
                view.open.remove(&id);
                view.lots.remove(&id);
                if let Some(entry) = index.job(&id) {
                    self.place(&mut view, id, entry, checks);
                    self.remember_why(index, id, entry);
                }
            }
        } else {
            self.ranked = false;
            view = view.anew();
            index.jobs.iter().for_each(|(id, entry)| self.place(&mut view, *id, entry, checks));
            self.passed.retain(|id, _| index.jobs.contains_key(id));
        }
        (view.seen, view.now, view.checks) = (Some(index.revision()), self.now, checks);
        self.view = view;
    }

    /// Stake that this account's leases and windows lock, token wei.
    pub fn locked_stake(&mut self, index: &Index) -> U256 {
        self.look_around(index);
        index.locked_in(self.me, self.view.mine(index).map(|(_, entry)| entry))
    }

    fn place(&self, view: &mut View, id: B256, entry: &JobEntry, checks: u32) {
        #[cfg(test)]
        if view.plain {
            view.mine.insert(id);
            view.open.insert(id);
            view.lots.insert(id);
            return;
        }
        if entry.batches.iter().any(|batch| self.is_mine(batch)) || entry.ballots().any(|ballot| self.has_vote(ballot))
        {
            view.mine.insert(id);
        }
        let min_price = self.policy.min_price;
        match self.policy.objection(entry, self.now) {
            None => {}
            Some(SkipReason::Price) => {
                view.later.extend(first_time_at(&entry.job, min_price, self.now).map(|time| (time, id)));
                return;
            }
            Some(_) => return,
        }
        let need = entry.assured.as_ref().map_or(0, |assured| assured.assurance.minChecks);
        if need > checks {
            view.harder.insert((need, id));
            return;
        }
        if entry.ballots().any(|ballot| self.has_lot(entry, ballot)) {
            view.lots.insert(id);
        }
        if self.has_room(id, entry) {
            view.open.insert(id);
        } else {
            view.later.extend(self.room_at(entry).map(|time| (time, id)));
        }
    }

    fn is_mine(&self, batch: &BatchEntry) -> bool {
        !batch.is_final() && (batch.provider == self.me || batch.previous == self.me)
    }

    fn has_vote(&self, ballot: &Ballot) -> bool {
        let stage = ballot.stage_of(self.me);
        stage.is_some_and(|stage| !ballot.is_final() || matches!(stage, ReplicaStage::Leased { .. }))
    }

    /// The block time from which a job without room may have some although nothing happens to it.
    fn room_at(&self, entry: &JobEntry) -> Option<u64> {
        let leased = entry.batches.iter().filter(|batch| !entry.cancelled && batch.stage == BatchStage::Leased);
        let ends = leased.map(|batch| batch.deadline + 1);
        let half = u64::from(entry.job.leaseSeconds / 2);
        let voted = entry.ballots().filter(|ballot| ballot.stage == BallotStage::Committing);
        let late = voted.flat_map(|ballot| ballot.replicas.values()).filter_map(|replica| match replica.stage {
            ReplicaStage::Leased { deadline, active_block: None, rival: None } => Some(deadline.saturating_sub(half)),
            _ => None,
        });
        ends.chain(late).filter(|time| *time > self.now).min()
    }
}

/// The first block time after `now` at which a job pays `price`.
fn first_time_at(job: &Job, price: u128, now: u64) -> Option<u64> {
    let (mut low, mut high) = (now, u64::from(job.rampStart) + u64::from(job.rampSeconds));
    if high <= now || job::price_at(job, high) < price {
        return None;
    }
    // It never falls.
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if job::price_at(job, middle) < price {
            low = middle;
        } else {
            high = middle;
        }
    }
    Some(high)
}
