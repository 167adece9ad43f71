//! Which jobs a decision has to look at: those in which this account has a part, and those of which it might lease something now.
//!
//! All others are passed over until they change, or until their time comes: a decision costs what concerns this account, not what
//! is on the market. Who looks still asks for itself whether there is something to do: a job too many in here changes nothing.

use std::collections::BTreeSet;

use alloy::primitives::{
    B256, U256,
    map::{B256Map, B256Set},
};
use conun_bindings::{abi::JobRegistry::Job, job};

use super::{Core, SkipReason, Standing, worth::Rank};
use crate::chain::{Ballot, BallotStage, BatchEntry, BatchStage, Index, JobEntry, Replica, ReplicaStage};

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
    /// Jobs that may become so, or change their rank, at a block time.
    later: BTreeSet<(u64, B256)>,
    /// That time of each.
    times: B256Map<u64>,
    /// Jobs that become so with so many checks passed.
    harder: BTreeSet<(u32, B256)>,
    /// Jobs about which something else was learnt.
    touched: B256Set,
    /// Open jobs that are welcome, best first.
    ranking: BTreeSet<Rank>,
    /// The place of each.
    ranks: B256Map<Rank>,
    /// Jobs that were looked at again since [`View::take_fresh`].
    fresh: BTreeSet<B256>,
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

    /// Whether everything is looked at each time.
    #[cfg(test)]
    pub(super) fn is_plain(&self) -> bool {
        self.plain
    }

    /// Whether everything is looked at each time.
    #[cfg(not(test))]
    pub(super) fn is_plain(&self) -> bool {
        false
    }

    /// Whether something of a job could be leased now or soon.
    pub(super) fn is_open(&self, id: &B256) -> bool {
        self.open.contains(id)
    }

    /// Open jobs that are welcome, best first.
    pub(super) fn best(&self) -> impl Iterator<Item = &B256> {
        self.ranking.iter().map(|(.., id)| id)
    }

    /// Jobs that were looked at again since this was asked last.
    pub(super) fn take_fresh(&mut self) -> BTreeSet<B256> {
        std::mem::take(&mut self.fresh)
    }

    fn forget(&mut self, id: &B256) {
        self.mine.remove(id);
        self.open.remove(id);
        self.lots.remove(id);
        self.look_at(*id, None);
        self.set_rank(*id, None);
    }

    /// When a job is to be looked at again although nothing happens to it.
    fn look_at(&mut self, id: B256, time: Option<u64>) {
        let before = match time {
            Some(time) => self.times.insert(id, time),
            None => self.times.remove(&id),
        };
        if let Some(before) = before {
            self.later.remove(&(before, id));
        }
        self.later.extend(time.map(|time| (time, id)));
    }

    fn set_rank(&mut self, id: B256, rank: Option<Rank>) {
        let before = match rank {
            Some(rank) => self.ranks.insert(id, rank),
            None => self.ranks.remove(&id),
        };
        if let Some(before) = before {
            self.ranking.remove(&before);
        }
        self.ranking.extend(rank);
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
        while let Some((_, id)) = self.later.first().copied().filter(|(time, _)| *time <= now) {
            self.look_at(id, None);
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
        let standing = self.standing_in(index);
        let checks = standing.checks;
        self.ranked &= std::mem::replace(&mut self.standing, standing) == standing;
        let mut view = std::mem::take(&mut self.view);
        if let Some(stale) = view.stale(index, self.now, checks) {
            for id in stale {
                view.forget(&id);
                match index.job(&id).is_some_and(|entry| !entry.is_over()) {
                    true => self.learn_turns(index, id),
                    false => drop(self.turns.remove(&id)),
                }
                if let Some(entry) = index.job(&id) {
                    self.place(&mut view, index, id, checks);
                    self.remember_why(index, id, entry);
                }
                view.fresh.insert(id);
            }
        } else {
            view = view.anew();
            self.turns.clear();
            index.jobs.keys().for_each(|id| self.place(&mut view, index, *id, checks));
            view.fresh.extend(index.jobs.keys());
            self.passed.retain(|id, _| index.jobs.contains_key(id));
            self.ranked = true;
        }
        (view.seen, view.now, view.checks) = (Some(index.revision()), self.now, checks);
        self.view = view;
    }

    pub(super) fn standing_in(&self, index: &Index) -> Standing {
        let Some(me) = index.providers.get(&self.me) else { return Standing::default() };
        let leaving = self.is_leaving(index);
        Standing { leaving, stake: me.stake, staked_block: me.staked_block, checks: me.checks }
    }

    /// Ranks all open jobs anew.
    pub(super) fn rank(&mut self, index: &Index) {
        let mut view = std::mem::take(&mut self.view);
        for id in view.open.clone() {
            self.learn_turns(index, id);
            self.weigh(&mut view, index, id);
        }
        self.view = view;
        self.ranked = true;
    }

    /// Ranks an open job, until its rank may change.
    fn weigh(&self, view: &mut View, index: &Index, id: B256) {
        let Some(entry) = index.job(&id) else { return };
        view.set_rank(id, self.rank_of(index, id, entry));
        view.look_at(id, self.changes_at(index, id, entry));
    }

    /// Stake that this account's leases and windows lock, token wei.
    pub fn locked_stake(&mut self, index: &Index) -> U256 {
        self.look_around(index);
        index.locked_in(self.me, self.view.mine(index).map(|(_, entry)| entry))
    }

    fn place(&self, view: &mut View, index: &Index, id: B256, checks: u32) {
        let Some(entry) = index.job(&id) else { return };
        #[cfg(test)]
        if view.plain {
            view.mine.insert(id);
            view.open.insert(id);
            view.lots.insert(id);
            return self.weigh(view, index, id);
        }
        if entry.batches.iter().any(|batch| self.is_mine(batch)) || entry.ballots().any(|ballot| self.has_vote(ballot))
        {
            view.mine.insert(id);
        }
        let min_price = self.policy.min_price;
        match self.policy.objection(entry, self.now, &self.members) {
            None => {}
            Some(SkipReason::Price) => {
                view.look_at(id, first_time_at(&entry.job, min_price, self.now));
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
            self.weigh(view, index, id);
        } else {
            view.look_at(id, self.room_at(entry));
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
            ReplicaStage::Leased { deadline, .. } if may_be_backed_up(replica) => Some(deadline.saturating_sub(half)),
            _ => None,
        });
        ends.chain(late).filter(|time| *time > self.now).min()
    }
}

impl Core {
    /// The block time from which an open job may have no room, or another rank, although nothing happens to it.
    fn changes_at(&self, index: &Index, id: B256, entry: &JobEntry) -> Option<u64> {
        let next = self.now + 1;
        let Job { startPrice, maxPrice, rampStart, rampSeconds, .. } = entry.job;
        let rises = startPrice != maxPrice && self.now < u64::from(rampStart) + u64::from(rampSeconds);
        let needed = self.needed(id, entry);
        let has_slot = |ballot: &Ballot| self.has_slot(id, entry, ballot);
        // Once one can be leased the turns of others change nothing.
        let waits = self.free(index, id, entry).next().is_none();
        let opens_at = self.turns(index, id, entry);
        let slots = (0..).zip(entry.ballots()).filter(|(_, ballot)| waits && has_slot(ballot));
        let turns = slots.map(|(number, _)| opens_at(number).unwrap_or(next));
        let voted = entry.ballots().filter(|ballot| ballot.stage == BallotStage::Committing);
        // A slot may have too little time left, or a straggler a backup no more.
        let ends = voted.filter_map(|ballot| match has_slot(ballot) {
            true => Some((ballot.time + 1).saturating_sub(needed)),
            false => ballot.replicas.values().any(may_be_backed_up).then_some(ballot.time),
        });
        let rest = self.breaker.ends(&id, entry.job.requester, self.now);
        let times = self.room_at(entry).into_iter().chain(rises.then_some(next)).chain(rest).chain(turns).chain(ends);
        times.filter(|time| *time > self.now).min()
    }
}

fn may_be_backed_up(replica: &Replica) -> bool {
    matches!(replica.stage, ReplicaStage::Leased { active_block: None, rival: None, .. })
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
